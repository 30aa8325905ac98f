"""What a second of judging hints costs."""

from __future__ import annotations

import time

import msgspec

from console.core.hints import HintEngine
from console.core.models import EngineReading, GpuReading, HostReading, Sample, ServerState
from console.core.profile import Profile
from tests.benchmarks.measure import Spread
from tests.benchmarks.world import World

__all__ = ["hints"]

GIB = 2**30


def hints(world: World, quick: bool) -> None:
    """`HintEngine.update` with 1, 8 and 16 GPUs, all rules applying and several firing."""
    ticks = 300 if quick else 3000
    profile = msgspec.convert(
        {
            "profile": {"title": "benchmark"},
            "model": {"id": "some/model"},
            "hardware": {"gpu": "H100", "count": 8, "memory_gib": 80},
            "serve": {"max_num_seqs": 2, "enforce_eager": True, "enable_prefix_caching": False},
            "cost": {"usd_per_hour": 30},
        },
        Profile,
    )
    for count in (1, 8, 16):
        engine = HintEngine(profile)
        samples = [sample(second, count) for second in range(ticks)]
        taken = []
        for each in samples:
            began = time.perf_counter()
            engine.update(each)
            taken.append(time.perf_counter() - began)
        mean_us = sum(taken) / len(taken) * 1e6
        print(f"  {count:>2} GPUs  mean {mean_us:.0f} µs  {Spread(tuple(taken)).text('µs', scale=1e6)}")


def sample(second: int, gpus: int) -> Sample:
    """A tick of a server whose requests wait at the cap."""
    return Sample(
        time_s=1e9 + second,
        state=ServerState.READY,
        gpus=tuple(
            GpuReading(
                index=index,
                name="NVIDIA H100 80GB HBM3",
                util_percent=50.0 + index,
                memory_used_bytes=73 * GIB,
                memory_total_bytes=80 * GIB,
                temperature_c=60.0,
            )
            for index in range(gpus)
        ),
        host=HostReading(cpu_percent=30.0, cpu_count=32, memory_used_bytes=GIB, memory_total_bytes=100 * GIB),
        engine=EngineReading(
            running=2,
            waiting=14,
            kv_cache_usage=0.04,
            kv_cache_tokens=100_000,
            generation_tokens_total=1000 * second,
            generation_tokens_per_s=1000.0,
            prompt_tokens_per_s=500.0,
            mean_prompt_tokens=900.0,
            preemptions_total=0,
        ),
    )
