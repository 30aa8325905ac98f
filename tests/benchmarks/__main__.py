"""`python -m tests.benchmarks [--quick] [NAME…]`."""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import signal
import sys
import time
from collections.abc import Callable
from typing import NoReturn

import psutil

from tests.benchmarks.chat import chat
from tests.benchmarks.fleet import fleet
from tests.benchmarks.flood import flood
from tests.benchmarks.gpus import gpus
from tests.benchmarks.hints import hints
from tests.benchmarks.latency import latency, slow_line
from tests.benchmarks.logs import logs
from tests.benchmarks.startup import commands, doctor, first_paint
from tests.benchmarks.throughput import throughput
from tests.benchmarks.watching import watching
from tests.benchmarks.world import Unavailable, World

BENCHMARKS: dict[str, tuple[str, Callable[[World, bool], None]]] = {
    "commands": ("Time of --help and --version", commands),
    "doctor": ("Time of doctor", doctor),
    "first-paint": ("Time to first paint of the terminal UI", first_paint),
    "latency": ("Key to response of the terminal UI, in storms of log lines, beside Posting", latency),
    "slow-line": ("Bytes, CPU and key to response over slow lines", slow_line),
    "gpus": ("Cost of watching 16 GPUs at 1 Hz (scripted NVML)", gpus),
    "hints": ("Cost of judging hints, per second", hints),
    "watching": ("CPU and memory of watching, at 1 Hz and 160×50", watching),
    "fleet": ("Sockets, samples, CPU and memory of watching 1, 2 and 16 endpoints (scripted)", fleet),
    "flood": ("The supervisor under a flood of log lines", flood),
    "chat": ("A 100,000-token answer in the chat", chat),
    "logs": ("The log pane on a million lines, beside less and lnav", logs),
    "throughput": ("vLLM's output with and without the console (real vLLM)", throughput),
}


def interrupted(number: int, frame: object) -> NoReturn:
    """Unwind, so that everything is ended."""
    raise SystemExit(128 + number)


def load() -> str:
    """Mean runnable processes of the last minute: above the number of cores, others disturbed the figures."""
    return f"{os.getloadavg()[0]:.1f}"


def main() -> int:
    """Run the named benchmarks, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description="Figures, not verdicts.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(BENCHMARKS)}; all unless given")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter measurements")
    parser.add_argument("--console", metavar="COMMAND", help="the console to measure; default: beside this Python")
    parser.add_argument(
        "--engine", metavar="PATH", help="a real vllm command for `throughput`; default: an installed one"
    )
    arguments = parser.parse_args()
    if wrong := set(arguments.names) - set(BENCHMARKS):
        parser.error(f"no benchmark {', '.join(sorted(wrong))}; there are {', '.join(BENCHMARKS)}")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupted)
    print(f"{platform.machine()}, {psutil.cpu_count()} cores, Python {platform.python_version()}, load {load()}")
    failed = 0
    with World(shlex.split(arguments.console) if arguments.console else None, arguments.engine) as world:
        for name in arguments.names or BENCHMARKS:
            title, benchmark = BENCHMARKS[name]
            print(f"\n{title}", flush=True)
            began = time.monotonic()
            try:
                benchmark(world, arguments.quick)
            except (Unavailable, TimeoutError) as error:
                failed += 1
                print(f"  not measured: {error}")
            print(f"  ({time.monotonic() - began:.0f} s; load of the machine afterwards {load()})", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
