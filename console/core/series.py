"""Figures over time: a bounded ring, rates of counters, and percentiles of histograms over a moving window.

Pure: the caller brings the time, in seconds of a clock that never goes back. The rules are Prometheus' own, so that
a figure here and the same figure in a Grafana panel agree.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Generic, NamedTuple, TypeVar

__all__ = ["POINTS_MAX", "Buckets", "CounterRate", "HistogramWindow", "Ring", "quantile"]

T = TypeVar("T")

POINTS_MAX = 4096
"""Points that one window keeps at most, however often it is fed."""


class Ring(Generic[T]):
    """The newest `size` items, oldest first."""

    def __init__(self, size: int) -> None:
        self._items: deque[T] = deque(maxlen=size)

    def append(self, item: T) -> None:
        """Add an item; the oldest falls out of a full ring."""
        self._items.append(item)

    def clear(self) -> None:
        """Forget everything."""
        self._items.clear()

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[T]:
        return iter(self._items)

    def newest(self) -> T | None:
        """The last item; `None` for an empty ring."""
        return self._items[-1] if self._items else None

    def tail(self, count: int) -> tuple[T, ...]:
        """The newest `count` items, oldest first."""
        start = max(0, len(self._items) - count)
        return tuple(self._items[index] for index in range(start, len(self._items)))


class CounterRate:
    """A counter's growth over a moving window.

    A counter that falls was set back to zero by a restart, so its new value is what it grew by since, as in
    Prometheus' `rate()`. Growth is divided by the time between the two samples used, never by the nominal window,
    and nothing is extrapolated. A sample with a time not after the last one is ignored.
    """

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._points: deque[tuple[float, float]] = deque(maxlen=POINTS_MAX)
        self._raw: float | None = None

    def feed(self, value: float, now_s: float) -> None:
        """Add a sample of the counter, read at `now_s`."""
        if self._points and now_s <= self._points[-1][0]:
            return
        grown = self._points[-1][1] if self._points else 0.0
        if self._raw is not None:
            grown += value - self._raw if value >= self._raw else value
        self._raw = value
        self._points.append((now_s, grown))
        drop_old(self._points, now_s - self._window_s)

    def increase(self) -> float | None:
        """Growth over the window; `None` before the second sample."""
        return self._points[-1][1] - self._points[0][1] if len(self._points) > 1 else None

    def per_s(self) -> float | None:
        """Mean growth per second over the window; `None` before the second sample."""
        if len(self._points) < 2:
            return None
        (start_s, start), (end_s, end) = self._points[0], self._points[-1]
        return (end - start) / (end_s - start_s)


class Buckets(NamedTuple):
    """A histogram at one moment, as the exposition has it."""

    bounds: tuple[float, ...]
    """Upper bounds, rising; the last one is +Inf."""
    counts: tuple[float, ...]
    """Observations at or below each bound (cumulative)."""
    total: float
    """Sum of all observations."""


class HistogramWindow:
    """What a histogram has observed inside a moving window: the difference of two expositions.

    Other bounds, or fewer observations than before, mean a new server: the window starts again.
    """

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._points: deque[tuple[float, Buckets]] = deque(maxlen=POINTS_MAX)

    def feed(self, buckets: Buckets, now_s: float) -> None:
        """Add an exposition, read at `now_s`. One whose time is not after the last one is ignored."""
        if self._points:
            last_s, last = self._points[-1]
            if now_s <= last_s:
                return
            if buckets.bounds != last.bounds:
                self._points.clear()
            elif buckets.counts[-1] < last.counts[-1]:
                self._points.clear()
                zero = Buckets(buckets.bounds, (0.0,) * len(buckets.bounds), 0.0)
                self._points.append((last_s, zero))
        self._points.append((now_s, buckets))
        drop_old(self._points, now_s - self._window_s)

    def window(self) -> Buckets | None:
        """Observations inside the window; `None` before the second exposition."""
        if len(self._points) < 2:
            return None
        start, end = self._points[0][1], self._points[-1][1]
        # A server with several processes may show buckets of slightly different moments: a cumulative count never
        # falls from one bound to the next, nor in time.
        grown = (max(0.0, new - old) for new, old in zip(end.counts, start.counts, strict=True))
        return Buckets(end.bounds, tuple(accumulate(grown, max)), max(0.0, end.total - start.total))

    def span_s(self) -> float | None:
        """Seconds between the two expositions that are compared; `None` before the second."""
        return self._points[-1][0] - self._points[0][0] if len(self._points) > 1 else None

    def count(self) -> int | None:
        """Observations in the window; `None` before the second exposition."""
        window = self.window()
        return None if window is None else int(window.counts[-1])

    def mean(self) -> float | None:
        """Mean of the observations in the window; `None` if there were none."""
        window = self.window()
        return None if window is None or window.counts[-1] <= 0 else window.total / window.counts[-1]


def quantile(q: float, bounds: Sequence[float], counts: Sequence[float]) -> float | None:
    """The `q`-quantile (0 to 1) of a histogram with cumulative `counts`; `None` without observations.

    As Prometheus' `histogram_quantile` does for classic histograms
    (https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile): observations are taken as
    evenly spread inside a bucket; the first bucket starts at 0 if its bound is above 0, else its bound is the
    answer; a quantile in the last, open bucket is the highest finite bound.
    """
    if len(bounds) < 2 or counts[-1] <= 0:
        return None
    rank = q * counts[-1]
    index = bisect_left(counts, rank)
    if index >= len(bounds) - 1:
        return bounds[-2]
    if index == 0 and bounds[0] <= 0:
        return bounds[0]
    lower, below = (bounds[index - 1], counts[index - 1]) if index else (0.0, 0.0)
    inside = counts[index] - below
    if inside <= 0:
        return lower
    return min(bounds[index], lower + (bounds[index] - lower) * (rank - below) / inside)


def rising(bounds: Sequence[float]) -> bool:
    """Whether each bound is above the one before."""
    return all(low < high for low, high in pairwise(bounds))


def drop_old(points: deque[tuple[float, T]], before_s: float) -> None:
    """Drop points older than `before_s`, but keep two: after a gap the older one is all there is to compare with."""
    while len(points) > 2 and points[0][0] < before_s:
        points.popleft()
