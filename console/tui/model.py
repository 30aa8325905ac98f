"""What the screen knows of one run: its newest snapshot, the series behind the charts, events, and its log.

Filled by the update worker, read by the widgets; it knows no widget.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from statistics import fmean

from console.client.api import Away, Lost, Player, Rewound, Session, Update
from console.core.columns import Point, bucketed
from console.core.gpuseries import GpuSeries
from console.core.logtimes import utc_offset_s
from console.core.models import (
    LIVE_STATES,
    OVER_STATES,
    EventRecord,
    GpuReading,
    Hint,
    HintState,
    ProfileChange,
    Sample,
    ServerState,
    Snapshot,
    SourceStatus,
)
from console.core.money_words import idle_text
from console.core.retry import RESTARTS_MAX
from console.core.snooze import Snooze, snooze_of
from console.core.startview import StartCounters
from console.protocol import Happened, History, Pushed, RunInfo
from console.tui import fmt
from console.tui.log_buffer import LogBuffer

__all__ = ["EVENTS_MAX", "POINTS_MAX", "SERIES", "RunModel", "mean_util"]

HISTORY_S = 86_400.0
"""Seconds of the past that are asked for."""
POINTS_MAX = 1_500
"""Points kept per series and range: five minutes of a start at 4 Hz and a little, or a day in minutes."""
EVENTS_MAX = 1_000
"""As many as a supervisor tells at first; of a long run the oldest go."""
COUNTED_PER_TICK = 1_000
"""Lines of a start's log that are looked through at once: a long one fills in a few ticks."""


@dataclass(frozen=True, slots=True)
class Range:
    """How far back the charts look."""

    span_s: float
    step_s: float
    """Points of so many seconds become one; 0 keeps all."""
    name: str
    """Three characters for an axis without room."""
    ago: str
    middle: str
    """What stands at the left end of the axis, and in its middle."""


RANGES: tuple[Range, ...] = (
    Range(300.0, 0.0, " 5m", "5 min ago", "2½"),
    Range(3_600.0, 5.0, " 1h", "1 h ago", "30 min"),
    Range(86_400.0, 60.0, "24h", "24 h ago", "12 h"),
)


def mean_util(gpus: tuple[GpuReading, ...] | None) -> float | None:
    """Mean utilization of those GPUs that report one, in percent."""
    known = [g.util_percent for g in gpus or () if g.util_percent is not None]
    return fmean(known) if known else None


def _percent(ratio: float | None) -> float | None:
    return None if ratio is None else ratio * 100


