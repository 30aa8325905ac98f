"""The log pane: filters, folds, marks, copies, files, wrapping, places; and that it keeps its place in a storm."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from textual.pilot import Pilot

from console.io import logsearch_child
from console.io.logexport import exports_dir
from console.tui import log_buffer
from console.tui.widgets import log_files, log_pane
from console.tui.widgets.log_pane import LogPane
from console.tui.widgets.log_view import LogView
from tests.fakes.backend import RUN, FakeBackend, FakeSession, attached, snapshot
from tests.ui.screen_text import grid, running, text, wait_for, wait_text

DAY = datetime.fromtimestamp(RUN.created_s, tz=UTC).strftime("%m-%d")


def said(proc: str, what: str, clock: str = "12:00:00", level: str = "INFO") -> str:
    return f"({proc} pid={sum(proc.encode())}) {level} {DAY} {clock} [x.py:1] {what}"


LOG = [
    *(said("APIServer", f"request {i}", f"12:{i // 60:02d}:{i % 60:02d}") for i in range(600)),
    *(
        said("EngineCore", f"slow step {i}", f"12:{10 + i // 60:02d}:{i % 60:02d}", "WARNING")
        for i in range(0, 600, 20)
    ),
    said("EngineCore", "Traceback (most recent call last):", "12:20:00", "ERROR"),
    said("EngineCore", '  File "core.py", line 7, in run', "12:20:00", "ERROR"),
    said("EngineCore", "    step()", "12:20:00", "ERROR"),
    said("EngineCore", "ValueError: it broke", "12:20:00", "ERROR"),
    *(f"Loading safetensors checkpoint shards: {i:3d}% Completed | {i}/46 [00:12<00:20,  1.51it/s]" for i in range(46)),
    *(said("Worker_TP0", f"worker {i}", "12:21:00") for i in range(30)),
]
N = len(LOG)


def view_of(pilot: Pilot[Any]) -> LogView:
    return pilot.app.screen.query_one("#log-view", LogView)


def body(pilot: Pilot[Any]) -> list[str]:
    """The rows of the log, without the scrollbar."""
    view = view_of(pilot)
    top, height, width = view.region.y, view.scrollable_content_region.height, view.scrollable_content_region.width
    return [row[:width].rstrip() for row in grid(pilot.app)[top : top + height]]


async def told(pilot: Pilot[Any], what: str) -> None:
    await wait_for(pilot, lambda: any(what in n.message for n in pilot.app._notifications), f"told {what}")


async def opened(pilot: Pilot[Any], count: int = N) -> LogPane:
    await wait_text(pilot, "READY")
    await pilot.press("l")
    await wait_text(pilot, f"following  {count:,} lines")
    return pilot.app.screen.query_one("#logs", LogPane)


def there(lines: list[str] = LOG) -> tuple[FakeBackend, FakeSession]:
    return attached(snapshot(), log=lines)


async def test_levels_go_round_and_the_place_stays() -> None:
    async with running(there()[0]) as pilot:
        await opened(pilot)
        await pilot.press("J", *"300", "enter")
        await wait_text(pilot, "▸12:04:59 APIServer")
        await pilot.press("i", "i")
        await wait_text(pilot, "only ≥ WARNING  32 rows", "C clears")
        assert "APIServer" not in "\n".join(body(pilot))
        await pilot.press("C")
        await wait_text(pilot, "▸12:04:59 APIServer")
        await pilot.press("i", "i", "i")
        await wait_text(pilot, "only ≥ ERROR  2 rows", "ValueError: it broke")
        await pilot.press("i")
        await wait_for(pilot, lambda: "only" not in text(pilot.app), "all again")


async def test_processes_are_chosen_in_a_list() -> None:
    async with running(there()[0]) as pilot:
        await opened(pilot)
        await pilot.press("P")
        await wait_text(pilot, "Which processes?", "✓ APIServer", "600 lines", "no process named", "46 lines")
        await pilot.press("down", "down", "o", "down", "space", "q")
        await wait_text(pilot, "only EngineCore, Worker_TP0")
        assert all("APIServer" not in row for row in body(pilot))
        await pilot.press("P", "a", "q")
        await wait_for(pilot, lambda: "only" not in text(pilot.app), "all again")


async def test_a_span_of_time() -> None:
    async with running(there()[0]) as pilot:
        await opened(pilot)
        await pilot.press("T", *"12:01:30..12:01:35", "enter")
        await wait_text(pilot, "only 12:01:30..12:01:35  6 rows", "request 90", "request 95")
        await pilot.press("T", *"rubbish", "enter")
        await wait_text(pilot, "no span of time: rubbish")
        await pilot.press("T", "enter")
        await wait_for(pilot, lambda: "only" not in text(pilot.app), "all again")


async def test_folds_open_one_by_one_and_all_together() -> None:
    async with running(there()[0]) as pilot:
        await opened(pilot)
        await pilot.press("pageup")
        await wait_text(pilot, "▸ 2 lines", "×46 Loading safetensors checkpoint shards:  45%", "ValueError: it broke")
        assert "File" not in text(pilot.app)
        await pilot.press("enter")
        await wait_text(pilot, 'File "core.py", line 7, in run')
        await pilot.press("enter")
        await wait_for(pilot, lambda: "core.py" not in text(pilot.app), "folded again")
        await pilot.press("u")
        await wait_text(pilot, 'File "core.py", line 7, in run', "unfolded")


async def test_a_jump_opens_what_the_line_is_folded_under() -> None:
    async with running(there()[0]) as pilot:
        await opened(pilot)
        await pilot.press("J", *"633", "enter")
        await wait_text(pilot, "step()")
        assert view_of(pilot).marked == 633


async def test_a_jump_to_what_the_filter_hides_clears_it_and_says_so() -> None:
    async with running(there()[0]) as pilot:
        await opened(pilot)
        await pilot.press("i", "i", "i", "J", *"12:04:59", "enter")
        await wait_text(pilot, "line 300 did not fit the filter: cleared", "▸12:04:59 APIServer")
        await pilot.press("J", *"teatime", "enter")
        await wait_text(pilot, "neither a line nor a time: teatime")


async def test_another_pane_opens_the_log_at_a_moment() -> None:
    async with running(there()[0]) as pilot:
        pane = await opened(pilot)
        stamped = datetime.fromtimestamp(RUN.created_s, tz=UTC).replace(hour=12, minute=5, second=0, microsecond=0)
        pane.open_at(stamped.timestamp() - pilot.app.model.log.utc_offset_s)
        await wait_text(pilot, "▸12:05:00 APIServer   request 300")


async def test_marked_lines_go_to_the_clipboard_and_to_a_file() -> None:
    async with running(there()[0]) as pilot:
        await opened(pilot)
        await pilot.press("g", "m", "down", "down")
        await wait_text(pilot, "▌12:00:00 APIServer", "▸12:00:02 APIServer", "marked 1 to 3")
        await pilot.press("y")
        await told(pilot, "3 lines: sent to the terminal's clipboard, and in ")
        assert pilot.app.clipboard == "\n".join(LOG[:3])
        (path,) = exports_dir().iterdir()
        assert path.read_text() == "\n".join(LOG[:3]) + "\n"
        assert path.stat().st_mode & 0o077 == 0
        assert "marked" not in text(pilot.app)


async def test_the_cursor_of_a_range_stays_in_sight() -> None:
    async with running(there()[0]) as pilot:
        await opened(pilot)
        await pilot.press("m")
        await wait_for(pilot, lambda: any("▸" in row and "worker 29" in row for row in body(pilot)), "at the end")
        await pilot.press(*["pageup"] * 3)
        await wait_for(pilot, lambda: any(row.startswith((" ▸", "▲▸")) for row in body(pilot)), "in sight")
        await pilot.press("m")
        await wait_for(pilot, lambda: "marked" not in text(pilot.app), "ended")


async def test_too_much_for_a_clipboard_is_only_in_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_files, "CLIPBOARD_BYTES_MAX", 100)
    async with running(there()[0]) as pilot:
        await opened(pilot)
        await pilot.press("g", "m", "down", "down", "down", "y")
        await told(pilot, "4 lines, too long for a clipboard, in ")
        assert pilot.app.clipboard == ""
        assert len(list(exports_dir().iterdir())) == 1


async def test_what_is_filtered_is_saved_and_nothing_is_overwritten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("console.io.logexport.time.strftime", lambda _: "20261123-120000")
    async with running(there()[0]) as pilot:
        await opened(pilot)
        await pilot.press("i", "i")
        await wait_text(pilot, "only ≥ WARNING  ")
        assert "34 rows" not in text(pilot.app), "some of it is folded"
        await pilot.press("S")
        await wait_for(pilot, lambda: len(list(exports_dir().glob("*.log"))) == 1, "written")
        await pilot.press("S")
        await wait_for(pilot, lambda: len(list(exports_dir().glob("*-2.log"))) == 1, "written again")
        for path in exports_dir().iterdir():
            assert path.read_text().splitlines() == LOG[600:634]


async def test_a_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    async with running(there()[0]) as pilot:
        await opened(pilot)
        exports_dir().parent.mkdir(parents=True, exist_ok=True)
        exports_dir().write_text("in the way")
        await pilot.press("S")
        await told(pilot, "exports")


async def test_wrapping_shows_long_lines_whole_and_follows() -> None:
    lines = [f"line {i} " + "word " * 40 + f"end {i}" for i in range(300)]
    backend, session = there(lines)
    async with running(backend) as pilot:
        await opened(pilot, 300)
        await pilot.press("w")
        await wait_text(pilot, "wrapped", "line 299", "end 299")
        session.log_lines += ["line 300 " + "word " * 40 + "end 300"]
        await wait_text(pilot, "line 300", "end 300", "following")
        await pilot.press("up", "up")
        await wait_for(pilot, lambda: not view_of(pilot).following, "reads")
        before = body(pilot)
        session.log_lines += ["more " * 60] * 50
        await wait_text(pilot, "▼ 50 new")
        assert body(pilot) == before
        await pilot.press(*["down"] * 2)
        await pilot.press("G")
        await wait_text(pilot, "following")
        session.log_lines.append("x" * 4_000 + "THE END")
        await wait_text(pilot, "…")


async def test_regular_expressions_are_counted_and_gone_through() -> None:
    async with running(there()[0]) as pilot:
        await opened(pilot)
        await pilot.press("R", *"request [0-9]5$", "enter")
        await wait_text(pilot, "9 of 9", "request 95")
        await pilot.press("n")
        await wait_text(pilot, "1 of 9", "▸12:00:15 APIServer   request 15")
        await pilot.press("N", "N")
        await wait_text(pilot, "8 of 9")
        await pilot.press("R", *"request (", "enter")
        await wait_text(pilot, "no pattern: missing ), unterminated subpattern at character 9")
        await pilot.press("slash", "enter")
        await wait_for(pilot, lambda: "no pattern" not in text(pilot.app), "ended")


async def test_a_pattern_that_takes_for_ever_is_stopped_and_the_keys_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    backend, session = there([*LOG, "a" * 200 + "b"])
    async with running(backend) as pilot:
        await opened(pilot, N + 1)
        await pilot.press("R", *"(a+)+$", "enter", "g")
        await wait_text(pilot, "request 0", f"line 1 of {N + 1}")
        session.log_lines.append("goes on")
        await wait_text(pilot, "▼ 1 new")
        await wait_text(pilot, f"too slow a pattern: stopped after {logsearch_child.CPU_S:g} s")


async def test_a_match_in_a_fold_opens_it() -> None:
    async with running(there()[0]) as pilot:
        await opened(pilot)
        await pilot.press("slash", *"line 7, in", "enter")
        await wait_text(pilot, "1 of 1", 'File "core.py", line 7, in run')


async def test_a_search_goes_on_in_lines_that_come() -> None:
    backend, session = there()
    async with running(backend) as pilot:
        await opened(pilot)
        await pilot.press("slash", *"it broke", "enter")
        await wait_text(pilot, "1 of 1")
        session.log_lines += ["it broke again", "and so on"]
        await wait_text(pilot, "1 of 2")
        await pilot.press("n")
        await wait_text(pilot, "2 of 2", "it broke again")


STORM = 400


@pytest.mark.parametrize("keys", [[], ["i", "i"], ["u"], ["w"], ["x"]], ids=lambda keys: "".join(keys) or "plain")
async def test_the_place_is_kept_in_a_storm(keys: list[str]) -> None:
    backend, session = there()
    async with running(backend) as pilot:
        await opened(pilot)
        await pilot.press(*keys, "J", *"610", "enter")
        await wait_for(pilot, lambda: any("▸" in row and "slow step 180" in row for row in body(pilot)), "there")
        before = body(pilot)
        for turn in range(5):
            session.log_lines += [said("Worker_TP1", f"storm {turn} {i}", "12:30:00", "ERROR") for i in range(STORM)]
            await wait_text(pilot, f"▼ {(turn + 1) * STORM:,} new")
            assert body(pilot) == before
        await pilot.press("G")
        await wait_text(pilot, "storm 4 399", "following")


async def test_the_place_is_kept_while_older_lines_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_buffer, "BEHIND_BYTES_MAX", 100_000)
    monkeypatch.setattr(log_buffer, "LAST_BYTES", 50_000)
    monkeypatch.setattr(log_buffer, "PUMP_S", 0.0)
    monkeypatch.setattr(log_pane, "WORK_S", 0.0)
    lines = [said("APIServer", f"request {i}", f"12:{i // 60 % 60:02d}:{i % 60:02d}") for i in range(1, 30_001)]
    backend, _ = attached(snapshot(log_bytes=3_000_000), log=lines)
    backend.sessions[RUN.id].log_lines[:] = lines
    async with running(backend) as pilot:
        await wait_text(pilot, "READY", "request 30000")
        store = pilot.app.model.log.store
        await pilot.press("l")
        await wait_text(pilot, "request 30000")
        await pilot.press("J", *"29900", "enter")
        await wait_text(pilot, "▸12:18:20 APIServer   request 29900")
        before = body(pilot)
        while store.count < len(lines):
            count = store.count
            await wait_for(pilot, lambda: store.count > count, "more is read")  # noqa: B023
            assert body(pilot) == before
        await pilot.press("g")
        await wait_for(pilot, lambda: "request 1" in body(pilot)[0], "the first line")


async def test_gaps_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_buffer, "BEHIND_BYTES_MAX", 10_000)
    monkeypatch.setattr(log_buffer, "LAST_BYTES", 5_000)
    monkeypatch.setattr(log_buffer.LogBuffer, "fill", lambda self, budget_s: False)
    lines = [said("APIServer", f"request {i}") for i in range(1, 10_001)]
    status = snapshot(log_bytes=10_000_000)
    backend, _ = attached(replace(status), log=lines)
    async with running(backend) as pilot:
        await wait_text(pilot, "READY", "request 10000")
        buffer = pilot.app.model.log
        if buffer.unread:
            first, last = buffer.store.gaps()[-1]
            await pilot.press("l", "J", *str(last + 1), "enter")
            await wait_text(pilot, f"┈ lines {first:,} to {last:,} are being read", f"reading {buffer.unread:,} older")


@pytest.mark.parametrize("size", [(60, 20), (80, 24), (100, 30), (160, 50), (220, 60)])
async def test_every_size_and_ascii(size: tuple[int, int]) -> None:
    async with running(there()[0], size, ascii_glyphs=True) as pilot:
        await opened(pilot)
        await pilot.press("i", "i", "slash", *"broke", "enter")
        await wait_text(pilot, "WARNING", "1 of 1", "following" if size[0] < 0 else "line ")
        await pilot.press("m", "up", "w")
        await wait_text(pilot, "marked")
        assert text(pilot.app).isascii(), [c for c in text(pilot.app) if not c.isascii()]
        assert all(len(row) == size[0] for row in grid(pilot.app))


def test_what_is_sent_to_the_clipboard_fits_in_what_xterm_takes() -> None:
    assert len(base64.b64encode(bytes(log_files.CLIPBOARD_BYTES_MAX))) < 100_000
