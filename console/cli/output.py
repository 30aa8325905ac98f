"""How commands speak: data on stdout, narration on stderr; with `--json`, JSON and nothing else on stdout."""

from __future__ import annotations

import contextlib
import io
import sys
from typing import Any

import msgspec

from console.core.errors import ConsoleError, StateError
from console.core.text import clean

__all__ = ["Output", "Steps", "is_terminal"]


def is_terminal(*streams: object) -> bool:
    """Whether all of these are terminals. A stream that was closed before we started is `None`."""
    return all(stream is not None and stream.isatty() for stream in streams)  # type: ignore[attr-defined]


class Output:
    """Where a command's words go."""

    def __init__(self, *, json: bool) -> None:
        self.json = json
        for stream in (sys.stdout, sys.stderr):
            # In a terminal without Unicode a `–` becomes `?`, and is no reason to fail; JSON is UTF-8 anywhere.
            if isinstance(stream, io.TextIOWrapper):
                as_utf8 = json and stream is sys.stdout
                stream.reconfigure(encoding="utf-8" if as_utf8 else None, errors="replace")

    def say(self, text: str) -> None:
        """Narrate. A terminal that went away is no reason to stop."""
        with contextlib.suppress(OSError, ValueError):
            print(clean(text, keep_newlines=True), file=sys.stderr, flush=True)  # noqa: T201

    def murmur(self, piece: str) -> None:
        """Narrate a piece, cleaned already, without ending the line. Nothing with `--json`."""
        if not self.json and sys.stderr is not None:
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.write(piece)
                sys.stderr.flush()

    def data(self, text: str) -> None:
        """Print a line of data for people. Nothing with `--json`."""
        if not self.json:
            self._print(clean(text, keep_newlines=True) + "\n")

    def piece(self, text: str) -> None:
        """Print a piece of data, cleaned already, as it is. Nothing with `--json`."""
        if not self.json and text:
            self._print(text)

    def document(self, value: Any) -> None:
        """Print one JSON document. Nothing without `--json`."""
        if self.json:
            self._print(_plain_json(msgspec.json.format(msgspec.json.encode(value), indent=2).decode()) + "\n")

    def line(self, value: Any) -> None:
        """Print one JSON line of a stream. Nothing without `--json`."""
        if self.json:
            self._print(_plain_json(msgspec.json.encode(value).decode()) + "\n")

    def ask(self, question: str, *, default: bool, otherwise: ConsoleError) -> bool:
        """Ask a person a yes-or-no question.

        Raises:
            ConsoleError: `otherwise`, where nobody can be asked.
        """
        if self.json or not is_terminal(sys.stdin, sys.stderr):
            raise otherwise
        self.say(f"{question} {'[Y/n]' if default else '[y/N]'}")
        answer = sys.stdin.readline()
        if not answer:
            return False  # the end of the input is no consent
        return default if not answer.strip() else answer.strip().lower() in {"y", "yes"}

    @staticmethod
    def _print(text: str) -> None:
        if sys.stdout is None:
            return
        try:
            sys.stdout.write(text)
            sys.stdout.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise StateError("Cannot write the output", f"stdout: {error.strerror}", "Free some disk space.") from error


def _plain_json(text: str) -> str:
    """The same document, with what a terminal may obey written as `\\u…`: 8-bit controls, bidi marks and the like.

    JSON has such characters in strings only, so the meaning stays.
    """
    if text.isascii():
        return text  # what is below a blank is escaped already
    return "".join(c if c.isprintable() or c == "\n" else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


class Steps:
    """The progress of an installation as short lines, each step once."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._said: set[str] = set()

    def __call__(self, step: str, fraction: float | None) -> None:
        # `downloading torch 182 MiB and 3 more` is no news where only the count changed.
        core = step.partition(" and ")[0]
        if core in self._said:
            return
        self._said.add(core)
        self._output.say(f"  {'    ' if fraction is None else f'{fraction:4.0%}'} {step}")
