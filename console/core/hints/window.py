"""The last seconds of samples, flattened once per tick, with the few statistics that rules need.

Rules read windows and never single samples: a scheduler's queue empties and fills between two ticks, and one tick
says little.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import pairwise
from math import ceil
from operator import attrgetter
from typing import TypeVar

from console.core.hints.setting import Setting
from console.core.models import EngineReading, GpuReading, GroupSample, HostReading, Sample, Throttle

__all__ = [
    "BUSY_MIN",
    "CLOCK",
    "GAP_S",
    "HISTORY_S",
    "POWER",
    "TEMPERATURE",
    "UTILIZATION",
    "GpuFigure",
    "History",
    "Point",
    "Window",
]

HISTORY_S = 60.0
"""The longest window of any rule fits."""
POINTS_MAX = 600
"""Bound if samples come faster than once a second."""
GPU_POINTS_MAX = 20
"""A mean of one GPU's figure is taken over so many points, evenly spread: with 16 GPUs all of them would cost more than
the rest of a tick."""
GAP_S = 15.0
"""Samples further apart than this, or going back this far, start a new history."""
GPU_HELD_RATIO = 0.1
"""A GPU with less of its memory in use holds no model: vLLM takes 0.92 of it."""
AT_CAP_RATIO = 0.95
BUSY_MIN = 3

T = TypeVar("T")
Reading = Callable[["Point"], float | None]
GpuFigure = Callable[[GpuReading], float | None]
UTILIZATION: GpuFigure = attrgetter("util_percent")
POWER: GpuFigure = attrgetter("power_w")
TEMPERATURE: GpuFigure = attrgetter("temperature_c")
CLOCK: GpuFigure = attrgetter("sm_clock_mhz")


class Point:
    """One sample, with what rules ask of it worked out."""

    __slots__ = (
        "cap",
        "engine",
        "gpus",
        "gpus_in_use",
        "host",
        "kv_usage",
        "nodes",
        "running",
        "temperature_max_c",
        "throttle",
        "time_s",
        "utilization",
        "waiting",
    )

    def __init__(self, sample: Sample, setting: Setting) -> None:
        self.time_s = sample.time_s
        self.gpus = sample.gpus
        self.host = sample.host
        self.nodes = sample.nodes if isinstance(sample, GroupSample) else ()
        """Machines of a group that are heard."""
        self.engine: EngineReading | None = sample.engine
        engine = sample.engine or EngineReading()
        self.running: float | None = engine.running
        self.waiting: float | None = engine.waiting
        self.kv_usage = engine.kv_cache_usage
        self.gpus_in_use = gpus_in_use(sample.gpus or ())
        self.throttle: frozenset[Throttle] = frozenset().union(*(gpu.throttle or () for gpu in self.gpus_in_use))
        """What slows down any GPU that is in use: a cheap look before one at each of them."""
        self.temperature_max_c = max(
            (gpu.temperature_c for gpu in sample.gpus or () if gpu.temperature_c is not None), default=None
        )
        limit = setting.seqs_limit(self.gpus_in_use)
        self.cap = None if limit is None or sample.engine is None else limit * max(1, engine.engines)
        """Requests that may run at a time, over all engines."""
        self.utilization = cpu_stand_in(self.host) if setting.on_cpu else mean_utilization(self.gpus_in_use)
        """Percent, 0 to 100."""


def gpus_in_use(gpus: Sequence[GpuReading]) -> tuple[GpuReading, ...]:
    """GPUs that hold something; all of them if none does or their memory is unknown."""
    held = tuple(
        gpu
        for gpu in gpus
        if gpu.memory_used_bytes is not None
        and gpu.memory_total_bytes
        and gpu.memory_used_bytes >= GPU_HELD_RATIO * gpu.memory_total_bytes
    )
    return held or tuple(gpus)


def mean_utilization(gpus: Sequence[GpuReading]) -> float | None:
    """Mean over the GPUs that report it, in percent."""
    known = [gpu.util_percent for gpu in gpus if gpu.util_percent is not None]
    return sum(known) / len(known) if known else None


def cpu_stand_in(host: HostReading | None) -> float | None:
    """Percent of all cores that the server's processes use; of the whole host if that is unknown."""
    if host is None:
        return None
    if host.tree_cpu_percent is not None and host.cpu_count:
        return min(100.0, host.tree_cpu_percent / host.cpu_count)
    return host.cpu_percent


