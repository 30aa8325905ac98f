"""Keys that come in one piece are obeyed one after another, each by what the one before it has opened or left."""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
from textual.events import Key, Paste
from textual.keys import _character_to_key
from textual.pilot import Pilot

from console.tui.screens.dashboard import DashboardScreen
from console.tui.screens.editor import EditorScreen
from console.tui.screens.picker import PickerScreen
from tests.fakes.backend import FakeBackend, attached, snapshot
from tests.tmux import Tmux
from tests.ui.screen_text import running, wait_for, wait_text
from tests.ui.states import STATES

ROOT = Path(__file__).parents[2]


def at_once(pilot: Pilot[Any], *keys: str) -> None:
    """Type these in one piece; a word that is no name of a key is typed letter by letter."""
    driver = pilot.app._driver
    assert driver is not None
    for word in keys:
        named = word in ("enter", "escape", "tab", "down", "up", "backspace")
        for key in (word,) if named else word:
            driver.send_message(Key(key, None) if named else Key(_character_to_key(key), key))


async def test_a_search_of_the_log() -> None:
    async with running(STATES["busy"]()) as pilot:
        await wait_text(pilot, "READY")
        at_once(pilot, "l/slow client", "enter")
        await wait_text(pilot, "/slow client", "1 of 1")
        at_once(pilot, "/INFO", "enter", "nN", "/", "escape", "i")
        await wait_text(pilot, "/INFO", "only ≥ INFO")


async def test_a_search_of_the_profiles() -> None:
    async with running(FakeBackend()) as pilot:
        await wait_text(pilot, "flash-4xh200")
        at_once(pilot, "/smoke", "enter", "enter")
        await wait_text(pilot, "Launch cpu-smoke")
        at_once(pilot, "n/", "escape", "g", "enter")
        await wait_text(pilot, "Launch flash-4xh200")


async def test_what_is_pasted_goes_to_what_the_key_before_it_has_opened() -> None:
    async with running(FakeBackend()) as pilot:
        await wait_text(pilot, "flash-4xh200")
        driver = pilot.app._driver
        assert driver is not None
        at_once(pilot, "/")
        driver.send_message(Paste("smo"))
        at_once(pilot, "ke", "enter")
        await wait_for(pilot, lambda: pilot.app.screen.query_one("#filter").value == "smoke", "written")
        await wait_text(pilot, "▸ ● cpu-smoke")


async def test_a_hint_is_gone_to_and_put_aside() -> None:
    backend, session = attached(snapshot())
    async with running(backend) as pilot:
        await wait_text(pilot, "READY")
        at_once(pilot, "hn", "enter")
        await wait_for(pilot, lambda: session.put_aside, "put aside")


async def test_a_hint_is_explained_and_left() -> None:
    async with running(STATES["hints-many"](), size=(100, 40)) as pilot:
        await wait_text(pilot, "READY")
        at_once(pilot, "h", "down", "enter", "q", "enter")
        await wait_text(pilot, "q  close")
        at_once(pilot, "ql")
        await wait_text(pilot, "● following")


async def test_the_help_is_opened_and_left() -> None:
    async with running(STATES["busy"]()) as pilot:
        await wait_text(pilot, "READY")
        at_once(pilot, "?", "escape", "l?ql2o?", "down", "down", "escape", "l")
        await wait_text(pilot, "● following")
        assert isinstance(pilot.app.screen, DashboardScreen)


async def test_the_palette_takes_what_was_meant() -> None:
    async with running(STATES["busy"]()) as pilot:
        await wait_text(pilot, "READY")
        at_once(pilot, ":light", "enter")
        await wait_for(pilot, lambda: pilot.app.theme.endswith("light"), "chosen")
        assert isinstance(pilot.app.screen, DashboardScreen)
        at_once(pilot, ":whole log", "enter", "/slow", "enter")
        await wait_text(pilot, "/slow", "1 of 1")


async def test_a_message_is_written_and_sent() -> None:
    backend, session = attached(snapshot())
    async with running(backend) as pilot:
        await wait_text(pilot, "READY")
        at_once(pilot, "chello there", "enter", "escape", "o")
        await wait_for(pilot, lambda: session.asked, "asked")
        assert session.asked[0][-1].content == "hello there"
        await wait_for(pilot, lambda: pilot.app.screen.active == "overview", "left")
        at_once(pilot, "c", "escape", "iand again", "enter")
        await wait_for(pilot, lambda: len(session.asked) == 2, "asked again")
        assert session.asked[1][-1].content == "and again"