def _milli(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000


SERIES: dict[str, Callable[[Sample | Snapshot], float | None]] = {
    "gpu": lambda s: mean_util(s.gpus),
    "cpu": lambda s: s.host.cpu_percent if s.host else None,
    "kv": lambda s: _percent(s.engine.kv_cache_usage) if s.engine else None,
    "output": lambda s: s.engine.generation_tokens_per_s if s.engine else None,
    "prompt": lambda s: s.engine.prompt_tokens_per_s if s.engine else None,
    "running": lambda s: s.engine.running if s.engine else None,
    "waiting": lambda s: s.engine.waiting if s.engine else None,
    "ttft": lambda s: s.engine.ttft.p95_s if s.engine and s.engine.ttft else None,
    "tpot": lambda s: _milli(s.engine.tpot.p95_s) if s.engine and s.engine.tpot else None,
}
"""What is charted, and where it stands in a sample."""


PEAKS = frozenset({"kv", "waiting", "ttft", "tpot"})
"""Series of which a long stretch shows its highest value: a mean would hide what an operator looks for."""


class Track:
    """One series in every range."""

    def __init__(self, *, peak: bool = False) -> None:
        self.peak = peak
        self._points: tuple[deque[Point], ...] = tuple(deque(maxlen=POINTS_MAX) for _ in RANGES)
        self._counts = [0] * len(RANGES)

    def add(self, time_s: float, value: float | None) -> None:
        """A figure that is newer than all before."""
        for place, (points, zoom) in enumerate(zip(self._points, RANGES, strict=True)):
            last = points[-1] if points else None
            if last is None or not zoom.step_s or int(last[0] // zoom.step_s) != int(time_s // zoom.step_s):
                points.append((time_s, value))
                self._counts[place] = int(value is not None)
            elif value is not None:
                count = self._counts[place]
                before = last[1] if last[1] is not None else value
                merged = max(before, value) if self.peak else (before * count + value) / (count + 1)
                points[-1] = (last[0], merged)
                self._counts[place] = count + 1

    def fill(self, past: Sequence[Point]) -> None:
        """Figures, oldest first, of a time that is not the newest; they stand where nothing is known."""
        for points, zoom in zip(self._points, RANGES, strict=True):
            step_s = zoom.step_s or 1.0
            known = {int(time_s // step_s) for time_s, value in points if value is not None}
            missing: dict[int, Point] = {}
            for time_s, value in past:
                place = int(time_s // step_s)
                if value is None or place in known:
                    continue
                before = missing.get(place)
                if before is None or not self.peak or value > (before[1] or 0.0):
                    missing[place] = (time_s, value)
            if missing:
                merged = sorted([*points, *missing.values()], key=itemgetter(0))
                points.clear()
                points.extend(merged)

    def clear(self) -> None:
        """Forget everything."""
        for points in self._points:
            points.clear()
        self._counts = [0] * len(RANGES)

    def points(self, zoom: Range) -> deque[Point]:
        """Those of one range, oldest first."""
        return self._points[RANGES.index(zoom)]

    def columns(self, zoom: Range, now: float, count: int) -> list[float | None]:
        """What a chart of `count` columns shows of one range."""
        points = reversed(self.points(zoom))
        return bucketed(points, now, zoom.span_s, count, peak=self.peak and zoom.step_s > 0)

    @property
    def latest(self) -> float | None:
        """The newest figure; `None` if it is unknown."""
        return self._points[0][-1][1] if self._points[0] else None


class RunModel:
    """One attached run."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.snapshot: Snapshot | None = None
        self.series: dict[str, Track] = {name: Track(peak=name in PEAKS) for name in SERIES}
        self.zoom = RANGES[0]
        """How far back the charts look now."""
        self.charts = 0
        """Which pair of them is shown, of `widgets/charts.py`."""
        self.gpu_series = GpuSeries([zoom.span_s for zoom in RANGES])
        self._newest_s = 0.0
        self.events: deque[EventRecord] = deque(maxlen=EVENTS_MAX)
        self.events_seen = 0
        """How many were told in all: the number after that of the newest."""
        self.chosen: EventRecord | None = None
        """The event that the charts point out."""
        self.snoozes: tuple[Snooze, ...] = session.snoozes()
        self.counters = StartCounters()
        self._counted = 0
        """Number of the last line of the log that they were fed."""
        self._rewinds = 0
        self.lost: str | None = None
        self.away: Away | None = None
        """The way to the run's machine is being made again."""
        self.ended = False
        """The run is over and so is its supervisor: there is nobody left to ask."""
        self.player: Player | None = getattr(session, "player", None)
        """By which a recording is paused and moved; a live run has none."""
        self.refusal: str = "" if self.player is not None else getattr(session, "refusal", "")
        """Why this server can only be looked at; empty where the console started it."""
        self.hosts: tuple[str, ...] = getattr(session, "hosts", ())
        """The machines of a group; empty for a run of one."""
        self.log = LogBuffer(
            session.log(),
            None if self.player is not None else session.log,
            run_id=session.run.id,
            created_s=session.run.created_s,
        )

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
    def blind(self) -> bool:
        """Nothing new comes: what is known is old."""
        return self.lost is not None or self.away is not None

    @property
    def planned(self) -> str:
        """A restart that is planned, with its countdown: `restart 2 of 5 in 8s`; empty if there is none."""
        status = self.snapshot.status if self.snapshot and not self.blind else None
        if status is None or status.restart is None or status.deadline_s is None:
            return ""
        left = fmt.duration(max(status.deadline_s - self.now, 0.0))
        return f"restart {status.restart} of {RESTARTS_MAX} in {left}"

    @property
    def idle_stop(self) -> str:
        """Idleness that was warned of, with the countdown to its stop: `idle 5m00s, stops in 25m00s`; else empty."""
        money = self.snapshot.money if self.snapshot and not self.blind else None
        return idle_text(money) if money is not None else ""

    @property
    def now(self) -> float:
        """Time of the newest snapshot: the screen never claims to know more."""
        return self.snapshot.time_s if self.snapshot else self.run.created_s

    @property
    def offset_s(self) -> float:
        """How far the clock of the server's machine, and so its log, is ahead of UTC."""
        if self.player is not None:
            playing = self.player.playing
            return playing.local_s - playing.at_s
        return utc_offset_s(self.run.id, self.run.created_s, None)

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

    def snoozed(self, hint: Hint) -> Snooze | None:
        """The snooze that holds for this hint now, if there is one."""
        started_s = self.snapshot.status.started_s if self.snapshot else None
        return snooze_of(hint, self.snoozes, self.now, started_s)

    @property
    def firing(self) -> tuple[Hint, ...]:
        """Hints that have something to say and are not put aside."""
        hints = self.snapshot.hints if self.snapshot else ()
        return tuple(h for h in hints if h.state is HintState.FIRING and self.snoozed(h) is None)

    def count_start(self) -> None:
        """Take in what the log has counted of a start since the last time."""
        log = self.log
        if log.rewinds != self._rewinds:
            self._rewinds, self._counted = log.rewinds, 0
            self.counters.clear()
        begin = max(self._counted + 1, log.first_line)
        self._counted = min(log.last_line, begin + COUNTED_PER_TICK - 1)
        for number in range(begin, self._counted + 1):
            self.counters.feed(log.line(number) or "")

    @property
    def fix(self) -> tuple[ProfileChange, ...]:
        """The profile change that the failure calls for, once nothing of the server is left or planned."""
        if self.snapshot is None or self.state not in OVER_STATES or self.lost is not None or self.player is not None:
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
                self._fill([sample for sample in samples if sample.time_s <= self._newest_s])
                for sample in samples:
                    self._add(sample)
                self.events.extend(events)
                self.events_seen += len(events)
            case Rewound():
                for track in self.series.values():
                    track.clear()
                self.gpu_series.clear()
                self._newest_s = 0.0
                self.chosen = None
                self.events.clear()
            case Pushed(snapshot=snapshot):
                self.snapshot = snapshot
                self.lost = self.away = None
                self._add(snapshot)
            case Happened(event=event):
                self.events.append(event)
                self.events_seen += 1
            case Away():
                self.away = update
            case Lost() if not self.live:
                # A supervisor leaves when its work is done; only before that is its silence a loss.
                self.ended, self.away = True, None
            case Lost(reason=reason):
                self.away = None
                self.lost = reason or "the connection closed"

    def _add(self, sample: Sample | Snapshot) -> None:
        if sample.time_s <= self._newest_s:
            return
        self._newest_s = sample.time_s
        # The last figures of a head that is cut off are shown as such, and are none of this moment.
        cut_off = isinstance(sample, Snapshot) and bool(sample.nodes) and sample.nodes[0].silent_s is not None
        for name, read in SERIES.items():
            self.series[name].add(sample.time_s, None if cut_off else read(sample))
        self.gpu_series.add(sample.time_s, sample.gpus)

    def _fill(self, samples: Sequence[Sample]) -> None:
        """Take in figures of the time in which a group's head was cut off; charts of single GPUs keep their gap."""
        for name, read in SERIES.items() if samples else ():
            self.series[name].fill([(sample.time_s, read(sample)) for sample in samples])

    def choose(self, event: EventRecord) -> None:
        """Point out this event in the charts, in the nearest range that holds it."""
        self.chosen = event
        age_s = self.now - event.time_s
        self.zoom = next((zoom for zoom in RANGES if age_s < zoom.span_s), RANGES[-1])

    def next_range(self) -> None:
        """Look further back, or near again."""
        self.zoom = RANGES[(RANGES.index(self.zoom) + 1) % len(RANGES)]

    async def close(self) -> None:
        """Detach; the server goes on."""
        self.log.close()
        await self.session.close()
