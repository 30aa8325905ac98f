"""`dsv4-console profiles new|diff|schema|reference`: profiles of one's own, and what helps to write them."""

from __future__ import annotations

import argparse

import msgspec

from console.cli.launch import overrides_from
from console.cli.output import Output
from console.core.errors import ExitCode
from console.core.models import ProfileChange
from console.core.overrides import apply_overrides
from console.core.overrides import diff as differences
from console.core.profile_docs import profile_schema, reference_page
from console.core.profile_read import show_value
from console.io import profiles

__all__ = ["diff", "new", "reference", "schema"]

UNSET = "–"


def new(arguments: argparse.Namespace, output: Output) -> int:
    """Write a profile of the user's own, with the comments and order of the one it is made from."""
    source = profiles.load(arguments.source)
    changed = apply_overrides(source.profile, overrides_from(arguments.new_overrides))
    changes = differences(source.profile, changed)
    path = profiles.create_user(arguments.name, arguments.source, changes)
    output.data(str(path))
    for line in _lines(changes):
        output.say(line)
    output.say(f"Edit it, then: dsv4-console profiles check {arguments.name}")
    output.document({"name": arguments.name, "path": str(path), "from": source.name, "changes": _builtin(changes)})
    return ExitCode.OK


def diff(arguments: argparse.Namespace, output: Output) -> int:
    """What differs, key by key."""
    before, after = profiles.load(arguments.before), profiles.load(arguments.after)
    changes = differences(before.profile, after.profile)
    output.data(f"{before.name} → {after.name}")
    for line in _lines(changes) or ["  no difference"]:
        output.data(line)
    output.document({"before": before.name, "after": after.name, "changes": _builtin(changes)})
    return ExitCode.OK


def schema(_arguments: argparse.Namespace, output: Output) -> int:
    """Print the JSON Schema, with `--json` or without."""
    document = profile_schema()
    output.piece(msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n")
    output.document(document)
    return ExitCode.OK


def reference(_arguments: argparse.Namespace, output: Output) -> int:
    """Print the reference page."""
    page = reference_page()
    output.piece(page)
    output.document({"markdown": page})
    return ExitCode.OK


def _lines(changes: tuple[ProfileChange, ...]) -> list[str]:
    width = max((len(change.key) for change in changes), default=0)
    return [
        f"  {change.key:<{width}}  {_value(change.key, change.before)} → {_value(change.key, change.after)}"
        for change in changes
    ]


def _value(key: str, value: object) -> str:
    return UNSET if value is None else show_value(key, value)


def _builtin(changes: tuple[ProfileChange, ...]) -> object:
    return msgspec.to_builtins(changes)
