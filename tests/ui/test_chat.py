"""The chat: streams, stops, keeps, and shows hostile text as text."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from rich.cells import cell_len

from console.client.api import ChatDelta
from console.core.chat_conversation import Turn
from console.core.models import Hint, Phase
from console.core.text import clean
from console.io import chatfiles, conversations
from console.tui.app import ConsoleApp
from console.tui.log_lines import painted
from console.tui.paint import cut, line, pad, plain, wrap
from console.tui.widgets import chat_answer
from console.tui.widgets.chat_text import GrowingMarkdown
from tests.fakes.backend import READY, RUN, FakeBackend, FakeSession, attached, loading, snapshot
from tests.ui.screen_text import grid, running, text, wait_for, wait_text

HOSTILE = (
    "[/foo] [bold]x[/] \x1b[2J\x1b]0;title\x07 \x1b[31mred \r over \x00 \u202e rtl "
    "[link=x] `code` 中文 \U0001f9d1‍\U0001f680 ["
)


def kept() -> list[Turn]:
    """What is on disk of this run's newest conversation."""
    found = conversations.latest(RUN.id)
    return found.turns if found else []


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
            await wait_for(pilot, lambda: any(t.stopped for t in kept()), "kept")


async def test_history_is_kept_on_disk_and_shown_again() -> None:
    backend, _session = attached(snapshot())
    async with running(backend) as pilot:
        await wait_text(pilot, "READY")
        await pilot.press("c", *"hi", "enter")
        await wait_text(pilot, "finished")
    assert [(t.role, t.content) for t in kept()] == [("user", "hi"), ("assistant", "Hello there.")]
    (only,) = conversations.listed()
    assert conversations.path_for(only.id).stat().st_mode & 0o077 == 0
    backend, session = attached(snapshot())
    async with running(backend) as pilot:
        await wait_text(pilot, "READY")
        await pilot.press("c")
        await wait_text(pilot, "Hello there.", "5 tokens")
        await pilot.press("escape", "N")
        await wait_for(pilot, lambda: "Hello there." not in text(pilot.app), "the old one is out of sight")
        await pilot.press(*"again", "enter")
        await wait_for(pilot, lambda: session.asked, "asked")
        assert [m.content for m in session.asked[0]] == ["again"]
        await wait_for(pilot, lambda: len(conversations.listed()) == 2, "both are on disk")


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


async def test_a_message_that_is_sent_while_an_answer_streams_stays() -> None:
    backend, session = attached(snapshot())
    session.hold = asyncio.Event()
    async with running(backend) as pilot:
        await wait_text(pilot, "READY")
        await pilot.press("c", *"hi", "enter")
        await wait_text(pilot, "streaming")
        await pilot.press(*"next", "enter")
        await wait_text(pilot, "Not sent, and kept. It can go once the answer is complete; esc stops it.")
        session.hold.set()
        await wait_for(pilot, lambda: "Not sent" not in text(pilot.app), "the notice goes")
        await pilot.press("enter")
        await wait_for(pilot, lambda: len(session.asked) == 2, "sent")
        assert session.asked[1][-1].content == "next"


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
    parts, whole = GrowingMarkdown(width), GrowingMarkdown(width)
    for piece in pieces:
        parts.add(piece)
    whole.add("".join(pieces))
    assert parts.rows == whole.rows
    parts.end()
    whole.end()
    assert parts.rows == whole.rows
    for row in parts.rows:
        assert cell_len(plain(row)) <= width


MARKDOWN = """# Title

Some **bold** text.

| name | value |
|------|-------|
| kv | 7 |

```python
def first():
\treturn 1
```
```sh
echo two
```
"""


def answered(*deltas: ChatDelta) -> tuple[FakeBackend, FakeSession]:
    """A server of 1,000 tokens of context that gives these pieces."""
    backend, session = attached(snapshot(), run=replace(RUN, max_model_len=1000))
    if deltas:
        session.answer = list(deltas)
    return backend, session


def copied(app: ConsoleApp) -> list[str]:
    """What was told of copies."""
    return [n.message for n in app._notifications]


