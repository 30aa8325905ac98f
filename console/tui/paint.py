"""Lines of text as plain data: spans of text with a role, cut, padded and set side by side by cell width.

Painters return these, so what a panel shows is a pure function of data and width; `widgets/panel.py` alone turns
roles into colours. Nothing here reads markup, so no text from outside can be mistaken for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.cells import cell_len, chop_cells, set_cell_size

from console.tui.glyphs import safe

__all__ = [
    "BLANK",
    "Line",
    "Span",
    "beside",
    "clip",
    "cut",
    "labelled",
    "line",
    "line_width",
    "pad",
    "plain",
    "rule",
    "selected",
    "spread",
    "wrap",
    "wrapped",
]

Span = tuple[str, str]
Line = tuple[Span, ...]
BLANK: Line = ()


def line(*spans: Span | str) -> Line:
    """A line; a bare string has the role `text`. Text from outside is made safe here."""
    return tuple((safe(s), "text") if isinstance(s, str) else (safe(s[0]), s[1]) for s in spans)


def plain(spans: Line) -> str:
    """The characters of a line."""
    return "".join(text for text, _ in spans)


def line_width(spans: Line) -> int:
    """Width in cells."""
    return sum(cell_len(text) for text, _ in spans)


def clip(text: str, width: int) -> str:
    """`text` in at most `width` cells, ending in `…` if something was lost."""
    if width <= 0:
        return ""
    if cell_len(text) <= width:
        return text
    return set_cell_size(text, width - 1).rstrip() + "…"


def cut(spans: Line, width: int) -> Line:
    """A line in at most `width` cells, ending in `…` if something was lost."""
    if line_width(spans) <= width:
        return spans
    out: list[Span] = []
    left = width
    for text, role in spans:
        size = cell_len(text)
        if size > left or (size == left and spans[-1] != (text, role)):
            out.append((clip(text + "  ", left), role))
            break
        out.append((text, role))
        left -= size
    return tuple(out)


def pad(spans: Line, width: int) -> Line:
    """A line in exactly `width` cells."""
    spans = cut(spans, width)
    missing = width - line_width(spans)
    return (*spans, (" " * missing, "text")) if missing > 0 else spans


def spread(left: Line, right: Line, width: int) -> Line:
    """`left` at the left edge, `right` at the right edge; `left` gives way."""
    right = cut(right, width)
    room = width - line_width(right)
    if room <= 1:
        return pad(right, width)
    return (*pad(left, room - 1), (" ", "text"), *right) if right else pad(left, width)


def beside(columns: Sequence[Sequence[Line]], widths: Sequence[int], gap: int = 2) -> list[Line]:
    """Blocks of lines set side by side."""
    height = max((len(column) for column in columns), default=0)
    rows: list[Line] = []
    for y in range(height):
        row: list[Span] = []
        for i, (column, width) in enumerate(zip(columns, widths, strict=True)):
            row.extend(pad(column[y] if y < len(column) else BLANK, width))
            if i + 1 < len(columns):
                row.append((" " * gap, "text"))
        rows.append(tuple(row))
    return rows


def rule(title: str, width: int, note: Line = BLANK) -> Line:
    """The quiet line that opens a section: its title at the left, a note at the right."""
    head: Line = ((f"{safe(title)} ", "muted"),) if title else BLANK
    tail: Line = ((" ", "text"), *note) if note else BLANK
    room = width - line_width(head) - line_width(tail)
    if room < 0:
        return pad((*head, *tail), width)
    return (*head, ("─" * room, "faint"), *tail)


def wrap(text: str, width: int) -> list[str]:
    """`text` broken at spaces into lines of at most `width` cells; words longer than a line are chopped."""
    width = max(width, 1)
    out: list[str] = []
    for paragraph in text.split("\n"):
        clean = safe(paragraph.expandtabs(4))
        if cell_len(clean) <= width:
            out.append(clean)
            continue
        now = clean[: len(clean) - len(clean.lstrip(" "))][: width // 2]
        size = cell_len(now)
        first = True
        for word in clean.split(" "):
            if first and not word:
                continue
            length = cell_len(word)
            if not first and size + 1 + length <= width:
                now += " " + word
                size += 1 + length
                continue
            if not first:
                out.append(now)
                now, size = "", 0
            pieces = chop_cells(now + word, width) if size + length > width else [now + word]
            out.extend(pieces[:-1])
            now = pieces[-1]
            size = cell_len(now)
            first = False
        out.append(now)
    return out


def wrapped(text: str, width: int, role: str = "text", first: Line = BLANK) -> list[Line]:
    """Wrapped text as lines, hanging under `first` (a label or glyph)."""
    indent = line_width(first)
    lines = wrap(text, max(width - indent, 8))
    return [
        ((*first, (part, role)) if i == 0 else ((" " * indent, "text"), (part, role))) for i, part in enumerate(lines)
    ]


def labelled(rows: Iterable[tuple[str, str, str]], width: int, label_width: int = 12) -> list[Line]:
    """Rows of label and wrapped value (label, value, role); rows without a value are left out."""
    out: list[Line] = []
    for label, value, role in rows:
        if value:
            out.extend(wrapped(value, width, role, ((f"{label:<{label_width}}", "muted"),)))
    return out


def selected(spans: Line) -> Line:
    """The line as the selected row of a list."""
    return tuple((text, f"+{'strong' if role == 'text' else role}") for text, role in spans)
