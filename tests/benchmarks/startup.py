"""How long the commands take to answer, and the screen to appear."""

from __future__ import annotations

import json
import subprocess

from tests.benchmarks.measure import Spread, time_commands
from tests.benchmarks.world import Unavailable, World

__all__ = ["commands", "doctor", "first_paint"]

PAINT_S = 30.0


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
    """From start to the first 200 characters on the full screen, in a terminal of 160×50."""
    tries = 2 if quick else 8
    shown = {"dsv4-console (profile list)": [*world.console]}
    with world.running("cpu-smoke", world.fake_engine(), env={"FAKE_VLLM_VERSION": "0.32.0+cpu"}) as run:
        print(f"  {'dsv4-console (attached)':<28} {paint(world, tries, *world.console).text('ms', scale=1000)}")
        try:
            spread = paint(world, tries, world.rival(), "--url", run.url)
            print(f"  {'vllmstat':<28} {spread.text('ms', scale=1000)}")
        except Unavailable as error:
            print(f"  vllmstat left out: {error}")
    for name, command in shown.items():
        print(f"  {name:<28} {paint(world, tries, *command).text('ms', scale=1000)}")


def paint(world: World, tries: int, *argv: str) -> Spread:
    """First paints of one program, the first try left out."""
    taken = []
    for _ in range(tries + 1):
        terminal = world.terminal(*argv)
        try:
            taken.append(terminal.wait_painted(PAINT_S))
        finally:
            terminal.close()
    return Spread(tuple(taken[1:]))
