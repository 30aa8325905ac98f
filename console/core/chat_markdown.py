"""Markdown as a stream of lines: what each line is, decided from the lines before it alone.

So a text that grows at its end is never parsed again: a finished line is final. Only a table is laid out as a whole,
which `TABLE_ROWS_MAX` bounds.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from console.core.chat_code import code_spans

__all__ = ["LINE_CHARS_MAX", "TABLE_ROWS_MAX", "Kind", "Piece", "Reader", "inline", "split_line"]

LINE_CHARS_MAX: Final = 4_000
"""A longer line is taken in parts of this length, so that its end can grow for ever at the same cost."""
TABLE_ROWS_MAX: Final = 60
"""A longer table is laid out in parts."""
LANGUAGE_CHARS_MAX: Final = 24


class Kind:
    """What a line is."""

    TEXT = "text"
    BLANK = "blank"
    CODE_OPEN = "code-open"
    CODE = "code"
    CODE_CLOSE = "code-close"
    RULE = "rule"
    TABLE = "table"


class Piece(NamedTuple):
    """One line, ready to be wrapped."""

    kind: str
    spans: tuple[tuple[str, str], ...] = ()
    """Text and role."""
    first: str = ""
    """What stands before the first row: a bullet; further rows hang under it."""
    cells: tuple[str, ...] = ()
    """Of a table's row."""
    language: str = ""


_FENCE = re.compile(r"[ >]*?(`{3,}|~{3,})[ ]*([^`\s]*)[^`]*$")
_HEADING = re.compile(r" {0,3}(#{1,6})\s+(.*?)\s*#*\s*$")
_ITEM = re.compile(r"(\s*)(?:([-*+])|(\d{1,9}[.)]))\s+(.*)$")
_RULE = re.compile(r" {0,3}(?:(?:-[ ]*){3,}|(?:\*[ ]*){3,}|(?:_[ ]*){3,})$")
_QUOTE = re.compile(r" {0,3}((?:>\s?)+)(.*)$")
_TABLE_ROW = re.compile(r"\s*\|.*\|\s*$")
_CELL = re.compile(r"(?<!\\)\|")
_DASHES = re.compile(r"\s*:?-+:?\s*$")
_INLINE = re.compile(
    r"(?P<code>`+)(?P<code_text>(?!`).{1,2000}?)(?<!`)(?P=code)(?!`)"
    r"|(?P<bold>\*\*|__)(?P<bold_text>(?=\S).{1,2000}?(?<=\S))(?P=bold)"
    r"|(?<![\w*])(?P<it>\*)(?P<it_text>(?=[^\s*])[^*]{1,500}?(?<=\S))\*(?![\w*])"
    r"|(?<!\w)(?P<un>_)(?P<un_text>(?=[^\s_])[^_]{1,500}?(?<=\S))_(?!\w)"
    r"|~~(?P<gone>[^~]{1,500})~~"
    r"|!?\[(?P<link>[^\]\[]{0,500})\]\((?P<target>[^()\s]{1,500})\)"
)


def split_line(text: str) -> list[str]:
    """A long line in parts that do not depend on what follows, cut at spaces where there are any."""
    parts = []
    while len(text) > LINE_CHARS_MAX:
        at = text.rfind(" ", LINE_CHARS_MAX // 2, LINE_CHARS_MAX) + 1 or LINE_CHARS_MAX
        parts.append(text[:at])
        text = text[at:]
    return [*parts, text]


def inline(text: str, role: str = "text") -> tuple[tuple[str, str], ...]:
    """A line's text as spans: code, bold, emphasis and links have roles of their own, their marks go."""
    if not any(mark in text for mark in "`*_[~"):
        return ((text, role),) if text else ()
    out: list[tuple[str, str]] = []
    at = 0
    for found in _INLINE.finditer(text):
        if found.start() > at:
            out.append((text[at : found.start()], role))
        at = found.end()
        if found["code"]:
            out.append((found["code_text"].strip() or found["code_text"], "code"))
        elif found["bold"]:
            out += inline(found["bold_text"], "strong")
        elif found["it"] or found["un"]:
            out.append((found["it_text"] or found["un_text"], "strong"))
        elif found["gone"] is not None:
            out.append((found["gone"], "muted"))
        else:
            out += [(found["link"] or "link", "accent"), (f" ({found['target']})", "muted")]
    if at < len(text):
        out.append((text[at:], role))
    return tuple(out)


class Reader:
    """Reads finished lines one after the other; `peek` reads the unfinished one without keeping what it changes."""

    def __init__(self) -> None:
        self._fence = ""
        self._language = ""

    @property
    def in_code(self) -> bool:
        """The next line is code."""
        return bool(self._fence)

    def peek(self, text: str) -> Piece:
        """What an unfinished line looks like now."""
        state = self._fence, self._language
        piece = self.read(text)
        self._fence, self._language = state
        return piece

    def read(self, text: str) -> Piece:
        """What this line is."""
        fence = _FENCE.match(text)
        if self._fence:
            closes = fence is not None and fence[1].startswith(self._fence) and not fence[2]
            if closes:
                self._fence = ""
                return Piece(Kind.CODE_CLOSE, language=self._language)
            return Piece(Kind.CODE, code_spans(text, self._language), language=self._language)
        if fence is not None:
            self._fence, self._language = fence[1], fence[2][:LANGUAGE_CHARS_MAX]
            return Piece(Kind.CODE_OPEN, language=self._language)
        return _prose(text)


def _prose(text: str) -> Piece:
    if not text.strip():
        return Piece(Kind.BLANK)
    if found := _HEADING.match(text):
        return Piece(Kind.TEXT, inline(found[2], "strong"))
    if _RULE.match(text):
        return Piece(Kind.RULE)
    if found := _ITEM.match(text):
        indent = " " * min(len(found[1].expandtabs(4)), 12)
        return Piece(Kind.TEXT, inline(found[4]), f"{indent}{'•' if found[2] else found[3]} ")
    if found := _QUOTE.match(text):
        return Piece(Kind.TEXT, inline(found[2], "muted"), "│ " * min(found[1].count(">"), 4))
    if _TABLE_ROW.match(text) and len(text) < LINE_CHARS_MAX:
        return Piece(Kind.TABLE, cells=_cells(text))
    return Piece(Kind.TEXT, inline(text.rstrip()))


def _cells(text: str) -> tuple[str, ...]:
    cells = tuple(cell.strip().replace("\\|", "|") for cell in _CELL.split(text.strip()[1:-1]))
    return () if all(_DASHES.match(cell) for cell in cells) else cells
