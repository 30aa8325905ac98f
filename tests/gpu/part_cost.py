"""Part 6: whether watching costs throughput at full load, in pairs on one and the same server."""

from __future__ import annotations

import contextlib
import os
import signal
import statistics
import sys
import time
from collections.abc import Iterator

import psutil

from tests.benchmarks.terminal import Terminal
from tests.gpu import part_profile
from tests.gpu.report import Report
from tests.gpu.world import Run, World, output_rate

TITLE = "what watching costs at full load"
KEEPS = part_profile.KEEPS

PAIRS, CLIENTS, SETTLE_S, RATE_S, WARM_S = 3, 128, 2.0, 10.0, 10.0
PAINT_S = 40.0


def run(world: World, report: Report) -> None:
    """With: supervisor at work and the UI attached. Without: no UI, and the supervisor held still by SIGSTOP."""
    server: Run | None = None
    with report.step("server") as row:
        server = part_profile.start(world)
        row["says"] = server.id
    if server is None:
        return
    supervisor = server.reload()["supervisor_pid"]
    taken: dict[bool, list[float]] = {True: [], False: []}
    with world.load(server, CLIENTS):
        time.sleep(WARM_S)
        for pair in range(PAIRS):
            with report.step(f"pair {pair + 1}") as row:
                for watched in (True, False) if pair % 2 else (False, True):
                    with attached(world) if watched else held(supervisor):
                        time.sleep(SETTLE_S)
                        process = psutil.Process(supervisor)
                        before = sum(process.cpu_times()[:2])
                        taken[watched].append(output_rate(server.url, RATE_S))
                        used = (sum(process.cpu_times()[:2]) - before) / RATE_S
                    name = "watched" if watched else "alone"
                    row[name], row[f"{name}_supervisor_cpu_percent"] = (
                        round(taken[watched][-1], 1),
                        round(100 * used, 1),
                    )
                row["says"] = f"alone {row['alone']}, watched {row['watched']} tok/s"
    with report.step("ratio") as row:
        ratios = [w / alone for w, alone in zip(taken[True], taken[False], strict=False)]
        row["ratios"] = [round(ratio, 4) for ratio in ratios]
        row["says"] = f"watched / alone: median {statistics.median(ratios):.3f}, {min(ratios):.3f} to {max(ratios):.3f}"


@contextlib.contextmanager
def attached(world: World) -> Iterator[None]:
    """The UI on this server, in a terminal."""
    terminal = Terminal([sys.executable, "-P", "-m", "console"], world.env)
    try:
        terminal.wait_painted(PAINT_S)
        yield
    finally:
        terminal.close()


@contextlib.contextmanager
def held(supervisor: int) -> Iterator[None]:
    """The supervisor still."""
    os.kill(supervisor, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(supervisor, signal.SIGCONT)
