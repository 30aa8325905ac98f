"""The start on the screen: one bar for all of it, what the log has counted, and a way out at any point."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from console.core.models import Phase, PhaseTime
from console.tui.model import COUNTED_PER_TICK
from console.tui.paint import line_width, plain
from console.tui.widgets.phases import phase_lines
from tests.fakes.backend import NOW_S, RUN, attached, loading, snapshot
from tests.ui.screen_text import running, wait_for, wait_text
from tests.ui.states import START_LOG, USUAL
from tests.ui.test_replay import playing, recording

COUNTED = {Phase.WEIGHTS: "shard 46/46 · 39.50 GiB per worker"}


def rows(width: int, *, expected: tuple[PhaseTime, ...] = USUAL, elapsed_s: float = 75.0, **more: object) -> list[str]:
    status = loading(Phase.WEIGHTS, elapsed_s, phase_detail="shard 31/46", progress=0.67)
    found = phase_lines(status, NOW_S, width, expected, **more)  # type: ignore[arg-type]
    assert all(line_width(row) <= width for row in found)
    return [plain(row).rstrip() for row in found]


@pytest.mark.parametrize("width", [58, 78, 98, 158])
def test_the_whole_start_is_one_bar_with_elapsed_usual_and_left(width: int) -> None:
    ready = rows(width)[1]
    assert ready.startswith("▸ ready")
    assert "1m15s" in ready
    assert "~38%" in ready
    assert "about 2m05s left" in ready
    assert ("usually 3m10s" in ready) == (width >= 78)
    assert "━" in ready


def test_one_that_takes_longer_says_by_how_much() -> None:
    assert "late" not in rows(158)[1]
    assert "usually 3m10s, 4m10s late" in rows(158, elapsed_s=320.0)[1]


def test_a_first_start_promises_nothing() -> None:
    ready = rows(78, expected=())[1]
    assert ready == "▸ ready  1m15s  the first start like this here: no time to compare with"
    assert not any("left" in row for row in rows(78, expected=()))


def test_what_moves_stands_beside_its_phase_or_below_where_it_is_narrow() -> None:
    wide = rows(158, filled=(312.0, 564.0), counters=COUNTED)
    assert any("67%" in row and "shard 31/46  312/564 GiB on the GPUs" in row for row in wide)
    narrow = rows(58, filled=(312.0, 564.0))
    place = next(i for i, row in enumerate(narrow) if "load the weights" in row)
    assert "67%" in narrow[place]
    assert "shard 31/46  312/564 GiB on the GPUs" in narrow[place + 1]


def test_what_was_counted_stays_once_a_phase_is_over() -> None:
    found = [plain(row) for row in phase_lines(loading(Phase.COMPILE), NOW_S, 98, USUAL, COUNTED)]
    assert any(row.startswith("✓ load the weights") and "shard 46/46 · 39.50 GiB per worker" in row for row in found)


@pytest.mark.parametrize("phase", [Phase.CONFIG, Phase.GRAPHS, Phase.SERVER])
async def test_it_can_be_given_up_in_any_phase(phase: Phase) -> None:
    backend, session = attached(snapshot(status=loading(phase, 90.0), engine=None, hints=()))
    async with running(backend) as pilot:
        await wait_text(pilot, "Starting", "s cancels")
        await pilot.press("s")
        await wait_text(pilot, "Stop flash-4xh200?", "loading for 1m30s is lost")
        await pilot.press("y")
        await wait_for(pilot, lambda: session.stops == [None], "asked")


async def test_even_before_the_supervisor_has_said_a_word() -> None:
    backend, session = attached(run=replace(RUN, state="starting"))
    async with running(backend) as pilot:
        await wait_text(pilot, "Waiting for the supervisor", "s stop")
        await pilot.press("s")
        await wait_text(pilot, "Stop flash-4xh200?")
        await pilot.press("y")
        await wait_for(pilot, lambda: session.stops == [None], "asked")


async def test_a_long_log_is_counted_a_part_at_a_time() -> None:
    noise = ["(APIServer pid=1) INFO 11-18 12:00:00 [x.py:1] x"] * (2 * COUNTED_PER_TICK)
    backend, session = attached(
        snapshot(status=loading(Phase.GRAPHS, 90.0), engine=None, hints=()), log=[*noise, *START_LOG]
    )
    async with running(backend) as pilot:
        await wait_text(pilot, "Starting")
        for seq in range(2, 6):
            session.push(snapshot(seq=seq, status=loading(Phase.GRAPHS, 90.0), engine=None, hints=()))
            await pilot.pause()
        await wait_text(pilot, "torch.compile 22.1 s")


async def test_a_recording_cannot_be_cancelled_and_counts_again_after_a_jump() -> None:
    async with playing(recording(), at_s=25) as (pilot, session):
        await wait_text(pilot, "Starting", "LOADING")
        assert "s cancels" not in "\n".join(strip.text for strip in pilot.app.screen._compositor.render_strips())
        session.seek(-20)
        await wait_text(pilot, "Starting")