async def test_markdown_and_code_blocks_that_copy() -> None:
    backend, _ = answered(*(ChatDelta(text=c) for c in MARKDOWN), ChatDelta(done=True, finish_reason="stop"))
    async with running(backend, (80, 40)) as pilot:
        await wait_text(pilot, "READY")
        await pilot.press("c", *"hi", "enter")
        await wait_text(pilot, "finished", "python · block 1", "│     return 1", "sh · block 2", "name  value")
        shown = text(pilot.app)
        assert "**" not in shown
        assert "```" not in shown
        await pilot.press("escape", "B")
        await wait_for(pilot, lambda: pilot.app.clipboard == "echo two\n", "the last block")
        await pilot.press("k", "k", "y")
        await wait_for(pilot, lambda: pilot.app.clipboard == "def first():\n\treturn 1\n", "the marked block")
        assert "■" in text(pilot.app)
        path = chatfiles.keep_copy("x", "").with_name("code-1.py")
        assert path.read_text(encoding="utf-8") == "def first():\n\treturn 1\n"
        assert any("Sent to the terminal's clipboard; also in" in said and str(path) in said
                   for said in copied(pilot.app))  # fmt: skip
        await pilot.press("k", "y")
        await wait_for(pilot, lambda: pilot.app.clipboard == MARKDOWN, "the whole answer")


async def test_reasoning_is_in_sight_until_the_answer_begins_and_folds() -> None:
    backend, session = answered(
        ChatDelta(reasoning="first I think"), ChatDelta(text="yes"), ChatDelta(done=True, finish_reason="stop")
    )
    gate = asyncio.Event()
    plain_chat = session.chat

    async def chat(messages, options):
        async for delta in plain_chat(messages, options):
            if delta.text:
                await gate.wait()
            yield delta

    session.chat = chat
    async with running(backend) as pilot:
        await wait_text(pilot, "READY")
        await pilot.press("c", *"hi", "enter")
        await wait_text(pilot, "▼ reasoning", "first I think", "streaming")
        gate.set()
        await wait_text(pilot, "▸ reasoning · 1 lines · z unfolds", "yes", "finished")
        assert "first I think" not in text(pilot.app)
        await pilot.press("escape", "z")
        await wait_text(pilot, "first I think")
        await pilot.press("z")
        await wait_for(pilot, lambda: "first I think" not in text(pilot.app), "folded again")


async def test_settings_are_kept_with_their_conversation() -> None:
    backend, session = answered()
    async with running(backend) as pilot:
        await wait_text(pilot, "READY")
        await pilot.press("c")
        await wait_text(pilot, "the server's own settings", "context – / 1,000")
        await pilot.press("escape", "S")
        await wait_text(pilot, "How this conversation asks")
        await pilot.press(*"hot", "enter")
        await wait_text(pilot, "✖ temperature: a number from 0 to 2")
        await pilot.press(*["backspace"] * 3, *"0.6", "tab", "tab", *"64", "tab", "right", "tab", "right")
        await pilot.press("escape")
        await wait_text(pilot, "Changed, and not taken")
        await pilot.press("enter")
        await wait_text(pilot, "temp 0.6 · max 64 · thinking on, low")
        await pilot.press("enter", *"hi", "enter")
        await wait_text(pilot, "finished", "context 14 / 1,000 (1%)")
        (options,) = session.chosen
        assert (options.temperature, options.max_tokens) == (0.6, 64)
        assert options.extra == {"chat_template_kwargs": {"thinking": True, "reasoning_effort": "low"}}
    backend, _ = answered()
    async with running(backend) as pilot:
        await wait_text(pilot, "READY")
        await pilot.press("c")
        await wait_text(pilot, "temp 0.6 · max 64 · thinking on, low", "context 14 / 1,000 (1%)")


async def test_retry_and_edit_ask_again_and_lose_nothing() -> None:
    backend, session = answered()
    async with running(backend) as pilot:
        await wait_text(pilot, "READY")
        await pilot.press("c", *"one", "enter")
        await wait_text(pilot, "finished")
        await pilot.press("escape", "R")
        await wait_for(pilot, lambda: len(session.asked) == 2, "asked again")
        assert session.asked[1] == session.asked[0]
        await wait_text(pilot, "finished")
        await pilot.press("E")
        await wait_text(pilot, "Sending takes the place of the last 2 messages")
        await pilot.press("space", *"more", "enter")
        await wait_for(pilot, lambda: len(session.asked) == 3, "asked anew")
        assert [m.content for m in session.asked[2]] == ["one more"]
        await wait_for(pilot, lambda: [t.content for t in kept()] == ["one more", "Hello there."], "kept")
        assert "takes the place" not in text(pilot.app)
    (only,) = conversations.listed()
    on_disk = conversations.path_for(only.id).read_text(encoding="utf-8")
    assert on_disk.count('"kind":"cut"') == 2
    assert '"content":"one"' in on_disk


