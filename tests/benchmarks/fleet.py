"""What a fleet costs the console: 1, 2 and 16 endpoints on the fleet screen at 1 Hz and 160×50."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import psutil

from tests.benchmarks.measure import Watched
from tests.benchmarks.world import Unavailable, World, free_port

__all__ = ["fleet"]

SIZES = (1, 2, 16)
SETTLE_S = 6.0
SECONDS, QUICK_SECONDS = 20.0, 8.0
PAINT_S = 30.0
ROOT = Path(__file__).parents[2]


def fleet(world: World, quick: bool) -> None:
    """One table: sockets of the console, samples that it takes, its CPU and memory."""
    seconds = QUICK_SECONDS if quick else SECONDS
    ports = [free_port() for _ in range(max(SIZES))]
    command = [sys.executable, "-m", "tests.benchmarks.endpoints", *map(str, ports)]
    child = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    try:
        if child.stdout is None or child.stdout.readline().strip() != b"ready":
            raise Unavailable("the scripted endpoints did not start")
        print(
            f"    {'endpoints':>9} {'sockets':>8} {'samples/s':>10} {'% of a core':>12} {'RSS MiB':>9} {'PSS MiB':>9}"
        )
        for size in SIZES:
            measured(world, ports[:size], seconds)
    finally:
        child.terminate()
        child.wait(10)


def measured(world: World, ports: list[int], seconds: float) -> None:
    """One row."""
    words = [word for port in ports for word in ("--watch", f"http://127.0.0.1:{port}")]
    screen = world.terminal(*world.console, *words)
    try:
        screen.wait_painted(PAINT_S)
        if len(ports) == 1:
            screen.send("M")  # one server alone opens its dashboard
        time.sleep(SETTLE_S)
        watched, before, began = Watched(screen.pid), counted(ports), time.monotonic()
        sockets = 0
        while time.monotonic() - began < seconds:
            time.sleep(1)
            watched.look()
            sockets = max(sockets, sockets_of(screen.pid))
        lasted = time.monotonic() - began
        usage = watched.result()
        rate = (counted(ports) - before) / lasted
        pss = "–" if usage.pss_mib is None else f"{usage.pss_mib:.0f}"
        print(
            f"    {len(ports):>9} {sockets:>8} {rate:>10.1f} {usage.cpu_percent:>12.1f} {usage.rss_mib:>9.0f} {pss:>9}",
            flush=True,
        )
    finally:
        screen.close()


def counted(ports: list[int]) -> int:
    """How often metrics were read from all of them together."""
    return sum(int(asked(port)["scrapes"]) for port in ports)


def asked(port: int) -> dict[str, Any]:
    """What an endpoint has counted."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/counted", timeout=10) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def sockets_of(pid: int) -> int:
    """Connections over TCP that a process and its children have open."""
    tree = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return sum(len(each.net_connections("tcp")) for each in tree)
