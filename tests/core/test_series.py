from __future__ import annotations

import math
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.core.series import Buckets, CounterRate, HistogramWindow, Ring, quantile

INF = math.inf


def buckets(*counts: float, total: float = 0.0, bounds: tuple[float, ...] = (1.0, 2.0, 4.0, INF)) -> Buckets:
    return Buckets(bounds, counts, total)


def test_ring_keeps_the_newest() -> None:
    ring: Ring[int] = Ring(3)
    assert ring.newest() is None
    for item in range(5):
        ring.append(item)
    assert list(ring) == [2, 3, 4]
    assert ring.newest() == 4
    assert ring.tail(2) == (3, 4)
    assert ring.tail(9) == (2, 3, 4)
    ring.clear()
    assert len(ring) == 0


def test_rate_is_unknown_until_the_second_sample() -> None:
    rate = CounterRate(5.0)
    assert rate.per_s() is None
    rate.feed(1000, 0.0)
    assert rate.per_s() is None
    assert rate.increase() is None
    rate.feed(1010, 2.0)
    assert rate.per_s() == 5.0


def test_rate_forgets_what_is_older_than_the_window() -> None:
    rate = CounterRate(5.0)
    for second in range(20):
        rate.feed(100 * min(second, 10), float(second))
    assert rate.per_s() == 0.0


def test_rate_divides_by_the_time_between_the_samples() -> None:
    rate = CounterRate(5.0)
    rate.feed(0, 0.0)
    rate.feed(300, 60.0)
    assert rate.per_s() == 5.0
    rate.feed(310, 61.0)
    assert rate.per_s() == 10.0


def test_a_fall_is_a_restart_from_zero() -> None:
    rate = CounterRate(60.0)
    rate.feed(1000, 0.0)
    rate.feed(1100, 1.0)
    rate.feed(30, 2.0)
    assert rate.increase() == 130


def test_a_sample_of_the_same_time_is_ignored() -> None:
    rate = CounterRate(5.0)
    rate.feed(0, 1.0)
    rate.feed(9, 1.0)
    assert rate.per_s() is None


@given(
    st.lists(st.tuples(st.floats(0.01, 10), st.integers(0, 10**9), st.booleans()), min_size=2, max_size=60),
    st.floats(0.5, 60),
)
def test_growth_is_exact_over_a_window_that_holds_everything(
    steps: list[tuple[float, int, bool]], window_s: float
) -> None:
    whole, windowed = CounterRate(1e9), CounterRate(window_s)
    now_s, value, grown = 0.0, 0, 0
    for index, (step_s, growth, restart) in enumerate(steps):
        now_s += step_s
        before = value
        value = growth if restart and growth < value else value + growth
        grown += 0 if index == 0 else value - before if value >= before else value
        whole.feed(value, now_s)
        windowed.feed(value, now_s)
    assert whole.increase() == grown
    per_s, part = windowed.per_s(), windowed.increase()
    assert per_s is not None
    assert part is not None
    assert 0 <= part <= grown
    assert per_s >= 0


@pytest.mark.parametrize(
    ("q", "expected"),
    [(0.5, 1.5), (0.25, 1.0), (0.125, 0.5), (0.75, 2.0), (0.9, 4.0), (1.0, 4.0)],
)
def test_quantile_interpolates_as_prometheus_does(q: float, expected: float) -> None:
    # 2 up to 1, 4 in (1, 2], none in (2, 4], 2 above: the highest finite bound stands for those.
    assert quantile(q, (1.0, 2.0, 4.0, INF), (2, 6, 6, 8)) == pytest.approx(expected)


def test_quantile_edges() -> None:
    assert quantile(0.5, (1.0, INF), (0, 0)) is None
    assert quantile(0.5, (INF,), (3,)) is None
    assert quantile(0.5, (-1.0, 1.0, INF), (4, 4, 4)) == -1.0


histograms = st.lists(
    st.tuples(st.floats(1e-4, 1e3), st.integers(0, 1000)), min_size=1, max_size=25, unique_by=lambda pair: pair[0]
).map(sorted)


@given(histograms, st.integers(0, 1000), st.lists(st.floats(0, 1), min_size=2, max_size=2))
def test_quantile_is_monotone_and_inside_its_bucket(
    pairs: list[tuple[float, int]], above: int, shares: list[float]
) -> None:
    bounds = (*(bound for bound, _ in pairs), INF)
    counts = tuple(accumulate([*(count for _, count in pairs), above]))
    low, high = (quantile(q, bounds, counts) for q in sorted(shares))
    if counts[-1] == 0:
        assert low is None
        return
    assert low is not None
    assert high is not None
    assert 0 <= low <= high <= bounds[-2]
    rank = max(shares) * counts[-1]
    index = next(i for i, count in enumerate(counts) if count >= rank)
    if index < len(bounds) - 1:
        assert high <= bounds[index]
        assert high >= (bounds[index - 1] if index else 0.0)


def test_histogram_window_is_the_difference() -> None:
    window = HistogramWindow(60.0)
    window.feed(buckets(10, 10, 10, 10, total=5.0), 0.0)
    assert window.window() is None
    window.feed(buckets(10, 14, 14, 15, total=20.0), 1.0)
    assert window.window() == buckets(0, 4, 4, 5, total=15.0)
    assert window.count() == 5
    assert window.mean() == 3.0


def test_histogram_window_moves_on() -> None:
    window = HistogramWindow(3.0)
    for second in range(10):
        window.feed(buckets(*(4 * [min(second, 5)])), float(second))
    assert window.count() == 0
    assert window.mean() is None


def test_histogram_restart_counts_what_came_since() -> None:
    window = HistogramWindow(60.0)
    window.feed(buckets(5, 5, 5, 9, total=70.0), 0.0)
    window.feed(buckets(1, 2, 2, 2, total=3.0), 1.0)
    assert window.window() == buckets(1, 2, 2, 2, total=3.0)


def test_other_bounds_start_again() -> None:
    window = HistogramWindow(60.0)
    window.feed(buckets(5, 5, 5, 5), 0.0)
    window.feed(buckets(5, 6, bounds=(0.5, INF)), 1.0)
    assert window.window() is None
    window.feed(buckets(7, 9, bounds=(0.5, INF)), 2.0)
    assert window.count() == 3


@given(st.lists(st.lists(st.integers(0, 50), min_size=4, max_size=4), min_size=2, max_size=20))
def test_window_counts_never_fall_from_bound_to_bound(steps: list[list[int]]) -> None:
    window = HistogramWindow(1e9)
    summed = [0, 0, 0, 0]
    for second, step in enumerate(steps):
        summed = [old + new for old, new in zip(summed, step, strict=True)]
        window.feed(buckets(*accumulate(summed)), float(second))
    found = window.window()
    assert found is not None
    assert list(found.counts) == sorted(found.counts)
    assert found.counts[-1] == sum(map(sum, steps[1:]))
