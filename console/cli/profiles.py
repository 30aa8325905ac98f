"""`dsv4-console profiles list|show|check`."""

from __future__ import annotations

import argparse
import asyncio
import textwrap
from pathlib import Path
from typing import Any

import msgspec

from console.cli.cost import lines
from console.cli.launch import overrides_from
from console.cli.output import Output
from console.client.api import FitSummary, ProfileEntry
from console.client.backend import LocalBackend
from console.core.catalogue.advice import advice
from console.core.catalogue.parsers import parser_note
from console.core.cost import cost_report
from console.core.errors import ExitCode, ProfileError
from console.io import profiles

__all__ = ["check", "list_profiles", "show"]

WIDTH = 100
"""Of wrapped text."""


def list_profiles(_arguments: argparse.Namespace, output: Output) -> int:
    """All profiles, best suited first; those that cannot be read after them."""
    entries, problems = asyncio.run(LocalBackend().profiles())
    rows = [("", "name", "hardware", "precision", "evidence", "on this machine")]
    for entry in entries:
        profile = entry.profile
        mark = "✓" if entry.suitability.rank == 0 else "~" if entry.suitability.change else " "
        rows.append(
            (
                mark,
                entry.name + ("*" if entry.origin != "shipped" else ""),
                profile.hardware.text,
                profile.model.precision,
                "measured" if entry.fit.measured else str(profile.profile.evidence),
                entry.suitability.text,
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    for row in rows:
        output.data(
            "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip()
        )
    if any(entry.origin != "shipped" for entry in entries):
        output.say("* your own")
    if any(entry.suitability.change for entry in entries):
        output.say("~ fits with the change that is named")
    for problem in problems:
        output.say(f"✖ {problem.name} cannot be used:")
        for line in problem.errors:
            output.say(f"    {line}")
    output.document(
        {
            "profiles": [_entry(entry) for entry in entries],
            "problems": [
                {"name": problem.name, "path": str(problem.path), "errors": problem.errors} for problem in problems
            ],
        }
    )
    return ExitCode.OK


def show(arguments: argparse.Namespace, output: Output) -> int:
    """One profile in full."""
    backend = LocalBackend()
    overrides = overrides_from(arguments.show_overrides)

    async def gather() -> tuple[Any, Any]:
        plan = await backend.plan(arguments.name, overrides)
        entry = await backend.entry(arguments.name, plan.profile)
        return plan, entry

    plan, entry = asyncio.run(gather())
    profile = plan.profile
    about = profile.profile
    output.data(f"{entry.name} – {about.title}  ({entry.origin}: {entry.path})")
    for text in (about.description, about.use):
        if text:
            output.data(f"  {text}")
    output.data(f"  hardware   {profile.hardware.text} – {entry.suitability.text}")
    output.data(f"  model      {profile.model.id}  {profile.model.precision}")
    output.data(f"  evidence   {about.evidence}" + "".join(f"\n             {source}" for source in about.sources))
    if about.prefer:
        output.data(f"  prefer     {about.prefer}")
    absent = f"none installed: {plan.install_offer}" if plan.install_offer else "none here, and none that this installs"
    output.data(f"  engine     {plan.engine_name or absent}  ({profile.engine.vllm})")
    checked = parser_note(profile, shipped=entry.origin == "shipped" and not overrides)
    for line in _labelled("flags", checked):
        output.data(line)
    for line in fit_lines(entry.fit):
        output.data(f"  {line}")
    for line in lines(cost_report(profile.cost)) if profile.cost.usd_per_hour is not None else ():
        output.data(f"  {line}")
    weigh = advice(profile)
    for row in weigh:
        for line in _labelled(row.topic.lower(), row.text):
            output.data(line)
    output.data(f"  command    {plan.command_line}")
    for warning in plan.warnings:
        output.say(f"note: {warning}")
    output.document(
        {
            **_entry(entry),
            "flags": checked,
            "advice": {row.topic.lower(): row.text for row in weigh},
            "command_line": plan.command_line,
            "argv": plan.argv,
            "env": plan.env,
        }
    )
    return ExitCode.OK


def _labelled(label: str, text: str) -> list[str]:
    """A label and its text, wrapped."""
    return textwrap.wrap(text, WIDTH, initial_indent=f"  {label:<11}", subsequent_indent=" " * 13)


def check(arguments: argparse.Namespace, output: Output) -> int:
    """Read profiles strictly and print every mistake. Exit code 2 if there is one."""
    targets = [target for text in arguments.paths for target in _targets(text)] if arguments.paths else _all_files()
    results = []
    for name, path in targets:
        reading = profiles.check_file(path)
        results.append({"name": name, "path": str(path), "errors": reading.errors, "warnings": reading.warnings})
        output.data(f"{'✖' if reading.errors else '✓'} {name}")
        for line in reading.errors:
            output.data(f"    {line}")
        for line in reading.warnings:
            output.data(f"    note: {line}")
    output.document({"profiles": results})
    return ExitCode.USAGE if any(result["errors"] for result in results) else ExitCode.OK


def _all_files() -> list[tuple[str, Path]]:
    catalogue = profiles.discover()
    good = [(stored.name, stored.path) for stored in catalogue.profiles]
    return good + [(broken.name, broken.path) for broken in catalogue.problems]


def _targets(text: str) -> list[tuple[str, Path]]:
    """What one argument of `check` names: a folder, a file, or a profile.

    Raises:
        ProfileError: no profile has this name, or the folder has none.
    """
    path = Path(text).expanduser()
    if path.is_dir():
        files = [(file.stem, file) for file in sorted(path.glob("*.toml"))]
        if not files:
            raise ProfileError(f"There is no profile in {path}", "a profile's name ends in .toml")
        return files
    if path.exists() or text.endswith(".toml") or "/" in text:
        return [(path.stem, path)]
    found = [target for target in _all_files() if target[0] == text]
    if not found:
        profiles.load(text)
    return found


def fit_lines(fit: FitSummary) -> list[str]:
    """The fit arithmetic in words, one line each."""
    figures = [
        ("weights", fit.weights_gib_per_gpu),
        ("KV cache", fit.kv_gib_per_gpu),
        ("reserve", fit.reserve_gib_per_gpu),
        ("of", fit.total_gib_per_gpu),
    ]
    known = "  ".join(f"{name} {value:.1f} GiB" for name, value in figures if value is not None)
    lines = [f"fit        {fit.verdict}  {known}".rstrip()]
    if fit.kv_tokens is not None:
        lines.append(f"           room for {fit.kv_tokens:,} tokens in the KV cache")
    if fit.measured:
        lines.append(f"           {fit.measured}")
    return lines + [f"           {line}" for line in fit.basis]


def _entry(entry: ProfileEntry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "path": str(entry.path),
        "origin": entry.origin,
        "suitability": msgspec.to_builtins(entry.suitability),
        "fit": msgspec.to_builtins(entry.fit),
        "profile": msgspec.to_builtins(entry.profile),
    }
