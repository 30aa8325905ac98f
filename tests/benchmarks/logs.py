"""The log pane on a million lines, beside `less` and `lnav`: open, jump to the end, regex over all, memory."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.benchmarks.measure import MIB, Spread
from tests.benchmarks.screen import Screen
from tests.benchmarks.world import Unavailable, World

__all__ = ["logs"]

LINES, QUICK_LINES = 1_000_000, 100_000
WAIT_S = 600.0
PATTERN = "the very l[a-z]st l.ne"
"""Only the last line matches, so that whoever begins at the first one looks at all of them."""
FIRST, LAST = "the very first line", "the very last line"
SETTLE_S = 8.0
"""For the supervisor to read and archive."""
TURNS, QUICK_TURNS = 3, 2
"""The first does not count."""


@dataclass
class Times:
    """What was measured of one program, in seconds and MiB."""

    open_s: list[float] = field(default_factory=list)
    pane_s: list[float] = field(default_factory=list)
    """In a program that runs already."""
    whole_s: list[float] = field(default_factory=list)
    top_s: list[float] = field(default_factory=list)
    end_s: list[float] = field(default_factory=list)
    regex_s: list[float] = field(default_factory=list)
    rss_mib: list[float] = field(default_factory=list)
    missing: str = ""
    """Why it could not be measured."""


def logs(world: World, quick: bool) -> None:
    """Each program in turn, several times, at 160×50 in tmux, on the same lines, in the page cache.

    The console watches a scripted server whose log has these lines; its supervisor has archived the older half of
    them, as it does. The others open a plain file.
    """
    if shutil.which("tmux") is None:
        raise Unavailable("tmux is not installed: apt-get install tmux")
    count = QUICK_LINES if quick else LINES
    path = world.scratch / "million.log"
    write_log(path, count)
    with world.running("cpu-smoke", world.fake_engine(), env={"FAKE_VLLM_VERSION": "0.32.0+cpu"}) as run:
        log = next(Path(world.env["XDG_STATE_HOME"]).glob(f"dsv4-console/runs/{run.id}")) / "server.log"
        with path.open("rb") as source, log.open("ab") as target:
            shutil.copyfileobj(source, target)
        time.sleep(SETTLE_S)
        sizes = [path.stat().st_size / MIB, log.stat().st_blocks * 512 / MIB]
        archives = len(list(log.parent.glob("*.gz")))
        print(f"    {count:,} lines, {sizes[0]:.0f} MiB: {sizes[1]:.0f} MiB in server.log, {archives} archive(s)")
        found = {name: Times() for name in PROGRAMS}
        for turn in range(QUICK_TURNS if quick else TURNS):
            for name, program in PROGRAMS.items():
                path.read_bytes(), log.read_bytes()
                times = found[name] if turn else Times()
                if found[name].missing:
                    continue
                if name != OURS and shutil.which(name) is None:
                    found[name].missing = f"not installed: apt-get install {name}"
                    continue
                try:
                    program(world, path, count, times)
                except TimeoutError as error:
                    found[name].missing = str(error)
    report(found)


def console(world: World, path: Path, count: int, times: Times) -> None:
    """The console, attached to the run."""
    screen = Screen("console", world.console, world.env)
    try:
        screen.wait("READY", timeout_s=WAIT_S)
        began = screen.send("l")
        times.open_s.append(screen.wait("following", LAST, timeout_s=WAIT_S) - screen.started)
        times.pane_s.append(time.perf_counter() - began)
        times.whole_s.append(screen.wait("following", absent=" older", timeout_s=WAIT_S) - began)
        began = screen.send("g")
        times.top_s.append(screen.wait("line 1 of", timeout_s=WAIT_S) - began)
        began = screen.send("G")
        times.end_s.append(screen.wait(LAST, timeout_s=WAIT_S) - began)
        screen.send("g")
        screen.wait("line 1 of", timeout_s=WAIT_S)
        screen.send("R")
        screen.wait("regular expression", timeout_s=WAIT_S)
        screen.send(PATTERN)
        screen.wait(PATTERN, timeout_s=WAIT_S)
        began = screen.send("Enter")
        times.regex_s.append(screen.wait("1 of 1", LAST, absent="so far", timeout_s=WAIT_S) - began)
        times.rss_mib.append(screen.rss_mib())
    finally:
        screen.close()


def less(world: World, path: Path, count: int, times: Times) -> None:
    """`less -N FILE`: with line numbers, as the others have them; else it need not read what it jumps over."""
    pager("less", ["less", "-N", str(path)], world, times)


def lnav(world: World, path: Path, count: int, times: Times) -> None:
    """`lnav FILE`; the time until it has read the whole file is when its last line is in sight."""
    pager("lnav", ["lnav", "-N", str(path)], world, times)


def pager(name: str, argv: Sequence[str], world: World, times: Times) -> None:
    """Open, to the end, to the top, search forward through all lines, and memory."""
    screen = Screen(name, argv, world.env)
    try:
        wanted = FIRST if name == "less" else LAST  # lnav opens at the end
        times.open_s.append(screen.wait(wanted, timeout_s=WAIT_S) - screen.started)
        began = screen.send("G")
        (times.whole_s if name == "less" else times.end_s).append(screen.wait(LAST, timeout_s=WAIT_S) - began)
        began = screen.send("g")
        times.top_s.append(screen.wait(FIRST, timeout_s=WAIT_S) - began)
        if name == "less":
            began = screen.send("G")
            times.end_s.append(screen.wait(LAST, timeout_s=WAIT_S) - began)
            screen.send("g")
            screen.wait(FIRST, timeout_s=WAIT_S)
        screen.send("/", PATTERN)
        began = screen.send("Enter")
        wanted = LAST if name == "less" else "1 hits for"
        times.regex_s.append(screen.wait(wanted, timeout_s=WAIT_S) - began)
        times.rss_mib.append(screen.rss_mib())
    finally:
        screen.close()


OURS = "dsv4-console"
PROGRAMS: dict[str, Callable[[World, Path, int, Times], None]] = {OURS: console, "less": less, "lnav": lnav}


def report(found: dict[str, Times]) -> None:
    """Figures side by side, with ratios to the console's."""
    rows = (
        ("start: lines in sight", "open_s", "s"),
        ("in a console that runs: lines in sight", "pane_s", "s"),
        ("then until all lines are known", "whole_s", "s"),
        ("jump to the first line", "top_s", "s"),
        ("jump to the last line", "end_s", "s"),
        ("regex over all lines, from the first", "regex_s", "s"),
        ("memory after that (RSS)", "rss_mib", "MiB"),
    )
    print(f"    {'':<40}" + "".join(f"{name:>37}" for name in found))
    for title, key, unit in rows:
        ours = getattr(found[OURS], key)
        cells = []
        for name, times in found.items():
            values = getattr(times, key)
            if not values:
                cells.append("–")
                continue
            spread = Spread(tuple(values))
            ratio = spread.median / Spread(tuple(ours)).median if ours and name != OURS else None
            cells.append(spread.text(unit, 2 if unit == "s" else 0) + (f"  ×{ratio:.2f}" if ratio else ""))
        print(f"    {title:<40}" + "".join(f"{cell:>37}" for cell in cells))
    for name, times in found.items():
        if times.missing:
            print(f"    {name}: not measured: {times.missing}")


