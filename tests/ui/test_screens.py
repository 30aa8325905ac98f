"""Every state at every size: no exception, the key texts in sight, nothing past the edge; and goldens of the grid."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import cast

import pytest
from msgspec.structs import replace
from rich.cells import cell_len

import console.tui
from console.core.errors import ConsoleError
from console.tui.app import ConsoleApp
from console.tui.paint import plain
from console.tui.screens.dashboard import DashboardScreen
from console.tui.screens.dialogs import Dialog
from console.tui.theme import LOOKS
from console.tui.widgets.profile_detail import detail_lines
from console.tui.widgets.profile_list import fit_text, machine_text
from tests.fakes.backend import ENTRIES, NO_GPU, FakeBackend
from tests.ui.screen_text import grid, running, text, wait_for, wait_text
from tests.ui.states import STATES

GOLDENS = Path(__file__).parent / "goldens"
SIZES = ((60, 20), (80, 24), (100, 30), (160, 50), (220, 60), (300, 100))
FULL = ("picker", "busy", "gpus-16", "gpus-16-telling", "loading", "failed", "unknown")
"""States that are taken through every size; the others through three."""
WANTED: dict[str, tuple[str, ...]] = {
    "picker": ("dsv4-console", "flash-4xh200", "my-flash", "mistakes", "launch"),
    "picker-no-gpu": ("no GPU", "cpu-smoke"),
    "picker-empty": ("There are no profiles.",),
    "busy": ("● READY", "$14.76/h", "GPU util", "KV cache", "32/32", "waiting 41", "TTFT", "1.8 s", "▲ Raise", "Log"),
    "telling": ("▲ missed", "● met", "5xx 2", "rejected 12"),
    "two-engines": ("busiest 1.9× the mean", "▲ missed"),
    "idle": ("● READY", "Nothing to change", "0/32"),
    "idle-warned": ("● READY", "idle 5m00s, stops in 25m00s", "$14.76/h", "K keep"),
    "no-gpu": ("● READY", "no price", "Host CPU", "No GPU", "no GPU"),
    "hints-many": ("3 hints", "1 of 4"),
    "hints-snoozed": ("● READY", "2 hints", "1 snoozed"),
    "events": ("● READY", "✖", "●", "▲"),
    "latencies": ("● READY", "▲ missed", "● met"),
    "hint-unjudged": ("○ Idle and costing money", "a price per hour"),
    "gpus-16": ("16 × H200", "15  "),
    "gpus-16-telling": ("16 × H200", "15  ", "▲ missed", "▲ e"),
    "gpu-silent": ("▲",),
    "gpu-trouble": ("4 × H200", "1.8 s", "▲"),
    "stale": ("41s old", "14s old"),
    "starting": ("◐ STARTING", "read the configuration", "start the API server"),
    "loading": ("◐ LOADING weights", "load the weights", "67%", "31/46"),
    "loading-known": ("1m15s of ~3m20s", "about 2m05s left", "~92%", "~5s left", "▸ ready", "~40s", "~1m20s"),
    "loading-counted": (
        "◐ LOADING graphs",
        "shard 46/46 · 39.50 GiB",
        "any moment now",
        "torch.compile 22.1 s",
        "FULL 5/11",
        "45%",
    ),
    "loading-graphs": ("capture CUDA graphs", "45s"),
    "unhealthy": ("▲ UNHEALTHY", "did not answer for 12 s"),
    "stopping": ("◐ STOPPING", "7 requests in flight", "22s"),
    "stopped": ("■ STOPPED", "Stopped as asked."),
    "failed": ("✖ FAILED", "Not enough GPU memory", "Lower max_model_len", "131072 → 32768", "line 3"),
    "failed-long": ("✖ FAILED", "no reasoning parser nope", "Reasoning parser 'nope'", "nope → unset", "f fix"),
    "crashed-unknown": ("✖ CRASHED", "'function' object is not subscriptable", "line 107; e shows it"),
    "crashed": ("✖ CRASHED", "signal 9"),
    "lost": ("▲ LOST", "connection reset", "attaches"),
    "unknown": ("● READY", "–"),
}
GOLDEN_PAIRS = (
    ("picker", (80, 24)),
    ("picker", (160, 50)),
    ("busy", (60, 20)),
    ("busy", (80, 24)),
    ("busy", (100, 30)),
    ("busy", (160, 50)),
    ("telling", (80, 24)),
    ("telling", (100, 30)),
    ("telling", (160, 50)),
    ("two-engines", (160, 50)),
    ("idle-warned", (80, 24)),
    ("no-gpu", (80, 24)),
    ("gpus-16", (80, 24)),
    ("gpus-16", (160, 50)),
    ("gpu-trouble", (80, 24)),
    ("gpu-trouble", (160, 50)),
    ("stale", (80, 24)),
    ("loading", (80, 24)),
    ("stopping", (80, 24)),
    ("failed", (80, 24)),
    ("hints-many", (160, 50)),
    ("hints-snoozed", (80, 24)),
    ("events", (80, 24)),
    ("events", (160, 50)),
    ("loading-known", (80, 24)),
    ("loading-counted", (80, 24)),
    ("loading-counted", (160, 50)),
)
PANE_GOLDENS = {
    "events-list": ("events", ("5", "up", "up"), ("▸all 12", "GPU 2: Xid 94")),
    "events-charts": ("events", ("5", "up", "up", "i"), ("GPU 2:", "GPU util")),
    "gpu-16": ("gpus-16", ("6", "right", "down"), (" of 16", "held by", "VLLM::Worker")),
    "gpu-wrong": (
        "gpu-trouble",
        ("6",),
        ("3 of 4", "✖ 94, 1m30s ago", "2 uncorrected", "a row waits for a reset", "held by"),
    ),
    "latency-charts": ("latencies", ("m",), ("┈ target 1.0 s", "TPOT p95 44 ms", "▲")),
}
"""Name → state, keys, and what must be seen."""


def test_each_state_names_what_must_be_seen() -> None:
    assert set(WANTED) == set(STATES)


@pytest.mark.parametrize("state", STATES)
async def test_state_fits(state: str) -> None:
    async with running(STATES[state](), SIZES[0]) as pilot:
        for size in SIZES if state in FULL else SIZES[:2] + SIZES[3:4]:
            await pilot.resize_terminal(*size)
            await wait_text(pilot, *WANTED[state], "quit")
            await wait_for(pilot, lambda size=size: len(grid(pilot.app)) == size[1], "as high as the terminal")
            rows = grid(pilot.app)
            assert all(cell_len(row) == size[0] for row in rows)
            for widget in pilot.app.screen.query("*"):
                if widget.display and widget.region:
                    assert widget.region.right <= size[0], widget
            if not state.startswith("picker"):
                assert any("Log ─" in row for row in rows[:-2]), "the log is always in sight"


@pytest.mark.parametrize(("state", "size"), GOLDEN_PAIRS, ids=lambda v: v if isinstance(v, str) else f"{v[0]}x{v[1]}")
async def test_golden(state: str, size: tuple[int, int]) -> None:
    """Run with `UPDATE_GOLDENS=1` to accept a change."""
    path = GOLDENS / f"{state}-{size[0]}x{size[1]}.txt"
    async with running(STATES[state](), size) as pilot:
        await wait_text(pilot, *WANTED[state])
        if os.environ.get("UPDATE_GOLDENS"):
            await pilot.pause(0.4)
            path.write_text(text(pilot.app) + "\n", encoding="utf-8")
        wanted = path.read_text(encoding="utf-8")
        await wait_for(pilot, lambda: text(pilot.app) + "\n" == wanted, f"looks like {path.name}")


@pytest.mark.parametrize("size", [(80, 24), (160, 50)], ids=lambda v: f"{v[0]}x{v[1]}")
@pytest.mark.parametrize("name", PANE_GOLDENS)
async def test_pane_golden(name: str, size: tuple[int, int]) -> None:
    """As `test_golden`, for what keys lead to."""
    state, keys, wanted_words = PANE_GOLDENS[name]
    path = GOLDENS / f"{name}-{size[0]}x{size[1]}.txt"
    async with running(STATES[state](), size) as pilot:
        await wait_text(pilot, *WANTED[state])
        await pilot.press(*keys)
        await wait_text(pilot, *wanted_words)
        if os.environ.get("UPDATE_GOLDENS"):
            await pilot.pause(0.4)
            path.write_text(text(pilot.app) + "\n", encoding="utf-8")
        wanted = path.read_text(encoding="utf-8")
        await wait_for(pilot, lambda: text(pilot.app) + "\n" == wanted, f"looks like {path.name}")


@pytest.mark.parametrize("keys", ["5", "6"])
@pytest.mark.parametrize("state", ["events", "gpus-16", "gpu-silent", "no-gpu", "loading", "failed", "unknown"])
async def test_panes_fit_in_every_state(state: str, keys: str) -> None:
    async with running(STATES[state](), SIZES[0], ascii_glyphs=state == "gpus-16") as pilot:
        await wait_text(pilot, "Log")
        await pilot.press(keys)
        await wait_text(pilot, {"5": "all ", "6": "GPU"}[keys])
        for size in (SIZES[0], SIZES[1], SIZES[3], SIZES[5]):
            await pilot.resize_terminal(*size)
            await wait_for(pilot, lambda size=size: len(grid(pilot.app)) == size[1], "as high as the terminal")
            await wait_text(pilot, "quit")
            rows = grid(pilot.app)
            assert all(cell_len(row) == size[0] for row in rows)
            for tab in ("1 Overview", "2 Logs", "3 Chat", "4 Bench", "5 Events", "6 GPUs"):
                assert tab in rows[1]
            if state == "gpus-16":
                assert text(pilot.app).isascii()


@pytest.mark.parametrize("state", ["busy", "picker", "failed", "loading", "gpus-16"])
async def test_ascii_only(state: str) -> None:
    async with running(STATES[state](), ascii_glyphs=True) as pilot:
        await wait_for(pilot, lambda: "quit" in text(pilot.app) and len(text(pilot.app)) > 300, "painted")
        assert text(pilot.app).isascii(), [c for c in text(pilot.app) if not c.isascii()]


async def test_too_small_says_so_and_comes_back() -> None:
    async with running(STATES["busy"]()) as pilot:
        await wait_text(pilot, "READY")
        await pilot.resize_terminal(40, 10)
        await wait_text(pilot, "This terminal is 40×10", "60×20")
        await pilot.resize_terminal(80, 24)
        await wait_text(pilot, "READY", "GPU util")


async def test_what_comes_up_on_a_small_terminal_does_not_cover_the_sentence() -> None:
    async with running(STATES["busy"](), (40, 10)) as pilot:
        await wait_text(pilot, "This terminal is 40×10", "60×20")
        app = cast(ConsoleApp, pilot.app)
        await wait_for(pilot, lambda: any(isinstance(each, DashboardScreen) for each in app.screen_stack), "attached")
        app.show_problem(ConsoleError("Something came up", "while nobody could see it", ""))
        await wait_for(pilot, lambda: any(isinstance(each, Dialog) for each in app.screen_stack), "it is there")
        await wait_text(pilot, "This terminal is 40×10")
        await pilot.resize_terminal(80, 24)
        await wait_text(pilot, "Something came up")
        await pilot.press("escape")
        await wait_text(pilot, "READY", "GPU util")


async def test_resize_storm() -> None:
    async with running(STATES["busy"]()) as pilot:
        await wait_text(pilot, "READY")
        for width, height in ((60, 20), (300, 100), (59, 19), (160, 50), (10, 3), (80, 24)):
            await pilot.resize_terminal(width, height)
        await wait_text(pilot, *WANTED["busy"])


def test_every_role_that_is_painted_has_a_look() -> None:
    package = Path(console.tui.__file__).parent
    source = "\n".join(path.read_text(encoding="utf-8") for path in package.rglob("*.py"))
    used = set(re.findall(r'", "([a-z-]+)"\)', source)) & {*LOOKS, "fill-bad", "select-muted", "title"}
    assert used <= set(LOOKS)
    assert {"muted", "strong", "warn"} <= used


def test_profiles_that_replace_a_shipped_one_are_marked_and_none_fits_on_foreign_hardware() -> None:
    own = replace(ENTRIES[0], origin="user (replaces shipped)")
    lines = [plain(row) for row in detail_lines(own, None, 78)]
    assert "* user (replaces shipped)" in lines[0]
    foreign = ENTRIES[2]
    assert foreign.fit.verdict == "fits"
    assert fit_text(foreign) == ("needs 8 × H100", "muted")
    shown = [plain(row) for row in detail_lines(foreign, None, 78, NO_GPU)]
    assert any("○ on 8 × H100, not here: fits" in row for row in shown)
    assert any(row.startswith("Machine   no NVIDIA driver") for row in shown)


async def test_the_mark_of_a_replaced_profile_is_in_the_list() -> None:
    own = replace(ENTRIES[0], origin="user (replaces shipped)")
    async with running(FakeBackend(entries=(own, *ENTRIES[1:]))) as pilot:
        await wait_text(pilot, "flash-4xh200*", "flash-2xh200 ")


def test_the_reason_for_no_gpu_is_short_in_the_header() -> None:
    machine = replace(NO_GPU, gpu_error="No NVIDIA driver found: The library libnvidia-ml.so.1 is not installed")
    assert machine_text(machine) == "no GPU: no NVIDIA driver found · 2 CPUs · 15 GiB RAM"
