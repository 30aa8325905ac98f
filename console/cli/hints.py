"""`dsv4-console hints list|show|reference`: the rules behind the hints, from the table that judges."""

from __future__ import annotations

import argparse
import difflib
import textwrap
from collections import Counter

import msgspec

from console.cli.output import Output
from console.core.errors import ExitCode, UsageError
from console.core.hints import RuleDoc, explain_rules
from console.core.hints.page import doc_fields, hints_page
from console.core.models import Level

__all__ = ["list_hints", "reference", "show"]

WIDTH = 80
LABEL_COLUMNS = 10


def list_hints(_arguments: argparse.Namespace, output: Output) -> int:
    """Print all rules, a line each."""
    rules = explain_rules()
    wide = max(len(rule.id) for rule in rules)
    for rule in rules:
        output.data(f"{rule.id:<{wide}}  {rule.level.value:<5} {rule.title}")
    counts = Counter(rule.level for rule in rules)
    output.data("")
    levels = ", ".join(f"{counts[level]} {level}" for level in reversed(tuple(Level)) if counts[level])
    output.data(f"{len(rules)} rules: {levels}.")
    output.data("All of one: dsv4-console hints show ID")
    output.document([document(rule) for rule in rules])
    return ExitCode.OK


def show(arguments: argparse.Namespace, output: Output) -> int:
    """Print everything about one rule.

    Raises:
        UsageError: there is no such rule.
    """
    rules = {rule.id: rule for rule in explain_rules()}
    rule = rules.get(arguments.rule)
    if rule is None:
        near = difflib.get_close_matches(arguments.rule, rules, n=1)
        raise UsageError(
            f"There is no rule {arguments.rule}",
            f"nearest: {near[0]}" if near else "",
            "See: dsv4-console hints list",
        )
    output.data(f"{rule.id}: {rule.title}")
    for label, text in doc_fields(rule):
        for line in wrapped(label, text):
            output.data(line)
    output.document(document(rule))
    return ExitCode.OK


def reference(_arguments: argparse.Namespace, output: Output) -> int:
    """Print all rules as a page of Markdown."""
    page = hints_page()
    output.piece(page)
    output.document({"markdown": page})
    return ExitCode.OK


def document(rule: RuleDoc) -> dict[str, object]:
    """Every field, also those that hold nothing."""
    return {name: msgspec.to_builtins(getattr(rule, name)) for name in rule.__struct_fields__}


def wrapped(label: str, text: str) -> list[str]:
    """One field in lines of 80 columns; an address is never broken."""
    indent = " " * (LABEL_COLUMNS + 2)
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=f"  {label:<{LABEL_COLUMNS}}",
        subsequent_indent=indent,
        break_on_hyphens=False,
        break_long_words=False,
    )
