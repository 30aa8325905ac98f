"""The table of a run of faults, as it is printed and as it stands in docs/supervision.md."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults.case import FaultCase, FaultResult

__all__ = ["BEGIN", "END", "GROUP_ROW", "ROW", "Row", "group_heading", "group_line", "heading", "line", "put_into"]

BEGIN, END = "<!-- faults: begin -->", "<!-- faults: end -->"
SEEN_CHARS = 100
GROUP_SEEN_CHARS = 200
COLUMNS = ("fault", "what was seen", "detected", "recovered", "requests lost", "processes left")
GROUP_COLUMNS = ("fault", "what the console said", "said after", "nothing left after", "serves again after")


@dataclass(frozen=True)
class Row:
    """One case and what came of it; without a result, `trouble` says why."""

    case: FaultCase
    result: FaultResult | None
    trouble: str = ""


ROW = "fault"
"""Property of a test under which its row goes into the summary at the end of a run."""
GROUP_ROW = "group fault"
"""The same for a fault of a group of machines (docs/nodes.md)."""


def heading() -> str:
    """The two lines above the rows."""
    return _heading(COLUMNS)


def group_heading() -> str:
    """The two lines above the rows of a group's faults."""
    return _heading(GROUP_COLUMNS)


def _heading(columns: Sequence[str]) -> str:
    return f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}"


def group_line(title: str, said: str, said_s: float | None, gone_s: float | None, again_s: float | None) -> str:
    """One row of a fault of a group; seconds since it, `None` where that was not to be.

    Args:
        title: what was done.
        said: what the console said first.
        said_s: until it was said.
        gone_s: until no process of vLLM was left on any machine.
        again_s: until the next attempt was ready, by the policy and without waiting longer than it does at first.
    """
    times = ("–" if each is None else f"{each:.1f} s" for each in (said_s, gone_s, again_s))
    return f"| {title} | {_short(said, GROUP_SEEN_CHARS)} | {' | '.join(times)} |"


def line(row: Row) -> str:
    """One row of Markdown."""
    result = row.result
    if result is None:
        cells = [row.case.title, f"**{_short(row.trouble)}**", "–", "–", "–", "–"]
    else:
        recovered = "–" if result.recover_s is None else f"{result.recover_s:.1f} s"
        if row.case.expect == "nothing left":
            recovered = "ended"
        cells = [
            row.case.title,
            _short(result.seen),
            "–" if result.detect_s is None else f"{result.detect_s:.1f} s",
            recovered,
            "–" if result.requests_lost is None else str(result.requests_lost),
            str(result.processes_left),
        ]
    return f"| {' | '.join(cells)} |"


def put_into(path: Path, rows: Sequence[Row], note: str) -> None:
    """Replace the table between the marks of a file.

    Raises:
        ValueError: the file has no marks.
    """
    text = path.read_text(encoding="utf-8")
    if BEGIN not in text or END not in text:
        raise ValueError(f"{path} has no place for the table: {BEGIN} … {END}")
    table = "\n".join([BEGIN, heading(), *map(line, rows), "", note, END])
    path.write_text(
        re.sub(re.escape(BEGIN) + ".*?" + re.escape(END), lambda _: table, text, flags=re.S), encoding="utf-8"
    )


def _short(text: str, limit: int = SEEN_CHARS) -> str:
    """One line that no cell breaks at. Process ids differ from run to run and say nothing."""
    plain = re.sub(r"\s*\(pids? [\d, ]+\)", "", " ".join(text.split())).replace("|", "/")
    return plain if len(plain) <= limit else plain[: limit - 1] + "…"
