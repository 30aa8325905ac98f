"""What a run costs by what its machine does: a ledger that is fed looks at the server and holds seconds per bucket.

    dollars            = seconds × price per hour / 3600
    per million tokens = dollars / output tokens × 10⁶

Pure: the caller brings the time, in seconds of the monotonic clock, so a wall clock that jumps earns and costs nothing.
On Linux that clock counts from the boot for all processes alike, so a successor of a lost supervisor goes on from the
tally that it left (`money.json`). Time that nobody watched is known to have passed and no more: a gap of up to `GAP_S`
counts as the state before it, a longer one as unwatched.

An interval in which a request was seen at either end, or in which tokens were made or a request finished, is serving:
a scrape often falls between two bursts of work, when the gauges say 0. What the console itself asks (the canary) is
no request.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Final

import msgspec

from console.core.idle import IdleLimits, IdleVerdict, idle_verdict
from console.core.models import EngineReading, Money, Phase, RunInfo, ServerState, Spend

__all__ = [
    "GAP_S",
    "NO_PRICE",
    "Counters",
    "Ledger",
    "Look",
    "Tally",
    "added",
    "advance",
    "money_of",
    "no_price",
]

GAP_S: Final = 15.0
"""Between two looks, and between two scrapes: beyond it, nobody knows what went on."""
MINUTE_S: Final = 60.0
MINUTE_LEAST_S: Final = 5.0
"""Cost per token over less than this is noise."""
POINTS_MAX: Final = 600
NO_PRICE: Final = "no price: set usd_per_hour in the profile's [cost] or in config.toml"

BUCKETS: Final[Mapping[ServerState, Spend | None]] = {
    ServerState.STOPPED: None,
    ServerState.STARTING: Spend.LOADING,
    ServerState.LOADING: Spend.LOADING,
    ServerState.READY: Spend.IDLE,
    ServerState.UNHEALTHY: Spend.HUNG,
    ServerState.STOPPING: Spend.DOWN,
    ServerState.FAILED: Spend.DOWN,
    ServerState.CRASHED: Spend.DOWN,
}
"""State to bucket; nothing is counted once it was stopped as asked. Phase and requests refine it."""


class Counters(msgspec.Struct, frozen=True, kw_only=True):
    """The server's counters at the last scrape."""

    pid: int | None = None
    """Of the server that they are from: another one begins at zero."""
    tokens: int = 0
    finished: int = 0


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """The whole state of a ledger: `money.json`."""

    mono_s: float
    """Monotonic time of the last look."""
    seconds: dict[Spend, float] = {}
    spend: Spend | None = None
    """What goes on since then; `None` while nothing is counted."""
    figures_s: float | None = None
    """Monotonic time at which it was last known whether requests are in flight."""
    counters: Counters | None = None
    output_tokens: int | None = None
    idle_s: float | None = None
    postponed_s: float = 0.0
    """Idle time that does not count towards the deadlines."""


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """The server at one moment."""

    mono_s: float
    state: ServerState
    phase: Phase | None = None
    pid: int | None = None
    engine: EngineReading | None = None
    own_requests: int = 0
    """Requests of the console's own that may be among those in flight or just finished."""


def advance(tally: Tally, look: Look) -> Tally:
    """The tally after one more look. A look whose time is before the last one's adds no time."""
    passed_s = max(0.0, look.mono_s - tally.mono_s)
    counters, made, finished = _counted(tally, look)
    in_flight = _in_flight(look)
    busy = bool(in_flight) or made > look.own_requests or finished > look.own_requests
    known = in_flight is not None
    part = tally.spend
    if part is not None and passed_s > GAP_S:
        part = Spend.UNWATCHED
    elif part is Spend.IDLE and busy:
        part = Spend.SERVING
    seconds = tally.seconds
    if part is not None and passed_s:
        seconds = {**seconds, part: seconds.get(part, 0.0) + passed_s}
    figures_s = look.mono_s if known or look.state is not ServerState.READY else tally.figures_s
    idle_s, postponed_s = _idle(tally, look, known=known, busy=busy, passed_s=passed_s if part is Spend.IDLE else 0.0)
    output = tally.output_tokens
    if counters is not tally.counters and look.engine is not None and look.engine.generation_tokens_total is not None:
        output = (output or 0) + made
    return Tally(
        mono_s=look.mono_s,
        seconds=seconds,
        spend=_spend(tally, look, in_flight, figures_s),
        figures_s=figures_s,
        counters=counters,
        output_tokens=output,
        idle_s=idle_s,
        postponed_s=postponed_s,
    )


