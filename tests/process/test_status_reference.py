"""docs/status.md is what the types say, and a document of `status --json` holds nothing that it does not name."""

from __future__ import annotations

import os
import re
from pathlib import Path

import msgspec
import pytest

from console.cli import main
from console.cli.statusreference import MEANINGS, documented, status_page
from console.core.models import Sample, Snapshot

PAGE = Path(__file__).parents[2] / "docs" / "status.md"


def test_the_file_is_current() -> None:
    """Run with UPDATE_GOLDEN=1 to write it anew, on purpose."""
    if os.environ.get("UPDATE_GOLDEN") == "1":
        PAGE.write_text(status_page(), encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == status_page()


def test_the_command_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--reference"]) == 0
    assert capsys.readouterr().out == status_page()


def test_every_field_has_a_row_with_a_meaning() -> None:
    page = status_page()
    assert {Snapshot, Sample} <= set(documented())
    for kind in documented():
        section = page.partition(f"## {kind.__name__}\n")[2].partition("\n## ")[0]
        rows = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", section, re.MULTILINE))
        assert list(rows) == list(kind.__struct_fields__), kind
        for name, row in rows.items():
            cells = row.split(" | ")
            assert len(cells) == 4, name
            assert cells[0], name
            assert len(cells[3]) > 3, name


def test_what_has_a_unit_in_its_name_has_it_in_the_page() -> None:
    page = status_page()
    for line in page.splitlines():
        if found := re.match(r"\| `(\w+)` \| ([^|]*) \| ([^|]*) \|", line):
            name, value, unit = found.groups()
            if "number" in value and re.search(r"_(s|bytes|percent|w|c|mhz|tokens|usd)$", name):
                assert unit.strip(), line


def test_links_lead_somewhere_and_meanings_name_fields() -> None:
    page = status_page()
    titles = {title.lower() for title in re.findall(r"^## (\w+)$", page, re.MULTILINE)}
    assert set(re.findall(r"\]\(#(\w+)\)", page)) <= titles
    fields = {f"{kind.__name__}.{name}" for kind in documented() for name in kind.__struct_fields__}
    assert set(MEANINGS) <= fields
    assert all(issubclass(kind, msgspec.Struct) for kind in documented())
