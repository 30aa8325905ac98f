"""The command line: picks a front end and maps errors to exit codes. Heavy imports stay inside functions."""

from __future__ import annotations


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    raise NotImplementedError