def _counted(tally: Tally, look: Look) -> tuple[Counters | None, int, int]:
    """Counters as of this look, output tokens made and requests finished since the last one."""
    engine = look.engine
    if engine is None or (engine.generation_tokens_total is None and engine.requests_finished_total is None):
        return tally.counters, 0, 0
    now = Counters(
        pid=look.pid, tokens=engine.generation_tokens_total or 0, finished=engine.requests_finished_total or 0
    )
    before = tally.counters
    if before is None:
        return now, 0, 0  # an adopted server: what it made before is not of the time that is counted
    if now.pid != before.pid or now.tokens < before.tokens or now.finished < before.finished:
        before = Counters()
    return now, now.tokens - before.tokens, now.finished - before.finished


def _in_flight(look: Look) -> int | None:
    """Requests of others running or waiting; `None` where that is unknown."""
    engine = look.engine
    if look.state is not ServerState.READY or engine is None or engine.running is None:
        return None
    return max(0, engine.running + (engine.waiting or 0) - look.own_requests)


def _spend(tally: Tally, look: Look, in_flight: int | None, figures_s: float | None) -> Spend | None:
    bucket = BUCKETS[look.state]
    if look.state is ServerState.LOADING and look.phase is Phase.DOWNLOAD:
        return Spend.DOWNLOADING
    if look.state is not ServerState.READY:
        return bucket
    if in_flight is not None:
        return Spend.SERVING if in_flight else Spend.IDLE
    # Without figures it goes on as before for a while: they are late on a busy machine, and just after a start.
    fresh = figures_s is not None and look.mono_s - figures_s <= GAP_S
    return tally.spend if fresh and tally.spend is not None else Spend.UNWATCHED


def _idle(tally: Tally, look: Look, *, known: bool, busy: bool, passed_s: float) -> tuple[float | None, float]:
    """Idle seconds, and how many of them do not count; they stand still while nobody knows."""
    if look.state is not ServerState.READY:
        return None, 0.0
    if busy:
        return 0.0, 0.0
    if tally.idle_s is None:
        return (0.0 if known else None), 0.0
    return tally.idle_s + passed_s, tally.postponed_s


class Ledger:
    """A tally that is kept, with the last minute beside it.

    Args:
        usd_per_hour: price of the machine; `None` without one.
        limits: the profile's idle deadlines.
        saved: what a lost supervisor left; `None` at a launch.
        now_s: this moment on the monotonic clock.
        adopted: the server was started by somebody whose tally is lost: its counters do not begin at zero.
        missing: what is said where there is no price.
    """

    def __init__(
        self,
        usd_per_hour: float | None,
        limits: IdleLimits,
        *,
        now_s: float,
        saved: Tally | None = None,
        adopted: bool = False,
        missing: str = NO_PRICE,
    ) -> None:
        self._usd_per_hour = usd_per_hour
        self._limits = limits
        self._missing = missing
        fresh = Tally(mono_s=now_s, counters=None if adopted else Counters())
        # A time ahead of now is of an earlier boot: what was counted stays, what came after is not known.
        self.tally = fresh if saved is None else msgspec.structs.replace(saved, mono_s=min(saved.mono_s, now_s))
        self._minute: deque[tuple[float, int]] = deque(maxlen=POINTS_MAX)

    def look(self, look: Look) -> IdleVerdict:
        """Take in one look and say what its idle time calls for. Stopping needs figures of this very look."""
        if look.mono_s - self.tally.mono_s > GAP_S:
            self._minute.clear()
        self.tally = advance(self.tally, look)
        if self.tally.output_tokens is not None and (not self._minute or look.mono_s > self._minute[-1][0]):
            self._minute.append((look.mono_s, self.tally.output_tokens))
        while len(self._minute) > 2 and look.mono_s - self._minute[0][0] > MINUTE_S:
            self._minute.popleft()
        verdict = idle_verdict(self._limits, _counting(self.tally))
        return IdleVerdict.WARN if verdict is IdleVerdict.STOP and look.engine is None else verdict

    def postpone(self) -> None:
        """Count idle time from now on."""
        self.tally = msgspec.structs.replace(self.tally, postponed_s=self.tally.idle_s or 0.0)

    def money(self) -> Money:
        """What it all costs, as of the last look."""
        return money_of(
            self.tally, self._usd_per_hour, self._limits, tokens_per_s=self._tokens_per_s(), missing=self._missing
        )

    def _tokens_per_s(self) -> float | None:
        if len(self._minute) < 2:
            return None
        (begin_s, begin), (end_s, end) = self._minute[0], self._minute[-1]
        return (end - begin) / (end_s - begin_s) if end_s - begin_s >= MINUTE_LEAST_S else None


