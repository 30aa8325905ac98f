"""The fourth pane: asking, measuring, cancelling, the curve, and an earlier result beside this one."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from msgspec.structs import replace

from console.core.bench import BenchPoint, BenchResult, Shape
from console.core.errors import ServerFailedError
from console.tui.paint import plain
from console.tui.widgets.bench_pane import GROUP
from console.tui.widgets.curve import Dot, curve
from tests.fakes.backend import CPU_RUN, NOW_S, RUN, FakeBackend, attached, history, snapshot
from tests.ui.screen_text import running, text, wait_for, wait_text

GOLDENS = Path(__file__).parent / "goldens"


def row(concurrency: int, rate: float, ttft_s: float, **changes: object) -> BenchPoint:
    base = BenchPoint(
        shape=Shape.CHAT,
        concurrency=concurrency,
        seed=concurrency,
        started_s=NOW_S,
        duration_s=60.0,
        completed=4 * concurrency,
        requests_per_s=rate / 1024,
        output_tokens_per_s=rate,
        total_tokens_per_s=2 * rate,
        ttft_p50_s=ttft_s,
        ttft_p99_s=2.2 * ttft_s,
        tpot_p50_s=0.009 + ttft_s / 50,
        itl_p99_s=0.03,
        gpu_util_percent=61.0,
        kv_cache_peak=0.34,
        power_w=2210.0,
        usd_per_million_tokens=14.76 / 3.6 / rate * 1000,
    )
    return replace(base, **changes)


ROWS = (row(1, 104.0, 0.12), row(8, 690.0, 0.19), row(32, 2_060.0, 0.44), row(128, 3_480.0, 1.7, failed=2))
EARLIER = BenchResult(
    id="20261117-101500-chat",
    created_s=NOW_S - 90_000,
    run_id="20261117-100000-flash-4xh200",
    profile_name="flash-4xh200",
    model="deepseek-ai/DeepSeek-V4-Flash",
    input_tokens=1024,
    output_tokens=1024,
    points=tuple(
        replace(each, output_tokens_per_s=each.output_tokens_per_s * 0.6, ttft_p50_s=(each.ttft_p50_s or 0) * 1.3)
        for each in ROWS
    ),
)
OTHER_LOAD = replace(EARLIER, id="20261116-090000-code", output_tokens=256)
NONE_ALIKE = replace(EARLIER, id="20261115-090000-long", points=(replace(ROWS[0], shape=Shape.LONG),))


def backend(**given: object) -> FakeBackend:
    made = attached(history(), snapshot())[0]
    made.bench_rows = ROWS
    for name, value in given.items():
        setattr(made, name, value)
    return made


async def measured(pilot: object, *keys: str) -> None:
    await wait_text(pilot, "READY")  # type: ignore[arg-type]
    await pilot.press("4")  # type: ignore[attr-defined]
    await wait_text(pilot, "Shape chat", "enter measures")  # type: ignore[arg-type]
    await pilot.press("enter")  # type: ignore[attr-defined]
    await wait_text(pilot, "Measure flash-4xh200?", "4 rows, 680 requests, up to 128 at once.", "load on")  # type: ignore[arg-type]
    await pilot.press(*keys)  # type: ignore[attr-defined]


async def test_measuring() -> None:
    made = backend()
    async with running(made) as pilot:
        await measured(pilot, "y")
        await wait_text(pilot, "3.5k", "$1.18", "output tok/s", "TTFT p50", "●128")
        (run_id, plan) = made.benched[0]
        assert (run_id, plan.shape, plan.concurrency, plan.repeats) == (RUN.id, Shape.CHAT, (1, 8, 32, 128), 1)
        await pilot.press("m")
        await wait_text(pilot, "TPOT p50")


async def test_it_can_be_declined_and_set() -> None:
    made = backend()
    async with running(made) as pilot:
        await measured(pilot, "n")
        await pilot.press("t", "n", "v")
        await wait_text(pilot, "Shape code 8,192 in, 256 out, 60% shared", "Clients 1,4,16", "Repeats 3")
        assert made.benched == []


async def test_cancelling_keeps_what_is_done() -> None:
    made = backend(bench_hold=asyncio.Event())
    async with running(made) as pilot:
        await measured(pilot, "y")
        await wait_text(pilot, "row 1 of 4", "x cancel")
        await pilot.press("enter")
        await wait_text(pilot, "row 1 of 4")
        await pilot.press("x")
        await wait_for(pilot, lambda: made.bench_cancelled, "cancelled")
        await wait_text(pilot, "⏎ measure")
        assert len(made.benched) == 1


@pytest.mark.parametrize("keys", [("p",), ("q", "l")])
async def test_leaving_cancels_it(keys: tuple[str, ...]) -> None:
    made = backend(bench_hold=asyncio.Event())
    async with running(made) as pilot:
        await measured(pilot, "y")
        await wait_text(pilot, "row 1 of 4")
        await pilot.press(keys[0])
        if keys[1:]:
            await wait_text(pilot, "The benchmark ends")
            await pilot.press(*keys[1:])
        await wait_for(pilot, lambda: made.bench_cancelled, "cancelled")
        assert not any(worker.group == GROUP and worker.is_running for worker in pilot.app.workers)


async def test_a_failure_is_told_with_its_remedy() -> None:
    error = ServerFailedError("The server failed during the benchmark", "run: crashed", "Look at its log.")
    async with running(backend(bench_error=error)) as pilot:
        await measured(pilot, "y")
        await wait_text(pilot, "✖ The server failed during the benchmark", "run: crashed", "Look at its log.")


async def test_an_earlier_result_beside_it() -> None:
    async with running(backend(bench_kept=(EARLIER, OTHER_LOAD, NONE_ALIKE))) as pilot:
        await measured(pilot, "y")
        await wait_text(pilot, "Earlier", EARLIER.id, "3.5k")
        await pilot.press("down")
        await wait_text(pilot, "▸ 20261117-101500-chat", "1.67 (1.67 to 1.67)", "too few repeats", "8: 1.67")
        await pilot.press("down")
        await wait_text(pilot, "of another length: not comparable")
        await pilot.press("down")
        await wait_text(pilot, "has no row of the same shape")
        await pilot.press("down")
        await wait_for(pilot, lambda: "▸" not in text(pilot.app), "none beside it")


async def test_without_figures_of_a_gpu() -> None:
    made = attached(history(count=0), snapshot(gpus=None), run=CPU_RUN)[0]
    made.bench_notes = ("No GPU figures: this machine has no GPU that NVML shows.",)
    made.bench_rows = tuple(
        replace(each, gpu_util_percent=None, power_w=None, usd_per_million_tokens=None) for each in ROWS[:1]
    )
    async with running(made) as pilot:
        await wait_text(pilot, "READY")
        await pilot.press("b", "enter")
        await wait_text(pilot, "Measure cpu-smoke?")
        await pilot.press("y")
        await wait_text(pilot, "104", "–", "No GPU figures")


@pytest.mark.parametrize("size", [(80, 24), (160, 50)], ids=lambda size: f"{size[0]}x{size[1]}")
async def test_golden(size: tuple[int, int]) -> None:
    """Run with `UPDATE_GOLDENS=1` to accept a change."""
    path = GOLDENS / f"bench-{size[0]}x{size[1]}.txt"
    async with running(backend(bench_kept=(EARLIER,)), size) as pilot:
        await measured(pilot, "y")
        await wait_text(pilot, "3.5k", "Earlier")
        await pilot.press("down")
        await wait_text(pilot, "▸ 20261117-101500-chat")
        if os.environ.get("UPDATE_GOLDENS"):
            await pilot.pause(0.4)
            path.write_text(text(pilot.app) + "\n", encoding="utf-8")
        wanted = path.read_text(encoding="utf-8")
        await wait_for(pilot, lambda: text(pilot.app) + "\n" == wanted, f"looks like {path.name}")


@pytest.mark.parametrize("size", [(60, 20), (300, 100)])
async def test_it_fits_and_is_ascii_where_it_must_be(size: tuple[int, int]) -> None:
    async with running(backend(bench_kept=(EARLIER,)), size, ascii_glyphs=True) as pilot:
        await wait_text(pilot, "READY")
        await pilot.press("4", "enter")
        await wait_text(pilot, "Measure flash")
        await pilot.press("y")
        await wait_text(pilot, "3.5k")
        assert text(pilot.app).isascii()


def test_the_curve_has_labelled_axes_and_joins_its_points() -> None:
    dots = [Dot(0.1, 100, "1"), Dot(0.4, 700, "8"), Dot(1.0, 1000, "32")]
    rows = [plain(each) for each in curve(dots, [Dot(0.5, 500, "x")], "TTFT p50", 60, 12)]
    assert len(rows) == 12
    assert all(len(each) <= 60 for each in rows)
    assert rows[0].startswith("output tok/s")
    assert rows[1].startswith("   1k┤")
    assert rows[1].rstrip().endswith("32●")
    assert rows[9].startswith("    0┤")
    assert "TTFT p50" in rows[-1]
    assert rows[-1].rstrip().endswith("1.0 s")
    drawn = "\n".join(rows)
    assert drawn.count("●") == 3
    assert drawn.count("○") == 1
    assert "x" not in drawn
    assert drawn.count("·") > 20


def test_the_curve_says_when_there_is_nothing_and_hides_without_room() -> None:
    assert curve([], [], "TTFT", 60, 4) == []
    assert plain(curve([], [], "TTFT", 60, 12)[0]) == "The curve comes with the first row."
