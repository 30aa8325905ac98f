"""One log line in short form, which leaves room for what it says.

A vLLM line opens with 60 characters of process, pid, date and source file; at 80 columns that is all one would see.
"""

from __future__ import annotations

from functools import lru_cache

from console.core.logparse import LogLevel, parse_line
from console.tui.paint import Line, Span, line, line_width

__all__ = ["highlighted", "painted", "with_fold", "with_mark", "wrapped_rows"]

_LOOKS: dict[LogLevel | None, tuple[str, str]] = {
    LogLevel.CRITICAL: ("✖", "bad"),
    LogLevel.ERROR: ("✖", "bad"),
    LogLevel.WARNING: ("▲", "warn"),
    LogLevel.DEBUG: (" ", "muted"),
}
PROCESS_WIDTH = 11
"""`EngineCore` and a little."""
GROUP_PROCESS_WIDTH = 18
"""`node-a/EngineCore` and a little."""
HOST_WIDTH_MIN = 8
"""Of a machine's name, however long that of the process is."""


@lru_cache(maxsize=4096)
def painted(text: str, raw: bool) -> Line:
    """The line as spans: whole, or as time, process and message."""
    parsed = parse_line(text)
    glyph, role = _LOOKS.get(parsed.level, (" ", "text"))
    head = (f"{glyph} ", role)
    if raw or not (parsed.proc or parsed.time):
        return line(head, (text if raw else parsed.message, role))
    clock = (parsed.time or "").split(" ")[-1][:8]
    process, width = parsed.proc or "", PROCESS_WIDTH
    if "/" in process:
        # In a group's log every line has its machine.
        process, width = machine_first(process), GROUP_PROCESS_WIDTH
    return line(head, (f"{clock:<8} ", "muted"), (f"{process[:width]:<{width}} ", "muted"), (parsed.message, role))


def machine_first(process: str) -> str:
    """`me@gpu-node-17.example.org/Worker_TP0` in little room: `…node-17/Worker_TP0`, of which the ends tell apart."""
    host, _, name = process.partition("/")
    host = host.rpartition("@")[2]
    if not host[:1].isdigit():
        host = host.partition(".")[0]
    room = max(GROUP_PROCESS_WIDTH - 1 - len(name), HOST_WIDTH_MIN)
    return f"{host if len(host) <= room else '…' + host[1 - room :]}/{name}"


def with_fold(spans: Line, note: str, trace: bool) -> Line:
    """How much is folded under a row: of a traceback at its end, else before the message, where it is in sight."""
    if trace:
        return (*spans, (f"  {note}", "accent"))
    return (*spans[:-1], (f"{note} ", "accent"), spans[-1])


def with_mark(spans: Line, mark: str) -> Line:
    """A mark in the second cell, which is kept free for it; and the row as a selected one."""
    head, role = spans[0]
    marked = ((head[0], role), (mark, "accent"), *spans[1:])
    return tuple((text, look if look == "match" else f"+{look}") for text, look in marked)


def highlighted(spans: Line, needle: str, span: tuple[int, int] | None, length: int) -> Line:
    """The matches in a row.

    Args:
        spans: of the row; the last one ends as the line does.
        needle: a plain text, every place of which is marked; empty marks `span` alone.
        span: where the match is in the line.
        length: of the line.
    """
    if needle:
        return _everywhere(spans, needle)
    if span is None or span[1] <= span[0]:
        return spans
    text, role = spans[-1]
    hidden = length - len(text)
    begin, end = max(span[0] - hidden, 0), span[1] - hidden
    if end <= 0:
        return spans
    parts = ((text[:begin], role), (text[begin:end], "match"), (text[end:], role))
    return (*spans[:-1], *(part for part in parts if part[0]))


def _everywhere(spans: Line, needle: str) -> Line:
    wanted = needle.casefold()
    out: list[Span] = []
    for text, role in spans:
        folded = text.casefold()
        if wanted not in folded or len(folded) != len(text):
            out.append((text, role))
            continue
        at = 0
        while (found := folded.find(wanted, at)) >= 0:
            out += [(text[at:found], role), (text[found : found + len(wanted)], "match")]
            at = found + len(wanted)
        out.append((text[at:], role))
    return tuple(span for span in out if span[0])


def wrapped_rows(spans: Line, width: int, rows_max: int) -> list[Line]:
    """A row broken into several of at most `width` cells, the later ones indented under the mark.

    A row that is higher than `rows_max` ends in `…`.
    """
    out: list[Line] = []
    row: list[Span] = []
    left = width
    for text, role in spans:
        rest = text
        while rest:
            piece = _fitting(rest, left)
            if not piece:
                out.append(tuple(row))
                if len(out) == rows_max:
                    out[-1] = (*_cut_last(out[-1]), ("…", "accent"))
                    return out
                row, left = [("  ", role)], width - 2
                continue
            row.append((piece, role))
            left -= line_width(((piece, role),))
            rest = rest[len(piece) :]
    return [*out, tuple(row)]


def _fitting(text: str, cells: int) -> str:
    """As much of the start of a text as fits; at least nothing."""
    if text.isascii():
        return text[:cells]
    size = 0
    for index, char in enumerate(text):
        size += line_width(((char, ""),))
        if size > cells:
            return text[:index]
    return text


def _cut_last(spans: Line) -> Line:
    """Without the last cell."""
    text, role = spans[-1]
    return (*spans[:-1], (text[:-1], role))
