"""The past of every GPU, for its own charts: utilization, memory, power and temperature, in bounded rows.

Separate from the other series: sixteen GPUs have 64 of them. One row holds a moment of all GPUs as packed numbers,
so that a day of sixteen takes less than a megabyte.
"""

from __future__ import annotations

import math
from array import array
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from typing import Final, NamedTuple

from console.core.columns import Point, bucketed
from console.core.models import GpuReading

__all__ = ["GPUS_MAX", "GPU_FIGURES", "ROWS_MAX", "GpuSeries"]

ROWS_MAX: Final = 400
"""Rows kept per range: more than a chart has columns."""
GPUS_MAX: Final = 64
"""GPUs of one machine that are kept."""
NAN: Final = math.nan


def _share(used: float | None, total: float | None) -> float | None:
    return None if used is None or not total else used / total * 100


class Figure(NamedTuple):
    """One figure of a GPU."""

    id: str
    read: Callable[[GpuReading], float | None]
    peak: bool
    """Whether a stretch shows its highest value: a mean would hide what an operator looks for."""


GPU_FIGURES: Final[tuple[Figure, ...]] = (
    Figure("util", attrgetter("util_percent"), False),
    Figure("memory", lambda gpu: _share(gpu.memory_used_bytes, gpu.memory_total_bytes), True),
    Figure("power", attrgetter("power_w"), False),
    Figure("temperature", attrgetter("temperature_c"), True),
)
_PLACES: Final = {figure.id: place for place, figure in enumerate(GPU_FIGURES)}
_WIDTH: Final = len(GPU_FIGURES)
_READERS: Final = tuple((place, figure.read) for place, figure in enumerate(GPU_FIGURES))


class _Row:
    """All GPUs over one stretch of time."""

    __slots__ = ("counts", "time_s", "values", "whole")

    def __init__(self, time_s: float, values: array[float], whole: bool) -> None:
        self.time_s = time_s
        self.values = array("f", values)
        self.whole = whole
        """Every figure of every GPU was known each time: then one count does for all."""
        self.counts = array("I", [1] if whole else [not math.isnan(value) for value in values])

    def merge(self, values: array[float], whole: bool) -> None:
        """Take in one more moment."""
        if whole and self.whole and len(values) == len(self.values):
            self._merge_whole(values)
            return
        if self.whole:
            self.whole, self.counts = False, array("I", list(self.counts) * len(self.values))
        if (more := len(values) - len(self.values)) > 0:
            self.values.extend([NAN] * more)
            self.counts.extend([0] * more)
        for at, new in enumerate(values):
            if math.isnan(new):
                continue
            old, count = self.values[at], self.counts[at]
            if not count:
                self.values[at] = new
            elif GPU_FIGURES[at % _WIDTH].peak:
                self.values[at] = max(old, new)
            else:
                self.values[at] = (old * count + new) / (count + 1)
            self.counts[at] = count + 1

    def _merge_whole(self, values: array[float]) -> None:
        """The same for what is the rule, several times as fast: a day of sixteen GPUs comes in one message."""
        count = self.counts[0]
        for place, figure in enumerate(GPU_FIGURES):
            pairs = zip(self.values[place::_WIDTH], values[place::_WIDTH], strict=True)
            if figure.peak:
                merged = [max(pair) for pair in pairs]
            else:
                merged = [(old * count + new) / (count + 1) for old, new in pairs]
            self.values[place::_WIDTH] = array("f", merged)
        self.counts[0] = count + 1


class GpuSeries:
    """What the charts of single GPUs show.

    Args:
        spans_s: how far back each range goes, in seconds.
    """

    def __init__(self, spans_s: Sequence[float]) -> None:
        self._rows: tuple[deque[_Row], ...] = tuple(deque(maxlen=ROWS_MAX) for _ in spans_s)
        self._steps = tuple(span_s / (ROWS_MAX - 1) for span_s in spans_s)
        self._spans = tuple(spans_s)

    def add(self, time_s: float, gpus: Sequence[GpuReading] | None) -> None:
        """The readings of a moment that is newer than all before. By index: a GPU may be missing."""
        known = [gpu for gpu in gpus or () if 0 <= gpu.index < GPUS_MAX]
        values = array("f", [NAN]) * (_WIDTH * (max((gpu.index for gpu in known), default=-1) + 1))
        for gpu in known:
            at = gpu.index * _WIDTH
            for place, read in _READERS:
                value = read(gpu)
                if value is not None:
                    values[at + place] = value
        whole = bool(values) and not math.isnan(sum(values))
        for rows, step in zip(self._rows, self._steps, strict=True):
            if rows and int(rows[-1].time_s // step) == int(time_s // step):
                rows[-1].merge(values, whole)
            else:
                rows.append(_Row(time_s, values, whole))

    def clear(self) -> None:
        """Forget everything."""
        for rows in self._rows:
            rows.clear()

    def columns(self, figure: str, gpu: int, span_s: float, now_s: float, count: int) -> list[float | None]:
        """One figure of one GPU in `count` columns over one of the ranges, oldest first; `None` where unknown."""
        place = _PLACES[figure]
        points = self._points(self._rows[self._spans.index(span_s)], gpu * _WIDTH + place)
        return bucketed(points, now_s, span_s, count, peak=GPU_FIGURES[place].peak)

    @staticmethod
    def _points(rows: deque[_Row], at: int) -> Iterator[Point]:
        for row in reversed(rows):
            value = row.values[at] if at < len(row.values) else NAN
            yield row.time_s, None if math.isnan(value) else value
