"""The page of all rules is what the table says, and each address is one of documentation."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from console.core.hints import RuleDoc, explain_rules
from console.core.hints.page import hints_page

PAGE = Path(__file__).parents[2] / "docs" / "hints.md"
KNOWN = (
    "https://docs.vllm.ai/en/stable/",
    "https://recipes.vllm.ai",
    "https://docs.nvidia.com/deploy/",
    "https://man7.org/linux/man-pages/",
    "https://docs.kernel.org/",
)


def test_the_file_is_current() -> None:
    """Run with UPDATE_GOLDEN=1 to write it anew, on purpose."""
    if os.environ.get("UPDATE_GOLDEN") == "1":
        PAGE.write_text(hints_page(), encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == hints_page()


@pytest.mark.parametrize("rule", explain_rules(), ids=lambda rule: rule.id)
def test_each_rule_is_documented_in_full(rule: RuleDoc) -> None:
    page = hints_page()
    assert f"## `{rule.id}`" in page
    for text in (rule.title, rule.looks_at, rule.proposes, *rule.needs):
        assert text
        assert text in page
    assert rule.gain
    assert rule.doc.startswith(KNOWN)
    assert f"<{rule.doc}>" in page
