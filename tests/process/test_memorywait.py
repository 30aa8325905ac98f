"""Waiting for GPU memory between two attempts, with scripted GPUs."""

from __future__ import annotations

import asyncio

import pytest

from console.core.errors import HardwareError
from console.core.models import GpuReading
from console.io.gpu.fake import FakeGpuBackend
from console.io.http import HttpClient
from console.supervisor import memorywait
from console.supervisor.memorywait import held_memory, memory_before
from console.supervisor.sampler import Sampler, Timing

GIB = 1024**3
FAST = Timing(period_s=0.02, deadline_s=0.5, stale_s=1.0)


def gpus(used_gib: float) -> tuple[GpuReading, ...]:
    return (GpuReading(index=0, memory_used_bytes=int(used_gib * GIB)),)


async def test_it_waits_until_the_memory_is_as_free_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memorywait, "PERIOD_S", 0.01)
    backend = FakeGpuBackend((gpus(1), *(gpus(72),) * 20, gpus(1.2)))
    http = HttpClient()
    sampler = Sampler(backend, http, timing=FAST)
    await sampler.start()
    try:
        before = await memory_before(sampler)
        assert before == (GIB,)
        async with asyncio.timeout(20.0):
            while sampler.latest().gpus != gpus(72):
                await asyncio.sleep(0.005)
            said = [held async for held in held_memory(sampler, before)]
        assert set(said) == {"GPU 0 uses 72.0 GiB, 1.0 GiB before the launch"}
        assert sampler.latest().gpus == gpus(1.2)
    finally:
        await sampler.stop()
        await http.close()


async def test_the_wait_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memorywait, "PERIOD_S", 0.01)
    monkeypatch.setattr(memorywait, "FREE_TIMEOUT_S", 0.3)
    http = HttpClient()
    sampler = Sampler(FakeGpuBackend((gpus(72),)), http, timing=FAST)
    await sampler.start()
    try:
        assert await memory_before(sampler) == (72 * GIB,)
        async with asyncio.timeout(20.0):
            said = [held async for held in held_memory(sampler, (GIB,))]
        assert said
    finally:
        await sampler.stop()
        await http.close()


async def test_without_gpus_there_is_nothing_to_wait_for() -> None:
    http = HttpClient()
    trouble = HardwareError("No driver")
    sampler = Sampler(FakeGpuBackend(((),), open_errors=[trouble] * 50), http, timing=FAST)
    await sampler.start()
    try:
        async with asyncio.timeout(20.0):
            assert await memory_before(sampler) == ()
            assert [held async for held in held_memory(sampler, ())] == []
            assert [held async for held in held_memory(sampler, (GIB,))] == []
    finally:
        await sampler.stop()
        await http.close()
