"""What a rule is: one row with its needs, its times, its documentation and its judgement."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from console.core.hints.setting import Setting
from console.core.hints.window import Window
from console.core.models import Level, ProfileChange

__all__ = ["Finding", "Judge", "Rule", "RuleDoc", "always"]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What a rule found: its condition is true now."""

    evidence: tuple[str, ...]
    """Sentences with the figures of this window."""
    basis: tuple[str, ...] = ()
    """How the change follows from the figures; stays with the change while that is held steady."""
    change: tuple[ProfileChange, ...] = ()
    gain: str = ""
    risk: str = ""


Judge = Callable[[Window, Setting, float], Finding | None]
"""Window, setting and the seconds for which the condition has held so far, to a finding or nothing."""


def always(setting: Setting) -> bool:
    """Applies to every run."""
    return True


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the table."""

    id: str
    title: str
    level: Level
    topic: str
    """Of the rules of one topic that fire, only the first of the table shows."""
    silences: tuple[str, ...] = ()
    """Topics whose rules do not show while this one fires: it explains the figures that they go by."""
    needs: tuple[str, ...]
    """Ids of `needs.NEEDS`."""
    window_s: float
    """How far back it looks."""
    hold_s: float
    """For how long its condition must be true before it fires."""
    clear_s: float
    """For how long its condition must be false before it stops."""
    judge: Judge
    applies: Callable[[Setting], bool] = always
    """Whether the rule makes sense for this profile at all."""
    looks_at: str
    proposes: str
    gain: str
    risk: str
    doc: str
    """Address of the documentation behind it."""


class RuleDoc(msgspec.Struct, frozen=True, kw_only=True):
    """A rule as documentation shows it."""

    id: str
    title: str
    level: Level
    topic: str
    needs: tuple[str, ...]
    """In words."""
    window_s: float
    hold_s: float
    clear_s: float
    looks_at: str
    proposes: str
    gain: str
    risk: str
    doc: str
    """Address."""
