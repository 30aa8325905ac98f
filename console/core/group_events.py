"""What the machine of a group is told, and what it asks for.

Separate from the rules (`group.py`), which use them; everybody else takes them from there.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from console.core.models import ServerStatus

__all__ = [
    "Announce",
    "Event",
    "GroupEffect",
    "Reached",
    "RestartWanted",
    "Seen",
    "StartFailed",
    "StartNode",
    "Started",
    "StopNode",
    "StopWanted",
    "Tick",
]


class Started(msgspec.Struct, frozen=True):
    """A machine's supervisor has its part of this attempt."""

    rank: int
    run: str


class StartFailed(msgspec.Struct, frozen=True):
    """A machine could not start, and nothing of this attempt runs there."""

    rank: int
    title: str
    fix: str = ""


class Seen(msgspec.Struct, frozen=True):
    """A machine's supervisor, or what it wrote down at the end, says how it is."""

    rank: int
    status: ServerStatus


class Reached(msgspec.Struct, frozen=True):
    """Whether a machine can be reached."""

    rank: int
    ok: bool
    why: str = ""


class StopWanted(msgspec.Struct, frozen=True):
    """Somebody wants it stopped; `None` drains as long as the profile says."""

    drain_s: float | None = None


class RestartWanted(msgspec.Struct, frozen=True):
    """Somebody wants it stopped and started again."""

    drain_s: float | None = None


class Tick(msgspec.Struct, frozen=True):
    """Time went on."""


Event: TypeAlias = Started | StartFailed | Seen | Reached | StopWanted | RestartWanted | Tick


class StartNode(msgspec.Struct, frozen=True):
    """Start a machine's part. Done twice for the same attempt it does nothing the second time."""

    rank: int
    attempt: int


class StopNode(msgspec.Struct, frozen=True):
    """Stop a machine's part."""

    rank: int
    drain_s: float | None


class Announce(msgspec.Struct, frozen=True):
    """Tell a machine without an HTTP server that the head is ready, or that its end is meant."""

    rank: int
    ending: bool = False


GroupEffect: TypeAlias = StartNode | StopNode | Announce
