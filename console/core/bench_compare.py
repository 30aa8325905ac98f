"""Two benchmarks side by side: by how much one is faster, and how sure that is.

Pure, so that `bench compare`, the screen and the tuning loop judge by the same rule. Figures of one load at one
concurrency are compared as ratios, because noise of a throughput grows with it. With d = ln(after / before) of each
pair of repeats the ratio is exp(mean d), the geometric mean, and its interval is

    exp(mean d ± t · s / √n),  t the 97.5 % point of Student's t with n − 1 degrees of freedom,

the paired t interval (NIST/SEMATECH e-Handbook of Statistical Methods, 7.3.1.1) of the logarithms. Where the numbers of
repeats differ, Welch's interval stands in for it (the same, 7.3.1, unequal variances). An interval that holds 1 is
inside the noise; below `REPEATS_MIN` repeats there is none, and a difference is not called one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import StrEnum
from statistics import fmean, variance

import msgspec

from console.core.bench import BenchPoint, Shape

__all__ = ["METRICS", "REPEATS_MIN", "Compared", "Comparison", "Metric", "Ratio", "Verdict", "compare", "student_t"]

REPEATS_MIN = 3
"""Two repeats give a t of 12.7: an interval that says nothing."""


class Verdict(StrEnum):
    """What a ratio means."""

    BETTER = "better"
    WORSE = "worse"
    NOISE = "inside the noise"
    UNSURE = "too few repeats to tell"


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """One figure of a row that is compared."""

    field: str
    """Of `BenchPoint`."""
    title: str
    more_is_better: bool = False


METRICS: tuple[Metric, ...] = (
    Metric(field="output_tokens_per_s", title="output tok/s", more_is_better=True),
    Metric(field="ttft_p50_s", title="TTFT p50"),
    Metric(field="ttft_p99_s", title="TTFT p99"),
    Metric(field="tpot_p50_s", title="TPOT p50"),
    Metric(field="itl_p99_s", title="ITL p99"),
)
"""The first one decides."""


class Ratio(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """After over before, of one figure."""

    field: str
    ratio: float
    """Geometric mean over the repeats."""
    ratio_min: float
    """Smallest of one pair of repeats; where their numbers differ, smallest after over largest before."""
    ratio_max: float
    low: float | None = None
    """Lower end of the 95 % interval; `None` below `REPEATS_MIN` repeats on a side."""
    high: float | None = None
    repeats: int
    """Of the side with fewer."""
    verdict: Verdict


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """One load at one concurrency, on both sides."""

    shape: Shape
    concurrency: int
    repeats_before: int
    repeats_after: int
    ratios: tuple[Ratio, ...]
    """In the order of `METRICS`; a figure that one side lacks is left out."""


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """All loads that both sides have."""

    rows: tuple[Compared, ...] = ()
    overall: Ratio | None = None
    """Output throughput over all rows: of each repeat the geometric mean of its rows, judged like one row."""
    only_before: tuple[tuple[Shape, int], ...] = ()
    """Shape and concurrency of rows that have no partner."""
    only_after: tuple[tuple[Shape, int], ...] = ()


def compare(before: Sequence[BenchPoint], after: Sequence[BenchPoint]) -> Comparison:
    """Pair rows by shape and concurrency, and repeats by seed where both sides have the same ones, else in order."""
    old, new = _grouped(before), _grouped(after)
    rows, logs = [], []
    for key in (key for key in old if key in new):
        left, right = _aligned(old[key], new[key])
        ratios = []
        for metric in METRICS:
            a, b = _values(left, metric.field), _values(right, metric.field)
            if not a or not b:
                continue
            ratios.append(_ratio(metric, [math.log(value) for value in a], [math.log(value) for value in b]))
        rows.append(
            Compared(
                shape=key[0],
                concurrency=key[1],
                repeats_before=len(left),
                repeats_after=len(right),
                ratios=tuple(ratios),
            )
        )
        a, b = _values(left, METRICS[0].field), _values(right, METRICS[0].field)
        if a and b:
            logs.append(([math.log(value) for value in a], [math.log(value) for value in b]))
    return Comparison(
        rows=tuple(rows),
        overall=_overall(logs),
        only_before=tuple(key for key in old if key not in new),
        only_after=tuple(key for key in new if key not in old),
    )


def student_t(freedom: float) -> float:
    """The 97.5 % point of Student's t, at the next smaller tabled degree of freedom, which is on the safe side.

    NIST/SEMATECH e-Handbook of Statistical Methods, table 1.3.6.7.2.
    """
    return next(value for least, value in reversed(STUDENT_T) if freedom >= least)


STUDENT_T: tuple[tuple[float, float], ...] = (
    (0, 12.706),
    (2, 4.303),
    (3, 3.182),
    (4, 2.776),
    (5, 2.571),
    (6, 2.447),
    (7, 2.365),
    (8, 2.306),
    (9, 2.262),
    (10, 2.228),
    (12, 2.179),
    (15, 2.131),
    (20, 2.086),
    (30, 2.042),
    (60, 2.000),
    (120, 1.980),
)


def _grouped(points: Sequence[BenchPoint]) -> dict[tuple[Shape, int], list[BenchPoint]]:
    groups: dict[tuple[Shape, int], list[BenchPoint]] = {}
    for point in points:
        groups.setdefault((point.shape, point.concurrency), []).append(point)
    return dict(sorted(groups.items()))


def _aligned(left: list[BenchPoint], right: list[BenchPoint]) -> tuple[list[BenchPoint], list[BenchPoint]]:
    seeds = [point.seed for point in left]
    if len(set(seeds)) == len(seeds) and sorted(seeds) == sorted(point.seed for point in right):
        return sorted(left, key=lambda point: point.seed), sorted(right, key=lambda point: point.seed)
    return left, right


def _values(points: Sequence[BenchPoint], field: str) -> list[float]:
    """The figure of every repeat, or nothing if one of them lacks it: a part of them would not be comparable."""
    values = [getattr(point, field) for point in points]
    return values if all(value is not None and value > 0 for value in values) else []


def _overall(logs: list[tuple[list[float], list[float]]]) -> Ratio | None:
    if not logs:
        return None
    sides = []
    for side in (0, 1):
        repeats = min(len(row[side]) for row in logs)
        sides.append([fmean(row[side][index] for row in logs) for index in range(repeats)])
    return _ratio(METRICS[0], sides[0], sides[1])


def _ratio(metric: Metric, before: list[float], after: list[float]) -> Ratio:
    """Of logarithms."""
    repeats = min(len(before), len(after))
    middle = fmean(after) - fmean(before)
    paired = len(before) == len(after)
    differences = [new - old for old, new in zip(before, after, strict=True)] if paired else []
    low = high = None
    if repeats >= REPEATS_MIN:
        error, freedom = _spread(differences) if paired else _welch(before, after)
        reach = student_t(freedom) * error
        low, high = math.exp(middle - reach), math.exp(middle + reach)
    return Ratio(
        field=metric.field,
        ratio=math.exp(middle),
        ratio_min=math.exp(min(differences) if paired else min(after) - max(before)),
        ratio_max=math.exp(max(differences) if paired else max(after) - min(before)),
        low=low,
        high=high,
        repeats=repeats,
        verdict=_verdict(metric, middle, low, high),
    )


def _spread(differences: list[float]) -> tuple[float, float]:
    """Standard error of the mean, and degrees of freedom."""
    return math.sqrt(variance(differences) / len(differences)), len(differences) - 1


def _welch(before: list[float], after: list[float]) -> tuple[float, float]:
    """The same of two samples of different size, by Welch and Satterthwaite."""
    a, b = variance(before) / len(before), variance(after) / len(after)
    if a + b == 0:
        return 0.0, min(len(before), len(after)) - 1
    return math.sqrt(a + b), (a + b) ** 2 / (a**2 / (len(before) - 1) + b**2 / (len(after) - 1))


def _verdict(metric: Metric, middle: float, low: float | None, high: float | None) -> Verdict:
    if low is None or high is None:
        return Verdict.UNSURE
    if low <= 1 <= high:
        return Verdict.NOISE
    return Verdict.BETTER if (middle > 0) is metric.more_is_better else Verdict.WORSE
