"""The charts' range: `t` looks further back, peaks and gaps stay, and the axis says how far it goes."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

import pytest

from console.core.models import EngineReading, Sample, ServerState
from console.protocol import History
from console.tui.model import POINTS_MAX, RANGES, SERIES, Track
from tests.fakes.backend import NOW_S, attached, snapshot
from tests.ui.screen_text import grid, running, text, wait_for, wait_text

FIVE, HOUR, DAY = RANGES


def day() -> Iterator[Sample]:
    """A day in minutes and its last hour in seconds, KV use low with one peak, and no samples for four hours."""
    for minute in range(24 * 60 - 1, 59, -1):
        if not 6 * 60 <= minute < 10 * 60:
            yield sample(minute * 60.0, 0.95 if minute == 900 else 0.1, count=60)
    for second in range(3_600, 0, -1):
        yield sample(float(second), 0.3)


def sample(ago_s: float, kv: float, count: int = 1) -> Sample:
    engine = EngineReading(kv_cache_usage=kv, running=1, generation_tokens_per_s=10.0)
    return Sample(time_s=NOW_S - ago_s, state=ServerState.READY, engine=engine, count=count)


@pytest.mark.parametrize(("size", "axis"), [((80, 24), ("", "1h┤", "24h┤")), ((160, 50), ("5 min", "1 h", "24 h"))])
async def test_the_key_goes_round_the_ranges(size: tuple[int, int], axis: tuple[str, str, str]) -> None:
    backend, _ = attached(History(samples=tuple(day())), snapshot())
    async with running(backend, size) as pilot:
        await wait_text(pilot, "READY", axis[0], "TTFT", "Hints", "Log")
        first = text(pilot.app)
        await pilot.press("t")
        await wait_text(pilot, axis[1])
        await pilot.press("t")
        await wait_text(pilot, axis[2])
        halves = [row[size[0] // 2 :].strip() for row in grid(pilot.app)]
        floor = next(row for row in halves if row.startswith("0┤"))
        assert re.search(r"\S {5,}\S", floor), "four hours without samples are blank"
        await pilot.press("t")
        await wait_text(pilot, axis[0])
        await wait_for(pilot, lambda: text(pilot.app) == first, "as at first")
        await pilot.press("question_mark")
        await wait_text(pilot, "charts of 5 minutes, 1 hour, 24 hours")


async def test_there_is_no_range_where_there_is_no_chart() -> None:
    backend, _ = attached(snapshot())
    async with running(backend) as pilot:
        await wait_text(pilot, "t range")
        await pilot.press("l")
        assert "t range" not in text(pilot.app)


def test_a_track_keeps_peaks_means_and_gaps() -> None:
    kv, output = Track(peak=True), Track()
    for second in range(86_400):
        if not 40_000 <= second < 50_000:
            value = 90.0 if second == 7_000 else 10.0
            kv.add(float(second), value)
            output.add(float(second), value)
    columns = kv.columns(DAY, 86_399.0, 24)
    assert columns[1] == 90.0
    assert columns[12] is None
    assert output.columns(DAY, 86_399.0, 24)[1] == pytest.approx(10.0, abs=0.1)
    assert kv.columns(FIVE, 86_399.0, 30) == [10.0] * 30
    assert kv.columns(HOUR, 86_399.0, 30) == [10.0] * 30
    assert kv.latest == 10.0


def test_unknown_stays_unknown_in_every_range() -> None:
    track = Track()
    for second in range(7_200):
        track.add(float(second), None if second < 5_400 else 1.0)
    for zoom, count in ((HOUR, 60), (DAY, 24)):
        columns = track.columns(zoom, 7_199.0, count)
        assert 1.0 in columns
        assert 0.0 not in columns
        assert columns[0] is None


def test_what_was_missed_fills_the_gap_and_nothing_else() -> None:
    output, kv = Track(), Track(peak=True)
    for track in (output, kv):
        for second in range(300):
            track.add(float(second), None if 100 <= second < 200 else 10.0)
        track.fill([(float(second) + 0.5, 90.0 if second == 150 else 30.0) for second in range(50, 250)])
        assert track.columns(FIVE, 299.0, 30)[2:28] == [10.0] * 8 + track.columns(FIVE, 299.0, 30)[10:20] + [10.0] * 8
        assert [time_s for time_s, _ in track.points(FIVE)] == sorted(time_s for time_s, _ in track.points(FIVE))
        assert track.latest == 10.0
    assert output.columns(FIVE, 299.0, 30)[12] == 30.0
    assert 90.0 in kv.columns(HOUR, 299.0, 720), "the peak of a step"


def test_memory_of_a_track_is_bounded() -> None:
    noise = random.Random(1)
    track = Track(peak=True)
    for tick in range(50_000):
        track.add(tick * 10.0, noise.random())
    assert [len(track.points(zoom)) for zoom in RANGES] == [POINTS_MAX] * 3
    assert all(zoom.span_s / (zoom.step_s or 0.25) <= POINTS_MAX for zoom in RANGES)
    assert {"kv", "waiting"} <= set(SERIES)
