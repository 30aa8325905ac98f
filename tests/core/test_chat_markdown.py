"""Markdown line by line: what each is, and that the next line never changes it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from console.core.chat_code import code_spans, file_ending
from console.core.chat_markdown import LINE_CHARS_MAX, Kind, Reader, inline, split_line


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("plain", (("plain", "text"),)),
        ("a `b*c*` d", (("a ", "text"), ("b*c*", "code"), (" d", "text"))),
        ("**bold** and *it*", (("bold", "strong"), (" and ", "text"), ("it", "strong"))),
        ("2 * 3 * 4 and a_b_c", (("2 * 3 * 4 and a_b_c", "text"),)),
        ("**open", (("**open", "text"),)),
        ("[vLLM](https://vllm.ai) is", (("vLLM", "accent"), (" (https://vllm.ai)", "muted"), (" is", "text"))),
        ("[/bold] [x", (("[/bold] [x", "text"),)),
    ],
)
def test_inline(text: str, spans: tuple[tuple[str, str], ...]) -> None:
    assert inline(text) == spans


def test_lines() -> None:
    reader = Reader()
    pieces = [reader.read(text) for text in (
        "# Title #", "", "- a", "  * b", "3. c", "> q", "---", "| a | b \\| c |", "|---|:-:|", "```python extra",
        "# no heading", "~~~", "``", "```", "after",
    )]  # fmt: skip
    assert [piece.kind for piece in pieces] == [
        Kind.TEXT, Kind.BLANK, Kind.TEXT, Kind.TEXT, Kind.TEXT, Kind.TEXT, Kind.RULE, Kind.TABLE, Kind.TABLE,
        Kind.CODE_OPEN, Kind.CODE, Kind.CODE, Kind.CODE, Kind.CODE_CLOSE, Kind.TEXT,
    ]  # fmt: skip
    assert pieces[0].spans == (("Title", "strong"),)
    assert [piece.first for piece in pieces[2:6]] == ["• ", "  • ", "3. ", "│ "]
    assert pieces[7].cells == ("a", "b | c")
    assert pieces[8].cells == ()
    assert pieces[9].language == "python"


def test_a_longer_fence_holds_shorter_ones() -> None:
    reader = Reader()
    kinds = [reader.read(text).kind for text in ("````md", "```py", "x", "```", "`````")]
    assert kinds == [Kind.CODE_OPEN, Kind.CODE, Kind.CODE, Kind.CODE, Kind.CODE_CLOSE]


def test_peeking_changes_nothing() -> None:
    reader = Reader()
    assert reader.peek("```py").kind == Kind.CODE_OPEN
    assert not reader.in_code


@settings(max_examples=80, deadline=None)
@given(text=st.text(), language=st.sampled_from(["", "python", "sql", "cpp", "diff", "nope"]))
def test_no_character_is_lost(text: str, language: str) -> None:
    assert "".join(part for part, _ in code_spans(text, language)) == text
    assert "".join(split_line(text * 40)) == text * 40


@settings(max_examples=30, deadline=None)
@given(head=st.text(alphabet="ab ", min_size=LINE_CHARS_MAX + 1, max_size=LINE_CHARS_MAX + 50), tail=st.text("ab "))
def test_a_long_line_is_cut_alike_however_it_goes_on(head: str, tail: str) -> None:
    assert split_line(head + tail)[0] == split_line(head)[0]


def test_code() -> None:
    assert code_spans('return "a#b" + 12  # why', "Python") == (
        ("return", "accent"), (" ", "code"), ('"a#b"', "ok"), (" + ", "code"), ("12", "kv"), ("  ", "code"),
        ("# why", "muted"),
    )  # fmt: skip
    assert code_spans("a // b", "python")[-1][1] == "code"
    assert code_spans("a(); // b", "cpp")[-1] == ("// b", "muted")
    assert code_spans("+new", "diff") == (("+new", "ok"),)
    assert (file_ending("Python"), file_ending("brainfuck")) == ("py", "txt")
