"""What grew since earlier scrapes, over each family's window.

Growth is taken from each series before series are added up, as Prometheus does ("rate, then sum"), so an engine that
starts again at zero beside others that go on is seen as a reset and not as a loss. A series that is gone keeps what
it had. One that appears later began at zero.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from console.core.metrics.scrape import labels_key, read_buckets
from console.core.metrics.table import METRICS, Families, Kind, Metric, Point
from console.core.models import Lengths, Percentiles
from console.core.series import Buckets, CounterRate, HistogramWindow, quantile

__all__ = ["SERIES_KEPT_MAX", "Counter", "Histogram", "Windows"]

SERIES_KEPT_MAX = 4096
"""Series of one counter that are remembered; beyond that it is watched anew."""


class Counter:
    """One family of counters: all its series together, and apart by one label if its row says so."""

    def __init__(self, row: Metric) -> None:
        self._row = row
        self._last: dict[tuple[tuple[str, str], ...], float] = {}
        self._before_resets: dict[str, float] = {}
        self._fed_s: float | None = None
        self.total = CounterRate(row.window_s)
        self.apart: dict[str, CounterRate] = {}

    def feed(self, points: Iterable[Point], now_s: float) -> bool:
        """Take in one scrape, read at `now_s`; whether a series fell back."""
        if len(self._last) > SERIES_KEPT_MAX:
            self._last, self._before_resets, self._fed_s = {}, {}, None
            self.total, self.apart = CounterRate(self._row.window_s), {}
        fell, split = False, self._row.split
        for point in points:
            if not math.isfinite(point.value):
                continue
            key = labels_key(point.labels)
            before = self._last.get(key)
            if before is not None and point.value < before:
                fell = True
                name = point.labels.get(split, "")
                self._before_resets[name] = self._before_resets.get(name, 0.0) + before
            self._last[key] = point.value
        if not self._last:
            return False
        self.total.feed(math.fsum((*self._last.values(), *self._before_resets.values())), now_s)
        if split:
            sums = dict(self._before_resets)
            for key, value in self._last.items():
                name = next((text for label, text in key if label == split), "")
                sums[name] = sums.get(name, 0.0) + value
            for name, value in sums.items():
                rate = self.apart.get(name)
                if rate is None:
                    rate = self.apart[name] = CounterRate(self._row.window_s)
                    if self._fed_s is not None:
                        rate.feed(0.0, self._fed_s)
                rate.feed(value, now_s)
        self._fed_s = now_s
        return fell


class Histogram:
    """One family of histograms, all engines together."""

    def __init__(self, window_s: float) -> None:
        self._window = HistogramWindow(window_s)
        self._last: dict[str, Buckets] = {}
        self._before_resets: list[Buckets] = []
        self.since_start: Buckets | None = None
        """As the last scrape had it."""
        self.grown: Buckets | None = None
        """Observations inside the window; `None` before the second scrape."""

    def feed(self, engines: Mapping[str, Buckets], now_s: float) -> bool:
        """Take in one scrape, read at `now_s`; whether an engine's histogram fell back."""
        fell = False
        if not engines:
            self.since_start = self.grown = None
            return False
        bounds = next(iter(engines.values())).bounds
        if any(old.bounds != bounds for old in self._last.values()):
            # Other buckets: another server, of which nothing can be compared with the one before.
            self._last, self._before_resets, fell = {}, [], True
        for name, new in engines.items():
            old = self._last.get(name)
            if old is not None and new.counts[-1] < old.counts[-1]:
                self._before_resets.append(old)
                fell = True
        if len(self._before_resets) > 1:
            self._before_resets = [added(self._before_resets)]
        self._last = {**self._last, **engines}
        self.since_start = added(tuple(engines.values()))
        self._window.feed(added((*self._last.values(), *self._before_resets)), now_s)
        self.grown = self._window.window()
        return fell

    @property
    def span_s(self) -> float | None:
        """Seconds between the two scrapes that are compared."""
        return self._window.span_s()

    def mean(self) -> float | None:
        """Mean of the observations in the window; `None` if there were none."""
        grown = self.grown
        return None if grown is None or grown.counts[-1] <= 0 else grown.total / grown.counts[-1]

    def percentiles(self) -> Percentiles | None:
        """Latencies over the window; `None` if nothing can be said."""
        if self.grown is None:
            return None
        p50, p95, p99 = three(self.grown)
        return Percentiles(
            p50_s=p50,
            p95_s=p95,
            p99_s=p99,
            count=int(self.grown.counts[-1]),
            mean_s=self.mean(),
            lowest_bound_s=self.grown.bounds[0],
        )

    def lengths(self) -> Lengths | None:
        """Lengths over the window; `None` if nothing can be said."""
        if self.grown is None:
            return None
        p50, p95, p99 = three(self.grown)
        return Lengths(mean=self.mean(), p50=p50, p95=p95, p99=p99, count=int(self.grown.counts[-1]))


class Windows:
    """All counters and histograms of one server."""

    def __init__(self, metrics: Sequence[Metric] = METRICS) -> None:
        self.counters = {row.name: Counter(row) for row in metrics if row.kind is Kind.COUNTER}
        self.histograms = {row.name: Histogram(row.window_s) for row in metrics if row.kind is Kind.HISTOGRAM}
        self.resets = 0
        """Scrapes in which at least one series fell back."""
        self._here: Families = {}

    def feed(self, families: Families, now_s: float) -> None:
        """Take in one scrape, read at `now_s` (a clock that never goes back)."""
        self._here = families
        fell = [counter.feed(families.get(name, ()), now_s) for name, counter in self.counters.items()]
        fell += [
            histogram.feed(read_buckets(families.get(name, ())), now_s) for name, histogram in self.histograms.items()
        ]
        self.resets += any(fell)

    def per_s(self, name: str) -> float | None:
        """Growth of a counter per second; `None` if the last scrape does not have it."""
        return self.counters[name].total.per_s() if self._here.get(name) else None

    def increase(self, name: str) -> float | None:
        """Growth of a counter over its window; `None` if the last scrape does not have it."""
        return self.counters[name].total.increase() if self._here.get(name) else None

    def increase_apart(self, name: str) -> dict[str, float]:
        """Growth of a counter over its window for each value of its label; empty before the second scrape."""
        if not self._here.get(name):
            return {}
        grown = ((key, rate.increase()) for key, rate in self.counters[name].apart.items())
        return {key: value for key, value in grown if value is not None}

    def share(self, part: str, whole: str) -> float | None:
        """Growth of one counter over that of another; `None` where nothing was counted."""
        top, bottom = self.increase(part), self.increase(whole)
        return None if top is None or not bottom else top / bottom


def added(parts: Sequence[Buckets]) -> Buckets:
    """Histograms with the same bounds as one."""
    if len(parts) == 1:
        return parts[0]
    counts = tuple(map(sum, zip(*(part.counts for part in parts), strict=True)))
    return Buckets(parts[0].bounds, counts, math.fsum(part.total for part in parts))


def three(grown: Buckets) -> tuple[float | None, float | None, float | None]:
    """The percentiles that are shown."""
    p50, p95, p99 = (quantile(q, grown.bounds, grown.counts) for q in (0.50, 0.95, 0.99))
    return p50, p95, p99
