"""A simulated day of one run with eight GPUs, as columns: what a sampler at 1 Hz would have written, made quickly."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from console.core.models import (
    EngineReading,
    GpuProcess,
    GpuReading,
    HostReading,
    Lengths,
    Percentiles,
    Sample,
    ServerState,
    Throttle,
)
from console.core.sampling import Columns, flatten

BEGAN_S = 1_795_000_000.0
GPUS = 8
DRAWN = 12
"""Blocks of figures that are drawn; they come again, which no block knows of another."""
GIB = 2**30


def full_sample(time_s: float) -> Sample:
    """Every figure of every GPU and of the engine is known."""
    latency = Percentiles(p50_s=0.0415, p95_s=0.0913, p99_s=0.1807, count=812)
    lengths = Lengths(mean=812.25, p50=700.0, p95=1900.0, p99=3000.0, count=120)
    gpus = tuple(
        GpuReading(
            index=index,
            name="NVIDIA H200",
            uuid=f"GPU-{index:08d}-0000-0000-0000-000000000000",
            util_percent=97.0,
            memory_used_bytes=130 * GIB,
            memory_total_bytes=141 * GIB,
            power_w=651.273,
            power_limit_w=700.0,
            temperature_c=61.0,
            memory_free_bytes=11 * GIB,
            memory_util_percent=55.0,
            memory_temperature_c=70.0,
            temperature_limit_c=85.0,
            sm_clock_mhz=1785.0,
            sm_clock_max_mhz=1980.0,
            memory_clock_mhz=3201.0,
            throttle=(Throttle.POWER_CAP,),
            ecc_corrected=0,
            ecc_uncorrected=0,
            rows_remapped=0,
            row_remap_pending=False,
            row_remap_failed=False,
            pcie_rx_bytes_per_s=1.5e9,
            pcie_tx_bytes_per_s=8e8,
            pcie_generation=5,
            pcie_generation_max=5,
            pcie_width=16,
            pcie_width_max=16,
            nvlink_rx_bytes_per_s=4e10,
            nvlink_tx_bytes_per_s=4e10,
            nvlink_active=18,
            nvlink_count=18,
            mig=False,
            processes=(GpuProcess(pid=4242 + index, name="VLLM::Worker_TP0", memory_bytes=129 * GIB, own=True),),
        )
        for index in range(GPUS)
    )
    engine = EngineReading(
        kv_cache_usage=0.8123,
        kv_cache_tokens=1_812_480,
        running=64,
        waiting=12,
        prompt_tokens_per_s=9123.4,
        generation_tokens_per_s=3904.7,
        ttft=latency,
        itl=latency,
        tpot=latency,
        e2e=latency,
        queue=latency,
        prefill=latency,
        decode=latency,
        preemptions_total=12,
        preemptions_per_s=0.25,
        prefix_cache_hit_rate=0.41,
        requests_finished_total=100_000,
        prompt_tokens_total=10**9,
        generation_tokens_total=10**8,
        mean_prompt_tokens=812.5,
        mean_generation_tokens=220.25,
        prefill_share=0.31,
        waiting_capacity=12,
        waiting_deferred=0,
        finished_by_reason={"stop": 90_000, "length": 9_000, "abort": 1_000},
        http_errors_by_status={"4xx": 3},
        prompt_lengths=lengths,
        generation_lengths=lengths,
        length_capped_share=0.09,
        longest_context_tokens=30_000,
        iteration_tokens_mean=412.5,
        prefix_caching=True,
        cache_dtype="fp8",
        block_size=256,
    )
    host = HostReading(
        cpu_percent=12.5,
        cpu_count=96,
        memory_used_bytes=200 * GIB,
        memory_total_bytes=1024 * GIB,
        tree_cpu_percent=312.5,
        tree_memory_bytes=60 * GIB,
        tree_processes=14,
    )
    return Sample(time_s=time_s, state=ServerState.READY, gpus=gpus, host=host, engine=engine)


def day(block_rows: int, seconds: int = 86_400, seed: int = 1) -> Iterator[tuple[int, Columns]]:
    """Blocks of the day, each with the number of its first tick. Figures move as they do under load."""
    noise = random.Random(seed)
    plain = flatten(full_sample(BEGAN_S))
    blocks = [{path: _moving(path, value, block_rows, noise) for path, value in plain.items()} for _ in range(DRAWN)]
    for first in range(0, seconds, block_rows):
        data = dict(blocks[first // block_rows % DRAWN])
        data["time_s"] = [BEGAN_S + first + tick + noise.random() / 50 for tick in range(block_rows)]
        yield first, Columns(block_rows, data)


STILL = ("limit", "max", "total_bytes", "index", "pid", "count", "generation", "pcie_width", "block_size", "_total")


def _moving(path: str, value: Any, rows: int, noise: random.Random) -> list[Any]:
    name = path.rpartition(".")[2]
    if isinstance(value, bool | str | list) or (any(part in name for part in STILL) and "per_s" not in name):
        return [value] * rows
    if isinstance(value, float):
        if value.is_integer() and value < 10_000:  # whole percents, degrees and megahertz, as NVML has them
            return [value + noise.randint(-3, 3) for _ in range(rows)]
        return [value * noise.uniform(0.8, 1.2) for _ in range(rows)]
    if name in {"running", "waiting", "waiting_capacity"}:
        return [value + noise.randint(-5, 5) for _ in range(rows)]
    if "bytes" in name:
        return [value + noise.randint(-4, 4) * 2**20 for _ in range(rows)]
    return [value] * rows
