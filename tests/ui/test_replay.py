"""A recording in the UI: it says that it is one, can be held and moved, and never acts on a server."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from textual.pilot import Pilot

from console.client import recordings
from console.client.api import Playing
from console.client.replay import REFUSAL, ReplaySession
from console.client.replay_backend import ReplayBackend
from console.core.models import Diagnosis, EventRecord, ProfileChange
from console.core.recording import RecordedLog, Recording
from console.tui.app import ConsoleApp
from console.tui.log_buffer import LogBuffer
from console.tui.model import RANGES
from console.tui.paint import line_width, plain
from console.tui.screens.dashboard import DashboardScreen
from console.tui.screens.picker import PickerScreen
from console.tui.widgets.replay_bar import replay_line
from tests.core.test_recording import BEGIN_S, RUN, recording
from tests.ui.screen_text import text, wait_for, wait_text

GOLDENS = Path(__file__).parent / "goldens"
GOLDEN_S = 61.0
"""Into the demo: 64 clients wait for two places, and a hint says so."""


class Clock:
    """Stands until it is moved."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@asynccontextmanager
async def playing(
    *found: Recording, size: tuple[int, int] = (80, 24), at_s: float = 0.0, **options: Any
) -> AsyncIterator[tuple[Pilot[Any], ReplaySession]]:
    """The app on a recording that is held at `at_s`."""
    session = ReplaySession(found, **{"clock": Clock(), "paused": True, **options})
    session.seek(at_s)
    app = ConsoleApp(ReplayBackend(session), attach_run=session.run.id, replay=True)
    async with app.run_test(size=size, notifications=True) as pilot:
        await wait_text(pilot, session.playing.label, "quit")
        yield pilot, session


def long_log(count: int = 60) -> RecordedLog:
    """A line per second."""
    return RecordedLog(
        tuple(range(1, count + 1)),
        tuple(f"INFO 11-23 16:49:00 [x.py:1] entry number {n}" for n in range(1, count + 1)),
        tuple(BEGIN_S + n for n in range(1, count + 1)),
    )


async def test_it_says_that_it_is_a_recording_and_shows_no_profiles() -> None:
    async with playing(recording(), at_s=50) as (pilot, _):
        await wait_text(pilot, "REPLAY  ● READY", "paused", "16:49:37", "50s of 1m40s")
        assert not any(isinstance(screen, PickerScreen) for screen in pilot.app.screen_stack)
        await pilot.press("l")
        await wait_text(pilot, "REPLAY  ● READY", "50s of 1m40s")


async def test_it_plays_with_the_clock_and_holds() -> None:
    clock = Clock()
    async with playing(recording(), clock=clock, paused=False) as (pilot, session):
        clock.now_s = 25.0
        await wait_text(pilot, "LOADING weights", "×1", "50%", "25s of 1m40s")
        await pilot.press("space")
        await wait_text(pilot, "paused")
        clock.now_s = 60.0
        assert session.playing.at_s == BEGIN_S + 25
        await pilot.press("z", "plus")
        await wait_text(pilot, "×4")
        clock.now_s = 65.0
        await wait_text(pilot, "● READY", "45s of 1m40s")
        await pilot.press("minus")
        await wait_text(pilot, "×1")
        clock.now_s = 300.0
        await wait_text(pilot, "■ STOPPED", "ended", "1m40s of 1m40s", "0 from the start")
        await pilot.press("space")
        await wait_text(pilot, "◐ STARTING", "0s of 1m40s")


async def test_seeking_on_and_back_rebuilds_what_was_known_then() -> None:
    async with playing(recording(log=long_log())) as (pilot, session):
        await wait_text(pilot, "◐ STARTING", "nothing yet")
        await pilot.press("right_square_bracket")
        await wait_text(pilot, "LOADING", "30s of", "entry number 30", "30 lines")
        await pilot.press("right_square_bracket")
        await wait_text(pilot, "● READY", "60 lines")
        model = pilot.app.screen.model  # type: ignore[attr-defined]
        assert len(model.series["gpu"].points(RANGES[0])) == 21
        await pilot.press("left_square_bracket")
        await wait_text(pilot, "LOADING", "30 lines")
        assert "entry number 31" not in text(pilot.app)
        assert len(model.series["gpu"].points(RANGES[0])) <= 1, "nothing but the moment itself"
        assert all(event.time_s <= BEGIN_S + 30 for event in model.events)
        await pilot.press("right_curly_bracket")
        await wait_text(pilot, "■ STOPPED", "1m40s of 1m40s")
        assert "r start again" not in text(pilot.app)
        await pilot.press("left_curly_bracket")
        await wait_text(pilot, "◐ STARTING", "0s of", "nothing yet")
        assert session.playing.at_s == BEGIN_S


