"""`--readonly`: nothing can be changed, every key that would change something says why, and the backend refuses too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from console.client.api import Backend, Session
from console.client.readonly import BACKEND_READS, SESSION_READS, read_only
from console.core.errors import UsageError
from console.core.models import ServerState
from console.core.preferences import Preferences
from console.tui import actions
from console.tui.actions import ACTIONS, CHANGING, SCOPES, Action
from console.tui.effects import CHANGES, READS, UNSAID, effect
from console.tui.screens.dashboard import DashboardScreen
from console.tui.screens.picker import PickerScreen
from console.tui.widgets.key_bar import KeyBar
from tests.fakes.backend import READY, FakeBackend, FakeSession, attached, snapshot
from tests.ui.screen_text import running, text, wait_for, wait_text
from tests.ui.states import OOM

READONLY = Preferences(readonly=True)
BACKEND_CHANGES = {
    "save_changes",
    "save_profile",
    "keep_edit",
    "experiment",
    "install_engine",
    "download",
    "bench",
    "launch",
    "recover",
}
DIALOGS = {"chat.menu", "chat.conversations", "chat.find", "chat.raw"}
"""They take the keys that come after them."""
SESSION_CHANGES = {"stop", "restart", "postpone", "snooze", "wake", "chat"}


class Recorded:
    """Passes everything on and notes which methods were called; sessions it gives out are noted too."""

    def __init__(self, inner: Any, calls: list[str]) -> None:
        self._inner, self._calls = inner, calls

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not callable(found):
            return found

        def call(*arguments: Any, **named: Any) -> Any:
            self._calls.append(name)
            result = found(*arguments, **named)
            return self._session(result) if name == "attach" else result

        return call

    async def _session(self, coming: Any) -> Any:
        return Recorded(await coming, self._calls)


def changing(calls: list[str]) -> set[str]:
    return set(calls) & (BACKEND_CHANGES | SESSION_CHANGES)


def methods(protocol: type) -> set[str]:
    return {name for part in protocol.__mro__[:-3] for name in vars(part) if not name.startswith("_")}


def test_every_action_says_whether_it_changes_anything() -> None:
    ids = {action.id for action in ACTIONS}
    assert not set(CHANGES) & READS
    assert ids - set(CHANGES) - READS == set(), "say in effects.py what these change, or that they only read"
    assert (set(CHANGES) | READS) - ids == set(), "no such actions"
    assert all(action.changes == CHANGES.get(action.id, "") for action in ACTIONS)
    reading = {action.action for action in ACTIONS if not action.changes}
    assert not reading & set(CHANGING), "one action of Textual both reads and changes"
    assert all(CHANGING[a.action].changes == a.changes for a in ACTIONS if a.changes), "or changes two things"
    assert effect("editor.shred") == UNSAID, "what nobody has judged is off"


def test_every_method_of_a_backend_is_judged() -> None:
    assert methods(Backend) - {"attach"} == BACKEND_READS | BACKEND_CHANGES
    assert methods(Session) | {"player", "refusal", "log_there", "host", "hosts"} == SESSION_READS | SESSION_CHANGES


async def test_the_guard_lets_nothing_through() -> None:
    calls: list[str] = []
    backend, _ = attached(snapshot())
    guarded: Any = read_only(Recorded(backend, calls))  # type: ignore[arg-type]
    session = await guarded.attach((await guarded.runs())[0].id)
    for name in BACKEND_CHANGES - {"recover"}:
        with pytest.raises(UsageError, match="read-only"):
            await getattr(guarded, name)()
    for name in SESSION_CHANGES - {"chat"}:
        with pytest.raises(UsageError, match="read-only"):
            await getattr(session, name)()
    with pytest.raises(UsageError, match="read-only"):
        async for _ in session.chat([], None):
            pass
    assert await guarded.recover() == ()
    assert changing(calls) == set()
    assert (await guarded.machine()).cpu_count


async def test_the_recorder_would_see_a_change() -> None:
    calls: list[str] = []
    backend, _ = attached(snapshot())
    async with running(Recorded(backend, calls)) as pilot:  # type: ignore[arg-type]
        await wait_text(pilot, "READY", "s stop")
        await pilot.press("r", "y")
        await wait_for(pilot, lambda: "restart" in calls, "restarted")
    assert changing(calls) == {"restart", "recover"}


async def press_all(pilot: Any, scopes: tuple[str, ...], skip: Callable[[Action], bool] = lambda _: False) -> None:
    """Every key of every action of these scopes; what asks is answered with its first and with every other answer."""
    told = 0
    for action in ACTIONS:
        if action.scope not in scopes or skip(action):
            continue
        for key in action.keys.split(","):
            home = pilot.app.screen
            await pilot.press(key)
            if action.changes:
                told += 1
                await wait_for(
                    pilot,
                    lambda a=action: any(a.changes in n.message for n in pilot.app._notifications),
                    f"{action.id} says why not",
                )
                assert pilot.app.screen is home, f"{action.id} asked something"
                pilot.app.clear_notifications()
    assert told, "there was something to refuse"


async def test_no_key_of_the_profiles_changes_anything() -> None:
    calls: list[str] = []
    backend = FakeBackend(engine=None)
    async with running(Recorded(backend, calls), preferences=READONLY) as pilot:  # type: ignore[arg-type]
        await wait_text(pilot, "flash-4xh200", "READONLY", "/ search")
        assert "launch" not in pilot.app.screen.query_one(KeyBar).render_line(0).text
        await press_all(pilot, ("picker", "list"), lambda a: a.id in ("picker.filter", "picker.attach"))
        assert isinstance(pilot.app.screen, PickerScreen)
        await pilot.press("colon", *"launchtheselected")
        await wait_text(pilot, "No matches found")
    assert changing(calls) == set()


async def test_no_key_of_a_run_changes_anything() -> None:
    calls: list[str] = []
    backend, session = attached(snapshot())
    async with running(Recorded(backend, calls), (100, 30), preferences=READONLY) as pilot:  # type: ignore[arg-type]
        await wait_text(pilot, " READONLY ", "READY", "q quit")
        assert "s stop" not in text(pilot.app)
        assert "r restart" not in text(pilot.app)
        panes = {"logs", "chat", "bench", "events", "gpu", "overview", "profiles", "reattach", "hints", "jump"}
        await press_all(pilot, ("dashboard",), lambda a: a.id.partition(".")[2] in panes)
        await pilot.press("h")
        await wait_for(pilot, lambda: pilot.app.screen.focused is not None, "the hints")
        await press_all(pilot, ("hints",), lambda a: a.id == "hints.detail")
        for digit, scope in (("3", "chat"), ("4", "bench")):
            await pilot.press(digit)
            await pilot.pause()
            await press_all(pilot, (scope,), lambda a: a.id in DIALOGS)
        await pilot.press("3", "O")
        await wait_text(pilot, "Conversations")
        await press_all(pilot, ("conversations",), lambda a: not a.changes)
        await pilot.press("escape")
        await pilot.press("3", *"sry", "q")
        await wait_text(pilot, "Leave the console?", "leave it running")
        assert "stop it" not in text(pilot.app)
        await pilot.press("s", "c")
        await wait_for(pilot, lambda: isinstance(pilot.app.screen, DashboardScreen), "back")
        crashed = replace(READY, state=ServerState.CRASHED, over=True, diagnosis=OOM)
        session.push(snapshot(seq=2, status=crashed, engine=None, hints=()))
        await pilot.press("1")
        await wait_text(pilot, "CRASHED", "e error line")
        await pilot.press("f", "r", "A", "enter")
        await pilot.pause()
        assert isinstance(pilot.app.screen, DashboardScreen)
        assert not session.stops
    assert changing(calls) == set()
    assert {"attach", "updates", "log", "runs"} <= set(calls)


def test_scopes_of_the_table_are_those_that_were_pressed() -> None:
    pressed = {"picker", "list", "dashboard", "hints", "chat", "conversations", "bench"}
    unable = {"prompt", "editor"}  # no screen that only looks has their keys
    with_changes = {action.scope for action in actions.ACTIONS if action.changes}
    assert with_changes <= pressed | unable, "press the keys of these scopes in a test above"
    assert with_changes <= set(SCOPES)


async def test_what_asks_the_backend_past_the_keys_is_refused_in_words() -> None:
    calls: list[str] = []
    backend, session = attached(snapshot())
    async with running(Recorded(backend, calls), preferences=READONLY) as pilot:  # type: ignore[arg-type]
        await wait_text(pilot, "READY")
        pilot.app.start_keep()
        await wait_text(pilot, "This console is read-only", "without --readonly")
        assert isinstance(session, FakeSession)
    assert changing(calls) == set()
