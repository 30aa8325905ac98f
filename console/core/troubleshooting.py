"""The page of all known failures, made from their table. A test holds `docs/troubleshooting.md` to it."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator
from typing import Any, Final

from console.core.diagnosis import EXITS
from console.core.failures import FAILURES, Failure, FailureLevel, Stage
from console.core.models import ProfileChange

__all__ = ["STAGES", "failures_page"]

STAGES: Final[dict[Stage, str]] = {
    Stage.ARGUMENTS: "Arguments: it ends within seconds",
    Stage.CONFIG: "Configuration and checkpoint",
    Stage.DOWNLOAD: "Download",
    Stage.START: "Start: processes, driver, network",
    Stage.LOAD: "Loading",
    Stage.MEMORY: "Memory",
    Stage.RUN: "While it serves",
    Stage.REQUEST: "One request fails, the server goes on",
    Stage.EXIT: "Ended from outside",
}
"""In the order of a server's life."""
LINE_COLUMNS: Final = 118
INTRODUCTION: Final = (
    "{count} known failures, from the table that `dsv4-console diagnose LOG`, the failure panel and the narration of a "
    "launch read a log with (`dsv4-console diagnose --reference` prints this part). Names and figures are those of "
    "the example. A change is offered where its value follows from the log: `f` in the console, or the same as `--set` "
    "options. What is in none of these rows is shown with the exception that ended the process."
)
REPORTS: Final = "These report a failure whose cause stands earlier in the log. They are shown only if nothing else is."
NOISE: Final = "These look like errors and are none: no diagnosis rests on them."
ENDINGS: Final = "Where the log says nothing, the exit status does."


def failures_page() -> str:
    """All rows in Markdown, from a heading of the second level on."""
    causes = [row for row in FAILURES if row.level is FailureLevel.CAUSE]
    text = textwrap.wrap(INTRODUCTION.format(count=len(causes)), LINE_COLUMNS, break_on_hyphens=False)
    lines = ["## Failures of the server", "", *text, ""]
    lines += ["| the console says | offers |", "|---|---|"]
    for stage in STAGES:
        lines += [
            f"| [{_cell(_prose(_filled(row.title, row)))}](#{row.id}) | {_cell(_offer(row)) or '–'} |"
            for row in causes
            if row.stage is stage
        ]
    for stage, heading in STAGES.items():
        rows = [row for row in causes if row.stage is stage]
        if rows:
            lines += ["", f"### {heading}"]
        for row in rows:
            lines += ["", f"#### `{row.id}`", "", f"**{_prose(_filled(row.title, row))}.**", ""]
            lines += [f"* {label}: {text}" for label, text in _fields(row)]
    lines += ["", "### Reports of an earlier failure", "", REPORTS, "", "| line | says | do |", "|---|---|---|"]
    lines += [
        f"| {_cell(_code(row.example))} | {_cell(_prose(_filled(row.title, row)))} | {_cell(_prose(row.remedy))} |"
        for row in FAILURES
        if row.level is FailureLevel.WRAPPER
    ]
    lines += ["", "### No failures", "", NOISE, "", "| line | is |", "|---|---|"]
    lines += [
        f"| {_cell(_code(row.example))} | {_cell(_prose(_filled(row.title, row)))} |"
        for row in FAILURES
        if row.level is FailureLevel.NOISE
    ]
    lines += ["", "### Exit statuses", "", ENDINGS, "", "| status | says | cause | do |", "|---|---|---|---|"]
    lines += [
        f"| {row.code} | {_cell(_prose(row.title))} | {_cell(_prose(row.why))} | {_cell(_prose(row.remedy))} |"
        for row in EXITS
    ]
    return "\n".join(lines) + "\n"


def _fields(row: Failure) -> Iterator[tuple[str, str]]:
    """Label and text of what there is to know of a row, in the order in which it is read."""
    yield "log", _code(row.example.strip())
    if row.why:
        yield "cause", _prose(_filled(row.why, row))
    yield "do", _prose(row.remedy)
    if offer := _offer(row):
        yield "offers", offer
    if row.after:
        yield "holds", f"only after a line with {_code(row.after)}"
    if row.repeats > 1:
        yield "holds", f"once it came {row.repeats} times"
    if row.versions:
        yield "vLLM", _prose(row.versions)


def _filled(text: str, row: Failure) -> str:
    """A title or a cause with the figures of the example."""
    found = row.pattern.search(row.example)
    groups = {} if found is None else {name: value or "…" for name, value in found.groupdict().items()}
    return text.format_map(groups)


def _offer(row: Failure) -> str:
    """The change that the example would be answered with, as key, value and value."""
    found = row.pattern.search(row.example)
    if row.change is None or found is None:
        return ""
    changes = row.change(found, {})
    # Those of the example may allow none: what is left free is too little to share, for instance.
    return "; ".join(map(_change_text, changes)) or "a change, where the figures of the log allow one"


def _change_text(change: ProfileChange) -> str:
    if change.after is None:
        return f"{_code(change.key)} left out"
    return f"{_code(change.key)} = {_code(_value(change.after))}"


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _code(text: str) -> str:
    """A span of code, whatever is in it."""
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def _prose(text: str) -> str:
    """Text as it is, not as Markdown or HTML reads it; spans of code in it stay."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else re.sub(r"([*<>\[\]])", r"\\\1", part) for part in parts)


def _cell(text: str) -> str:
    """Text in a table."""
    return text.replace("|", "\\|").strip()
