"""`python -P -m console.supervisor RUN_DIR`: supervise the launch that this run directory describes."""

from __future__ import annotations

import asyncio
import sys
import traceback
from pathlib import Path

from console.core.errors import ConsoleError, ExitCode
from console.io.runs import RunDir
from console.supervisor.sampler import Sampler
from console.supervisor.service import Supervisor


def main(argv: list[str]) -> int:
    """Run one supervisor; its own trouble goes to stderr, which is `supervisor.log`."""
    if len(argv) != 1:
        sys.stderr.write("usage: python -m console.supervisor RUN_DIR\n")
        return ExitCode.USAGE
    run = RunDir(Path(argv[0]))
    try:
        supervisor = Supervisor(run, run.read_launch(), run.read_info(), Sampler())
        asyncio.run(supervisor.run())
    except ConsoleError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    except Exception:  # whatever it was, the server goes on and the next console start takes it over
        traceback.print_exc()
        return ExitCode.INTERNAL
    return ExitCode.OK


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
