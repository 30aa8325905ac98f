"""One log line: its level, and a short form that leaves room for what it says.

A vLLM line opens with 60 characters of process, pid, date and source file; at 80 columns that is all one would see.
"""

from __future__ import annotations

import re
from functools import lru_cache

from console.core.models import Level
from console.tui.paint import Line

__all__ = ["level_of", "painted"]

_LINE = re.compile(
    r"^(?:\((?P<process>[^()]{1,60}?)(?: pid=\d+)?\)\s?)?"
    r"(?:(?P<level>DEBUG|INFO|WARNING|ERROR|CRITICAL) (?P<date>\d\d-\d\d) (?P<time>\d\d:\d\d:\d\d) \[(?P<source>[^\]]*)\] ?)?"
    r"(?P<text>.*)$"
)
_BAD = re.compile(r"\b(?:ERROR|CRITICAL|Traceback|(?:[A-Z]\w*)?(?:Error|Exception):)")
_WARN = re.compile(r"\b(?:WARNING|[A-Z]\w*Warning:|Warning:)")
_ROLES = {Level.BAD: "bad", Level.WARN: "warn"}
_GLYPHS = {Level.BAD: "✖", Level.WARN: "▲"}


@lru_cache(maxsize=4096)
def level_of(text: str) -> Level:
    """How much the line matters, judged by its own words."""
    head = text[:400]
    if _BAD.search(head):
        return Level.BAD
    return Level.WARN if _WARN.search(head) else Level.INFO


@lru_cache(maxsize=4096)
def painted(text: str, raw: bool) -> Line:
    """The line as spans: whole, or as time, level, process and text."""
    level = level_of(text)
    role = _ROLES.get(level, "text")
    glyph = (_GLYPHS.get(level, " ") + " ", role)
    match = None if raw else _LINE.match(text)
    if match is None or not (match["process"] or match["time"]):
        return (glyph, (text, role))
    time = (f"{match['time'] or '':<8} ", "muted")
    process = (f"{(match['process'] or '')[:11]:<11} ", "muted")
    return (glyph, time, process, (match["text"], role))
