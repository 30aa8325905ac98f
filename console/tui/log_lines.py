"""One log line in short form, which leaves room for what it says.

A vLLM line opens with 60 characters of process, pid, date and source file; at 80 columns that is all one would see.
"""

from __future__ import annotations

from functools import lru_cache

from console.core.logparse import LogLevel, parse_line
from console.tui.paint import Line, line

__all__ = ["painted"]

_LOOKS: dict[LogLevel | None, tuple[str, str]] = {
    LogLevel.CRITICAL: ("✖", "bad"),
    LogLevel.ERROR: ("✖", "bad"),
    LogLevel.WARNING: ("▲", "warn"),
    LogLevel.DEBUG: (" ", "muted"),
}
PROCESS_WIDTH = 11
"""`EngineCore` and a little."""


@lru_cache(maxsize=4096)
def painted(text: str, raw: bool) -> Line:
    """The line as spans: whole, or as time, process and message."""
    parsed = parse_line(text)
    glyph, role = _LOOKS.get(parsed.level, (" ", "text"))
    head = (f"{glyph} ", role)
    if raw or not (parsed.proc or parsed.time):
        return line(head, (text if raw else parsed.message, role))
    clock = (parsed.time or "").split(" ")[-1][:8]
    process = (parsed.proc or "")[:PROCESS_WIDTH]
    return line(head, (f"{clock:<8} ", "muted"), (f"{process:<{PROCESS_WIDTH}} ", "muted"), (parsed.message, role))