async def test_escape_and_a_letter_in_one_piece_are_no_alt() -> None:
    """As Textual's parser reads `esc` and `R` that a slow line has put together."""
    backend, session = attached(snapshot())
    async with running(backend) as pilot:
        await wait_text(pilot, "READY")
        at_once(pilot, "chello", "enter")
        await wait_for(pilot, lambda: session.asked, "asked")
        driver = pilot.app._driver
        assert driver is not None
        await wait_for(pilot, lambda: not pilot.app.screen.query_one("#transcript").streaming, "answered")
        driver.send_message(Key("alt+shift+r", "R"))
        await wait_for(pilot, lambda: len(session.asked) == 2, "asked again")
        assert pilot.app.screen.query_one("#prompt").text == ""


async def test_a_question_is_answered() -> None:
    backend, session = attached(snapshot())
    async with running(backend) as pilot:
        await wait_text(pilot, "READY")
        at_once(pilot, "s", "down", "enter")
        await wait_for(pilot, lambda: session.stops == [None], "stopped")


async def test_the_editor_is_opened_searched_and_left() -> None:
    async with running(FakeBackend()) as pilot:
        await wait_text(pilot, "flash-4xh200")
        at_once(pilot, "e/max_num_seqs", "enter", "enter")
        await wait_for(pilot, lambda: isinstance(pilot.app.screen, EditorScreen), "opened")
        at_once(pilot, "escape", "escape", "q")
        await wait_for(pilot, lambda: isinstance(pilot.app.screen, PickerScreen), "left")


async def test_a_pane_that_is_busy_holds_up_its_own_keys_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a widget does without end is waited for once; then keys go on, and one that is for the app is obeyed."""
    never = asyncio.Event()

    async def hang(_: object) -> None:
        await never.wait()

    async with running(STATES["busy"]()) as pilot:
        await wait_text(pilot, "READY")
        await pilot.press("l")
        await wait_text(pilot, "● following")
        view = pilot.app.screen.query_one("#log-view")
        view.call_later(hang, view)
        at_once(pilot, "x")
        pilot.app.screen.set_focus(None)
        at_once(pilot, "?")
        await wait_text(pilot, "Keys")
        never.set()
        await wait_text(pilot, "Keys")


async def test_a_flow_that_takes_long_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = FakeBackend()
    hold = asyncio.Event()
    plan = backend.plan

    async def slow(name: str) -> Any:
        await hold.wait()
        return await plan(name)

    async with running(backend) as pilot:
        await wait_text(pilot, "flash-4xh200")
        monkeypatch.setattr(backend, "plan", slow)
        at_once(pilot, "enter", "down")
        await wait_text(pilot, "▸ ▲ flash-2xh200")
        at_once(pilot, "s" * 6, "?")
        await wait_text(pilot, "Keys")
        at_once(pilot, "q")
        hold.set()
        await wait_text(pilot, "Launch flash-4xh200")


async def test_a_long_text_is_not_held_up() -> None:
    words = "all of it, as one types it after another " * 30
    async with running(STATES["busy"]()) as pilot:
        await wait_text(pilot, "READY")
        at_once(pilot, "c", words, "tab")
        await wait_for(pilot, lambda: pilot.app.screen.query_one("#prompt").text == words, "written")


async def test_what_is_typed_while_it_leaves_hurts_nobody() -> None:
    async with running(STATES["stopped"]()) as pilot:
        await wait_text(pilot, "STOPPED")
        at_once(pilot, "ql/more", "enter", "q")
        await wait_for(pilot, lambda: pilot.app._exit, "left")


@pytest.mark.parametrize("size", [(80, 24), (160, 50)], ids=str)
def test_in_a_terminal(size: tuple[int, int], tmp_path: Path) -> None:
    """tmux hands each of these on in one write."""
    line = f"cd {shlex.quote(str(ROOT))} && {shlex.join([sys.executable, '-m', 'tests.ui.demo', 'serve', 'lines=50'])}"
    terminal = Tmux(line, dict(os.environ), *size)
    try:
        terminal.see("READY")
        terminal.type("l/slow client\r")
        terminal.see("/slow client")
        terminal.type("1?")
        terminal.see("Keys")
        terminal.type("q:the whole log\rT12:00..12:01\r")
        terminal.see("12:00:00..12:01:59")
        terminal.type("chello there\r")
        terminal.see("TTFT 20 ms")
    finally:
        terminal.close()
