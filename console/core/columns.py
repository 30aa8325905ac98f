"""Time as columns: which column of a chart a moment falls into, for figures and for events alike.

Columns begin at whole multiples of their length, so that one never changes once it is past, and an event always
stands over the figures of its own time.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["Point", "bucketed", "column_of"]

Point = tuple[float, float | None]
"""Unix time in seconds and a figure; `None` where it was not known."""


def column_of(time_s: float, now_s: float, span_s: float, count: int) -> int | None:
    """The column of a moment among `count` over the last `span_s` seconds; `None` if it lies outside.

    The last column is the one that `now_s` falls into.
    """
    if count < 1:
        return None
    step = span_s / count
    index = count - 1 - (int(now_s // step) - int(time_s // step))
    return index if 0 <= index < count else None


def bucketed(
    points: Iterable[Point], now_s: float, span_s: float, count: int, *, peak: bool = False
) -> list[float | None]:
    """Means (or peaks) of `count` columns, oldest first; `None` where nothing is known.

    Args:
        points: newest first, so that reading ends where the chart does.
        now_s: the moment at the right end.
        span_s: how far back it goes.
        count: columns.
        peak: show the highest value of a column, not the mean.
    """
    step = span_s / max(count, 1)
    last = int(now_s // step)
    sums = [0.0] * count
    seen = [0] * count
    for time_s, value in points:
        index = count - 1 - (last - int(time_s // step))
        if index < 0:
            break
        if value is None or index >= count:
            continue
        if peak:
            sums[index], seen[index] = (max(sums[index], value) if seen[index] else value), 1
        else:
            sums[index] += value
            seen[index] += 1
    return [total / n if n else None for total, n in zip(sums, seen, strict=True)]
