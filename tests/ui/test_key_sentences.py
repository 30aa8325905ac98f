"""What the screen says about keys is true for the operator's own keys, and names no key that means something else."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from msgspec.structs import replace
from textual._context import active_app

import console
from console.core.chat_conversation import Turn
from console.core.models import ServerState
from console.core.preferences import Preferences
from console.tui.app import ConsoleApp
from console.tui.keymap import Keymap, key_for, keys_for
from console.tui.paint import plain
from console.tui.screens.picker import PickerScreen
from console.tui.widgets.chat_turn import error_rows
from console.tui.widgets.gpu_table import trouble_lines
from tests.fakes.backend import ENTRIES, NO_GPU, NOW_S, PROBLEMS, READY, FakeBackend, attached, gpu, snapshot
from tests.ui.screen_text import running, text, wait_for, wait_text
from tests.ui.states import STATES

NAMED = re.compile(r"\{([a-z]+\.[a-z_]+)\}")
SENTENCE = re.compile(r"(?:^|[.;,:·] )(?!A )[A-Za-z/?<>] (?!process\b)[a-z]{3,}s\b")
"""`f starts with it`, `; e shows it`: a key in the middle of a text."""
KEYS = ("f2", "f3", "f4", "f6", "f7", "f8", "f9", "f10")
SNOOZED = "{dashboard.hints}, then {hints.snoozed} lists"
TOO_LONG = (
    "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens (1000 in the messages, "
    "4000 in the completion). Please reduce the length of the messages or completion."
)
PAGES: dict[str, tuple[Callable[[], FakeBackend], tuple[str, ...], tuple[str, ...]]] = {
    "launch": (STATES["picker"], ("enter",), ("{dashboard.stop} stops it.",)),
    "nothing runs here": (
        lambda: FakeBackend(entries=ENTRIES[2:3], machine=NO_GPU),
        ("{picker.here}",),
        ("No profile can run on this machine; {picker.here} shows all.",),
    ),
    "mistakes": (
        lambda: FakeBackend(entries=(), problems=PROBLEMS),
        (),
        ("{picker.edit} opens it as a form.", "press {picker.reload}."),
    ),
    "no engine": (lambda: FakeBackend(engine=None), (), ("not installed; {picker.launch} offers",)),
    "lost": (STATES["lost"], (), ("{dashboard.reattach} attaches again.",)),
    "lost in the chat": (STATES["lost"], ("c",), ("{dashboard.reattach} on the overview attaches",)),
    "unhealthy": (STATES["unhealthy"], (), ("{dashboard.logs} shows the log, {dashboard.restart} restarts.",)),
    "loading": (STATES["loading"], (), ("{dashboard.stop} cancels",)),
    "failed": (
        STATES["failed"],
        (),
        (
            "; {dashboard.fix} starts with it",
            "; {dashboard.jump} shows it",
            "{dashboard.restart} start again · {dashboard.profiles} profiles · {app.quit} quit",
        ),
    ),
    "planned": (
        lambda: attached(
            snapshot(status=replace(READY, state=ServerState.CRASHED, restart=2, deadline_s=NOW_S + 8), engine=None)
        )[0],
        (),
        ("{dashboard.restart} retry now · {dashboard.stop} give up",),
    ),
    "hint": (STATES["busy"], ("h", "enter"), ("{hints.apply} on the hint applies and measures it",)),
    "snooze": (STATES["busy"], ("h", "n"), ("; {hints.snoozed} lists it.",)),
    "bench": (STATES["busy"], ("b",), ("{bench.measure} measures; it loads",)),
    "chat": (STATES["busy"], ("c",), ("Write a message; {prompt.send} sends it",)),
    "filter": (STATES["busy"], ("l", "i"), ("{logs.clear} clears",)),
    "marks": (STATES["busy"], ("l", "{logs.mark}"), ("{logs.copy} copies  {logs.mark} ends",)),
    "processes": (
        STATES["busy"],
        ("l", "P"),
        ("{processes.choose} choose · {processes.only} only this · {processes.all} all · {processes.done} done",),
    ),
    "conversations": (
        STATES["busy"],
        ("c", "escape", "O"),
        ("{conversations.open} open · {conversations.find} search · {conversations.new} new",),
    ),
    "fleet": (STATES["picker"], ("M",), ("  {app.help} help", "{fleet.leave} goes to the profiles")),
    "editor": (STATES["picker"], ("e",), ("{editor.copy} copies",)),
    "flag": (STATES["picker"], ("e", "a"), ("flag=value, or a switch alone; {field.drop} leaves it",)),
}


def mine(*templates: str) -> Keymap:
    """A key of one's own for each action that these name."""
    found = dict.fromkeys(name for template in templates for name in NAMED.findall(template))
    assert len(found) <= len(KEYS)
    return Keymap(dict(zip(found, KEYS, strict=False)))


