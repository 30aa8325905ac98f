"""A group on one screen: two machines of eight GPUs, phases of each, both logs, and what acts on all of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from rich.cells import cell_len

from console.core.models import GpuReading, Phase, PhaseTime, Sample, ServerState, Snapshot
from console.protocol import History
from console.tui.log_lines import machine_first
from tests.fakes.backend import HOST, NOW_S, history, loading
from tests.fakes.group import HOSTS, attached_group, group_snapshot, loading_nodes, node
from tests.ui.screen_text import grid, running, text, wait_for, wait_text

GOLDENS = Path(__file__).parent / "goldens"
SIZES = [(80, 24), (160, 50)]
CUT = {"silent_s": 37.0, "silent_why": "No connection to node-b: the far end hung up"}
SLOW = node(1, 31.0)
OFF = node(1, **CUT)
LOADING = group_snapshot(
    *loading_nodes(), status=loading(Phase.WEIGHTS, progress=0.43), engine=None, hints=(), money=None
)


@pytest.mark.parametrize("size", [(60, 20), *SIZES])
async def test_gpus_stand_under_their_machines(size: tuple[int, int]) -> None:
    backend, _ = attached_group(history(), group_snapshot(node(0), SLOW))
    async with running(backend, size) as pilot:
        await wait_text(pilot, "READY", "node-a", "node-b")
        rows = grid(pilot.app)
        first, second = (next(y for y, row in enumerate(rows) if f" {host}  8 × " in row) for host in HOSTS)
        assert first < second
        above, below = "\n".join(rows[first:second]), "\n".join(rows[second:])
        assert above.count("9%") + above.count("90%") + above.count("91%") >= 8
        assert "31%" in below
        assert "31%" not in above
        assert all(cell_len(row.rstrip()) <= size[0] for row in rows)


@pytest.mark.parametrize("size", SIZES)
async def test_a_machine_that_is_cut_off_says_so_and_for_how_long(size: tuple[int, int]) -> None:
    backend, session = attached_group(history(), group_snapshot(node(0), OFF))
    async with running(backend, size) as pilot:
        await wait_text(
            pilot, "▲ cut off for 37s: No conn", "Cut off from here: node-b for 37s. What runs there goes on."
        )
        await pilot.press("6", "end")
        await wait_text(pilot, "GPU node-b/7", "▲ figures 37s old")
        await pilot.press("home")
        await wait_text(pilot, "GPU node-a/0", "1 of 16")
        session.push(group_snapshot(node(0), node(1)))
        await wait_for(pilot, lambda: "cut off" not in text(pilot.app).lower(), "it is heard again")


async def test_a_head_that_is_cut_off_has_a_gap_in_its_charts_until_its_past_is_told() -> None:
    def at(second: int, **changes: Any) -> Snapshot:
        return group_snapshot(node(0, **changes), node(1), time_s=NOW_S + second)

    backend, session = attached_group(history(), at(1))
    async with running(backend) as pilot:
        await wait_text(pilot, "READY")
        model = pilot.app.screen.model  # type: ignore[attr-defined]
        session.push(at(2, **CUT))
        session.push(at(3, **CUT))
        session.push(at(4))
        await wait_for(pilot, lambda: model.now == NOW_S + 4, "the newest")
        cpu = model.series["cpu"]
        assert [value is None for _, value in list(cpu.points(model.zoom))[-4:]] == [False, True, True, False]
        past = tuple(Sample(time_s=NOW_S + second, state=ServerState.READY, host=HOST) for second in (2, 3))
        session.push(History(samples=past))
        await wait_for(pilot, lambda: (NOW_S + 2, HOST.cpu_percent) in cpu.points(model.zoom), "the gap is filled")
        assert cpu.points(model.zoom)[-1][0] == NOW_S + 4


async def test_arrows_go_through_the_gpus_of_all_machines() -> None:
    backend, _ = attached_group(history(), group_snapshot())
    async with running(backend) as pilot:
        await wait_text(pilot, "READY")
        await pilot.press("6")
        await wait_text(pilot, "GPU node-a/0")
        for _ in range(8):
            await pilot.press("down")
        await wait_text(pilot, "GPU node-b/0", "9 of 16")


async def test_a_machine_without_gpus_says_so() -> None:
    backend, _ = attached_group(history(), group_snapshot(node(0), node(1, gpus=None, gpu_error="no NVIDIA driver")))
    async with running(backend) as pilot:
        await wait_text(pilot, "no figures of GPUs: no NVIDIA driver")


@pytest.mark.parametrize("size", [(60, 20), *SIZES])
async def test_the_start_shows_the_phases_of_each_machine(size: tuple[int, int]) -> None:
    backend, session = attached_group(LOADING)
    async with running(backend, size) as pilot:
        await wait_text(pilot, "Starting on 2 machines", "node-a", "node-b")
        if size[0] < 80:
            await wait_text(pilot, "loading: weights 43%", "loading: compile")
            return
        rows = grid(pilot.app)
        weights = next(row for row in rows if "load the weights" in row)
        assert weights.index("◐") < weights.index("✓")
        assert "43% shard 20/46" in weights
        assert "41s" in weights
        usual = (PhaseTime(phase=Phase.GRAPHS, seconds=20.0),)
        head, other = loading_nodes()
        session.push(
            group_snapshot(replace(head, expected=usual), replace(other, **CUT), status=loading(Phase.WEIGHTS))
        )
        await wait_text(pilot, "~20s", "cut off for 37s")


async def test_a_stop_shows_how_far_each_machine_is() -> None:
    status = replace(loading(Phase.SERVER), state=ServerState.STOPPING, in_flight=3, phase=None)
    nodes = (node(0, words="stopping"), node(1, words="ready"))
    backend, _ = attached_group(group_snapshot(*nodes, status=status))
    async with running(backend) as pilot:
        await wait_text(pilot, "3 requests in flight", "node-a  stopping", "node-b  ready")


@pytest.mark.parametrize(("key", "verb"), [("s", "Stop"), ("r", "Restart")])
async def test_what_acts_on_all_machines_names_them(key: str, verb: str) -> None:
    backend, session = attached_group(history(), group_snapshot())
    async with running(backend) as pilot:
        await wait_text(pilot, "READY")
        await pilot.press(key)
        await wait_text(pilot, f"{verb} 2x8xh200-native-v4-pro-dep on node-a, node-b?")
        assert (session.stops, session.restarts) == ([], 0)
        await pilot.press("y")
        await wait_for(pilot, lambda: session.stops or session.restarts, "it is done")


async def test_the_log_is_of_all_machines_and_one_can_be_chosen() -> None:
    backend, _ = attached_group(history(), group_snapshot())
    async with running(backend, (100, 30)) as pilot:
        await wait_text(pilot, "READY")
        await pilot.press("2")
        await wait_text(pilot, "node-a/Worker_TP0", "node-b/Worker_TP0", "node-b/  ")
        await pilot.press("P")
        await wait_text(pilot, "node-a: all of it", "node-b: all of it", "3 lines", "node-b/Worker_TP0")
        await pilot.press("down", "o", "q")
        await wait_for(pilot, lambda: "worker of the head" not in text(pilot.app), "the other one is gone")
        await wait_text(pilot, "a worker of the member", "the member began")


@pytest.mark.parametrize(
    ("process", "shown"),
    [
        ("node-a/Worker_TP0", "node-a/Worker_TP0"),
        ("me@gpu-node-17.example.org/Worker_TP0", "…node-17/Worker_TP0"),
        ("10.0.0.12/", "10.0.0.12/"),
        ("10.0.0.12/Worker_DP15_TP7", "….0.0.12/Worker_DP15_TP7"),
    ],
)
def test_the_ends_of_long_names_stay(process: str, shown: str) -> None:
    assert machine_first(process) == shown


async def test_names_of_machines_are_text() -> None:
    gpus: tuple[GpuReading, ...] | None = node(0).gpus
    backend, _ = attached_group(group_snapshot(node(0, host="[b]box[/b]", gpus=gpus), node(1)))
    async with running(backend) as pilot:
        await wait_text(pilot, "[b]box[/b]")
        await pilot.press("6")
        await wait_text(pilot, "GPU [b]box[/b]/0")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("state", ["serving", "loading"])
async def test_goldens(state: str, size: tuple[int, int]) -> None:
    """Run with `UPDATE_GOLDENS=1` to accept a change."""
    updates = (history(), group_snapshot(node(0), OFF)) if state == "serving" else (LOADING,)
    backend, _ = attached_group(*updates)
    path = GOLDENS / f"group-{state}-{size[0]}x{size[1]}.txt"
    async with running(backend, size) as pilot:
        await wait_text(pilot, "node-b", "and once more")
        await pilot.pause()
        if os.environ.get("UPDATE_GOLDENS"):
            path.write_text(text(pilot.app) + "\n", encoding="utf-8")
        await wait_for(pilot, lambda: text(pilot.app) + "\n" == path.read_text(encoding="utf-8"), f"is {path.name}")
