"""What a second of judging hints costs."""

from __future__ import annotations

import time

import msgspec

from console.core.hints import HintEngine
from console.core.models import (
    EngineReading,
    EngineShare,
    Goodput,
    GpuReading,
    HostReading,
    Lengths,
    Percentiles,
    Sample,
    ServerState,
    Throttle,
)
from console.core.profile import Profile
from tests.benchmarks.measure import Spread
from tests.benchmarks.world import World

__all__ = ["hints"]

GIB = 2**30


def hints(world: World, quick: bool) -> None:
    """CPU time of `HintEngine.update` with 1, 8 and 16 GPUs, most rules applying and many firing."""
    ticks = 300 if quick else 3000
    profile = msgspec.convert(
        {
            "profile": {"title": "benchmark"},
            "model": {"id": "some/model"},
            "hardware": {"gpu": "H100", "count": 8, "memory_gib": 80},
            "serve": {
                "max_num_seqs": 2,
                "data_parallel_size": 8,
                "enable_expert_parallel": True,
                "speculative_config": {"method": "mtp", "num_speculative_tokens": 3},
                "extra": {"max_num_queued_reqs": 64, "max_cudagraph_capture_size": 4},
            },
            "cost": {"usd_per_hour": 30},
        },
        Profile,
    )
    for count in (1, 8, 16):
        engine = HintEngine(profile, engine_version="0.28.0", max_model_len=131_072)
        samples = [sample(second, count) for second in range(ticks)]
        taken = []
        for each in samples:
            began = time.process_time()
            engine.update(each)
            taken.append(time.process_time() - began)
        mean_us = sum(taken) / len(taken) * 1e6
        print(f"  {count:>2} GPUs  mean {mean_us:.0f} µs  {Spread(tuple(taken)).text('µs', scale=1e6)}")


def sample(second: int, gpus: int) -> Sample:
    """A tick of a server with all kinds of trouble."""
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
                temperature_c=88.0,
                power_w=300.0 + 100 * (index % 3),
                power_limit_w=700.0,
                sm_clock_mhz=1300.0,
                sm_clock_max_mhz=1980.0,
                throttle=(Throttle.POWER_CAP, Throttle.SW_THERMAL, Throttle.POWER_BRAKE),
                ecc_uncorrected=0,
                row_remap_failed=False,
                row_remap_pending=True,
                pcie_rx_bytes_per_s=50e9,
                pcie_tx_bytes_per_s=1e9,
                pcie_generation=5,
                pcie_generation_max=5,
                pcie_width=16,
                pcie_width_max=16,
                nvlink_active=18,
                nvlink_count=18,
            )
            for index in range(gpus)
        ),
        host=HostReading(
            cpu_percent=95.0,
            cpu_count=32,
            memory_used_bytes=GIB,
            memory_total_bytes=1000 * GIB,
            tree_open_files=900,
            tree_open_files_limit=1024,
        ),
        engine=EngineReading(
            running=16,
            waiting=14,
            kv_cache_usage=0.04,
            kv_cache_tokens=100_000,
            generation_tokens_total=1000 * second,
            generation_tokens_per_s=1000.0,
            prompt_tokens_per_s=500.0,
            mean_prompt_tokens=900.0,
            preemptions_total=second,
            engines=8,
            ttft=Percentiles(p50_s=3.0, p95_s=4.0, count=50),
            itl=Percentiles(p50_s=0.03, p95_s=0.1, count=5000),
            queue=Percentiles(p50_s=2.0, p95_s=3.0, count=50),
            prefill=Percentiles(p50_s=2.0, p95_s=3.0, count=50),
            requests_finished_total=5 * second,
            longest_context_tokens=5000,
            imbalance=1.7,
            by_engine=tuple(EngineShare(engine=str(index), running=1, waiting=0) for index in range(8)),
            spec_acceptance_rate=0.2,
            spec_acceptance_by_position=(0.4, 0.15, 0.05),
            spec_accepted_length=1.6,
            prefix_cache_hit_rate=0.001,
            admission_rejections_total=second,
            http_errors_by_status={"4xx": second, "5xx": 3 * second},
            length_capped_share=0.5,
            generation_lengths=Lengths(p50=100, p99=100, count=200),
            goodput=Goodput(share_min=0.3, share_max=0.5, per_s_min=1, per_s_max=2),
        ),
    )