def _counting(tally: Tally) -> float | None:
    return None if tally.idle_s is None else max(0.0, tally.idle_s - tally.postponed_s)


def money_of(
    tally: Tally,
    usd_per_hour: float | None,
    limits: IdleLimits | None = None,
    *,
    tokens_per_s: float | None = None,
    missing: str = NO_PRICE,
) -> Money:
    """A tally in dollars.

    Args:
        tally: the seconds.
        usd_per_hour: price; without one there are no dollars, and it is said why.
        limits: the idle deadlines; `None` where nothing counts down any more.
        tokens_per_s: output over the last minute.
        missing: what is said where there is no price.
    """
    limits = limits or IdleLimits()
    per_s = None if usd_per_hour is None else usd_per_hour / 3600
    total_s = sum(tally.seconds.values())
    total_usd = None if per_s is None else total_s * per_s
    counted_s = _counting(tally)
    verdict = idle_verdict(limits, counted_s)
    counts_down = counted_s is not None and limits.stop_s > 0
    return Money(
        usd_per_hour=usd_per_hour,
        missing=missing if usd_per_hour is None else "",
        seconds={spend: tally.seconds[spend] for spend in Spend if spend in tally.seconds},
        total_s=total_s,
        usd=None
        if per_s is None
        else {spend: tally.seconds[spend] * per_s for spend in Spend if spend in tally.seconds},
        total_usd=total_usd,
        output_tokens=tally.output_tokens,
        usd_per_million=None if total_usd is None or not tally.output_tokens else total_usd / tally.output_tokens * 1e6,
        usd_per_million_now=None if per_s is None or not tokens_per_s else per_s / tokens_per_s * 1e6,
        idle_s=tally.idle_s,
        idle_usd=None if per_s is None or tally.idle_s is None else tally.idle_s * per_s,
        idle_counted_s=counted_s,
        idle_warned=verdict is not IdleVerdict.NOTHING,
        idle_stop_in_s=max(0.0, limits.stop_s - (counted_s or 0.0)) if counts_down else None,
    )


def no_price(run: RunInfo) -> str:
    """What is said of a run without a price: of a group's machines, the head alone counts that of all."""
    place = run.place
    if place is None or place.rank == 0:
        return NO_PRICE
    return f"the price of all machines is counted by the head, {place.hosts[0]}"


def added(before: Money | None, now: Money | None) -> Money | None:
    """One after the other, as the attempts of a group are: sums, and what is of the moment from the later one."""
    if before is None or now is None:
        return now or before
    dollars = [one.total_usd for one in (before, now) if one.total_usd is not None]
    made = [one.output_tokens for one in (before, now) if one.output_tokens is not None]
    total_usd, tokens = sum(dollars) if dollars else None, sum(made) if made else None
    return msgspec.structs.replace(
        now,
        seconds=_sums(before.seconds, now.seconds),
        total_s=before.total_s + now.total_s,
        usd=None if before.usd is None and now.usd is None else _sums(before.usd or {}, now.usd or {}),
        total_usd=total_usd,
        output_tokens=tokens,
        usd_per_million=None if total_usd is None or not tokens else total_usd / tokens * 1e6,
    )


def _sums(one: Mapping[Spend, float], two: Mapping[Spend, float]) -> dict[Spend, float]:
    return {spend: one.get(spend, 0.0) + two.get(spend, 0.0) for spend in Spend if spend in one or spend in two}
