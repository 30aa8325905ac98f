"""Moments and columns: an event stands over the figures of its own second, in every range and at every width."""

from __future__ import annotations

import random

import pytest

from console.core.columns import bucketed, column_of

SPANS = (300.0, 3_600.0, 86_400.0)


@pytest.mark.parametrize("span_s", SPANS)
def test_an_event_stands_over_the_figure_of_its_time(span_s: float) -> None:
    noise = random.Random(7)
    for _ in range(300):
        now_s = 1_795_000_000 + noise.random() * 1e5
        count = noise.randrange(1, 300)
        time_s = now_s - noise.random() * span_s * 1.2
        columns = bucketed([(time_s, 5.0)], now_s, span_s, count)
        at = column_of(time_s, now_s, span_s, count)
        assert [i for i, value in enumerate(columns) if value is not None] == ([] if at is None else [at])


def test_the_last_column_is_now_and_what_is_older_or_later_has_none() -> None:
    assert column_of(1000.0, 1000.0, 300.0, 30) == 29
    assert column_of(1000.0 - 290.0, 1000.0, 300.0, 30) == 0
    assert column_of(600.0, 1000.0, 300.0, 30) is None
    assert column_of(1011.0, 1000.0, 300.0, 30) is None
    assert column_of(1000.0, 1000.0, 300.0, 0) is None


def test_a_gap_stays_a_gap_and_a_peak_a_peak() -> None:
    points = [(float(t), 10.0 if t != 55 else 90.0) for t in range(99, 0, -1) if not 20 <= t < 40]
    means = bucketed(points, 99.0, 100.0, 10)
    assert means[2] is None
    assert means[3] is None
    assert means[5] == pytest.approx(18.0)
    assert bucketed(points, 99.0, 100.0, 10, peak=True)[5] == 90.0


def test_unknown_is_not_zero() -> None:
    assert bucketed([(9.0, None), (5.0, 0.0)], 9.0, 10.0, 2) == [None, 0.0]
