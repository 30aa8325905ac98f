"""The log: follows, never moves under a reader, searches, bounded."""

from __future__ import annotations

from console.core.models import Diagnosis, ServerState, ServerStatus
from console.tui import log_buffer
from console.tui.log_buffer import LogBuffer
from console.tui.log_lines import painted
from console.tui.paint import plain
from tests.fakes.backend import FakeLog, attached, snapshot
from tests.ui.screen_text import running, text, wait_for, wait_text

MANY = [f"(APIServer pid=1) INFO 11-23 12:00:00 [x.py:1] line {i} of the log" for i in range(1, 1001)]


def test_short_form_keeps_what_is_said() -> None:
    shown = plain(painted(MANY[0], False))
    assert "12:00:00" in shown
    assert "APIServer" in shown
    assert shown.endswith("line 1 of the log")
    assert plain(painted(MANY[0], True)).endswith(MANY[0])
    assert painted("ValueError: no", False)[0] == ("✖ ", "bad")


def test_buffer_is_bounded_and_waits_for_a_reader(monkeypatch) -> None:
    monkeypatch.setattr(log_buffer, "BYTES_MAX", 200_000)
    lines = [f"line {i}" for i in range(1, 10_001)]
    buffer = LogBuffer(FakeLog(lines))
    while buffer.pump():
        pass
    assert buffer.last_line == 10_000
    buffer.hold = True
    lines += [f"line {i}" for i in range(10_001, 30_001)]
    while buffer.pump():
        pass
    assert 10_000 < buffer.last_line < 30_000, "reading waits"
    assert buffer.line(1) == "line 1", "nothing is dropped under a reader"
    buffer.hold = False
    while buffer.pump():
        pass
    assert buffer.last_line == 30_000
    assert buffer.line(30_000) == "line 30000"
    assert buffer.line(1) is None
    assert not buffer.full


def test_far_behind_the_end_comes_first_and_the_rest_is_filled_in(monkeypatch) -> None:
    monkeypatch.setattr(log_buffer, "BEHIND_BYTES_MAX", 20_000)
    monkeypatch.setattr(log_buffer, "LAST_BYTES", 5_000)
    lines = [f"line {i:05d}" for i in range(1, 10_001)]
    buffer = LogBuffer(FakeLog(lines), lambda: FakeLog(lines))
    assert buffer.pump(log_bytes=110_000)
    assert buffer.line(10_000) == "line 10000"
    assert buffer.first_line > 9_000
    assert buffer.line(buffer.first_line) == f"line {buffer.first_line:05d}"
    assert buffer.unread == buffer.first_line - 1
    while buffer.fill(0.001):
        pass
    assert buffer.unread == 0
    assert [text for _, text in buffer.store.lines(1, 10_000)] == lines


async def test_follows_until_the_reader_goes_up_then_stays() -> None:
    backend, session = attached(snapshot(), log=MANY)
    async with running(backend) as pilot:
        await wait_text(pilot, "READY")
        await pilot.press("l")
        await wait_text(pilot, "line 1000 of the log", "following")
        await pilot.press("g")
        await wait_text(pilot, "line 1 of the log", "line 1 of 1,000")
        session.log_lines += [f"late line {i}" for i in range(40)]
        await wait_text(pilot, "▼ 40 new", "line 1 of the log")
        await pilot.press("G")
        await wait_text(pilot, "late line 39", "following")
        session.log_lines.append("the very last")
        await wait_text(pilot, "the very last")


async def test_scrolling_by_arrow_keeps_the_place() -> None:
    backend, session = attached(snapshot(), log=MANY)
    async with running(backend) as pilot:
        await wait_text(pilot, "READY")
        await pilot.press("l")
        await wait_text(pilot, "line 1000 of the log")
        await pilot.press("up", "up", "up")
        await wait_text(pilot, "line 978 of 1,000")
        before = [row[:70].rstrip() for row in text(pilot.app).splitlines()[2:22]]
        session.log_lines += ["more"] * 500
        await wait_text(pilot, "▼ 500 new")
        assert [row[:70].rstrip() for row in text(pilot.app).splitlines()[2:22]] == before


async def test_search() -> None:
    log = [*MANY, "needle [one", *MANY, "Needle two", *MANY]
    backend, _ = attached(snapshot(), log=log)
    async with running(backend) as pilot:
        await wait_text(pilot, "READY")
        await pilot.press("l")
        await wait_text(pilot, "3,002 lines")
        await pilot.press("slash", *"needle", "enter")
        await wait_text(pilot, "Needle two", "2 of 2")
        await pilot.press("N")
        await wait_text(pilot, "needle [one", "1 of 2")
        await pilot.press("n")
        await wait_text(pilot, "2 of 2")
        await pilot.press("slash", *"zzz", "enter")
        await wait_text(pilot, "0 found")


async def test_raw_and_sideways() -> None:
    backend, _ = attached(snapshot(), log=["(APIServer pid=1) INFO 11-23 12:00:00 [x.py:1] " + "a" * 200 + "END"])
    async with running(backend) as pilot:
        await wait_text(pilot, "READY")
        await pilot.press("l")
        await wait_text(pilot, "12:00:00 APIServer")
        await pilot.press("x")
        await wait_text(pilot, "(APIServer pid=1)", "as written")
        await pilot.press(*["right"] * 12)
        await wait_text(pilot, "END")


async def test_hundred_thousand_lines_open_quickly() -> None:
    backend, _ = attached(snapshot(), log=MANY * 100)
    async with running(backend) as pilot:
        await wait_text(pilot, "READY")
        await pilot.press("l")
        await wait_text(pilot, "100,000 lines")
        view = pilot.app.screen.query_one("#log-view")
        await pilot.press("g")
        await wait_for(pilot, lambda: view.scroll_offset.y == 0, "at the top")


async def test_a_jump_to_a_line_that_is_not_read_yet_waits_for_it(monkeypatch) -> None:
    monkeypatch.setattr(log_buffer, "BEHIND_BYTES_MAX", 100_000)
    monkeypatch.setattr(log_buffer, "LAST_BYTES", 50_000)
    log = [f"line {i} {'x' * 3_000}" for i in range(1, 1_001)]  # more than is read before the first snapshot comes
    diagnosis = Diagnosis(title="It broke", line=3, text="x")
    status = ServerStatus(state=ServerState.FAILED, diagnosis=diagnosis, over=True, started_s=1.0)
    backend, _ = attached(snapshot(status=status, log_bytes=3_010_000), log=log)
    async with running(backend) as pilot:
        await wait_text(pilot, "It broke")
        await wait_for(pilot, lambda: pilot.app.model.log.last_line == 1_000, "the end is read")
        await pilot.press("e")
        await wait_text(pilot, "▸line 3 x")
        await wait_for(pilot, lambda: not pilot.app.model.log.unread, "all is read")
