"""Hostile text in every place of the terminal UI: the screen shows it, and no terminal obeys it."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from textual.drivers.headless_driver import HeadlessDriver

from console.client.api import ChatDelta, Lost, ProfileProblem
from console.core.errors import StateError
from console.core.models import (
    Diagnosis,
    EventRecord,
    Hint,
    Phase,
    ProfileChange,
    ServerState,
    ServerStatus,
    SourceStatus,
)
from console.core.profile_form import literal
from console.protocol import Happened
from console.tui.glyphs import safe
from console.tui.log_lines import painted
from console.tui.paint import beside, cut, labelled, line, pad, plain, rule, spread, wrapped
from console.tui.widgets.chat_text import GrowingMarkdown
from console.tui.widgets.panel import to_strip
from tests.fakes.backend import ENTRIES, NO_GPU, RUN, FakeBackend, FakeSession, attached, gpu, loading, snapshot
from tests.ui.screen_text import grid, running, wait_for, wait_text

PAYLOADS = {
    "osc": "\x1b]0;HOSTILE\x07\x1b]52;c;SE9TVElMRQ==\x07",
    "csi": "\x1b[2J\x1b[31mHOSTILE\x1b[6n",
    "c1": "\x9b2J\x9d0;HOSTILE\x9c\x90q\x9c",
    "other": "\x1bPHOSTILE\x1b\\\x1bc\x0e\x07\r\n\x08\x7f\u202eHOSTILE\u2066\u200b",
    "markup": "[bold]HOSTILE[/] [link=file:///x]y[/link] [@click=app.quit]z[/]",
}
NASTY = st.text(
    alphabet=st.one_of(
        st.sampled_from("\x1b[]P\\;0mJ\x07\x9b\x9d\x9c\x85\r\n\t\x00\x7f\u202e\u2028\u200b"), st.characters()
    ),
    max_size=80,
)


def obeyed(text: str) -> list[str]:
    return [c for c in text if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"}]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What Textual writes to the terminal."""
    out: list[str] = []
    monkeypatch.setattr(HeadlessDriver, "write", lambda _self, data: out.append(data))
    return out


def check(app: Any, written: list[str]) -> None:
    assert obeyed("".join(grid(app))) == []
    for strip in app.screen._compositor.render_strips():
        assert all(segment.control is None for segment in strip)
    sent = re.sub(r"\x1b\]22;[a-z-]*\x07", "", "".join(written))  # the mouse pointer's shape, by Textual itself
    for sequence in ("\x1b]", "\x1bP", "\x1bc", "\x9b", "\x9d", "\x90", "\x07", "\x1b[2J", "\x1b[6n", "\u202e", "\x0e"):
        assert sequence not in sent, repr(sequence)


def hostile_entry(text: str) -> Any:
    base = ENTRIES[0]
    about = replace(base.profile.profile, title=text, description=text, use=text, sources=(text,), prefer=text)
    model = replace(base.profile.model, id=text, served_name=text, precision=text)
    profile = replace(base.profile, profile=about, model=model)
    suits = replace(base.suitability, text=text)
    fits = replace(base.fit, basis=(text,))
    return replace(base, name=f"odd{text}", origin=text, profile=profile, suitability=suits, fit=fits)


@pytest.mark.parametrize("text", PAYLOADS.values(), ids=PAYLOADS)
async def test_the_picker_its_questions_and_problems(text: str, written: list[str]) -> None:
    problem = ProfileProblem(name=f"broken{text}", path=Path("/x"), errors=(text, text))
    backend = FakeBackend(
        entries=(hostile_entry(text), *ENTRIES), problems=(problem,), machine=replace(NO_GPU, gpu_error=text)
    )
    backend.launch_error = StateError(text, text, text)
    async with running(backend, size=(120, 40)) as pilot:
        await wait_text(pilot, "flash-2xh200")
        check(pilot.app, written)
        await pilot.press("up", "up", "up", "enter")
        await wait_text(pilot, "launch", "not now")
        check(pilot.app, written)
        await pilot.press("y")
        await wait_for(pilot, lambda: "close" in "".join(grid(pilot.app)), "the problem")
        check(pilot.app, written)
        await pilot.press("escape", "ctrl+p")
        await pilot.pause()
        check(pilot.app, written)


