"""The page of known failures is what the table says, and it says all of it."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from console.core.diagnosis import EXITS, diagnose
from console.core.failures import FAILURES, Failure, FailureLevel
from console.core.troubleshooting import STAGES, failures_page

PAGE = Path(__file__).parents[2] / "docs" / "troubleshooting.md"
BEGIN, END = "<!-- failures: begin -->\n", "<!-- failures: end -->"
CAUSES = [row for row in FAILURES if row.level is FailureLevel.CAUSE]


def test_the_file_is_current() -> None:
    """Run with UPDATE_GOLDEN=1 to write it anew, on purpose."""
    head, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    made, _, tail = rest.partition(END)
    if os.environ.get("UPDATE_GOLDEN") == "1":
        made = f"{failures_page()}\n"
        PAGE.write_text(f"{head}{BEGIN}{made}{END}{tail}", encoding="utf-8")
    assert made == f"{failures_page()}\n"


def section(row: Failure) -> str:
    found = re.search(rf"^#### `{re.escape(row.id)}`\n(.*?)(?=^#|\Z)", failures_page(), re.DOTALL | re.MULTILINE)
    assert found, row.id
    return found[1]


@pytest.mark.parametrize("row", CAUSES, ids=lambda row: row.id)
def test_each_failure_is_told_in_full(row: Failure) -> None:
    text = section(row).replace("\\", "")
    assert f"](#{row.id})" in failures_page()
    assert row.example.strip().replace("\\", "") in text
    assert row.remedy.replace("\\", "") in text
    assert ("* cause: " in text) == bool(row.why)
    assert ("* offers: " in text) == (row.change is not None)
    assert "{" not in text.partition("* log:")[0], "a place that nothing fills"


@pytest.mark.parametrize("row", [row for row in CAUSES if row.change], ids=lambda row: row.id)
def test_what_it_offers_is_what_the_console_offers(row: Failure) -> None:
    if row.after or row.repeats > 1:
        pytest.skip("its example alone is no failure")
    found = diagnose([f"(Worker_TP0 pid=7) ERROR 11-23 10:39:28 [core.py:1510] {row.example}"])
    assert found is not None
    offered = re.search(r"^\* offers: (.*)$", section(row), re.M)
    assert offered
    for change in found.change:
        assert f"`{change.key}`" in offered[1]
        shown = change.after if isinstance(change.after, str) else json.dumps(change.after)
        assert ("left out" if change.after is None else shown) in offered[1]
    assert found.change or "where the figures" in offered[1]


def test_reports_noise_and_exit_statuses_are_there_too() -> None:
    page = failures_page()
    for row in FAILURES:
        if row.level is not FailureLevel.CAUSE:
            assert row.example.strip().replace("|", "\\|") in page
    for ending in EXITS:
        assert f"| {ending.code} | " in page
    assert set(STAGES) >= {row.stage for row in CAUSES}


def test_tables_have_as_many_cells_in_every_row() -> None:
    columns = 0
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        bars = len(re.findall(r"(?<!\\)\|", re.sub(r"``.*?``|`[^`]*`", "", line))) if line.startswith("|") else 0
        assert not (bars and columns) or bars == columns, line
        columns = bars
