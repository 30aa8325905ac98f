"""`python -m tests.soak [--minutes 60] [--data-home DIR]`: is the console flat under load on the real engine?"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import NoReturn

from tests.e2e.world import World
from tests.engine import installed_engine
from tests.soak.run import soak


def interrupted(number: int, frame: object) -> NoReturn:
    """Unwind, so that everything is ended."""
    raise SystemExit(128 + number)


def main() -> int:
    """Run one soak and print it; exit code 1 if something grew or a request failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description="Memory, files, threads, CPU: flat?")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--data-home", type=Path, help="a data directory with a CPU engine; default: one is installed")
    arguments = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupted)
    scratch = Path(tempfile.mkdtemp(prefix="dsv4-soak-"))
    world = World(scratch, installed_engine(arguments.data_home or scratch / "data"))
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:7.0f} s  {text}", flush=True)

    try:
        say(f"load of the machine {os.getloadavg()[0]:.1f}; starting the server")
        result = soak(world, arguments.minutes * 60, say)
    finally:
        world.close()
        shutil.rmtree(scratch, ignore_errors=True)
    print("\n".join(result.lines()))
    return 1 if result.grown or result.failed else 0


if __name__ == "__main__":
    sys.exit(main())