async def test_retry_in_the_middle_asks_first() -> None:
    backend, session = answered()
    async with running(backend, (80, 40)) as pilot:
        await wait_text(pilot, "READY")
        await pilot.press("c")
        for word in ("one", "two"):
            await pilot.press(*word, "enter")
            await wait_for(pilot, lambda: not pilot.app.screen.query_one("#chat").transcript.streaming, "answered")
        await pilot.press("escape", "k", "k", "k", "R")
        await wait_text(pilot, "Ask this again?", "The 2 messages after it leave this conversation")
        await pilot.press("n")
        await wait_for(pilot, lambda: "Ask this again?" not in text(pilot.app), "left")
        assert len(session.asked) == 2


async def test_a_context_that_is_too_long_says_by_how_much_and_fits() -> None:
    error = (
        "This model's maximum context length is 1000 tokens. However, you requested 990 output tokens and your prompt "
        "contains 100 input tokens, for a total of 1090 tokens."
    )
    backend, session = answered(ChatDelta(done=True, error=error))
    async with running(backend) as pilot:
        await wait_text(pilot, "READY")
        await pilot.press("c", *"hi", "enter")
        await wait_text(pilot, "90 tokens too many for 1,000", "max tokens 900")
        session.answer = [ChatDelta(text="fits"), ChatDelta(done=True, finish_reason="stop")]
        await pilot.press("escape", "F")
        await wait_text(pilot, "fits", "max 900")
        assert session.chosen[1].max_tokens == 900
        assert [m.content for m in session.asked[1]] == ["hi"]


async def test_raw_curl_and_python_of_an_exchange() -> None:
    backend, _ = answered(
        ChatDelta(text="x", raw=('data: {"n":1}', "data: \x1b[2J")), ChatDelta(done=True, finish_reason="stop")
    )
    async with running(backend, (100, 40)) as pilot:
        await wait_text(pilot, "READY")
        await pilot.press("c", *"it's", "enter")
        await wait_text(pilot, "finished")
        await pilot.press("escape", "w")
        await wait_text(pilot, "as it was sent", '"content": "it\'s"', "Response, 2 lines", 'data: {"n":1}')
        check_grid(pilot.app, (100, 40))
        await pilot.press("escape", "C")
        await wait_for(pilot, lambda: pilot.app.clipboard.startswith("curl -sS -N 'http"), "curl")
        await pilot.press("Y")
        await wait_for(pilot, lambda: "from openai import OpenAI" in pilot.app.clipboard, "Python")
        compile(pilot.app.clipboard, "request.py", "exec")
    backend, _ = answered()
    async with running(backend, (100, 40)) as pilot:
        await wait_text(pilot, "READY")
        await pilot.press("c", "escape", "w")
        await wait_text(pilot, "built again from what was said", '"content": "it\'s"')


async def test_conversations_are_opened_searched_exported_and_deleted() -> None:
    backend, session = answered()
    async with running(backend) as pilot:
        await wait_text(pilot, "READY")
        await pilot.press("c", *"about apples", "enter")
        await wait_text(pilot, "finished")
        await pilot.press("escape", "N", *"about pears", "enter")
        await wait_for(pilot, lambda: len(conversations.listed()) == 2, "two")
        await wait_text(pilot, "finished")
        await pilot.press("escape", "O")
        await wait_text(pilot, "about apples", "about pears")
        await pilot.press("slash", *"APPLES")
        await wait_for(pilot, lambda: text(pilot.app).count("about pears") <= 1, "searched")
        await pilot.press("enter", "X")
        await wait_text(pilot, "Export this conversation", "about-apples.md")
        await pilot.press("enter")
        await wait_for(pilot, lambda: any("Exported to" in said for said in copied(pilot.app)), "exported")
        await pilot.press("enter")
        await wait_text(pilot, "about apples", "Hello there.")
        await wait_for(pilot, lambda: "about pears" not in text(pilot.app), "opened")
        await pilot.press("i", *"go on", "enter")
        await wait_for(pilot, lambda: len(session.asked) == 3, "asked")
        assert [m.content for m in session.asked[2]] == ["about apples", "Hello there.", "go on"]
        await wait_text(pilot, "go on", "finished")
        await pilot.press("escape", "O")
        await wait_text(pilot, "about pears")
        await pilot.press("D")
        await wait_text(pilot, "Delete this conversation?", "cannot be undone")
        await pilot.press("n")
        await wait_text(pilot, "about pears")
        assert len(conversations.listed()) == 2
        await pilot.press("D")
        await wait_text(pilot, "Delete this conversation?")
        await pilot.press("down", "enter")
        await wait_for(pilot, lambda: len(conversations.listed()) == 1, "deleted")


