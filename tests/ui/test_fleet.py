"""The fleet on the screen: rows, keys, the way to a dashboard and back, and its empty, loading and failing states."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from rich.cells import cell_len

from console.client.api import Away, Lost, Session, Update
from console.core.errors import RemoteError, StateError
from console.core.hosts import called_here, is_machine, machine_row
from console.core.models import RunInfo, ServerState, ServerStatus, SourceStatus
from console.core.preferences import Preferences
from console.core.watching import WATCH, Trouble
from console.protocol import Pushed
from console.tui.screens.dashboard import DashboardScreen
from console.tui.screens.fleet import FleetScreen
from console.tui.screens.picker import PickerScreen
from tests.fakes.backend import BUSY, NOW_S, RAISE, RUN, FakeBackend, FakeSession, gpus, snapshot
from tests.ui.screen_text import grid, running, text, wait_for, wait_text

GOLDENS = Path(__file__).parent / "goldens"


def run_of(number: int, **changes: Any) -> RunInfo:
    return replace(
        RUN,
        id=f"2026111{number % 10}-{number:06d}-flash-4xh200",
        profile_name=f"flash-{number:02d}",
        url=f"http://127.0.0.1:{8000 + number}",
        env={"CUDA_VISIBLE_DEVICES": "0,1,2,3" if number % 2 else "4,5,6,7"},
        **changes,
    )


class Ticking(FakeSession):
    """Tells its newest snapshot again and again, so that it is never old however slow the machine is."""

    newest: Update | None = None

    async def updates(self, history_s: float = 0.0) -> AsyncIterator[Update]:
        """Everything pushed, and in between the newest snapshot; ends after `Lost`."""
        while True:
            while not self.queue.empty():
                update = self.queue.get_nowait()
                self.newest = update if isinstance(update, Pushed) else None
                yield update
                if isinstance(update, Lost):
                    return
            if self.newest is not None:
                yield self.newest
            await asyncio.sleep(0.1)


class Watched(Ticking):
    """An endpoint that the console did not start."""

    refusal = "This endpoint is watched over HTTP: nothing can be changed there."


def endpoint(name: str, trouble: Trouble | None = None, reason: str = "") -> tuple[RunInfo, FakeSession]:
    run = RunInfo(
        id=f"watch:{name}", profile_name=name, url=f"http://{name}:8000", model="tiny", created_s=NOW_S, state="ready"
    )
    session = Watched(run, log=["The log of this server is on its own machine."])
    state = ServerState.READY if trouble is None else ServerState.UNHEALTHY
    sources = [SourceStatus(name=name, ok=False, error="not seen over HTTP") for name in ("gpu", "host")]
    if trouble is not None:
        sources.append(SourceStatus(name=WATCH, ok=False, error=str(trouble)))
    engine = None if trouble is not None else BUSY
    status = ServerStatus(state=state, reason=reason)
    session.push(
        snapshot(status=status, engine=engine, gpus=None, host=None, money=None, hints=(), sources=tuple(sources))
    )
    return run, session


def fleet(*extra: tuple[RunInfo, FakeSession], runs: int = 2) -> FakeBackend:
    """So many runs, the second with a hint, and these."""
    found = []
    for number in range(1, runs + 1):
        run = run_of(number)
        session = Ticking(run)
        hints = (RAISE,) if number == 2 else ()
        session.push(snapshot(engine=BUSY, gpus=gpus(4), hints=hints))
        found.append((run, session))
    found += extra
    return FakeBackend(runs=[run for run, _ in found], sessions={run.id: session for run, session in found})


UNREACHABLE = ("east", Trouble.UNREACHABLE, "http://east:8000: connection refused")
KEY = ("north", Trouble.KEY, "the server wants an API key (HTTP 401); name the variable: --api-key-env NAME")


@pytest.mark.parametrize("size", [(60, 20), (80, 24), (100, 30), (160, 50), (220, 60)])
async def test_all_servers_worst_first(size: tuple[int, int]) -> None:
    async with running(fleet(endpoint(*UNREACHABLE), endpoint(*KEY), endpoint("west")), size) as pilot:
        await wait_text(pilot, "Fleet", "5 servers", "✖ unreachable", "▲ wants a key", "● ready", "3 of 5 ready")
        rows = grid(pilot.app)
        places = [next(i for i, row in enumerate(rows) if name in row) for name in ("east", "north", "flash-02")]
        assert places == sorted(places)
        assert "connection refused" in text(pilot.app), "the selected row says why"
        shown = text(pilot.app)
        assert "waiting 123" in " ".join(shown.split())
        assert all(len(row) <= size[0] for row in rows)
        if size[0] >= 80:
            assert "$14.76" in shown
            assert "$29.52/h and 3 without a price" in " ".join(shown.split())
        if size[0] >= 160:
            assert "127.0.0.1:8001" in shown


async def test_sixteen_rows_fit() -> None:
    async with running(fleet(endpoint("west"), runs=15), (160, 50)) as pilot:
        await wait_text(pilot, "16 servers", "16 of 16 ready", "60 GPUs")
        assert all(f"flash-{number:02d}" in text(pilot.app) for number in range(1, 16))
        assert "west" in text(pilot.app)
    async with running(fleet(endpoint("west"), runs=15), (80, 24)) as pilot:
        await wait_text(pilot, "16 servers", "16 of 16 ready", "▸ flash-02")
        await pilot.press("G")
        await wait_text(pilot, "▸ west", "http://west:8000", "16 of 16 ready", "q quit")


async def test_enter_opens_and_escape_comes_back() -> None:
    backend = fleet(endpoint(*UNREACHABLE))
    async with running(backend, (100, 30)) as pilot:
        await wait_text(pilot, "3 servers", "▸ east", "▲ 1")
        await pilot.press("j")
        await wait_text(pilot, "▸ flash-02")
        session = backend.sessions[run_of(2).id]
        await pilot.press("enter")
        await wait_for(pilot, lambda: isinstance(pilot.app.screen, DashboardScreen), "the dashboard")
        await wait_text(pilot, "READY", "flash-02", "esc fleet")
        await pilot.press("escape")
        await wait_for(pilot, lambda: isinstance(pilot.app.screen, FleetScreen), "the fleet again")
        await wait_text(pilot, "3 servers", "▸ flash-02")
        await pilot.press("escape")
        await wait_for(pilot, lambda: isinstance(pilot.app.screen, PickerScreen), "the profiles")
        await pilot.press("M")
        await wait_text(pilot, "Fleet", "3 servers")
        await pilot.press("enter")
        await wait_for(pilot, lambda: isinstance(pilot.app.screen, DashboardScreen), "a dashboard again")
        await pilot.press("p")
        await wait_for(pilot, lambda: isinstance(pilot.app.screen, PickerScreen), "the profiles, past the fleet")
        assert not session.stops


async def test_from_a_dashboard_to_the_fleet_and_no_second_one() -> None:
    backend = fleet(runs=1)
    async with running(backend) as pilot:
        await wait_text(pilot, "READY", "flash-01")
        assert "esc fleet" not in text(pilot.app)
        await pilot.press("escape")
        assert isinstance(pilot.app.screen, DashboardScreen), "there is nothing to go back to"
        await pilot.press("M")
        await wait_text(pilot, "Fleet", "1 server")
        await pilot.press("M")
        await pilot.pause()
        assert sum(isinstance(screen, FleetScreen) for screen in pilot.app.screen_stack) == 1


@pytest.mark.parametrize("readonly", [False, True])
async def test_an_endpoint_can_only_be_looked_at(readonly: bool) -> None:
    run, session = endpoint("west")
    backend = FakeBackend(runs=[run], sessions={run.id: session})
    preferences = Preferences(readonly=readonly)
    async with running(backend, (100, 30), preferences=preferences) as pilot:
        await wait_text(pilot, "READY", "west")
        assert "s stop" not in text(pilot.app)
        assert "r restart" not in text(pilot.app)
        await wait_text(pilot, "not seen over HTTP")
        for key in ("s", "r"):
            await pilot.press(key)
            await wait_for(pilot, lambda: bool(pilot.app._notifications), "why not")
            said = [note.message for note in pilot.app._notifications]
            assert any("watched over HTTP" in note for note in said)
            pilot.app.clear_notifications()
        await pilot.press("4", "enter")
        await wait_for(pilot, lambda: bool(pilot.app._notifications), "why nothing is measured")
        await pilot.press("2")
        await wait_text(pilot, "on its own machine")
        await pilot.press("q")
        await wait_for(pilot, lambda: pilot.app.return_code is not None or not pilot.app.is_running, "left unasked")
    assert not session.stops
    assert session.restarts == 0


async def test_trouble_of_an_endpoint_stands_over_its_dashboard() -> None:
    run, session = endpoint(*KEY)
    async with running(FakeBackend(runs=[run], sessions={run.id: session})) as pilot:
        await wait_text(pilot, "UNHEALTHY", "the server wants an API key", "--api-key-env")
        assert "r restarts" not in text(pilot.app)


class Machines(FakeBackend):
    """One machine whose run is out of reach, one that was never reached, one that serves."""

    async def attach(self, run_id: str) -> Session:
        if is_machine(run_id):
            raise RemoteError("The host refused every key and password", "node-c", "Make it work first: ssh node-c")
        return await super().attach(run_id)


def machines() -> Machines:
    found: list[tuple[RunInfo, FakeSession]] = []
    for number, host in ((1, "node-a"), (2, "node-b")):
        run = called_here(host, run_of(number))
        session = Ticking(run)
        session.push(snapshot(engine=BUSY, gpus=gpus(4), hints=()))
        found.append((run, session))
    lost = FakeSession(found[1][0])
    lost.push(Away(attempt=2, reason="The host cannot be reached: [b]timed out", since_s=NOW_S))
    found[1] = (found[1][0], lost)
    local = run_of(3)
    here = Ticking(local)
    here.push(snapshot(engine=BUSY, gpus=gpus(4), hints=()))
    found.append((local, here))
    return Machines(
        runs=[*(run for run, _ in found), machine_row("node-c")], sessions={run.id: session for run, session in found}
    )


HOSTS = ("node-a", "node-b", "node-c")


@pytest.mark.parametrize("size", [(60, 20), (80, 24), (160, 50)])
async def test_servers_of_several_machines(size: tuple[int, int]) -> None:
    """It opens on the fleet; what is out of reach says why, counts for its price, and is no server where unknown."""
    async with running(machines(), size, hosts=HOSTS) as pilot:
        await wait_text(pilot, "Fleet", "2 of 3 ready", "✖ unreachable", "node-c")
        shown = " ".join(text(pilot.app).split())
        assert "1 machine out of reach" in shown
        assert "$44.28/h" in shown
        assert "timed out" in shown, "the first row is the worst"
        assert all(cell_len(row.rstrip()) <= size[0] for row in grid(pilot.app))
        if size[0] >= 80:
            assert "node-a/flash-01" in shown
            assert "node-b/flash-02" in shown
        await pilot.press("j")
        await wait_text(pilot, "▸ node-c", "refused every key", "not known what runs there")
        await pilot.press("enter")
        await wait_text(pilot, "ssh node-c")
        await pilot.press("escape", "G")
        await wait_for(pilot, lambda: isinstance(pilot.app.screen, FleetScreen), "the fleet again")
        await pilot.press("k")
        await pilot.press("enter")
        await wait_for(pilot, lambda: isinstance(pilot.app.screen, DashboardScreen), "the dashboard")


@pytest.mark.parametrize("size", [(80, 24), (160, 50)])
async def test_golden_of_several_machines(size: tuple[int, int]) -> None:
    """Run with `UPDATE_GOLDENS=1` to accept a change."""
    path = GOLDENS / f"fleet-hosts-{size[0]}x{size[1]}.txt"
    async with running(machines(), size, hosts=HOSTS) as pilot:
        await wait_text(pilot, "2 of 3 ready", "cannot be reached", "out of reach")
        await wait_for(pilot, lambda: " ◌ " not in text(pilot.app), "all have answered")
        shown = text(pilot.app) + "\n"
    if os.environ.get("UPDATE_GOLDENS"):
        path.write_text(shown, encoding="utf-8")
    assert shown == path.read_text(encoding="utf-8")


async def test_the_run_of_another_machine_has_its_name_before_it() -> None:
    backend = machines()
    run = backend.sessions[called_here("node-a", run_of(1)).id].run
    vars(backend.sessions[run.id])["host"] = "node-a"
    async with running(backend, (100, 30), hosts=HOSTS) as pilot:
        await wait_text(pilot, "2 of 3 ready")
        pilot.app.start_attach_to(run.id)  # type: ignore[attr-defined]
        await wait_text(pilot, "READY", "flash-01")
        assert "node-a" in grid(pilot.app)[0]
        await pilot.press("s")
        await wait_text(pilot, "Stop flash-01 on node-a?")
        await pilot.press("escape", "escape")
        await wait_text(pilot, "2 of 3 ready")
        await pilot.press("escape")
        await wait_text(pilot, "3 running", "flash-4xh200")
        assert "node-a" not in grid(pilot.app)[0], "the profiles are those of this machine"


class Empty(FakeBackend):
    """Names no server, after a while or with an error."""

    hold: asyncio.Event | None = None
    broken = False

    async def runs(self) -> tuple[RunInfo, ...]:
        if self.hold is not None:
            await self.hold.wait()
        if self.broken:
            raise StateError("Cannot read the runs", "/state: [bold]denied[/bold]", "Make it readable.")
        return ()


async def test_empty_loading_and_failing() -> None:
    backend = Empty()
    async with running(backend) as pilot:
        await wait_text(pilot, "flash-4xh200")
        backend.hold = asyncio.Event()
        await pilot.press("M")
        await wait_text(pilot, "Asking which servers there are")
        backend.hold.set()
        await wait_text(pilot, "Nothing runs here and nothing is watched", "--watch http://HOST:PORT")
        backend.broken = True
        await wait_text(pilot, "Cannot read the runs", "[bold]denied[/bold]")


async def test_a_lost_supervisor_is_told_and_its_figures_go() -> None:
    backend = fleet(runs=2)
    async with running(backend) as pilot:
        await pilot.pause()
        await wait_text(pilot, "Attach to which server?")
        await pilot.press("escape", "M")
        await wait_text(pilot, "2 of 2 ready")
        backend.sessions[run_of(1).id].push(Lost(reason="the supervisor closed the line"))
        await wait_text(pilot, "▸ flash-02", "▲ lost", "1 of 2 ready")
        await pilot.press("g")
        await wait_text(pilot, "▸ flash-01", "the supervisor closed the line")


async def test_text_from_outside_is_text() -> None:
    run, session = endpoint("[bold]x[/bold]\x1b[31m", Trouble.FOREIGN, "[link=y]said\x07")
    other = endpoint("west")
    backend = FakeBackend(runs=[run, other[0]], sessions={run.id: session, other[0].id: other[1]})
    async with running(backend, (160, 50)) as pilot:
        await wait_text(pilot, "[bold]x[/bold]", "[link=y]said")
        assert "\x1b" not in text(pilot.app)


async def test_no_fleet_in_a_recording() -> None:
    async with running(fleet(runs=1), replay=True) as pilot:
        await wait_text(pilot, "READY")
        await pilot.press("M")
        await wait_for(pilot, lambda: bool(pilot.app._notifications), "why not")
        assert not isinstance(pilot.app.screen, FleetScreen)


@pytest.mark.parametrize("size", [(80, 24), (160, 50)])
async def test_golden(size: tuple[int, int]) -> None:
    """Run with `UPDATE_GOLDENS=1` to accept a change."""
    path = GOLDENS / f"fleet-{size[0]}x{size[1]}.txt"
    async with running(fleet(endpoint(*UNREACHABLE), endpoint("west")), size) as pilot:
        await wait_text(pilot, "3 of 4 ready", "▲ 1", "connection refused")
        shown = text(pilot.app) + "\n"
    if os.environ.get("UPDATE_GOLDENS"):
        path.write_text(shown, encoding="utf-8")
    assert shown == path.read_text(encoding="utf-8")
