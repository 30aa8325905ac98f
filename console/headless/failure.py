"""Why a server failed, in three lines: cause, remedy, where in the log. And the change as options to type.

Shared by the narration of a launch and by `dsv4-console diagnose`, so that both read alike.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable
from typing import Any, Final

from console.core.diagnosis import quoted
from console.core.models import Diagnosis, ProfileChange
from console.core.text import clean

__all__ = ["EXCERPT_LINES_MAX", "failure_lines", "set_options"]

EXCERPT_LINES_MAX: Final = 6
"""Last lines shown of an unknown failure."""
UNKNOWN_REMEDY: Final = "read the end of the log"


def failure_lines(diagnosis: Diagnosis | None, log: str, *, reason: str = "", command: str = "") -> list[str]:
    """Lines for people, each without a line end.

    Three of them: `cause:`, `remedy:` and `log:` with file, line and the text that stands there; a fourth, `try:`,
    where a profile change is the remedy. An unknown failure is followed by the end of its block.

    Args:
        diagnosis: `None` if the log told nothing.
        log: path of the log.
        reason: what is known without the log.
        command: the command that the options of the change are added to; empty shows the options alone.
    """
    if diagnosis is None:
        found = f"not found in the log{'; ' + reason if reason else ''}"
        return [f"cause:  {clean(found)}", f"remedy: {UNKNOWN_REMEDY}", f"log:    {clean(log)}"]
    why = f" – {diagnosis.why}" if diagnosis.why else ""
    said = quoted(diagnosis)
    where = log if diagnosis.line is None else f"{log}:{diagnosis.line}"
    known = diagnosis.cause is not None
    text = f": {said[0]}" if said and known else ""
    lines = [f"cause:  {diagnosis.title}{why}", f"remedy: {diagnosis.remedy}", f"log:    {where}{text}"]
    if diagnosis.change:
        lines.append(f"try:    {command}{' ' if command else ''}{set_options(diagnosis.change)}")
    if not known:
        lines += [f"        {line}" for line in said[-EXCERPT_LINES_MAX:]]
    return [clean(line) for line in lines]


def set_options(changes: Iterable[ProfileChange]) -> str:
    """Profile changes as one would type them: `--set serve.max_num_seqs=64 --set serve.dtype=`."""
    return " ".join(f"--set {shlex.quote(f'{change.key}={_value(change.after)}')}" for change in changes)


def _value(value: Any) -> str:
    if value is None:
        return ""  # takes the setting out
    return value if isinstance(value, str) else _toml(value)


def _toml(value: Any) -> str:
    """A value as TOML has it in one line, which is how `--set` reads it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
