"""The command line: parses, picks a front end, and maps errors to exit codes. Heavy imports stay inside functions."""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code (see `console.core.errors.ExitCode`)."""
    from console.cli.parser import parse

    arguments = parse(sys.argv[1:] if argv is None else list(argv))
    from console.cli.output import Output, report
    from console.core.errors import ConsoleError, ExitCode

    output = Output(json=arguments.json)
    try:
        return int(arguments.run(arguments, output))
    except ConsoleError as error:
        report(error, output)
        return int(error.exit_code)
    except KeyboardInterrupt:
        return int(ExitCode.INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output has seen enough; the interpreter must not complain about it at exit.
        sys.stdout = None
        return int(ExitCode.OK)