@pytest.mark.parametrize("text", PAYLOADS.values(), ids=PAYLOADS)
async def test_every_pane_of_a_run(text: str, written: list[str]) -> None:
    change = (ProfileChange(key=f"serve.{text}", before=text, after=text),)
    hint = Hint(id="x", title=text, evidence=(text, text), change=change, gain=text, risk=text)
    run = replace(RUN, profile_name=f"odd{text}", profile_title=text, model=text, engine_version=text, url=text)
    up = snapshot(
        hints=(hint,),
        gpus=(gpu(0, name=text),),
        sources=(SourceStatus(name="disk", ok=False, error=text), SourceStatus(name="gpu", ok=False, error=text)),
    )
    backend, session = attached(up, run=run, log=[text, f"(APIServer pid=1) ERROR 11-23 12:00:00 [x.py:1] {text}"])
    session.answer = [ChatDelta(text=text, reasoning=text), ChatDelta(done=True, error=text, elapsed_s=0.1)]
    session.push(Happened(event=EventRecord(time_s=1.0, kind="note", text=text)))
    async with running(backend, size=(120, 40)) as pilot:
        await wait_text(pilot, "READY")
        check(pilot.app, written)
        await pilot.press("h", "enter")
        await pilot.pause()
        check(pilot.app, written)
        await pilot.press("escape", "2")
        await wait_text(pilot, "following")
        check(pilot.app, written)
        await pilot.press("w")
        check(pilot.app, written)
        await pilot.press("3")
        await pilot.press(*"hi", "enter")
        await wait_for(pilot, lambda: session.chat_closed == 1, "an answer")
        await pilot.pause()
        check(pilot.app, written)
        await pilot.press("escape", "1")
        session.push(snapshot(status=replace(loading(Phase.WEIGHTS), phase_detail=text, reason=text)))
        await wait_text(pilot, "LOADING")
        check(pilot.app, written)
        diagnosis = Diagnosis(title=text, cause="x", why=text, remedy=text, line=1, text=text, change=change)
        failed = ServerStatus(state=ServerState.FAILED, reason=text, diagnosis=diagnosis, over=True, started_s=1.0)
        session.push(snapshot(status=failed))
        await wait_text(pilot, "FAILED")
        check(pilot.app, written)


@pytest.mark.parametrize("text", PAYLOADS.values(), ids=PAYLOADS)
async def test_a_lost_supervisor_and_the_list_of_runs(text: str, written: list[str]) -> None:
    runs = tuple(replace(RUN, id=f"{number}{text}", profile_name=text, url=text, state=text) for number in range(2))
    sessions = {run.id: FakeSession(run) for run in runs}
    for session in sessions.values():
        session.push(snapshot(), Lost(reason=text))
    backend = FakeBackend(runs=runs, sessions=sessions)
    async with running(backend, size=(120, 40)) as pilot:
        await pilot.pause()
        check(pilot.app, written)
        await pilot.press("enter")
        await wait_text(pilot, "LOST")
        check(pilot.app, written)


@given(NASTY, st.integers(8, 60))
@settings(max_examples=150, deadline=None)
def test_painted_lines(text: str, width: int) -> None:
    grown = GrowingMarkdown(width)
    for at in range(0, len(text), 7):
        grown.add(text[at : at + 7])
    lines = [
        line(text, (text, "muted")),
        *wrapped(text, width),
        *labelled([(safe(text)[:5], text, "text")], width),
        *grown.rows,
        rule(text, width),
        spread(line(text), line(text), width),
        cut(line(text), width),
        pad(line(text), width),
        *beside([[line(text)], [line(text)]], [width, width]),
    ]
    for each in lines:
        assert obeyed(plain(each)) == []
    for raw in (True, False):
        assert obeyed(safe(plain(painted(text, raw)))) == []


class _Widget:
    """Just enough of a widget for `to_strip`."""

    class app:
        role_styles: dict[str, object] = {}  # noqa: RUF012
        ascii_glyphs = False

    class visual_style:
        from rich.style import Style

        rich_style = Style()


@given(NASTY)
@settings(max_examples=150, deadline=None)
def test_what_reaches_the_screen_is_made_safe_again(text: str) -> None:
    strip = to_strip(_Widget(), ((text, "text"),), 40)  # type: ignore[arg-type]
    assert obeyed(strip.text) == []


@pytest.mark.parametrize("text", PAYLOADS.values(), ids=PAYLOADS)
async def test_the_editor_of_profiles(text: str, written: list[str]) -> None:
    odd = literal(text)
    backend = FakeBackend()
    backend.texts["flash-4xh200"] = (
        f"{odd} = 1\n[profile]\ntitle = {odd}\n[model]\nid = {odd}\n[serve]\nkv_cache_dtype = {odd}\n"
        f"{odd} = 2\n[serve.extra]\n{odd} = {odd}\n[env]\nA = {odd}\n"
    )
    async with running(backend, size=(120, 40)) as pilot:
        await wait_text(pilot, "flash-4xh200")
        await pilot.press("e")
        await wait_text(pilot, "Edit flash-4xh200", "mistake")
        check(pilot.app, written)
        await pilot.press("slash", *"kv_cache_dtype", "enter", "enter")
        await wait_for(pilot, lambda: pilot.app.focused.id == "field-text", "open")
        check(pilot.app, written)
        await pilot.press("enter", "x", "d")
        await wait_text(pilot, "what differs")
        check(pilot.app, written)