class Window:
    """Points of the last seconds, oldest first; never empty."""

    def __init__(self, points: Sequence[Point]) -> None:
        self.points = points
        self.last = points[-1]
        self._per_gpu: dict[tuple[GpuFigure, bool], dict[int, float]] = {}

    @property
    def span_s(self) -> float:
        """Seconds between the first and the last point."""
        return self.last.time_s - self.points[0].time_s

    def known(self, reading: Reading) -> list[float]:
        """The values that are known."""
        return [value for point in self.points if (value := reading(point)) is not None]

    def mean(self, reading: Reading) -> float | None:
        """Mean of the known values, `None` if none is."""
        values = self.known(reading)
        return sum(values) / len(values) if values else None

    def peak(self, reading: Reading) -> float | None:
        """Largest known value."""
        return max(self.known(reading), default=None)

    def high(self, reading: Reading) -> float | None:
        """Mean of the upper half of the known values: what is usual at the full moments, without the extremes."""
        values = sorted(self.known(reading))
        upper = values[len(values) // 2 :]
        return sum(upper) / len(upper) if upper else None

    def growth(self, reading: Reading) -> float | None:
        """Increase of a counter over the window, counting on after a reset; `None` with fewer than two values."""
        values = self.known(reading)
        if len(values) < 2:
            return None
        return sum(after - before if after >= before else after for before, after in pairwise(values))

    def share(self, holds: Callable[[Point], bool]) -> float:
        """Share of the points at which something holds, 0 to 1."""
        return sum(map(holds, self.points)) / len(self.points)

    def per_gpu(self, reading: GpuFigure, *, in_use: bool = True) -> dict[int, float]:
        """Mean of one figure of each GPU over points that know it, the newest among them; GPUs without it are left out.

        Kept per window, so rules that ask with the same function share the work.
        """
        known = self._per_gpu.get((reading, in_use))
        if known is None:
            known = self._per_gpu[reading, in_use] = self._gpu_means(reading, in_use)
        return known

    def _gpu_means(self, reading: GpuFigure, in_use: bool) -> dict[int, float]:
        sums: dict[int, float] = {}
        counts: dict[int, int] = {}
        stride = ceil(len(self.points) / GPU_POINTS_MAX)
        for point in self.points[::-stride]:
            for gpu in point.gpus_in_use if in_use else point.gpus or ():
                if (value := reading(gpu)) is not None:
                    index = gpu.index
                    if index in sums:
                        sums[index] += value
                        counts[index] += 1
                    else:
                        sums[index], counts[index] = value, 1
        return {index: total / counts[index] for index, total in sums.items()}

    def latest(self, reading: Callable[[Point], T | None]) -> T | None:
        """The newest known value."""
        return next((value for point in reversed(self.points) if (value := reading(point)) is not None), None)

    def share_at_cap(self) -> float:
        """Share of the points at which as many requests run as may, of those that know; 0 if none does."""
        judged = [
            point.running >= ceil(point.cap * AT_CAP_RATIO)
            for point in self.points
            if point.running is not None and point.cap is not None
        ]
        return sum(judged) / len(judged) if judged else 0.0

    @cached_property
    def busy(self) -> Window | None:
        """Only the points at which requests ran; `None` if there are fewer than `BUSY_MIN`.

        vLLM sets its gauges after each step, and a scrape is often answered between two bursts of work, when they
        say 0. Means over all points would then hide a queue that is there whenever anything runs.
        """
        points = [point for point in self.points if point.running]
        return Window(points) if len(points) >= BUSY_MIN else None

    @property
    def engine(self) -> EngineReading | None:
        """The newest answer of vLLM."""
        return self.latest(lambda point: point.engine)

    @cached_property
    def output_tokens(self) -> float | None:
        """Tokens that came out over the window; `None` where that is not known."""
        return self.growth(lambda point: point.engine.generation_tokens_total if point.engine else None)

    @property
    def host(self) -> HostReading:
        """The newest reading of the host."""
        return self.latest(lambda point: point.host) or HostReading()

    @property
    def cap(self) -> int | None:
        """Requests that may run at a time, over all engines."""
        return self.latest(lambda point: point.cap)

    @property
    def gpus(self) -> tuple[GpuReading, ...]:
        """The newest GPU readings."""
        return self.latest(lambda point: point.gpus) or ()

    @property
    def gpus_in_use(self) -> tuple[GpuReading, ...]:
        """Of those, the ones that hold a model."""
        return self.latest(lambda point: point.gpus_in_use or None) or ()


class History:
    """Points of the last `HISTORY_S` seconds."""

    def __init__(self) -> None:
        self._points: deque[Point] = deque(maxlen=POINTS_MAX)

    def __len__(self) -> int:
        return len(self._points)

    @property
    def last_s(self) -> float | None:
        """Time of the newest point."""
        return self._points[-1].time_s if self._points else None

    def clear(self) -> None:
        """Forget everything."""
        self._points.clear()

    def append(self, point: Point) -> None:
        """Add the newest point and drop what is too old. Its time must not be before the last one's."""
        self._points.append(point)
        while point.time_s - self._points[0].time_s > HISTORY_S:
            self._points.popleft()

    def window(self, seconds: float) -> Window:
        """The points of the last `seconds`; at least the newest one."""
        start = self._points[-1].time_s - seconds
        return Window([point for point in self._points if point.time_s >= start])