async def test_from_event_to_event_and_to_the_begin() -> None:
    async with playing(recording()) as (pilot, _):
        for seconds in ("1s of", "10s of", "20s of"):
            await pilot.press("greater_than_sign")
            await wait_text(pilot, seconds)
        await wait_text(pilot, "LOADING weights")
        await pilot.press("less_than_sign")
        await wait_text(pilot, " 10s of")
        await pilot.press("0")
        await wait_text(pilot, " 0s of")


async def test_hints_are_there_when_they_were_and_not_before() -> None:
    demo = recordings.demo()
    came = next(event for event in demo[0].events if event.kind == "hint")
    title = came.text.partition(":")[0]
    before_s = came.time_s - demo[0].begin_s - 2
    async with playing(*demo, label="DEMO", at_s=before_s) as (pilot, session):
        await wait_text(pilot, "DEMO  ● READY", "GPU util")
        assert title not in text(pilot.app)
        session.seek(3)
        await wait_text(pilot, "1 hint", title)
        session.seek(-3)
        await wait_for(pilot, lambda: title not in text(pilot.app), "gone again")


async def test_one_recording_after_another_is_one_replay() -> None:
    first, second = recordings.demo()
    async with playing(first, second, label="DEMO", at_s=first.end_s - first.begin_s - 1) as (pilot, session):
        await wait_text(pilot, "STOP")
        await pilot.press("l")
        await wait_text(pilot, f"following  {len(first.log.texts)} lines")
        session.seek(60.0)
        await wait_text(pilot, "● READY")
        assert session.run.id == second.run.id
        buffer = pilot.app.screen.model.log  # type: ignore[attr-defined]
        await wait_for(pilot, lambda: buffer.line(1) == second.log.texts[0], "the log of the second")
        session.seek(-60.0)
        await wait_for(pilot, lambda: buffer.line(1) == first.log.texts[0], "the log of the first")
        assert buffer.first_line == 1


@pytest.mark.parametrize("key", ["s", "r", "f", "a", "p", "c", "3"])
async def test_keys_that_need_a_server_say_why_they_do_nothing(key: str) -> None:
    broken = Diagnosis(title="It broke", change=(ProfileChange(key="serve.max_num_seqs", before=2, after=1),))
    events = (EventRecord(time_s=BEGIN_S + 1, kind="state", text="starting → failed: exited with code 1"),)
    found = recording(events=events, run=replace(RUN, diagnosis=broken, state="failed"))
    for at_s, there in ((50, found), (50, recording())):
        async with playing(there, at_s=at_s) as (pilot, _):
            await wait_text(pilot, "✖ FAILED" if there is found else "● READY")
            await pilot.press(key)
            await wait_text(pilot, "Not in a recording", REFUSAL[:19])
            assert isinstance(pilot.app.screen, DashboardScreen)
            assert pilot.app.screen.active == "overview"
            bar = text(pilot.app).splitlines()[-1]
            assert not {"stop", "restart", "fix", "chat", "profiles"} & set(bar.split())


async def test_a_recording_offers_no_measurement_and_says_why() -> None:
    async with playing(recording(), at_s=50) as (pilot, _):
        await wait_text(pilot, "● READY")
        await pilot.press("b")
        await wait_text(pilot, "Nothing was measured in this run yet.")
        assert "measure" not in text(pilot.app).replace("measured", "")
        await pilot.press("enter")
        await wait_text(pilot, "Not in a recording", REFUSAL[:19])


async def test_ascii_only() -> None:
    session = ReplaySession(recordings.demo(), label="DEMO", clock=Clock(), paused=True)
    session.seek(GOLDEN_S)
    app = ConsoleApp(ReplayBackend(session), attach_run=session.run.id, replay=True, ascii_glyphs=True)
    async with app.run_test(size=(100, 30)) as pilot:
        await wait_for(pilot, lambda: "1m01s of" in text(app), "painted")
        assert text(app).isascii(), [c for c in text(app) if not c.isascii()]


