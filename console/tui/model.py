"""What the screen knows of one run: its newest snapshot, the series behind the charts, events, and its log.

Filled by the update worker, read by the widgets; it knows no widget.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from statistics import fmean

from console.client.api import Lost, Session, Update
from console.core.models import (
    LIVE_STATES,
    OVER_STATES,
    EventRecord,
    GpuReading,
    HintState,
    ProfileChange,
    Sample,
    ServerState,
    Snapshot,
    SourceStatus,
)
from console.core.retry import RESTARTS_MAX
from console.protocol import Happened, History, Pushed, RunInfo
from console.tui import fmt
from console.tui.log_buffer import LogBuffer

__all__ = ["EVENTS_MAX", "POINTS_MAX", "SERIES", "RunModel", "bucketed", "mean_util"]

POINTS_MAX = 3_700
"""Points kept per series: an hour at 1 Hz and a little."""
EVENTS_MAX = 500

Point = tuple[float, float | None]


def mean_util(gpus: tuple[GpuReading, ...] | None) -> float | None:
    """Mean utilization of those GPUs that report one, in percent."""
    known = [g.util_percent for g in gpus or () if g.util_percent is not None]
    return fmean(known) if known else None


def _percent(ratio: float | None) -> float | None:
    return None if ratio is None else ratio * 100


SERIES: dict[str, Callable[[Sample | Snapshot], float | None]] = {
    "gpu": lambda s: mean_util(s.gpus),
    "cpu": lambda s: s.host.cpu_percent if s.host else None,
    "kv": lambda s: _percent(s.engine.kv_cache_usage) if s.engine else None,
    "output": lambda s: s.engine.generation_tokens_per_s if s.engine else None,
    "prompt": lambda s: s.engine.prompt_tokens_per_s if s.engine else None,
    "running": lambda s: s.engine.running if s.engine else None,
    "waiting": lambda s: s.engine.waiting if s.engine else None,
}
"""What is charted, and where it stands in a sample."""


def bucketed(points: deque[Point], now: float, span_s: float, count: int) -> list[float | None]:
    """Means of `count` equal stretches of the last `span_s` seconds, oldest first; `None` where nothing is known.

    Stretches begin at whole multiples of their length, so that a column never changes once it is past.
    """
    step = span_s / max(count, 1)
    last = int(now // step)
    sums = [0.0] * count
    seen = [0] * count
    for time_s, value in reversed(points):
        index = count - 1 - (last - int(time_s // step))
        if index < 0:
            break
        if value is not None and index < count:
            sums[index] += value
            seen[index] += 1
    return [total / n if n else None for total, n in zip(sums, seen, strict=True)]


class RunModel:
    """One attached run."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.snapshot: Snapshot | None = None
        self.series: dict[str, deque[Point]] = {name: deque(maxlen=POINTS_MAX) for name in SERIES}
        self.events: deque[EventRecord] = deque(maxlen=EVENTS_MAX)
        self.lost: str | None = None
        self.ended = False
        """The run is over and so is its supervisor: there is nobody left to ask."""
        self.log = LogBuffer(session.log())

    @property
    def run(self) -> RunInfo:
        """The launch that this is about."""
        return self.session.run

    @property
    def state(self) -> ServerState:
        """The last known state."""
        if self.snapshot is not None:
            return self.snapshot.status.state
        try:
            return ServerState(self.run.state)
        except ValueError:
            return ServerState.STARTING

    @property
    def live(self) -> bool:
        """A server is there that quitting would leave behind."""
        return self.state in LIVE_STATES

    @property
    def planned(self) -> str:
        """A restart that is planned, with its countdown: `restart 2 of 5 in 8s`; empty if there is none."""
        status = self.snapshot.status if self.snapshot and self.lost is None else None
        if status is None or status.restart is None or status.deadline_s is None:
            return ""
        left = fmt.duration(max(status.deadline_s - self.now, 0.0))
        return f"restart {status.restart} of {RESTARTS_MAX} in {left}"

    @property
    def now(self) -> float:
        """Time of the newest snapshot: the screen never claims to know more."""
        return self.snapshot.time_s if self.snapshot else self.run.created_s

    @property
    def busy(self) -> int | None:
        """Requests running and waiting, if known."""
        if self.snapshot is None:
            return None
        if self.snapshot.status.in_flight is not None:
            return self.snapshot.status.in_flight
        engine = self.snapshot.engine
        if engine is None or engine.running is None:
            return None
        return engine.running + (engine.waiting or 0)

    @property
    def firing(self) -> int:
        """How many hints have something to say."""
        return sum(h.state is HintState.FIRING for h in self.snapshot.hints) if self.snapshot else 0

    @property
    def fix(self) -> tuple[ProfileChange, ...]:
        """The profile change that the failure calls for, once nothing of the server is left or planned."""
        if self.snapshot is None or self.state not in OVER_STATES or self.lost is not None:
            return ()
        status = self.snapshot.status
        return status.diagnosis.change if status.over and status.diagnosis is not None else ()

    def stale(self, name: str) -> SourceStatus | None:
        """The source of this name, if its figures cannot be trusted now."""
        for source in self.snapshot.sources if self.snapshot else ():
            if source.name == name and not source.ok:
                return source
        return None

    def take(self, update: Update) -> None:
        """Take in one update."""
        match update:
            case History(samples=samples, events=events):
                for sample in samples:
                    self._add(sample)
                self.events.extend(events)
            case Pushed(snapshot=snapshot):
                self.snapshot = snapshot
                self.lost = None
                self._add(snapshot)
            case Happened(event=event):
                self.events.append(event)
            case Lost() if not self.live:
                # A supervisor leaves when its work is done; only before that is its silence a loss.
                self.ended = True
            case Lost(reason=reason):
                self.lost = reason or "the connection closed"

    def _add(self, sample: Sample | Snapshot) -> None:
        for name, read in SERIES.items():
            points = self.series[name]
            if not points or sample.time_s > points[-1][0]:
                points.append((sample.time_s, read(sample)))

    async def close(self) -> None:
        """Detach; the server goes on."""
        self.log.close()
        await self.session.close()
