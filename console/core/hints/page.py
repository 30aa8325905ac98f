"""The page that documents all rules, made from the table. A test holds `docs/hints.md` to what is made here."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from console.core.hints.engine import explain_rules
from console.core.hints.rule import RuleDoc
from console.core.hints.words import duration

__all__ = ["doc_fields", "hints_page", "times_text"]


LINE_COLUMNS = 118
INTRODUCTION = (
    "The {count} rules of the console, made from its own table by `dsv4-console hints reference`. Each is judged once "
    "a second while the server is ready. A hint fires once its condition has held for the time named here, and stops "
    "once it was gone for the time named here, so it never flickers; the change that it proposes stays while "
    "the figures wander. Of the rules of one topic, and of those that change one key, the first in this order shows, "
    "so two hints never contradict each other. A rule whose figures are missing for ten seconds says which and why."
)


def times_text(rule: RuleDoc) -> str:
    """What it looks back on, and how long its condition must hold and be gone."""
    return f"looks back {duration(rule.window_s)}, fires after {duration(rule.hold_s)}, stops after " + duration(
        rule.clear_s
    )


def doc_fields(rule: RuleDoc) -> Iterator[tuple[str, str]]:
    """Label and text of all there is to know of a rule, in the order in which it is read."""
    yield "level", f"{rule.level.value}, topic {rule.topic}"
    yield "looks at", rule.looks_at
    yield "needs", ", ".join(rule.needs)
    yield "times", times_text(rule)
    yield "proposes", rule.proposes
    yield "gain", rule.gain or "–"
    yield "risk", rule.risk or "none known"
    yield "see", rule.doc


def hints_page() -> str:
    """Every rule with all its fields, in Markdown."""
    rules = explain_rules()
    lines = [
        "# Hints",
        "",
        *textwrap.wrap(INTRODUCTION.format(count=len(rules)), LINE_COLUMNS, break_on_hyphens=False),
        "",
        "| rule | level | says |",
        "|---|---|---|",
        *(f"| [`{rule.id}`](#{rule.id}) | {rule.level.value} | {rule.title} |" for rule in rules),
    ]
    for rule in rules:
        lines += ["", f"## `{rule.id}`", "", f"**{rule.title}.**", ""]
        lines += [f"* {label}: {f'<{text}>' if label == 'see' else text}" for label, text in doc_fields(rule)]
    return "\n".join(lines) + "\n"
