"""How commands speak: data on stdout, narration on stderr; with `--json`, JSON and nothing else on stdout."""

from __future__ import annotations

import contextlib
import sys
from typing import Any

import msgspec

from console.core.errors import ConsoleError
from console.core.text import clean

__all__ = ["Output", "report"]


class Output:
    """Where a command's words go."""

    def __init__(self, *, json: bool) -> None:
        self.json = json

    def say(self, text: str) -> None:
        """Narrate. A terminal that went away is no reason to stop."""
        with contextlib.suppress(OSError, ValueError):
            print(clean(text, keep_newlines=True), file=sys.stderr, flush=True)  # noqa: T201

    def data(self, text: str) -> None:
        """Print a line of data for people. Nothing with `--json`."""
        if not self.json:
            print(clean(text, keep_newlines=True), flush=True)  # noqa: T201

    def document(self, value: Any) -> None:
        """Print one JSON document. Nothing without `--json`."""
        if self.json:
            text = msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
            print(text, flush=True)  # noqa: T201

    def line(self, value: Any) -> None:
        """Print one JSON line of a stream. Nothing without `--json`."""
        if self.json:
            with contextlib.suppress(OSError, ValueError):
                print(msgspec.json.encode(value).decode(), flush=True)  # noqa: T201


def report(error: ConsoleError, output: Output) -> None:
    """Print an error: what happened, where, and what to do."""
    output.say(f"dsv4-console: error: {error.title}")
    for line in error.message.splitlines():
        output.say(f"  {line}")
    if error.fix:
        output.say(f"  → {error.fix}")
    output.line(
        {
            "error": {
                "title": error.title,
                "message": error.message,
                "fix": error.fix,
                "exit_code": int(error.exit_code),
            }
        }
    )
