"""Painted rows of Markdown that grows at its end: finished lines are painted once, only the unfinished one again.

Own painting, not Textual's Markdown widget: that one makes a widget per block and parses the last block again, and a
100k-token answer is thousands of blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.cells import cell_len, get_character_cell_size

from console.core.chat_code import file_ending
from console.core.chat_markdown import TABLE_ROWS_MAX, Kind, Piece, Reader, inline, split_line
from console.tui.glyphs import safe
from console.tui.paint import BLANK, Line, Span, beside

__all__ = ["CodeBlock", "GrowingMarkdown", "wrap_spans"]

INDENT: Span = ("  ", "text")
BAR: Span = ("│ ", "faint")
WIDTH_MIN = 4
RULE_WIDTH_MAX = 60
COLUMN_MIN = 3
GAP = 2


@dataclass(slots=True)
class CodeBlock:
    """A block of code in an answer."""

    number: int
    language: str
    first: int
    """Its row, that of the frame's upper edge."""
    parts: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The code as it was written."""
        return "".join(self.parts)

    @property
    def file_name(self) -> str:
        """For a copy of it."""
        return f"code-{self.number}.{file_ending(self.language)}"


def _ends(text: str, width: int, words: bool) -> list[tuple[int, int]]:
    """Where the rows of a text begin and end; a space at which a row breaks belongs to none."""
    out = []
    size = len(text)
    plain = text.isascii()
    at = 0
    while True:
        if plain:
            end = min(at + width, size)
        else:
            end, room = at, width
            while end < size and (cells := get_character_cell_size(text[end])) <= room:
                room -= cells
                end += 1
            end = max(end, min(at + 1, size))
        if end >= size:
            out.append((at, size))
            return out
        space = text.rfind(" ", at + 1, end + 1) if words else -1
        if space > at and text[at:space].strip():
            out.append((at, space))
            at = space + 1
        else:
            out.append((at, end))
            at = end


def wrap_spans(spans: Sequence[Span], width: int, words: bool = True) -> list[Line]:
    """Spans in rows of at most `width` cells, broken at spaces, or anywhere without `words`."""
    width = max(width, WIDTH_MIN)
    text = "".join(part for part, _ in spans)
    if (len(text) if text.isascii() else sum(map(get_character_cell_size, text))) <= width:
        return [tuple(spans)]
    rows: list[Line] = []
    starts = []
    total = 0
    for part, _ in spans:
        starts.append(total)
        total += len(part)
    first = 0
    for begin, end in _ends(text, width, words):
        while first + 1 < len(spans) and starts[first + 1] <= begin:
            first += 1
        row: list[Span] = []
        for i in range(first, len(spans)):
            if starts[i] >= end:
                break
            part = spans[i][0][max(begin - starts[i], 0) : end - starts[i]]
            if part:
                row.append((part, spans[i][1]))
        rows.append(tuple(row))
    return rows


class GrowingMarkdown:
    """Rows of an answer, or without Markdown of its reasoning.

    Args:
        width: columns.
        role: of plain text; empty reads Markdown.
    """

    def __init__(self, width: int, role: str = "") -> None:
        self.rows: list[Line] = []
        self.blocks: list[CodeBlock] = []
        self._width = max(width - cell_len(INDENT[0]), WIDTH_MIN)
        self._role = role
        self._reader = Reader()
        self._open = ""
        self._open_at = 0
        self._continued = False
        self._table: list[tuple[str, ...]] = []
        self._table_at = 0

    def add(self, piece: str) -> None:
        """Append. Blanks before the first word are left out."""
        if not self.rows and not self._open:
            piece = piece.lstrip()
        if not piece:
            return
        del self.rows[self._open_at :]
        *closed, self._open = (self._open + piece).split("\n")
        for text in closed:
            *parts, last = split_line(text)
            for part in parts:
                self._close(part, False)
            self._close(last, True)
        *parts, self._open = split_line(self._open)
        for part in parts:
            self._close(part, False)
        self._open_at = len(self.rows)
        if self._open:
            self._show_open()

    def end(self) -> None:
        """Nothing more comes: the last line is final."""
        if self._open:
            del self.rows[self._open_at :]
            text, self._open = self._open, ""
            self._close(text, False)
            self._open_at = len(self.rows)

    @staticmethod
    def _shown(text: str) -> str:
        return safe(text.expandtabs(4))

    def _show_open(self) -> None:
        text = self._shown(self._open)
        if self._role or (self._continued and not self._reader.in_code):
            self._paint(Piece(Kind.TEXT, ((text, self._role or "text"),)))
            return
        piece = self._reader.peek(text)
        # An unfinished row of a table is text until its columns can be laid out.
        self._paint(Piece(Kind.TEXT, ((text, "text"),)) if piece.kind == Kind.TABLE else piece)

    def _close(self, raw: str, ended: bool) -> None:
        """Paint for good a line, or a part of one that did not end here."""
        text = self._shown(raw)
        continued, self._continued = self._continued, not ended
        if self._role:
            self._paint(Piece(Kind.TEXT, ((text, self._role),)))
            return
        in_code = self._reader.in_code
        if continued and not in_code:
            self._paint(Piece(Kind.TEXT, inline(text)))
            return
        piece = self._reader.read(text)
        if piece.kind == Kind.TABLE:
            self._paint_table(piece)
            return
        self._table.clear()
        if piece.kind == Kind.CODE_OPEN:
            self.blocks.append(CodeBlock(len(self.blocks) + 1, piece.language, len(self.rows)))
        elif piece.kind == Kind.CODE and self.blocks:
            self.blocks[-1].parts.append(raw + "\n" * ended)
        self._paint(piece)

    def _paint(self, piece: Piece) -> None:
        width = self._width
        match piece.kind:
            case Kind.BLANK:
                self.rows.append(BLANK)
            case Kind.RULE:
                self.rows.append((INDENT, ("─" * min(width, RULE_WIDTH_MAX), "faint")))
            case Kind.CODE_OPEN:
                # The block of a line that is still open is not counted yet.
                number = len(self.blocks) + (not self.blocks or self.blocks[-1].first != len(self.rows))
                label = f" {piece.language or 'code'} · block {number} "[: max(width - 4, 0)]
                self.rows.append(
                    (INDENT, ("──", "faint"), (label, "muted"), ("─" * (width - 2 - cell_len(label)), "faint"))
                )
            case Kind.CODE_CLOSE:
                self.rows.append((INDENT, ("─" * width, "faint")))
            case Kind.CODE:
                self.rows += [(INDENT, BAR, *row) for row in wrap_spans(piece.spans, width - cell_len(BAR[0]), False)]
            case _:
                first = piece.first[: width // 2]
                hang = first if first.startswith("│") else " " * cell_len(first)
                for i, row in enumerate(wrap_spans(piece.spans, width - cell_len(first))):
                    lead = first if i == 0 else hang
                    self.rows.append((INDENT, (lead, "accent"), *row) if lead else (INDENT, *row))

    def _paint_table(self, piece: Piece) -> None:
        if not self._table or len(self._table) >= TABLE_ROWS_MAX:
            self._table.clear()
            self._table_at = len(self.rows)
        self._table.append(piece.cells)
        del self.rows[self._table_at :]
        self.rows += [(INDENT, *row) for row in table_rows(self._table, self._width)]


def table_rows(table: Sequence[tuple[str, ...]], width: int) -> list[Line]:
    """Rows of a table whose columns are as wide as the screen allows; an empty one is the line under its heading."""
    count = max(map(len, table))
    if not count:
        return [(("─" * min(width, RULE_WIDTH_MAX), "faint"),)]
    painted = [[inline(cell, "strong" if i == 0 else "text") for cell in cells] for i, cells in enumerate(table)]
    widths = [
        max((sum(cell_len(part) for part, _ in cells[i]) for cells in painted if i < len(cells)), default=0)
        for i in range(count)
    ]
    widths = [max(each, COLUMN_MIN) for each in widths]
    room = width - GAP * (count - 1)
    if room < count * COLUMN_MIN:
        # More columns than fit: a cell a line loses nothing.
        return [row for cells in painted for cell in cells for row in wrap_spans(cell, width)]
    while sum(widths) > room:
        widest = widths.index(max(widths))
        widths[widest] -= max(min(sum(widths) - room, widths[widest] // 4), 1)
    rows: list[Line] = []
    for cells in painted:
        if not cells:
            rows.append((("─" * (sum(widths) + GAP * (count - 1)), "faint"),))
            continue
        columns = [wrap_spans(cells[i], widths[i]) if i < len(cells) else [] for i in range(count)]
        rows += beside(columns, widths, GAP)
    return rows
