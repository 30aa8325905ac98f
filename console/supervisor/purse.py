"""Keeps the ledger of one run: feeds it every tick, writes it down, warns of idleness and says when to stop for it.

Separate from the supervisor proper, which decides about the server: this only tells it that an idle deadline is over.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from console.core.idle import IdleVerdict, idle_limits, stop_reason, warning_text
from console.core.models import EngineReading, Level, Money, RunInfo, ServerStatus
from console.core.money import Ledger, Look, no_price
from console.core.profile import Profile
from console.supervisor.records import Records

__all__ = ["NO_DEADLINE", "Purse"]

SAVE_PERIOD_S: Final = 5.0
"""Between two writes while nothing changes: with the time that a successor needs it is less than `money.GAP_S`."""
NO_DEADLINE: Final = "there is no idle deadline: the profile sets neither supervise.idle_warn_s nor idle_stop_s"

Tell = Callable[[str, str, Level], None]
"""Kind, text and level of an event."""


class Purse:
    """The money of one run.

    Args:
        profile: has the idle deadlines.
        info: has the price.
        records: what was left by a lost supervisor, and where to write.
        tell: announces an event.
        now_s: this moment on the monotonic clock.
    """

    def __init__(self, profile: Profile, info: RunInfo, records: Records, tell: Tell, now_s: float) -> None:
        self._limits = idle_limits(profile.supervise)
        self._info = info
        self._records = records
        self._tell = tell
        saved = records.read_money()
        adopted = saved is None and info.server_pid is not None
        self._ledger = Ledger(
            info.usd_per_hour, self._limits, now_s=now_s, saved=saved, adopted=adopted, missing=no_price(info)
        )
        self._saved_s = now_s
        self._verdict = IdleVerdict.NOTHING
        self._stopped_for = ""
        self.money: Money = self._ledger.money()
        """As of the last tick."""

    def tick(self, now_s: float, status: ServerStatus, engine: EngineReading | None, own_requests: int) -> None:
        """Take in this moment."""
        before = self._ledger.tally
        look = Look(
            mono_s=now_s,
            state=status.state,
            phase=status.phase,
            pid=status.pid,
            engine=engine,
            own_requests=own_requests,
        )
        verdict = self._ledger.look(look)
        self.money = self._ledger.money()
        if verdict is not self._verdict:
            self._changed(verdict)
        if self._ledger.tally.spend is not before.spend or now_s - self._saved_s >= SAVE_PERIOD_S:
            self.save()
            self._saved_s = now_s

    def stop_due(self) -> str:
        """Why the server must be stopped now; empty if it need not."""
        if self._verdict is not IdleVerdict.STOP or self._stopped_for:
            return ""
        self._stopped_for = stop_reason(self._limits, self._info.usd_per_hour)
        return self._stopped_for

    def postpone(self) -> str:
        """Begin to count idle time anew; returns why that means nothing here, or nothing."""
        if not self._limits.warn_s and not self._limits.stop_s:
            return NO_DEADLINE
        self._ledger.postpone()
        self.money = self._ledger.money()
        self._verdict = IdleVerdict.NOTHING
        self._tell("idle", "the idle deadline was postponed: idle time counts from now on", Level.INFO)
        return ""

    def save(self) -> None:
        """Leave the tally to a successor, and to those who ask after the end."""
        self._records.save_money(self._ledger.tally)

    def _changed(self, verdict: IdleVerdict) -> None:
        before, self._verdict = self._verdict, verdict
        if verdict is IdleVerdict.NOTHING:
            self._stopped_for = ""
            if before is IdleVerdict.WARN and self.money.idle_s is not None:
                self._tell("idle", "no longer idle: a request came", Level.OK)
        elif before is IdleVerdict.NOTHING:
            self._tell("idle", warning_text(self.money, self._info.id), Level.WARN)
