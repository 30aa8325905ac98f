"""Key to response: how long a key takes to show, quiet, in a storm of log lines, and over a slow line."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tests.benchmarks.measure import Spread, Watched
from tests.benchmarks.terminal import Terminal
from tests.benchmarks.watching import LOAD, see_gpus
from tests.benchmarks.world import POSTING, Unavailable, World, post

__all__ = ["latency", "slow_line"]

STORMS = (0, 200, 5_000)
"""Log lines per second."""
BAUD = (9_600, 57_600, 1_000_000)
BITS_PER_BYTE = 10
SETTLE_S = 6.0
SLOW_SETTLE_S = 15.0
"""A slow line needs time for the first picture."""
PAUSE_S = (0.1, 0.4)
"""Between two keys, at random, so that no key keeps step with what is painted once a second."""
ANSWER_S = 60.0
OURS = (("2", "following"), ("1", "KV cache"))
"""Keys, and what shows that they were obeyed: the log, and the figures with their charts."""
POSTINGS = (("\x10", "Search"), ("\x1b", ""))
"""Its palette, which is then left again."""


@dataclass(frozen=True)
class Answer:
    """How long one key took."""

    took_s: float
    own_s: float
    """Less the time in which the program was ready and others had the CPU: as on a machine with a core to spare."""


def latency(world: World, quick: bool) -> None:
    """p50 and p99 at 160×50, from the key in the terminal to the characters that answer it."""
    count = 20 if quick else 200
    see_gpus(world)
    columns = " ".join(f"{name:>8}" for name in ("p50 ms", "p99 ms", "most ms"))
    print(f"    {'':<32} {columns}  {'less what it waited for a CPU':>26} {'n':>5}")
    with world.running("cpu-smoke", world.fake_engine(), env=LOAD) as run:
        terminal = world.terminal(*world.console)
        terminal.wait_painted(30)
        for rate in STORMS:
            post(f"{run.url}/fake", {"log_storm": rate})
            time.sleep(SETTLE_S)
            line(f"dsv4-console, {rate:,} log lines/s", answers(terminal, OURS, count))
        post(f"{run.url}/fake", {"log_storm": 0})
        terminal.close()
    try:
        terminal = world.terminal(world.rival(POSTING))
        terminal.wait_painted(30)
        time.sleep(SETTLE_S)
        line("Posting, palette, nothing else", answers(terminal, POSTINGS, count))
        terminal.close()
    except (Unavailable, TimeoutError) as error:
        print(f"    Posting left out: {error}")


def slow_line(world: World, quick: bool) -> None:
    """Bytes, CPU and key to response at 80×24 with 200 log lines a second, over lines that take so much."""
    seconds, count = (10.0, 4) if quick else (60.0, 10)
    see_gpus(world)
    print(f"    {'':<22} {'bytes/s':>9} {'% of a core':>12} {'RSS MiB':>8} {'key p50 s':>10} {'most s':>8}")
    with world.running("cpu-smoke", world.fake_engine(), env=LOAD) as run:
        post(f"{run.url}/fake", {"log_storm": 200})
        for baud in BAUD:
            terminal = world.terminal(*world.console, columns=80, rows=24, bytes_per_s=baud / BITS_PER_BYTE)
            terminal.wait_painted(60)
            time.sleep(SLOW_SETTLE_S)
            watched, before, began = Watched(terminal.pid), terminal.bytes, time.monotonic()
            while time.monotonic() - began < seconds:
                time.sleep(1)
                watched.look()
            sent = (terminal.bytes - before) / (time.monotonic() - began)
            usage = watched.result()
            try:
                keys = Spread(tuple(each.took_s for each in answers(terminal, OURS, count)))
                told = f"{keys.median:>10.2f} {max(keys.values):>8.2f}"
            except TimeoutError as error:
                told = f"  {error}"
            print(f"    {f'{baud:,} baud':<22} {sent:>9.0f} {usage.cpu_percent:>12.1f} {usage.rss_mib:>8.0f} {told}")
            terminal.close()
        post(f"{run.url}/fake", {"log_storm": 0})


def answers(terminal: Terminal, keys: Sequence[tuple[str, str]], count: int) -> list[Answer]:
    """The answer to each key in turn; one without an answer to wait for is not counted."""
    pause = random.Random(7)
    taken = []
    for turn in range(count):
        key, wanted = keys[turn % len(keys)]
        if wanted:
            before = terminal.waited_s()
            took_s = terminal.respond(key, wanted, ANSWER_S)
            after = terminal.waited_s()
            waited_s = after - before if before is not None and after is not None else 0.0
            taken.append(Answer(took_s, max(took_s - waited_s, 0.0)))
        else:
            terminal.send(key)
        time.sleep(pause.uniform(*PAUSE_S))
    return taken


def percentiles(values: Sequence[float]) -> str:
    """p50, p99 and the largest, in milliseconds."""
    ordered = sorted(values)
    found = (ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)], ordered[-1])
    return " ".join(f"{value * 1e3:>8.1f}" for value in found)


def line(title: str, taken: Sequence[Answer]) -> None:
    """One row of the table."""
    raw, own = (percentiles([getattr(each, name) for each in taken]) for name in ("took_s", "own_s"))
    print(f"    {title:<32} {raw}  {own} {len(taken):>5}", flush=True)
