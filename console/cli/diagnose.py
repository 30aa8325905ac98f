"""`dsv4-console diagnose LOG`: why a server failed, read from its log, wherever that was written."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import msgspec

from console.cli.output import Output
from console.core.diagnosis import Diagnoser
from console.core.errors import ExitCode, NotRunningError, UsageError
from console.core.models import Diagnosis
from console.core.units import bytes_text
from console.core.wrapping import AnyLogParser
from console.headless.failure import failure_lines
from console.io import runs
from console.io.anylog import STDIN, read_lines

__all__ = ["diagnose"]

ANNOUNCED_BYTES_MIN: Final = 200_000_000
LAST: Final = "last"
"""Names the newest run, as no name does for other commands."""


def diagnose(arguments: argparse.Namespace, output: Output) -> int:
    """Print cause, remedy and line of a failure. Exit code 0 whatever the log holds, if it could be read."""
    if arguments.failure_reference:
        from console.core.troubleshooting import failures_page

        output.piece(failures_page())
        output.document({"markdown": failures_page()})
        return ExitCode.OK
    if arguments.log is None:
        raise UsageError("diagnose needs a log", "", "Name a file, a run, `last`, or - for standard input.")
    path, told, profile = _source(arguments.log)
    lines = 0
    found = told
    if told is None:
        _announce(path, output)
        found, lines = _read(read_lines(path), arguments.server_exit_code)
    document: dict[str, Any] = {"failed": found is not None, "log": path}
    if found is None:
        title = "No failure was found"
        output.data(f"{title} in {path} ({lines:,} {'line' if lines == 1 else 'lines'})")
        found = Diagnosis(title=title)
    else:
        command = f"dsv4-console --profile {profile}" if profile else ""
        for line in failure_lines(found, path, command=command):
            output.data(line)
    # Every field is there, also those that hold nothing.
    document |= {name: msgspec.to_builtins(getattr(found, name)) for name in found.__struct_fields__}
    document["change"] = [
        {"key": change.key, "before": change.before, "after": change.after} for change in found.change
    ]
    output.document(document)
    return ExitCode.OK


def _source(name: str) -> tuple[str, Diagnosis | None, str]:
    """Path of the log, what the supervisor of a run found in it, and the profile of that run.

    Raises:
        UsageError: there is neither such a file nor such a run.
    """
    path = Path(name)
    if name == STDIN or path.exists() or "/" in name:
        return name, None, ""
    try:
        run, info = runs.find_run(None if name == LAST else name)
    except NotRunningError as error:
        if name == LAST:
            raise
        raise UsageError(
            "There is no such log",
            f"{name}: neither a file here nor a run",
            "Name a file, a run (see: dsv4-console status), `last`, or - for standard input.",
        ) from error
    return str(run.log_path), info.diagnosis, info.profile_name


def _announce(path: str, output: Output) -> None:
    """Reading takes about a minute per gigabyte; say what is going on."""
    try:
        size = 0 if path == STDIN else Path(path).stat().st_size
    except OSError:
        return
    if size > ANNOUNCED_BYTES_MIN:
        output.say(f"reading {bytes_text(size)} of log …")


def _read(lines: Iterable[str], exit_code: int | None) -> tuple[Diagnosis | None, int]:
    parser, diagnoser = AnyLogParser(), Diagnoser()
    number = 0
    for number, text in enumerate(lines, start=1):
        diagnoser.feed(number, parser.parse(text))
    return diagnoser.result(exit_code), number
