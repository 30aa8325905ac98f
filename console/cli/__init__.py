"""The command line: parses, picks a front end, and maps errors to exit codes. Heavy imports stay inside functions."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code (see `console.core.errors.ExitCode`)."""
    from console.core.errors import ExitCode

    words = sys.argv[1:] if argv is None else list(argv)
    try:
        return int(_run(words))
    except KeyboardInterrupt:
        return int(ExitCode.INTERRUPTED)
    except BrokenPipeError:
        return int(ExitCode.OK)  # whoever read our output has seen enough
    finally:
        _settle_streams()


def _run(words: list[str]) -> int:
    from console.cli.parser import parse

    try:
        arguments = parse(words)
        from console.cli.output import Output

        return int(arguments.run(arguments, Output(json=arguments.json)))
    except BrokenPipeError:
        raise
    except Exception as error:
        from console.cli.trouble import explain

        return explain(error, json="--json" in words)


def _settle_streams() -> None:
    """Write what is left of the output. Where nobody takes it, the interpreter must not complain at its end."""
    for stream in (sys.stdout, sys.stderr):
        if stream is None:
            continue
        try:
            stream.flush()
        except (OSError, ValueError):
            handle = os.open(os.devnull, os.O_WRONLY)
            os.dup2(handle, stream.fileno())
            os.close(handle)
