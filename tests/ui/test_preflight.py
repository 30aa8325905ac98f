"""Preflight in front of a launch: warnings are read with the question, a block holds the launch back until forced."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from console.core.preflight import Check, Override, Preflight, Verdict
from console.tui.screens.picker import PickerScreen
from tests.fakes.backend import FakeBackend
from tests.ui.screen_text import running, text, wait_for, wait_text

SHM = Check(
    id="shm",
    title="Shared memory",
    verdict=Verdict.WARN,
    text="64 MiB free",
    figures=tuple(f"figure {number}" for number in range(9)),
    remedy="In a container: --ipc=host",
)
BUSY = Check(
    id="gpu-memory",
    title="GPU memory",
    verdict=Verdict.BLOCKED,
    text="12 GiB of 141 GiB free on GPU 0",
    remedy="End what holds it.",
    consequence="vLLM ends with “Free memory on device”.",
)
OPEN = Check(
    id="address",
    title="Address",
    verdict=Verdict.BLOCKED,
    text="0.0.0.0: other machines reach it, and there is no key",
    remedy="Set VLLM_API_KEY, or start with --allow-public-without-key.",
    consequence="Anyone can use the model.",
    override=Override.PUBLIC,
)
FINE = Check(id="port", title="Port", verdict=Verdict.OK, text="8000 is free")


def backend(*reports: Preflight, engine: str | None = "cuda-0.33.0") -> FakeBackend:
    fake = FakeBackend(engine=engine)
    fake.reports = list(reports)
    return fake


async def test_warnings_stand_above_the_question() -> None:
    fake = backend(Preflight(checks=(FINE, SHM)))
    async with running(fake) as pilot:
        await wait_text(pilot, "Engine    vLLM 0.33.0")
        await pilot.press("enter")
        await wait_text(pilot, "Launch flash-4xh200 on", "▲ Shared memory  64 MiB free", "→ In a container: --ipc=host")
        shown = text(pilot.app)
        assert "8000 is free" not in shown
        assert "figure 3" in shown
        assert "figure 4" not in shown
        await pilot.press("y")
        await wait_text(pilot, "STARTING")
    assert len(fake.launched) == 1


@pytest.mark.parametrize("keys", [("enter",), ("escape",), ("n",), ("y", "n"), ("f", "enter"), ("f", "escape")])
async def test_a_block_holds_the_launch_back(keys: tuple[str, ...]) -> None:
    fake = backend(Preflight(checks=(BUSY, SHM)))
    async with running(fake) as pilot:
        await wait_text(pilot, "Engine    vLLM 0.33.0")
        await pilot.press("enter")
        await wait_text(pilot, "✖ flash-4xh200 cannot be launched as it is", "✖ GPU memory  12 GiB", "▲ Shared memory")
        await pilot.press(keys[0])
        if keys[0] == "f":
            await wait_text(pilot, "Launch flash-4xh200 all the same?", "GPU memory: vLLM ends with")
        await pilot.press(*keys[1:])
        await wait_for(pilot, lambda: isinstance(pilot.app.screen, PickerScreen), "back")
    assert not fake.launched


async def test_a_block_can_be_forced_with_its_consequence_named() -> None:
    fake = backend(Preflight(checks=(BUSY,)))
    async with running(fake) as pilot:
        await wait_text(pilot, "Engine    vLLM 0.33.0")
        await pilot.press("enter")
        await wait_text(pilot, "launch it all the same")
        await pilot.press("f")
        await wait_text(pilot, "GPU memory: vLLM ends with “Free memory on device”.")
        await pilot.press("y")
        await wait_text(pilot, "STARTING")
    assert len(fake.launched) == 1


async def test_a_public_address_without_a_key_cannot_be_forced() -> None:
    fake = backend(Preflight(checks=(BUSY, OPEN)))
    async with running(fake) as pilot:
        await wait_text(pilot, "Engine    vLLM 0.33.0")
        await pilot.press("enter")
        await wait_text(
            pilot, "--allow-public-without-key", "cannot be forced here: Address (allowed only on the command line)"
        )
        assert "all the same" not in text(pilot.app)
        await pilot.press("f")
        await wait_text(pilot, "cannot be launched as it is")
        await pilot.press("enter")
        await wait_for(pilot, lambda: isinstance(pilot.app.screen, PickerScreen), "back")
    assert not fake.launched


@pytest.mark.parametrize("size", [(60, 20), (80, 24), (160, 50)])
async def test_the_answers_stay_in_sight_below_a_long_report(size: tuple[int, int]) -> None:
    fake = backend(Preflight(checks=(BUSY, *(replace(SHM, id=f"c{number}") for number in range(12)))))
    async with running(fake, size=size) as pilot:
        await wait_text(pilot, "flash-4xh200", "launch")
        await pilot.press("enter")
        await wait_text(pilot, "✖ flash-4xh200 cannot be launched as it is", "n  not now", "f  launch it all the same")


async def test_what_only_an_engine_can_tell_is_asked_after_its_installation() -> None:
    old = Check(
        id="driver", title="Driver", verdict=Verdict.BLOCKED, text="driver 535", consequence="PyTorch refuses the GPU."
    )
    fake = backend(Preflight(checks=(SHM,)), Preflight(checks=(SHM, old)), engine=None)
    async with running(fake) as pilot:
        await wait_text(pilot, "not installed")
        await pilot.press("enter")
        await wait_text(pilot, "Install the CUDA engine first", "Shared memory")
        await pilot.press("y")
        await wait_text(pilot, "cannot be launched as it is", "Driver  driver 535")
        await pilot.press("n")
        await wait_for(pilot, lambda: isinstance(pilot.app.screen, PickerScreen), "back")
    assert not fake.launched


async def test_nothing_new_after_an_installation_asks_nothing() -> None:
    fake = backend(Preflight(checks=(SHM,)), engine=None)
    async with running(fake) as pilot:
        await wait_text(pilot, "not installed")
        await pilot.press("enter")
        await wait_text(pilot, "Install the CUDA engine first")
        await pilot.press("y")
        await wait_text(pilot, "STARTING")
    assert len(fake.launched) == 1
