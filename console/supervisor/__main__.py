"""`python -P -m console.supervisor RUN_DIR`: supervise the launch that this run directory describes."""

from __future__ import annotations

import asyncio
import sys
import traceback
from pathlib import Path

from console.core.errors import ConsoleError, ExitCode
from console.io.gpu.nvml import NvmlBackend
from console.io.http import HttpClient
from console.io.runs import RunDir
from console.supervisor.service import Supervisor


def main(argv: list[str]) -> int:
    """Run one supervisor; its own trouble goes to stderr, which is `supervisor.log`."""
    if len(argv) != 1:
        sys.stderr.write("usage: python -m console.supervisor RUN_DIR\n")
        return ExitCode.USAGE
    run = RunDir(Path(argv[0]))
    try:
        asyncio.run(_supervise(run))
    except ConsoleError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    except Exception:  # whatever it was, the server goes on and the next console start takes it over
        traceback.print_exc()
        return ExitCode.INTERNAL
    return ExitCode.OK


async def _supervise(run: RunDir) -> None:
    with run.claim() as mine:
        if mine:
            await _serve(run)


async def _serve(run: RunDir) -> None:
    await Supervisor(run, run.read_launch(), run.read_info(), NvmlBackend(), HttpClient()).run()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
