"""`python -P -m console.supervisor RUN_DIR`: supervise the launch that this run directory describes.

It splits in two before anything large is imported: a guardian (see `guardian.py`) and, as its child, the supervisor.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from console.core.errors import ConsoleError, ExitCode
from console.supervisor.guardian import Guardian

if TYPE_CHECKING:
    from console.io.runs import RunDir


def main(argv: list[str]) -> int:
    """Run one supervisor under its guardian; their own trouble goes to stderr, which is `supervisor.log`."""
    if len(argv) != 1:
        sys.stderr.write("usage: python -m console.supervisor RUN_DIR\n")
        return ExitCode.USAGE
    path = Path(argv[0])
    return Guardian(lambda: supervise(path), path / "exits").run()


def supervise(path: Path) -> int:
    """The supervisor itself; returns its exit code."""
    import asyncio
    import traceback

    from console.io.runs import RunDir

    try:
        asyncio.run(_supervise(RunDir(path)))
    except ConsoleError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    except Exception:  # whatever it was, the server goes on and another supervisor takes it over
        traceback.print_exc()
        return ExitCode.INTERNAL
    return ExitCode.OK


async def _supervise(run: RunDir) -> None:
    from console.io.gpu.nvml import NvmlBackend
    from console.io.http import HttpClient
    from console.supervisor.service import Supervisor

    with run.claim() as mine:
        if mine:
            await Supervisor(run, run.read_launch(), run.read_info(), NvmlBackend(), HttpClient()).run()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
