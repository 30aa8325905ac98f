"""`python -m tests.faults [--only ID,…] [--data-home DIR] [--page]`: every fault on the real engine, as a table."""

from __future__ import annotations

import argparse
import datetime
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from tests.engine import installed_engine
from tests.faults.case import FaultCase, FaultWorld, run_case
from tests.faults.cases import CASES
from tests.faults.table import Row, heading, line, put_into

PAGE = Path(__file__).parents[2] / "docs" / "supervision.md"


def main() -> int:
    """Run the cases and print a row for each; exit code 1 if one did not end as it must."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=(__doc__ or "").split(": ", 1)[1])
    parser.add_argument("--only", help=f"ids, separated by commas: {', '.join(case.id for case in CASES)}")
    parser.add_argument("--data-home", type=Path, help="a data directory with a CPU engine; default: one is installed")
    parser.add_argument("--page", action="store_true", help="put the table into docs/supervision.md")
    arguments = parser.parse_args()
    wanted = set(arguments.only.split(",")) if arguments.only else {case.id for case in CASES}
    if unknown := wanted - {case.id for case in CASES}:
        parser.error(f"no fault {', '.join(sorted(unknown))}")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupted)
    scratch = Path(tempfile.mkdtemp(prefix="dsv4-faults-"))
    rows: list[Row] = []
    began = time.monotonic()
    print(heading(), flush=True)
    try:
        home = installed_engine(arguments.data_home or scratch / "data")
        for row in run([case for case in CASES if case.id in wanted], scratch, home):
            rows.append(row)
            print(line(row), flush=True)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    failed = sum(row.result is None for row in rows)
    note = (
        f"{datetime.date.today():%Y-%m-%d}: {len(rows)} faults, {failed} not as they must be, in "
        f"{(time.monotonic() - began) / 60:.0f} min on {os.cpu_count()} cores, vLLM for the CPU "
        f"(`python -m tests.faults`)."
    )
    print(f"\n{note}")
    if arguments.page:
        put_into(PAGE, rows, note)
    return 1 if failed else 0


def interrupted(number: int, frame: object) -> NoReturn:
    """Unwind, so that everything is ended."""
    raise SystemExit(128 + number)


def run(cases: Sequence[FaultCase], scratch: Path, home: Path) -> Iterator[Row]:
    """Those that leave a server serving share one; the others get their own."""
    shared = [case for case in cases if case.needs == "server"]
    if shared:
        with world_in(scratch / "shared", home) as world:
            yield from (attempt(case, world, whole=True) for case in shared)
    for case in cases:
        if case.needs != "server":
            with world_in(scratch / case.id, home) as world:
                yield attempt(case, world, whole=False)


@contextmanager
def world_in(path: Path, home: Path) -> Iterator[FaultWorld]:
    """A world of its own directory; nothing of it stays."""
    path.mkdir(parents=True)
    world = FaultWorld(path, home)
    try:
        yield world
    finally:
        world.close()


def attempt(case: FaultCase, world: FaultWorld, *, whole: bool) -> Row:
    """One case; what went wrong becomes its row."""
    try:
        if whole:
            if not (world.runs.exists() and any(world.runs.iterdir())):
                world.launch()
            world.make_whole()
        else:
            world.prepare(case)
        return Row(case, run_case(case, world))
    except Exception as error:
        return Row(case, None, f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    sys.exit(main())
