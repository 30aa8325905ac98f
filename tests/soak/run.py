"""One soak: the real engine under load, a headless front end and a terminal UI attached, everything measured."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.benchmarks.terminal import Terminal
from tests.e2e.world import World, load, wait_for
from tests.soak.scales import Held, Roles, growth, holds, table

__all__ = ["Result", "soak"]

SETTLE_S = 15.0
"""After the front ends are up, before the first look: imports and first frames are no leak."""
CLIENTS = 2
ANSWER_TOKENS = 60
PAINT_S = 60.0
LOOK_S = 30.0
"""Between looks at whether all of it is still there."""


@dataclass
class Result:
    """What was seen."""

    moments: dict[str, tuple[float, dict[str, Held]]] = field(default_factory=dict)
    requests: int = 0
    failed: list[int | str] = field(default_factory=list)
    log_bytes: int = 0
    run_bytes: int = 0
    grown: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """The printed report."""
        shown = table(self.moments)
        shown.append(f"requests {self.requests:,}, not answered with 200: {len(self.failed)}")
        shown.append(
            f"run directory {self.run_bytes / 2**20:.1f} MiB, of it server.log {self.log_bytes / 2**20:.1f} MiB"
        )
        shown += [f"GREW: {each}" for each in self.grown] or ["flat: nothing grew beyond its bound"]
        return shown


def soak(world: World, seconds: float, say: Callable[[str], None]) -> Result:
    """Run for `seconds` under load.

    Raises:
        AssertionError: the server did not come up, or a process of the console ended.
    """
    headless = world.headless()
    headless.wait_ready()
    status = world.status()
    assert status is not None
    with _terminal(world) as screen:
        screen.wait_painted(PAINT_S)
        roles: Roles = {
            "supervisor": psutil.Process(status["run"]["supervisor_pid"]),
            "terminal UI": psutil.Process(screen.pid),
            "headless": psutil.Process(headless.child.pid),
        }
        result = Result()
        with load(world.url, CLIENTS, max_tokens=ANSWER_TOKENS) as statuses:
            _wait(SETTLE_S, roles)
            began = time.monotonic()
            for name, share in (("start", 0.0), ("middle", 0.5), ("end", 1.0)):
                _wait(seconds * share - (time.monotonic() - began), roles)
                result.moments[name] = (time.monotonic() - began, holds(roles))
                say(f"{name}: {len(statuses)} requests answered")
            answered = list(statuses)
        result.requests = len(answered)
        result.failed = [each for each in answered if each != 200]
    folder = Path(world.runs / status["run"]["id"])
    result.log_bytes = (folder / "server.log").stat().st_size
    result.run_bytes = sum(each.stat().st_blocks * 512 for each in folder.iterdir() if each.is_file())
    result.grown = growth(result.moments["start"][1], result.moments["end"][1])
    headless.interrupt()
    code = headless.wait_end()
    assert code == 0, headless.said
    wait_for("nothing to be left of the server", lambda: not world.engine_processes(), 30.0)
    return result


@contextlib.contextmanager
def _terminal(world: World) -> Iterator[Terminal]:
    screen = Terminal(world.command(), world.env)
    try:
        yield screen
    finally:
        screen.close()


def _wait(seconds: float, roles: Roles) -> None:
    """Let time pass; a process that ends meanwhile ends the soak."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(left, LOOK_S))
        for role, process in roles.items():
            alive = process.is_running() and process.status() != psutil.STATUS_ZOMBIE
            assert alive, f"the {role} has ended"