def begun(app: ConsoleApp) -> bool:
    """The keys that need something to act on work."""
    if isinstance(app.screen, PickerScreen):
        return app.screen.catalogue.loaded and not app.backend.sessions
    return app.model is not None and app.model.snapshot is not None


def said(template: str, keymap: Keymap) -> str:
    return NAMED.sub(lambda name: keymap.said(name[1]), template)


@contextmanager
def in_force(keymap: Keymap) -> Iterator[None]:
    """As on the screen of an app that has these keys."""
    token = active_app.set(SimpleNamespace(keymap=keymap))  # type: ignore[arg-type]
    try:
        yield
    finally:
        active_app.reset(token)


@pytest.mark.parametrize("page", PAGES)
async def test_the_screen_names_ones_own_keys(page: str) -> None:
    backend, presses, templates = PAGES[page]
    keymap = mine(*templates)
    preferences = Preferences(keys=dict(keymap.own), path="config.toml")
    async with running(backend(), (160, 60), preferences=preferences) as pilot:
        assert pilot.app.keymap == keymap, "all of them are used"
        await wait_for(pilot, lambda: begun(pilot.app), "the profiles are read, or figures have come")
        await pilot.press(*(keymap.own[key[1:-1]] if NAMED.fullmatch(key) else key for key in presses))
        await wait_text(pilot, *(said(template, keymap) for template in templates))
        shown = text(pilot.app)
        for template in templates:
            assert said(template, Keymap()) not in shown


def test_a_sentence_outside_of_an_app_names_the_defaults() -> None:
    assert [key_for(name) for name in ("dashboard.logs", "picker.launch", "replay.pause")] == ["l", "enter", "space"]
    assert keys_for(("app.quit", "quit"), ("prompt.menu", "more")) == "q quit · ^o more"


def test_errors_of_the_chat_name_ones_own_keys() -> None:
    names = ("prompt.leave", "chat.fit", "chat.edit", "chat.new", "chat.retry")
    keymap = Keymap(dict(zip(names, KEYS, strict=False)))
    turns = (
        Turn(role="assistant", error=TOO_LONG),
        Turn(role="assistant", error="refused"),
        Turn(role="assistant", error="cut off", content="so far"),
    )
    with in_force(keymap):
        shown = [" ".join(plain(row).strip() for row in error_rows(turn, 200)) for turn in turns]
    assert "F2 F3 asks again with max tokens 3,096 · F2 F4 edits the message · F2 F6 begins anew" in shown[0]
    assert "F2 F7 asks again · F2 F4 edits it" in shown[1]
    assert "F2 F7 asks again" in shown[2]


def test_more_gpus_than_lines_name_ones_own_key() -> None:
    gpus = [gpu(index, temperature_c=99.0) for index in range(16)]
    with in_force(Keymap({"dashboard.gpu": "f2"})):
        assert "more GPUs: F2 shows each" in plain(trouble_lines(gpus, 120)[-1])


async def test_a_terminal_that_is_too_small() -> None:
    preferences = Preferences(keys={"app.quit": "f2"}, path="config.toml")
    async with running(FakeBackend(), (50, 12), preferences=preferences) as pilot:
        await wait_text(pilot, "or press F2.")


def test_no_sentence_has_a_key_written_in_it() -> None:
    """Every key that can be changed is asked of the keymap: `key_for`."""
    found = []
    for path in sorted(Path(console.__file__).parent.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
                found += [f"{path.name}: {match[0]}" for match in SENTENCE.finditer(node.value)]
    assert not found
