"""The chat: streams, stops, keeps, and shows hostile text as text."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from rich.cells import cell_len

from console.client.api import ChatDelta
from console.core.models import Hint, Phase
from console.core.text import clean
from console.tui import conversations
from console.tui.conversations import Turn
from console.tui.log_lines import painted
from console.tui.paint import cut, line, pad, wrap
from console.tui.widgets.transcript import GrowingText
from tests.fakes.backend import READY, RUN, attached, loading, snapshot
from tests.ui.screen_text import grid, running, text, wait_for, wait_text

HOSTILE = (
    "[/foo] [bold]x[/] \x1b[2J\x1b]0;title\x07 \x1b[31mred \r over \x00 \u202e rtl "
    "[link=x] `code` 中文 \U0001f9d1‍\U0001f680 ["
)


async def test_answer_streams_and_tells_how_it_went() -> None:
    backend, session = attached(snapshot())
    session.hold = asyncio.Event()
    async with running(backend) as pilot:
        await wait_text(pilot, "READY")
        await pilot.press("c", *"hi", "enter")
        await wait_text(pilot, "❯ you", "hi", "Hello there.", "streaming", "TTFT 120 ms")
        session.hold.set()
        await wait_text(pilot, "5 tokens", "22 tok/s", "finished")
        assert [m.content for m in session.asked[0]] == ["hi"]
        await pilot.press(*"more", "enter")
        await wait_for(pilot, lambda: len(session.asked) == 2, "asked again")
        assert [m.role for m in session.asked[1]] == ["user", "assistant", "user"]


async def test_escape_stops_the_answer_and_so_does_x() -> None:
    for keys in (["escape"], ["shift+tab", "x"]):
        backend, session = attached(snapshot())
        session.hold = asyncio.Event()
        async with running(backend) as pilot:
            await wait_text(pilot, "READY")
            await pilot.press("c", *"hi", "enter")
            await wait_text(pilot, "Hello there.")
            await pilot.press(*keys)
            await wait_text(pilot, "stopped")
            assert session.chat_closed == 1
            await wait_for(pilot, lambda: len(conversations.read(RUN.id)) >= 2, "kept")


async def test_history_is_kept_on_disk_and_shown_again() -> None:
    backend, _session = attached(snapshot())
    async with running(backend) as pilot:
        await wait_text(pilot, "READY")
        await pilot.press("c", *"hi", "enter")
        await wait_text(pilot, "finished")
    assert [t.role for t in conversations.read(RUN.id)] == ["user", "assistant"]
    assert conversations.path_for(RUN.id).stat().st_mode & 0o077 == 0
    backend, session = attached(snapshot())
    async with running(backend) as pilot:
        await wait_text(pilot, "READY")
        await pilot.press("c")
        await wait_text(pilot, "Hello there.", "5 tokens")
        await pilot.press("escape", "N")
        await wait_text(pilot, "new conversation")
        await pilot.press(*"again", "enter")
        await wait_for(pilot, lambda: session.asked, "asked")
        assert [m.content for m in session.asked[0]] == ["again"]


async def test_error_is_shown_in_place_and_the_answer_so_far_stays() -> None:
    backend, session = attached(snapshot())
    session.answer = [ChatDelta(text="so far"), ChatDelta(done=True, error="context too long: [5000] of 1024")]
    async with running(backend) as pilot:
        await wait_text(pilot, "READY")
        await pilot.press("c", *"hi", "enter")
        await wait_text(pilot, "so far", "✖ context too long: [5000] of 1024")


async def test_not_ready_keeps_the_message() -> None:
    backend, session = attached(snapshot(status=loading(Phase.WEIGHTS), engine=None))
    async with running(backend) as pilot:
        await wait_text(pilot, "LOADING")
        await pilot.press("c")
        await wait_text(pilot, "LOADING weights 1m15s: you can write")
        await pilot.press(*"restart quickly", "enter")
        await wait_text(pilot, "restart quickly", "Not sent, and kept.")
        assert not session.asked
        session.push(snapshot(seq=2))
        await wait_for(pilot, lambda: "Not sent" not in text(pilot.app), "the notice goes")
        await pilot.press("enter")
        await wait_for(pilot, lambda: session.asked, "sent")
        assert session.asked[0][0].content == "restart quickly"


async def test_newline_key() -> None:
    backend, session = attached(snapshot())
    async with running(backend) as pilot:
        await wait_text(pilot, "READY")
        await pilot.press("c", "a", "ctrl+j", "b", "enter")
        await wait_for(pilot, lambda: session.asked, "asked")
        assert session.asked[0][0].content == "a\nb"


async def test_long_answer_stays_cheap_and_follows() -> None:
    backend, session = attached(snapshot())
    session.answer = [
        *(ChatDelta(text=f"word{i} " + "\n" * (i % 20 == 0)) for i in range(4000)),
        ChatDelta(done=True),
    ]
    async with running(backend) as pilot:
        await wait_text(pilot, "READY")
        await pilot.press("c", *"go", "enter")
        await wait_text(pilot, "word3999")


def check_grid(app, size: tuple[int, int]) -> None:
    """Every row is whole, and holds nothing that a terminal obeys."""
    rows = grid(app)
    assert len(rows) == size[1]
    for row in rows:
        assert row.isprintable(), repr(row)
        assert cell_len(row) == size[0]


async def test_hostile_text_everywhere() -> None:
    hint = Hint(id="h", title=HOSTILE, evidence=(HOSTILE,), gain=HOSTILE)
    backend, session = attached(
        snapshot(hints=(hint,), status=replace(READY, reason=HOSTILE)),
        run=replace(RUN, model=HOSTILE, profile_name=HOSTILE),
        log=[HOSTILE] * 30,
    )
    session.answer = [ChatDelta(text=piece, reasoning=piece) for piece in HOSTILE] + [
        ChatDelta(done=True, error=HOSTILE)
    ]
    async with running(backend) as pilot:
        await wait_text(pilot, "READY", "Hints 1")
        check_grid(pilot.app, (80, 24))
        await pilot.press("l")
        await wait_text(pilot, "30 lines")
        check_grid(pilot.app, (80, 24))
        await pilot.press("c", *"x[/y", "enter")
        await wait_text(pilot, "[/foo] [bold]x[/]")
        check_grid(pilot.app, (80, 24))
        await pilot.press("escape", "q")
        await wait_text(pilot, "Leave the console?")
        check_grid(pilot.app, (80, 24))


@settings(max_examples=60, deadline=None)
@given(text=st.text(), width=st.integers(8, 120))
def test_any_text_wraps_into_its_width(text: str, width: int) -> None:
    shown = clean(text, keep_newlines=True)
    for row in wrap(shown, width):
        assert row.isprintable()
        assert cell_len(row) <= width
    for spans in (line(text), painted(clean(text), False), cut(line(text, (text, "bad")), width)):
        assert all(part.isprintable() for part, _ in spans)
    assert cell_len("".join(part for part, _ in pad(line(text), width))) == width


@settings(max_examples=60, deadline=None)
@given(pieces=st.lists(st.text(max_size=20), max_size=12), width=st.integers(10, 60))
def test_an_answer_in_pieces_wraps_like_the_whole(pieces: list[str], width: int) -> None:
    parts, whole = GrowingText("text"), GrowingText("text")
    for piece in pieces:
        parts.add(piece, width)
    whole.add("".join(pieces), width)
    assert parts.lines == whole.lines


def test_conversation_file_survives_a_torn_line() -> None:
    conversations.append(RUN.id, [Turn(role="user", content="a")])
    with conversations.path_for(RUN.id).open("ab") as file:
        file.write(b'{"role": "assist')
    assert [t.content for t in conversations.read(RUN.id)] == ["a"]
    assert conversations.read("nothing-there") == []
