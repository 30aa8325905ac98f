"""Pictures of a real vLLM with a real, tiny model on the CPU, launched and driven as an operator would."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from textual.pilot import Pilot

from console.client.api import LaunchPlan
from console.core.models import HintState, ServerState
from console.tui.app import ConsoleApp
from tests.e2e.world import free_port
from tests.pictures.camera import NARROW, WIDE, Camera, Studio, until
from tests.ui.screen_text import text

__all__ = ["CLIENTS", "SETTINGS", "bench", "load", "take"]

REPOSITORY = Path(__file__).parents[2]
SETTINGS: dict[str, Any] = {"serve.max_num_seqs": 2}
"""So few slots that the load has to wait, and a hint says so."""
TOO_LONG: dict[str, Any] = {"serve.max_model_len": 999_999}
"""A context that the model does not have: the start fails within a minute, and its panel is pictured."""
LOAD = """
import sys, time
from tests.e2e.world import load
with load(sys.argv[1], int(sys.argv[2]), max_tokens=int(sys.argv[3])):
    time.sleep(3600)
"""
CLIENTS = 16
ANSWER_TOKENS = 400
BENCH_KEYS = ("t", "t", "t", "n")
"""The load `random`, whose answers are short, from 1, 4 and 16 clients."""
PROMPT = "Write a haiku about KV caches."
PLAN_S, PHASES_S, READY_S, HINT_S, BENCH_S, STOP_S = 120.0, 300.0, 300.0, 300.0, 600.0, 60.0
CHARTED_S = 150.0
"""Time under load before the dashboard is pictured: enough of a curve to see."""
LULL_S = (60.0, 70.0)
"""A stretch with few clients, so that the curves show more than a plateau."""
PHASES_DONE = 2
"""Of a start, when it is pictured."""


def console_with(changed: Mapping[str, Any]) -> ConsoleApp:
    """The console, whose `cpu-smoke` has the settings that `--set` would give."""
    from console.client.backend import LocalBackend

    class Backend(LocalBackend):
        """The real one, with these settings."""

        async def plan(self, name: str, overrides: Mapping[str, Any] | None = None) -> LaunchPlan:
            settings = changed if name == "cpu-smoke" else {}
            return await super().plan(name, {**settings, **(overrides or {})})

    return ConsoleApp(Backend(), initial_profile="cpu-smoke")


async def launch(pilot: Pilot[Any]) -> None:
    """Start `cpu-smoke`."""
    await until("the plan", lambda: "Engine    vLLM" in text(pilot.app), PLAN_S)
    await pilot.press("enter")
    await until("the question", lambda: "Launch cpu-smoke" in text(pilot.app), PLAN_S)
    await pilot.press("y")


def state(app: ConsoleApp) -> ServerState | None:
    """Of the server on the screen."""
    return app.model.state if app.model else None


async def stop(app: ConsoleApp) -> None:
    """End the server on the screen."""
    if app.model is not None and app.model.live:
        await app.model.session.stop(0.0)
    await until("stopped", lambda: state(app) in (None, ServerState.STOPPED, ServerState.FAILED), STOP_S)


async def bench(camera: Camera) -> None:
    """A benchmark of a server that has all its slots, of a size for a machine with two cores."""
    app = console_with({"serve.port": free_port()})
    async with app.run_test(size=WIDE) as pilot:
        shoot = Studio(camera, pilot).shoot
        await launch(pilot)
        try:
            await until("ready", lambda: state(app) is ServerState.READY, READY_S)
            await pilot.press("b", *BENCH_KEYS)
            await until("the load", lambda: "Shape random" in text(app) and "Clients 1,4,16" in text(app), PLAN_S)
            await pilot.press("enter")
            await until("the question", lambda: "Measure" in text(app), PLAN_S)
            await pilot.press("y")
            await shoot("bench-running", NARROW, when=lambda: half_done(text(app)), limit_s=BENCH_S)
            await until("the benchmark", lambda: not measuring(text(app)), BENCH_S)
            await shoot("bench", WIDE, NARROW)
        finally:
            await stop(app)


async def take(camera: Camera) -> None:
    """The whole story, from a start that fails over profile list and load to the stopped server."""
    changed = SETTINGS | {"serve.port": free_port()}
    app = console_with(changed)
    async with app.run_test(size=WIDE) as pilot:
        shoot = Studio(camera, pilot).shoot
        await until("the plan", lambda: "Engine    vLLM" in text(app), PLAN_S)
        await shoot("picker", WIDE, NARROW)
        changed |= TOO_LONG
        await launch(pilot)
        await until("the failed start", lambda: state(app) is ServerState.FAILED, READY_S)
        await shoot("failed", NARROW, when=lambda: "longer than the model allows" in text(app))
        for key in TOO_LONG:
            del changed[key]
        await pilot.press("p")
        await until("the profiles", lambda: app.model is None and "cpu-smoke" in text(app), PLAN_S)
        await launch(pilot)
        try:
            await until(
                "some phases", lambda: text(app).count("✓") >= PHASES_DONE or state(app) is ServerState.READY, PHASES_S
            )
            await shoot("loading", NARROW)
            await until("ready", lambda: state(app) is ServerState.READY, READY_S)
            url = app.model.run.url if app.model else ""
            begin = time.monotonic()
            await wave(begin, lambda clients: load(url, clients))

            def raise_slots() -> bool:
                hints = app.model.snapshot.hints if app.model and app.model.snapshot else ()
                return any(h.state is HintState.FIRING and h.change for h in hints)

            def busy_with_hint() -> bool:
                shown = text(app)
                return raise_slots() and "max_num_seqs 2 →" in shown and "running 2/2" in shown

            with load(url, CLIENTS):
                await asyncio.sleep(max(begin + CHARTED_S - time.monotonic(), 0))
                await shoot("dashboard", WIDE, NARROW, when=busy_with_hint, limit_s=HINT_S)
                await pilot.press("l")
                await asyncio.sleep(1.0)
                await shoot("log", NARROW, WIDE, when=lambda: "Engine 000" in text(app))
            await pilot.press("c", *PROMPT, "enter")
            await until("an answer", lambda: "TTFT" in text(app) and "streaming" not in text(app), READY_S)
            await shoot("chat", NARROW)
        finally:
            await stop(app)


def measuring(shown: str) -> bool:
    """Whether a benchmark runs, by the key that ends it."""
    return "x cancel" in shown


def half_done(shown: str) -> bool:
    """Whether a benchmark runs, and its first row is there to be seen."""
    return measuring(shown) and ("row 2 of" in shown or "row 3 of" in shown)


@contextlib.contextmanager
def load(url: str, clients: int) -> Iterator[None]:
    """Keep so many requests in flight, from a process of its own: the console that is pictured has its own to do."""
    child = subprocess.Popen([sys.executable, "-c", LOAD, url, str(clients), str(ANSWER_TOKENS)], cwd=REPOSITORY)
    try:
        yield
    finally:
        child.kill()
        child.wait()


async def wave(begin: float, load: Callable[[int], Any]) -> None:
    """A light load, a heavy one and a lull, so that the curves have something to show."""
    for clients, end_s in ((1, 25.0), (CLIENTS, LULL_S[0]), (1, LULL_S[1])):
        with load(clients):
            await asyncio.sleep(max(begin + end_s - time.monotonic(), 0))