async def test_attach_prompts_and_the_menu(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("remember", encoding="utf-8")
    backend, session = answered()
    async with running(backend) as pilot:
        await wait_text(pilot, "READY")
        await pilot.press("c", "ctrl+o")
        await wait_text(pilot, "insert a prompt from the library")
        await pilot.press("P")
        await wait_text(pilot, "Prompts", "Test: does it answer")
        await pilot.press("enter")
        await wait_text(pilot, "capital of France?")
        await pilot.press("ctrl+o", "A")
        await wait_text(pilot, "Attach a file")
        await pilot.press(*f"{tmp_path}/none", "enter")
        await wait_text(pilot, "No such file")
        await pilot.press(*["backspace"] * 4, *"notes.txt", "enter")
        await wait_text(pilot, "notes.txt goes along: 8 characters")
        await pilot.press("enter")
        await wait_for(pilot, lambda: session.asked, "asked")
        assert session.asked[0][0].content.endswith("capital of France?\n\nnotes.txt:\n```\nremember\n```")
        await wait_text(pilot, "│ notes.txt  attached, 8 characters")


async def test_a_killed_console_loses_a_second_of_an_answer_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_answer, "KEEP_PERIOD_S", 0.0)
    backend, session = answered()
    session.hold = asyncio.Event()
    async with running(backend) as pilot:
        await wait_text(pilot, "READY")
        await pilot.press("c", *"hi", "enter")
        await wait_text(pilot, "Hello there.", "streaming")
        assert [(t.content, bool(t.error)) for t in kept()] == [("hi", False), ("Hello there.", True)]
        session.hold.set()
        await wait_for(pilot, lambda: not kept()[1].error, "ended")


async def test_what_is_written_and_not_sent_is_there_again() -> None:
    backend, session = answered()
    async with running(backend) as pilot:
        await wait_text(pilot, "READY")
        await pilot.press("c", *"half a th")
        await wait_text(pilot, "half a th")
    backend, session = answered()
    async with running(backend) as pilot:
        await wait_text(pilot, "READY")
        await pilot.press("c")
        await wait_text(pilot, "half a th")
        await pilot.press(*"ought", "enter")
        await wait_for(pilot, lambda: session.asked, "sent")
        assert session.asked[0][0].content == "half a thought"
        await wait_text(pilot, "finished")
    assert chatfiles.draft() == ""


@pytest.mark.parametrize("size", [(60, 20), (80, 24), (160, 50)])
@pytest.mark.parametrize("key", ["m", "S", "O", "P", "A", "w", "X"])
async def test_every_dialog_fits(size: tuple[int, int], key: str) -> None:
    backend, _ = answered()
    async with running(backend, size, ascii_glyphs=True) as pilot:
        await wait_text(pilot, "READY")
        await pilot.press("c", *"hi", "enter")
        await wait_text(pilot, "finished")
        below = pilot.app.screen
        await pilot.press("escape", key)
        await wait_for(pilot, lambda: pilot.app.screen is not below, "a dialog")
        await wait_for(pilot, lambda: pilot.app.screen.query_one("#dialog").region.height > 4, "laid out")
        check_grid(pilot.app, size)
        dialog = pilot.app.screen.query_one("#dialog").region
        assert dialog.y >= 0
        assert dialog.bottom <= size[1]
        await pilot.press("escape")
        await wait_for(pilot, lambda: pilot.app.screen is below, "closed")
