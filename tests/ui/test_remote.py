"""A run on another machine on the screen: whose it is, and that there is no way to it now."""

from __future__ import annotations

import asyncio

import pytest
from rich.cells import cell_len

from console.client.api import Away
from console.core.models import EventRecord, Level
from console.protocol import Happened
from tests.fakes.backend import NOW_S, FakeBackend, FakeSession, attached, history, snapshot
from tests.ui.screen_text import grid, running, text, wait_for, wait_text

BOX = "me@gpu-box"


def away(attempt: int = 3) -> Away:
    return Away(attempt=attempt, reason="The host cannot be reached", remedy="Try: ssh [b]box", since_s=NOW_S)


@pytest.mark.parametrize("size", [(60, 20), (80, 24), (160, 50)])
async def test_the_machine_is_named_and_a_drop_is_seen(size: tuple[int, int]) -> None:
    backend, _ = attached(history(), snapshot(), away())
    async with running(backend, size, host=BOX) as pilot:
        words = "disconnected, trying again (3)" if size[0] >= 80 else "disconnected (3)"
        await wait_text(pilot, BOX, words, "flash-4x", "The host cannot be", "[b]box")
        assert BOX in grid(pilot.app)[0]
        assert all(cell_len(row.rstrip()) <= size[0] for row in grid(pilot.app))
        await pilot.press("s")
        await wait_text(pilot, f"on {BOX}?")


async def test_it_comes_back_with_its_event() -> None:
    backend, session = attached(history(), snapshot(), away())
    assert isinstance(session, FakeSession)
    async with running(backend, host=BOX) as pilot:
        await wait_text(pilot, "disconnected")
        await pilot.press("c")
        await wait_text(pilot, "no connection to the")
        await pilot.press("escape")
        note = EventRecord(time_s=NOW_S, kind="note", text=f"{BOX} was out of reach for 12s", level=Level.WARN)
        session.push(Happened(event=note), snapshot())
        await wait_for(pilot, lambda: "disconnected" not in text(pilot.app), "it is back")
        await pilot.press("5")
        await wait_text(pilot, "out of reach for 12s")


async def test_profiles_are_those_of_that_machine() -> None:
    async with running(FakeBackend(), host="a-very-long-name-of-a-machine.example.org") as pilot:
        await wait_text(pilot, "a-very-long-name-of-a-m", "profiles")


@pytest.mark.parametrize("size", [(80, 24), (160, 50)])
async def test_what_can_run_there_names_the_machine(size: tuple[int, int]) -> None:
    async with running(FakeBackend(), size, host=BOX) as pilot:
        await wait_text(pilot, f"can run on {BOX}", f"http://127.0.0.1:8000 on {BOX}")
        shown = text(pilot.app)
        assert "can run here" not in shown
        assert "this machine" not in shown
        await pilot.press("o")
        await wait_text(pilot, f"only what runs on {BOX}")
        assert all(cell_len(row.rstrip()) <= size[0] for row in grid(pilot.app))


async def test_what_is_held_is_let_go_of_at_the_end() -> None:
    ended = asyncio.Event()

    async def end() -> None:
        ended.set()

    backend, session = attached(history(), snapshot())
    async with running(backend, host=BOX, at_end=end) as pilot:
        await wait_text(pilot, "READY")
    assert ended.is_set()
    assert session.closed
