"""Hints that the operator has put aside for a while: for how long, and when one comes back.

A snooze is about who looks, not about the server: rules go on judging, events and `status` go on telling. It holds
for a hint as grave as it was; what gets worse comes back at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from console.core.models import Hint, Level
from console.core.units import elapsed_text

__all__ = [
    "SNOOZES_MAX",
    "SNOOZE_TIMES",
    "Snooze",
    "SnoozeTime",
    "made",
    "put_aside",
    "snooze_of",
    "with_it",
    "without",
]

SNOOZES_MAX: Final = 64
"""More than there are rules; the oldest goes."""


class Snooze(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One hint that is put aside."""

    hint: str
    """Id of its rule."""
    level: Level
    """How grave it was."""
    since_s: float
    """Wall-clock time (Unix), as is `until_s`."""
    until_s: float | None = None
    started_s: float | None = None
    """Without `until_s`: until the server that was started at this moment is no more."""


class SnoozeTime(msgspec.Struct, frozen=True, kw_only=True):
    """One choice of how long."""

    key: str
    label: str
    seconds: float | None
    """`None` until the server starts again."""


SNOOZE_TIMES: Final[tuple[SnoozeTime, ...]] = (
    SnoozeTime(key="3", label="for 30 minutes", seconds=1800.0),
    SnoozeTime(key="1", label="for 1 hour", seconds=3600.0),
    SnoozeTime(key="r", label="until the server starts again", seconds=None),
)

_WEIGHT: Final = {level: place for place, level in enumerate(Level)}


def made(hint: Hint, seconds: float | None, now_s: float, started_s: float | None) -> Snooze:
    """Put this hint aside from now on.

    Args:
        hint: what it is about.
        seconds: for how long; `None` until the next start of the server.
        now_s: wall-clock time.
        started_s: when the server that runs was started.
    """
    if seconds is None:
        return Snooze(hint=hint.id, level=hint.level, since_s=now_s, started_s=started_s or 0.0)
    return Snooze(hint=hint.id, level=hint.level, since_s=now_s, until_s=now_s + seconds)


def snooze_of(hint: Hint, snoozes: Sequence[Snooze], now_s: float, started_s: float | None) -> Snooze | None:
    """The snooze that holds for this hint now, if there is one."""
    for snooze in snoozes:
        if snooze.hint != hint.id or _WEIGHT[hint.level] > _WEIGHT[snooze.level]:
            continue
        if snooze.until_s is not None:
            # A clock that was set back makes no snooze longer than it was meant to be.
            if now_s < snooze.until_s and snooze.until_s - now_s <= snooze.until_s - snooze.since_s + 1.0:
                return snooze
        elif snooze.started_s == (started_s or 0.0):
            return snooze
    return None


def with_it(snoozes: Sequence[Snooze], new: Snooze) -> tuple[Snooze, ...]:
    """The snoozes with one more, which takes the place of an earlier one of the same hint."""
    return (*without(snoozes, new.hint), new)[-SNOOZES_MAX:]


def without(snoozes: Sequence[Snooze], hint: str) -> tuple[Snooze, ...]:
    """The snoozes without that of this hint."""
    return tuple(snooze for snooze in snoozes if snooze.hint != hint)


def put_aside(snooze: Snooze, now_s: float) -> str:
    """For how long it still is: `snoozed, 29m30s left`."""
    if snooze.until_s is None:
        return "snoozed until the next start"
    return f"snoozed, {elapsed_text(snooze.until_s - now_s)} left"
