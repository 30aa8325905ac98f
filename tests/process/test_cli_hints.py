"""`hints list|show|reference`, as a caller meets them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from console.cli import main
from console.core.hints import RuleDoc, explain_rules

RULES = explain_rules()
PAGE = Path(__file__).parents[2] / "docs" / "hints.md"


def said(capsys: pytest.CaptureFixture[str], *command: str) -> str:
    assert main(list(command)) == 0
    return capsys.readouterr().out


def test_the_list_has_every_rule_on_a_line_of_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, "hints", "list").splitlines()
    assert len(RULES) >= 25
    for rule, line in zip(RULES, lines, strict=False):
        assert line.split()[:2] == [rule.id, rule.level.value]
        assert line.endswith(rule.title)
        assert len(line) <= 80
    assert f"{len(RULES)} rules: " in lines[-2]


def test_json_has_every_field_of_every_rule(capsys: pytest.CaptureFixture[str]) -> None:
    found: list[dict[str, Any]] = json.loads(said(capsys, "hints", "list", "--json"))
    assert [rule["id"] for rule in found] == [rule.id for rule in RULES]
    assert all(set(rule) == set(RuleDoc.__struct_fields__) for rule in found)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_show_tells_all_of_one(capsys: pytest.CaptureFixture[str], rule: RuleDoc) -> None:
    text = said(capsys, "hints", "show", rule.id)
    assert all(len(line) <= 80 or "https://" in line for line in text.splitlines())
    words = " ".join(text.split())
    for part in (rule.title, rule.looks_at, rule.proposes, rule.gain, rule.risk, rule.doc, *rule.needs):
        assert part in words
    assert json.loads(said(capsys, "hints", "show", rule.id, "--json"))["looks_at"] == rule.looks_at


def test_an_unknown_rule_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["hints", "show", "kv-ofload"]) == 2
    answer = capsys.readouterr()
    assert not answer.out
    assert "nearest: kv-offload" in answer.err
    assert "dsv4-console hints list" in answer.err


def test_reference_prints_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "hints", "reference") == PAGE.read_text(encoding="utf-8")
