"""The table shows what came of a case, and takes its place in a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.case import FaultResult
from tests.faults.cases import CASES
from tests.faults.table import BEGIN, END, Row, group_heading, group_line, line, put_into

CASE = next(case for case in CASES if case.expect == "serves")
RESULT = FaultResult(seen="state: a | b (pid 12)", detect_s=0.26, recover_s=1.0, requests_lost=0, processes_left=0)


def test_every_fault_has_an_id_of_its_own() -> None:
    assert len({case.id for case in CASES}) == len(CASES)


def test_a_row_has_its_figures_and_no_stray_column() -> None:
    cells = [cell.strip() for cell in line(Row(CASE, RESULT)).strip("|").split("|")]
    assert cells == [CASE.title, "state: a / b", "0.3 s", "1.0 s", "0", "0"]


def test_a_row_of_a_group_has_as_many_columns_as_its_heading() -> None:
    row = group_line("a cut", "node 1 | is why", 0.26, None, 40.0)
    assert [cell.strip() for cell in row.strip("|").split("|")] == ["a cut", "node 1 / is why", "0.3 s", "–", "40.0 s"]
    assert all(each.count("|") == row.count("|") for each in group_heading().splitlines())


def test_a_case_that_failed_says_why() -> None:
    assert "**AssertionError: not within 120 s**" in line(Row(CASE, None, "AssertionError: not\nwithin 120 s"))


def test_the_table_replaces_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    put_into(path, [Row(CASE, RESULT)], "note")
    text = path.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert CASE.title in text
    path.write_text("nothing")
    with pytest.raises(ValueError, match="no place"):
        put_into(path, [], "note")
