"""The events pane: a list that follows, filters, and leads to the log and to the charts; marks in the charts."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from textual.pilot import Pilot

from console.client.api import Rewound
from console.core.models import EventRecord, Level
from console.protocol import Happened, History
from console.tui.model import EVENTS_MAX, RANGES, RunModel
from console.tui.paint import line_width, plain
from console.tui.widgets.chart import bars, mark_line
from console.tui.widgets.events_pane import event_line, filter_lines
from tests.core.test_recording import recording
from tests.fakes.backend import NOW_S, RUN, FakeSession, attached, snapshot
from tests.ui.screen_text import grid, running, text, wait_for, wait_text
from tests.ui.states import EVENTS, PAST, STATES, XID
from tests.ui.test_replay import playing


def log_line(time_s: float, what: str) -> str:
    then = datetime.fromtimestamp(time_s, tz=UTC)
    return f"(EngineCore pid=4300) INFO {then:%m-%d %H:%M:%S} [core.py:1] {what}"


def chosen(pilot: Pilot[Any]) -> EventRecord:
    return pilot.app.screen.query_one("#events").chosen  # type: ignore[attr-defined,no-any-return]


async def test_the_list_is_filtered_by_kind_and_goes_round() -> None:
    async with running(STATES["events"]()) as pilot:
        await wait_text(pilot, "READY")
        await pilot.press("5")
        await wait_text(pilot, "▸all 12", "restart 1 of 5 is planned", "metrics: timed out", "⏎ log")
        await pilot.press("right", "n")
        await wait_text(pilot, "▸restarts 1", "restart 1 of 5 is planned")
        await wait_for(pilot, lambda: "metrics: timed out" not in text(pilot.app), "only restarts")
        await pilot.press("N", "left")
        await wait_text(pilot, "▸all 12", "metrics: timed out")
        await pilot.press("left")
        await wait_text(pilot, "▸other 2", "launched")


async def test_it_follows_what_happens_until_one_goes_up() -> None:
    backend, session = attached(PAST, snapshot())
    async with running(backend) as pilot:
        await wait_text(pilot, "READY")
        await pilot.press("w")
        await wait_text(pilot, "▸all 12")
        session.push(Happened(event=EventRecord(time_s=NOW_S, kind="note", text="[bold]first[/bold] \x1b[31m")))
        await wait_text(pilot, "▸all 13", "[bold]first[/bold] �[31m")
        await wait_for(pilot, lambda: chosen(pilot).text.startswith("[bold]"), "followed")
        await pilot.press("up")
        await wait_for(pilot, lambda: chosen(pilot) == EVENTS[-1], "one up")
        session.push(Happened(event=EventRecord(time_s=NOW_S + 1, kind="note", text="second")))
        await wait_text(pilot, "▸all 14", "second")
        assert chosen(pilot) == EVENTS[-1]
        await pilot.press("G")
        await wait_for(pilot, lambda: chosen(pilot).text == "second", "the last")


async def test_enter_opens_the_log_at_its_time() -> None:
    log = [log_line(NOW_S - 300 + second, f"tick {second}") for second in range(300)]
    backend, _ = attached(PAST, snapshot(), log=log)
    async with running(backend) as pilot:
        await wait_text(pilot, "READY")
        await pilot.press("5", "up", "up")
        await wait_for(pilot, lambda: chosen(pilot) == XID, "the Xid")
        await pilot.press("enter")
        await wait_text(pilot, "tick 210")
        await wait_for(pilot, lambda: pilot.app.screen.query_one("#log-view").marked == 211, "marked")  # type: ignore[attr-defined]
        assert pilot.app.screen.active == "logs"  # type: ignore[attr-defined]


async def test_a_log_without_times_says_so() -> None:
    backend, _ = attached(PAST, snapshot(), log=["no stamp here"])
    async with running(backend) as pilot:
        await wait_text(pilot, "READY")
        await pilot.press("5", "enter")
        await wait_text(pilot, "no line of this log has a time")


@pytest.mark.parametrize(
    ("ups", "name", "words"), [(2, "5 min ago", "GPU 2: Xid 94"), (6, "1 h ago", "restart 1 of 5")]
)
async def test_an_event_is_pointed_out_in_the_range_that_holds_it(ups: int, name: str, words: str) -> None:
    async with running(STATES["events"](), (160, 50)) as pilot:
        await wait_text(pilot, "READY")
        await pilot.press("5", *["up"] * ups, "i")
        await wait_text(pilot, "GPU util", name, words)
        await pilot.press("l", "1")
        await wait_for(pilot, lambda: words not in text(pilot.app), "no longer pointed out")


async def test_marks_stand_under_both_charts_in_every_range() -> None:
    async with running(STATES["events"]()) as pilot:
        await wait_text(pilot, "READY", "5m┤")
        for name, wanted in (("5m┤", "▲✖●"), ("1h┤", "↻◆"), ("24h┤", "●")):
            await wait_text(pilot, name)
            row = next(row for row in grid(pilot.app) if name in row)
            left, right = row[1:40].split("┤")[1], row[41:].split("┤")[1]
            for glyph in wanted:
                assert glyph in left, name
                assert glyph in right, name
            await pilot.press("t")


async def test_events_are_bounded_and_a_jump_in_a_recording_forgets_them() -> None:
    model = RunModel(FakeSession(RUN))
    many = tuple(EventRecord(time_s=float(i), kind="note", text=str(i)) for i in range(3 * EVENTS_MAX))
    model.take(History(events=many))
    model.take(Happened(event=EVENTS[0]))
    assert len(model.events) == EVENTS_MAX
    assert model.events_seen == 3 * EVENTS_MAX + 1
    model.choose(EVENTS[0])
    model.take(Rewound())
    assert not model.events
    assert model.chosen is None


async def test_a_long_run_says_that_older_ones_are_on_disk() -> None:
    many = tuple(EventRecord(time_s=NOW_S - 9 + i / 1e3, kind="note", text=f"n{i}") for i in range(2 * EVENTS_MAX))
    backend, _ = attached(History(events=many), snapshot())
    async with running(backend) as pilot:
        await wait_text(pilot, "READY")
        await pilot.press("5")
        await wait_text(pilot, "newest 1,000; all: events.jsonl", f"n{2 * EVENTS_MAX - 1}")


async def test_a_recording_has_its_events_too() -> None:
    async with playing(recording(), at_s=50) as (pilot, _):
        await pilot.press("5")
        await wait_text(pilot, "▸all", "state", "phase")
        count = len(pilot.app.screen.model.events)  # type: ignore[attr-defined]
        await pilot.press("greater_than_sign")
        await wait_for(
            pilot,
            lambda: len(pilot.app.screen.model.events) > count,  # type: ignore[attr-defined]
            "the next event",
        )


def test_lines_have_the_time_of_the_server_and_fit() -> None:
    for width in (58, 78, 158):
        for event in EVENTS:
            row = event_line(event, width, NOW_S, 0.0)
            assert line_width(row) == width
    assert plain(event_line(XID, 158, NOW_S, 0.0)).startswith(" 11:05:10    ✖ xid      GPU 2: Xid 94")
    assert plain(event_line(XID, 158, NOW_S, -4 * 3600.0)).endswith("1m30s ago")
    assert plain(event_line(XID, 158, NOW_S, 0.0, chosen=True)).startswith("▸11:05:10    ✖")
    assert plain(event_line(EVENTS[0], 78, NOW_S, 2 * 3600.0)).startswith(" 11-17 12:06 · note")


def test_filters_wrap_and_the_active_one_stays_when_its_events_are_gone() -> None:
    counts = {"xid": 1, "restart": 1, "state": 4, "hint": 1, "settings": 1, "phase": 2, "other": 2}
    rows = filter_lines(counts, 12, "phase", 58)
    assert len(rows) == 2
    assert all(line_width(row) <= 58 for row in rows)
    assert "▸phases 2" in plain(rows[1])
    assert "▸restarts 0" in plain(filter_lines({"state": 1}, 1, "restart", 58)[0])


def test_a_mark_that_is_looked_for_says_what_it_is_where_there_is_room() -> None:
    marks: list[EventRecord | None] = [None] * 30
    marks[10], marks[12] = XID, EVENTS[-1]
    row = mark_line(marks, XID, 10)
    assert line_width(row) == 30
    assert plain(row).rstrip() == "  GPU 2:… ✖ ●"
    assert plain(mark_line(marks)).strip() == "✖ ●"
    marks[10], marks[2] = None, XID
    assert plain(mark_line(marks, XID, 2)).startswith("  ✖ GPU 2:")


def test_a_limit_is_a_dotted_line_and_what_reaches_it_ends_in_a_triangle() -> None:
    rows = [plain(row) for row in bars([10.0, 95.0, None, 0.0, 50.0], 5, 100.0, "fill", 90.0)]
    assert rows[0] == "┈▲ ┈┈"
    assert rows[4] == "▄█ ▁█"
    assert all(row[2] == " " for row in rows), "a gap stays a gap"
    roles = [role for text, role in bars([95.0], 2, 100.0, "fill", 90.0)[0]]
    assert roles == ["fill-warn"]
    assert "▲" not in "".join(plain(row) for row in bars([95.0], 3, 100.0))
    assert plain(bars([500.0], 1, 100.0, "fill", 90.0)[0]) == "▲"
    assert RANGES[0].name.strip() == "5m"


def test_levels_have_roles() -> None:
    event = EventRecord(time_s=NOW_S, kind="state", text="x", level=Level.BAD)
    assert mark_line([event, None]) == (("●", "bad"), (" ", "faint"))
