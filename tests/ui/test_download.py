"""The download of weights in the terminal UI: offered before a launch, watched, cancelled, and on its own."""

from __future__ import annotations

import asyncio
from typing import Any

from textual.pilot import Pilot

from console.client.api import DownloadOffer, DownloadProgress
from console.core.errors import DownloadError
from console.tui.screens.picker import PickerScreen
from tests.fakes.backend import GIB, FakeBackend
from tests.ui.screen_text import running, wait_for, wait_text

OFFER = DownloadOffer(model="deepseek-ai/DeepSeek-V4-Flash", path="/cache/hub", bytes_total=170e9)
GOING = DownloadProgress(
    path="/cache/hub",
    bytes_done=40 * GIB,
    bytes_total=160 * GIB,
    files_done=11,
    files_total=46,
    free_bytes=900 * GIB,
    rate_bytes_per_s=300 * 1024.0**2,
    left_s=410.0,
)


def backend(engine: str | None = "cuda-0.33.0") -> FakeBackend:
    fake = FakeBackend(engine=engine)
    fake.offer = OFFER
    fake.download_steps = [GOING]
    return fake


def told(pilot: Pilot[Any], words: str) -> bool:
    return any(words in f"{note.title} {note.message}" for note in pilot.app._notifications)


async def test_downloaded_then_launched() -> None:
    fake = backend()
    fake.download_hold = asyncio.Event()
    async with running(fake) as pilot:
        await wait_text(pilot, "▸ ● flash-4xh200", "Engine    vLLM 0.33.0")
        await pilot.press("enter")
        await wait_text(pilot, "(158 GiB) is not here", "▸ d  download the weights, then launch", "y  launch; vLLM")
        await pilot.press("d")
        await wait_text(
            pilot,
            "40.0 GiB of 160 GiB",
            "25%",
            "11 of 46 files",
            "300 MiB/s",
            "6m50s left",
            "900 GiB free in /cache/hub",
        )
        assert not fake.launched
        fake.download_hold.set()
        await wait_text(pilot, "STARTING")
    assert fake.downloaded == ["deepseek-ai/DeepSeek-V4-Flash"]


async def test_launched_without() -> None:
    fake = backend()
    async with running(fake) as pilot:
        await wait_text(pilot, "▸ ● flash-4xh200", "Engine    vLLM 0.33.0")
        await pilot.press("enter")
        await wait_text(pilot, "download the weights, then launch")
        await pilot.press("y")
        await wait_text(pilot, "STARTING")
    assert fake.downloaded == []


async def test_installed_downloaded_launched() -> None:
    fake = backend(engine=None)
    async with running(fake) as pilot:
        await wait_text(pilot, "not installed")
        await pilot.press("enter")
        await wait_text(pilot, "▸ d  install, download the weights, then launch")
        await pilot.press("enter")
        await wait_text(pilot, "STARTING")
    assert fake.launched[0].engine_name
    assert fake.downloaded == ["deepseek-ai/DeepSeek-V4-Flash"]


async def test_cancelled_launches_nothing() -> None:
    fake = backend()
    fake.download_hold = asyncio.Event()
    async with running(fake) as pilot:
        await wait_text(pilot, "▸ ● flash-4xh200", "Engine    vLLM 0.33.0")
        await pilot.press("enter")
        await wait_text(pilot, "download the weights, then launch")
        await pilot.press("d")
        await wait_text(pilot, "40.0 GiB of 160 GiB")
        await pilot.press("x")
        await wait_for(pilot, lambda: isinstance(pilot.app.screen, PickerScreen), "back")
        await wait_for(pilot, lambda: told(pilot, "Whole files stay"), "told")
    assert not fake.launched
    assert not fake.downloaded


async def test_a_refusal_is_told_with_its_remedy() -> None:
    fake = backend()
    fake.download_error = DownloadError("The model is gated", "a/gated", "Accept its licence")
    async with running(fake) as pilot:
        await wait_text(pilot, "▸ ● flash-4xh200", "Engine    vLLM 0.33.0")
        await pilot.press("enter")
        await wait_text(pilot, "download the weights, then launch")
        await pilot.press("d")
        await wait_text(pilot, "The model is gated", "Accept its licence")
    assert not fake.launched


async def test_on_its_own_from_the_list() -> None:
    fake = backend()
    async with running(fake) as pilot:
        await wait_text(pilot, "▸ ● flash-4xh200", "Engine    vLLM 0.33.0")
        await pilot.press("d")
        await wait_text(pilot, "Download the weights of flash-4xh200?", "the next download goes on")
        await pilot.press("y")
        await wait_for(pilot, lambda: told(pilot, "The weights are here"), "told")
        await wait_for(pilot, lambda: not any(each.group == "flow" for each in pilot.app.workers), "ready for the next")
        await pilot.press("d")
        await wait_for(pilot, lambda: told(pilot, "Nothing to download"), "told")
    assert fake.downloaded == ["deepseek-ai/DeepSeek-V4-Flash"]
    assert not fake.launched
