"""When a server that nobody asks anything is warned of, and when it is stopped: `[supervise]` idle_warn_s, idle_stop_s.

Pure, and apart from the ledger that counts idle time: this only says what follows from it, and in which words.
A stop is never unannounced: without a warning time of its own it is warned of a minute before, or half-way where the
deadline is nearer than two minutes.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from console.core.models import Money
from console.core.profile import SuperviseSection
from console.core.units import elapsed_text, usd_text

__all__ = ["IdleLimits", "IdleVerdict", "idle_limits", "idle_verdict", "stop_reason", "warn_after_s", "warning_text"]

NOTICE_S = 60.0
"""Between warning and stop, where the profile names no time for the warning."""


class IdleLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds of idleness; 0 is never."""

    warn_s: float = 0.0
    stop_s: float = 0.0


class IdleVerdict(StrEnum):
    """What an idle time calls for."""

    NOTHING = "nothing"
    WARN = "warn"
    STOP = "stop"


def idle_limits(watch: SuperviseSection) -> IdleLimits:
    """The profile's."""
    return IdleLimits(warn_s=watch.idle_warn_s, stop_s=watch.idle_stop_s)


def warn_after_s(limits: IdleLimits) -> float | None:
    """Seconds of idleness after which it warns; `None` for never."""
    if limits.warn_s:
        return limits.warn_s
    return max(limits.stop_s / 2, limits.stop_s - NOTICE_S) if limits.stop_s else None


def idle_verdict(limits: IdleLimits, counted_s: float | None) -> IdleVerdict:
    """What is called for after so many idle seconds; `None` where it is not known to be idle."""
    if counted_s is None:
        return IdleVerdict.NOTHING
    if limits.stop_s and counted_s >= limits.stop_s:
        return IdleVerdict.STOP
    warn_s = warn_after_s(limits)
    return IdleVerdict.WARN if warn_s is not None and counted_s >= warn_s else IdleVerdict.NOTHING


def warning_text(money: Money, run_id: str) -> str:
    """The warning in a sentence or two: how long, what it cost, when it stops, and how to postpone that."""
    spent = f", {usd_text(money.idle_usd)} spent on nothing" if money.idle_usd is not None else f" ({money.missing})"
    text = f"idle for {elapsed_text(money.idle_s or 0.0)}{spent}."
    if money.idle_stop_in_s is None:
        return f"{text} Stop it with: dsv4-console stop {run_id}"
    return (
        f"{text} It is stopped in {elapsed_text(money.idle_stop_in_s)} unless a request comes. "
        f"Postpone that with: dsv4-console keep {run_id}"
    )


def stop_reason(limits: IdleLimits, usd_per_hour: float | None) -> str:
    """Why an idle server is stopped: `idle for 30m00s: stopped to save $14.76/h`."""
    why = f"to save {usd_text(usd_per_hour)}/h" if usd_per_hour else "as supervise.idle_stop_s asks"
    return f"idle for {elapsed_text(limits.stop_s)}: stopped {why}"
