"""One GPU in full: chosen by keys, with all that is told of it and its own charts."""

from __future__ import annotations

from console.core.models import GpuProcess
from console.tui.model import RANGES
from tests.fakes.backend import NOW_S, attached, gpu, gpus, history, snapshot
from tests.ui.screen_text import running, text, wait_for, wait_text
from tests.ui.states import STATES

GIB = 1024**3


async def test_any_of_sixteen_can_be_chosen() -> None:
    async with running(STATES["gpus-16"]()) as pilot:
        await wait_text(pilot, "READY")
        await pilot.press("6")
        await wait_text(pilot, "GPU 0  H200", "1 of 16", "505 W of 700 W cap", "VLLM::Worker_TP0")
        await pilot.press("down", "j")
        await wait_text(pilot, "GPU 2  H200", "3 of 16")
        await pilot.press("right")
        await wait_text(pilot, "GPU 6  H200", "7 of 16", "VLLM::Worker_TP6")
        await pilot.press("G")
        await wait_text(pilot, "GPU 15  H200", "16 of 16", "550 W")
        await pilot.press("right", "down")
        await wait_text(pilot, "16 of 16")
        await pilot.press("g", "left")
        await wait_text(pilot, "1 of 16")


async def test_the_one_with_which_something_is_wrong_is_chosen_first() -> None:
    async with running(STATES["gpu-trouble"](), (100, 30)) as pilot:
        await wait_text(pilot, "READY")
        await pilot.press("d")
        await wait_text(pilot, "GPU 2  H200", "✖ 2 uncorrected", "✖ 94, 1m30s ago", "▲ a row waits for a reset")
        await wait_text(pilot, "remedy    Xid 94: Restart the server; reset the GPU", "held by")


async def test_its_charts_follow_the_range_and_the_gpu() -> None:
    async with running(STATES["gpus-16"](), (160, 50)) as pilot:
        await wait_text(pilot, "READY")
        await pilot.press("6")
        await wait_text(pilot, "util 61%", "memory 91%", "power 505 W", "temperature 60 °C", "5 min ago")
        model = pilot.app.screen.model  # type: ignore[attr-defined]
        columns = model.gpu_series.columns("util", 3, RANGES[0].span_s, NOW_S, 30)
        assert columns[13] is None, "the gap of the samples"
        assert columns[20] is not None
        await pilot.press("t")
        await wait_text(pilot, "1 h ago")


async def test_the_chosen_one_stays_while_another_vanishes() -> None:
    backend, session = attached(history(), snapshot())
    async with running(backend) as pilot:
        await wait_text(pilot, "READY")
        await pilot.press("6", "down", "down")
        await wait_text(pilot, "GPU 2  H200", "3 of 4")
        session.push(snapshot(seq=2, time_s=NOW_S + 1, gpus=gpus(4)[1:]))
        await wait_text(pilot, "GPU 2  H200", "2 of 3")
        session.push(snapshot(seq=3, time_s=NOW_S + 2, gpus=None))
        await wait_text(pilot, "No GPU is known here.")


async def test_strangers_in_its_memory_stand_out() -> None:
    guest = gpu(0, processes=(GpuProcess(pid=77, name="[red]jupyter", memory_bytes=9 * GIB),))
    backend, _ = attached(snapshot(gpus=(guest,)))
    async with running(backend, (100, 30)) as pilot:
        await wait_text(pilot, "READY")
        await pilot.press("6")
        await wait_text(pilot, "▲ 9.0 GiB  pid 77  [red]jupyter  (not this server)")


async def test_what_has_no_room_is_a_page_further() -> None:
    async with running(STATES["gpus-16"](), (60, 20)) as pilot:
        await wait_text(pilot, "READY")
        await pilot.press("6")
        await wait_text(pilot, "busy", "page 1 of 2", "util 61%")
        assert "UUID" not in text(pilot.app)
        await pilot.press("pagedown")
        await wait_text(pilot, "UUID", "held by", "page 2 of 2")
        await pilot.press("pageup")
        await wait_for(pilot, lambda: "UUID" not in text(pilot.app), "back")


async def test_the_charts_of_the_overview_go_round() -> None:
    async with running(STATES["latencies"]()) as pilot:
        await wait_text(pilot, "GPU util", "KV cache", "┈ 90%")
        await pilot.press("m")
        await wait_text(pilot, "TTFT p95 3.9 s ▲", "┈ target 1.0 s", "TPOT p95 44 ms", "┈ target 50 ms")
        await pilot.press("m")
        await wait_text(pilot, "Output 2.1k tok/s", "Waiting requests 41")
        await pilot.press("m")
        await wait_text(pilot, "GPU util")


async def test_without_targets_no_line_is_drawn() -> None:
    async with running(STATES["busy"]()) as pilot:
        await wait_text(pilot, "GPU util")
        await pilot.press("m")
        await wait_text(pilot, "TTFT p95", "no target set")
        assert "┈" not in text(pilot.app)
