"""How long the commands take to answer, and the screen to appear."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence

from tests.benchmarks.measure import Spread, time_commands
from tests.benchmarks.world import NVITOP, POSTING, RIVAL, Unavailable, World

__all__ = ["commands", "doctor", "first_paint"]

PAINT_S = 20.0


def commands(world: World, quick: bool) -> None:
    """`--help` and `--version`, beside the rival's `--help`."""
    runs = 5 if quick else 30
    timed = {
        "dsv4-console --help": [*world.console, "--help"],
        "dsv4-console --version": [*world.console, "--version"],
    }
    note = ""
    try:
        timed["vllmstat --help"] = [world.rival(), "--help"]
    except Unavailable as error:
        note = f"vllmstat left out: {error}"
    results = time_commands(timed, runs, world.env)
    base = results["dsv4-console --help"].median
    for name, spread in results.items():
        print(f"  {name:<24} {spread.text('ms', scale=1000):<34} {spread.median / base:.2f}×")
    if note:
        print(f"  {note}")


def doctor(world: World, quick: bool) -> None:
    """All checks of the machine, and of a profile: the whole command, and the probes in it."""
    runs = 3 if quick else 10
    timed = {
        "doctor": [*world.console, "doctor", "--json"],
        "doctor cpu-smoke": [*world.console, "doctor", "cpu-smoke", "--json"],
    }
    for name, spread in time_commands(timed, runs, world.env).items():
        done = subprocess.run(timed[name], env=world.env, capture_output=True, check=False)
        probes_ms = json.loads(done.stdout)["elapsed_s"] * 1000
        print(f"  {name:<24} {spread.text('ms', scale=1000):<34} of which the probes {probes_ms:.0f} ms")


def first_paint(world: World, quick: bool) -> None:
    """From start to something to read, and to a filled screen, in a terminal of 160×50, all in turns."""
    tries = 2 if quick else 8
    with world.running("cpu-smoke", world.fake_engine(), env={"FAKE_VLLM_VERSION": "0.32.0+cpu"}) as run:
        shown = {"dsv4-console (attached)": [*world.console]}
        for name, requirement, options in (
            ("vllmstat", RIVAL, ["--url", run.url]),
            ("Posting", POSTING, []),
            ("nvitop", NVITOP, []),
        ):
            try:
                shown[name] = [world.rival(requirement), *options]
            except Unavailable as error:
                print(f"  {name} left out: {error}")
        report(paints(world, tries, shown))
    report(paints(world, tries, {"dsv4-console (profile list)": [*world.console]}))


Paints = tuple[Spread, Spread]
"""Until the first paint, and until the screen was filled."""


def report(taken: Mapping[str, Paints | str]) -> None:
    """A line for each."""
    for name, found in taken.items():
        if isinstance(found, str):
            print(f"  {name:<28} {found}")
        else:
            first, filled = (each.text("ms", scale=1000) for each in found)
            print(f"  {name:<28} first paint {first:<32} filled {filled}")


def paints(world: World, tries: int, shown: Mapping[str, Sequence[str]]) -> dict[str, Paints | str]:
    """Paints of these programs in turns, the first turn left out; of one that paints nothing, why."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in shown}
    wrong: dict[str, str] = {}
    for turn in range(tries + 1):
        for name, argv in shown.items():
            if name in wrong:
                continue
            terminal = world.terminal(*argv)
            try:
                found = terminal.wait_painted(PAINT_S)
                if turn:
                    taken[name].append(found)
            except TimeoutError as error:
                wrong[name] = f"left out: {' '.join(str(error).split())[:150]}"
            finally:
                terminal.close()
    return {name: wrong.get(name) or _spreads(taken[name]) for name in shown}


def _spreads(taken: Sequence[tuple[float, float]]) -> Paints:
    first, filled = zip(*taken, strict=True)
    return Spread(tuple(first)), Spread(tuple(filled))
