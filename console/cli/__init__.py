"""The command line: parses, picks a front end, and maps errors to exit codes. Heavy imports stay inside functions."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

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
    from console.cli.parser import parse, resolve

    try:
        arguments = parse(words)
        with _curtain(arguments):
            run = resolve(arguments.function)
            from console.cli.output import Output

            return int(run(arguments, Output(json=arguments.json)))
    except BrokenPipeError:
        raise
    except Exception as error:
        from console.cli.trouble import explain

        return explain(error, json="--json" in words)


def _curtain(arguments: argparse.Namespace) -> contextlib.AbstractContextManager[None]:
    """Where the full screen is about to open: something to read meanwhile.

    Not before another machine's screen: OpenSSH may have to ask something first.
    """
    from console.cli.output import is_terminal
    from console.cli.parser import LAUNCH

    others = arguments.profile or arguments.replay or arguments.demo or arguments.machines
    opens = arguments.function == LAUNCH and not others
    if not opens or not is_terminal(sys.stdin, sys.stdout) or "TEXTUAL_DRIVER" in os.environ:
        return contextlib.nullcontext()
    from console import __version__
    from console.io.paths import runs_dir
    from console.tui.curtain import raised

    return raised(runs_dir(), __version__)


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
