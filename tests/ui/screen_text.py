"""The screen as characters, and waiting on conditions. The only user of Textual's compositor here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from textual.app import App
from textual.pilot import Pilot

from console.tui.app import ConsoleApp
from tests.fakes.backend import NOW_S, FakeBackend

WAIT_S = 60.0
"""A starved machine may show nothing for seconds."""


def grid(app: App[Any]) -> list[str]:
    """What the terminal shows, a string per row."""
    return [strip.text for strip in app.screen._compositor.render_strips()]


def text(app: App[Any]) -> str:
    """All of it, without the blanks at the ends."""
    return "\n".join(row.rstrip() for row in grid(app))


async def wait_for(pilot: Pilot[Any], condition: Callable[[], object], what: str) -> None:
    """Let the app work until the condition holds."""
    until = time.monotonic() + WAIT_S
    while time.monotonic() < until:
        if condition():
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"never: {what}\n{text(pilot.app)}")


async def wait_text(pilot: Pilot[Any], *wanted: str) -> None:
    """Wait until all of these stand on the screen."""
    await wait_for(pilot, lambda: all(w in text(pilot.app) for w in wanted), f"shows {wanted}")


@asynccontextmanager
async def running(backend: FakeBackend, size: tuple[int, int] = (80, 24), **options: Any) -> AsyncIterator[Pilot[Any]]:
    """The app on this backend."""
    app = ConsoleApp(backend, clock=lambda: NOW_S, **options)
    async with app.run_test(size=size) as pilot:
        yield pilot