def write_log(path: Path, count: int) -> None:
    """Lines as vLLM writes them, from ten processes, over some hours."""
    dice = random.Random(4)
    processes = ["APIServer", "EngineCore", *(f"Worker_TP{i}" for i in range(8))]
    with path.open("w", encoding="utf-8") as file:
        for i in range(1, count + 1):
            at = i * 36_000 // count
            clock = f"11-23 {12 + at // 3600:02d}:{at // 60 % 60:02d}:{at % 60:02d}"
            process = processes[i % 10]
            head = f"({process} pid={4000 + i % 10}) INFO {clock} [loggers.py:257] "
            if i == 1:
                text = FIRST
            elif i == count:
                text = LAST
            elif i % 10 == 0:
                head = f"({process} pid=4000) "
                text = f'INFO:     10.0.0.{i % 250}:{40_000 + i % 9000} - "POST /v1/chat/completions HTTP/1.1" 200 OK'
            else:
                read, written, used = (dice.random() * scale for scale in (4_000, 2_000, 100))
                text = (
                    f"Engine 000: Avg prompt throughput: {read:.1f} tokens/s, Avg generation throughput: "
                    f"{written:.1f} tokens/s, Running: {i % 64} reqs, GPU KV cache usage: {used:.1f}%"
                )
            file.write(f"{head}{text}\n")
