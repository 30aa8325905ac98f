"""Whether another machine of a group still takes part, judged by what a machine sees of it over TCP.

A machine of a group must not hold its GPUs when the group is over, also where nobody can tell it so. It therefore
watches the others by itself: the head's port is open for as long as the head's server lives, the others hold a
connection to it (torch's TCPStore, seen on vLLM 0.32), and a machine that is up answers any TCP handshake, be it with a
refusal. Each sign counts only after it has been there once: a firewall or another version may never show it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

__all__ = ["GONE_S", "SILENT", "SILENT_S", "PeerWatch", "Reach", "Seen", "look"]

GONE_S: Final = 3.0
"""A refusal, or a missing connection, for so long is certain: the other machine's kernel says so."""
SILENT_S: Final = 15.0
"""No answer for so long is a machine or a line that is lost; shorter, it may be a switch that starts again."""
SILENT: Final = f"it has not answered for {SILENT_S:.0f} s"
"""Why such a machine counts as lost, in the words that the reason of a run's end has."""


class Reach(StrEnum):
    """What came of a TCP connection."""

    OPEN = "open"
    REFUSED = "refused"
    """The machine is there, and nobody listens."""
    SILENT = "silent"
    """No answer, or no way there."""


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """One look at another machine."""

    reach: Reach
    serves: bool = False
    """The port that was tried is the head's, and so open as long as its server lives."""
    connected: bool | None = None
    """It holds a connection to us; `None` where that says nothing."""


class PeerWatch(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one other machine; times on the monotonic clock."""

    opened: bool = False
    answered: bool = False
    met: bool = False
    closed_since_s: float | None = None
    silent_since_s: float | None = None
    unmet_since_s: float | None = None


def look(watch: PeerWatch, seen: Seen, now_s: float) -> tuple[PeerWatch, str]:
    """Take in one look. Returns what is known now, and why the machine counts as lost; empty if it does not."""
    opened = watch.opened or (seen.serves and seen.reach is Reach.OPEN)
    answered = watch.answered or seen.reach is not Reach.SILENT
    met = watch.met or seen.connected is True
    closed = opened and seen.serves and seen.reach is Reach.REFUSED
    silent = answered and seen.reach is Reach.SILENT
    unmet = met and seen.connected is False
    watch = PeerWatch(
        opened=opened,
        answered=answered,
        met=met,
        closed_since_s=_since(watch.closed_since_s, closed, now_s),
        silent_since_s=_since(watch.silent_since_s, silent, now_s),
        unmet_since_s=_since(watch.unmet_since_s, unmet, now_s),
    )
    for since_s, limit_s, why in (
        (watch.closed_since_s, GONE_S, "its server is gone: the port refuses connections"),
        (watch.unmet_since_s, GONE_S, "its server is gone: it holds no connection to this one any more"),
        (watch.silent_since_s, SILENT_S, SILENT),
    ):
        if since_s is not None and now_s - since_s >= limit_s:
            return watch, why
    return watch, ""


def _since(before_s: float | None, holds: bool, now_s: float) -> float | None:
    if not holds:
        return None
    return now_s if before_s is None else before_s
