"""Waits, before a server is started again, until the memory of its GPUs is as free as before the first start."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from console.core.gpumemory import still_held, used_bytes
from console.supervisor.sampler import Sampler

__all__ = ["FIRST_READING_S", "FREE_TIMEOUT_S", "held_memory", "memory_before"]

FIRST_READING_S = 5.0
"""For the first reading of the GPUs before the first start; NVML takes about a second to open."""
FREE_TIMEOUT_S = 60.0
"""Memory that is still held after so long will not be freed by waiting: the start is tried, and says what it lacks."""
PERIOD_S = 0.5


async def memory_before(sampler: Sampler) -> tuple[int | None, ...]:
    """Bytes used on each GPU now; empty where they cannot be read in time."""
    deadline_s = time.monotonic() + FIRST_READING_S
    while time.monotonic() < deadline_s:
        latest = sampler.latest()
        if latest.gpus is not None:
            return used_bytes(latest.gpus)
        if latest.sources[0].error is not None:
            break
        await asyncio.sleep(PERIOD_S / 5)
    return ()


async def held_memory(sampler: Sampler, before: tuple[int | None, ...]) -> AsyncIterator[str]:
    """Which GPUs still hold memory, each time it was looked, until none does or it took too long.

    Only readings from after the call count: the last processes ended just before it.
    """
    begun_s = time.monotonic()
    while before and (waited_s := time.monotonic() - begun_s) < FREE_TIMEOUT_S:
        latest = sampler.latest()
        age_s = latest.sources[0].age_s
        if latest.gpus is None or age_s is None:
            return
        if age_s < waited_s:
            held = still_held(before, latest.gpus)
            if not held:
                return
            yield held
        await asyncio.sleep(PERIOD_S)