async def test_quit_asks_nothing() -> None:
    async with playing(recording(), at_s=50) as (pilot, _):
        await wait_text(pilot, "● READY")
        await pilot.press("q")
        await wait_for(pilot, lambda: pilot.app.return_code == 0, "left")


async def test_help_tells_of_the_keys_and_what_is_missing_is_said() -> None:
    async with playing(recording(missing=("Figures: none in this recording",)), size=(100, 40)) as (pilot, _):
        await wait_text(pilot, "Not all of it is here", "Figures: none in this recording")
        await pilot.press("question_mark")
        await wait_text(pilot, "Replay", "30 seconds back", "to the next event")


async def test_space_turns_pages_in_the_log_where_z_holds() -> None:
    async with playing(recording(log=long_log()), at_s=70) as (pilot, session):
        await pilot.press("l")
        await wait_text(pilot, "following  60 lines")
        await pilot.press("g", "space")
        assert session.playing.paused
        await pilot.press("z")
        await wait_for(pilot, lambda: not session.playing.paused, "goes on")


async def test_a_search_forgets_lines_that_are_not_written_yet() -> None:
    async with playing(recording(log=long_log()), at_s=70) as (pilot, session):
        await pilot.press("l", "slash", *"entry", "enter")
        await wait_text(pilot, "60 of 60")
        session.seek(-40.0)
        await wait_text(pilot, "30 lines")
        await wait_for(pilot, lambda: "of 60" not in text(pilot.app), "counted again")


def test_a_log_with_a_gap_is_read_in_order_and_taken_back() -> None:
    numbers = (1, 2, 3, 8, 9)
    log = RecordedLog(numbers, tuple(f"line {n}" for n in numbers), tuple(BEGIN_S + n for n in numbers))
    session = ReplaySession((recording(log=log),), clock=Clock(), paused=True)
    buffer = LogBuffer(session.log())

    def at(after_s: float) -> list[int]:
        session.shown_s = BEGIN_S + after_s
        while buffer.pump():
            pass
        return [int(text.split()[1]) for _, text in buffer.store.lines(1, buffer.last_line)]

    assert at(0) == []
    assert at(2) == [1, 2]
    assert at(9) == [1, 2, 3, 8, 9]
    assert (buffer.first_line, buffer.last_line) == (1, 9)
    assert buffer.store.gaps() == [(4, 7)]
    assert at(8) == [1, 2, 3, 8]
    assert at(3) == [1, 2, 3]
    assert (buffer.first_line, buffer.last_line) == (1, 3)
    assert at(1) == [1]
    assert at(0) == []


@pytest.mark.parametrize("width", [20, 40, 60, 80, 160])
def test_the_bar_fits(width: int) -> None:
    for at_s, ended in ((0.0, False), (50.0, False), (100.0, True)):
        where = Playing(label="REPLAY", at_s=at_s, begin_s=0.0, end_s=100.0, local_s=at_s, ended=ended)
        row = replay_line(where, width)
        assert line_width(row) == width or width < 50
        assert plain(row).startswith("REPLAY")


@pytest.mark.parametrize("size", [(80, 24), (160, 50)], ids=lambda size: f"{size[0]}x{size[1]}")
async def test_golden(size: tuple[int, int]) -> None:
    """Run with `UPDATE_GOLDENS=1` to accept a change."""
    path = GOLDENS / f"demo-{size[0]}x{size[1]}.txt"
    async with playing(*recordings.demo(), label="DEMO", size=size, at_s=GOLDEN_S) as (pilot, _):
        await wait_text(pilot, "DEMO  ● READY", "▲ Raise", "waiting 62", "1m01s of 2m44s")
        if os.environ.get("UPDATE_GOLDENS"):
            await pilot.pause(0.5)
            path.write_text(text(pilot.app) + "\n", encoding="utf-8")
        wanted = path.read_text(encoding="utf-8")
        await wait_for(pilot, lambda: text(pilot.app) + "\n" == wanted, f"looks like {path.name}")
