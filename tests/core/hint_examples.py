"""For each rule series that fire it, and near misses that do not: the table's own examples.

A series says what is seen in one second. Where an example fires, it must do so after the rule's `hold_s` and not
before, and stop after `clear_s` once the trouble is over (`calm`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from console.core.models import (
    EngineReading,
    EngineShare,
    Goodput,
    GpuReading,
    HostReading,
    Lengths,
    Percentiles,
    Sample,
    Throttle,
)
from tests.core.hint_series import GIB, Series, gpu, steady

__all__ = ["EXAMPLES", "Example", "calm"]


@dataclass(frozen=True)
class Example:
    """One series under one profile."""

    rule: str
    name: str
    fires: bool
    series: Series
    tables: dict[str, Any] = field(default_factory=dict)
    """Tables of the profile."""
    run: dict[str, Any] = field(default_factory=dict)
    """What `HintEngine` is told of the run."""
    after: Callable[[Sample], Sample] | None = None
    """What follows once it is over, in place of `calm`."""
    lasts: bool = False
    """A fact of the run, which does not end before it."""


def calm(last: Sample) -> Sample:
    """A healthy machine on which nothing runs; counters stand where they stood."""
    was = last.engine or EngineReading()
    return msgspec.structs.replace(
        last,
        gpus=None if last.gpus is None else tuple(gpu(each.index, util_percent=10.0) for each in last.gpus),
        host=HostReading(cpu_percent=5.0, cpu_count=32, memory_used_bytes=GIB, memory_total_bytes=100 * GIB),
        engine=EngineReading(
            running=0,
            waiting=0,
            kv_cache_usage=0.0,
            kv_cache_tokens=was.kv_cache_tokens,
            engines=was.engines,
            generation_tokens_total=was.generation_tokens_total,
            preemptions_total=was.preemptions_total,
            requests_finished_total=was.requests_finished_total,
            admission_rejections_total=was.admission_rejections_total,
            http_errors_by_status=was.http_errors_by_status,
            kernels_compiled_total=was.kernels_compiled_total,
        ),
    )


def busy_again(last: Sample) -> Sample:
    """Requests run."""
    return msgspec.structs.replace(last, engine=EngineReading(running=3, waiting=0, generation_tokens_total=9))


def counting(**rates: float) -> Callable[[int], dict[str, Any]]:
    """Counters that grow by so much a second."""
    return lambda second: {name: int(rate * second) for name, rate in rates.items()}


def growing(rates: dict[str, float], gpus: tuple[GpuReading, ...] = (gpu(),), **values: Any) -> Series:
    """Steady figures and growing counters."""
    return lambda second: steady(gpus, **values, **counting(**rates)(second))(second)


def errors(status: str, rate: float, **values: Any) -> Series:
    """Answers with an error status that grow in number."""
    return lambda second: steady(http_errors_by_status={status: int(rate * second)}, **values)(second)


def one_in_a_hundred(second: int) -> Sample:
    """Errors of clients beside many good answers."""
    return steady(http_errors_by_status={"4xx": second}, requests_finished_total=100 * second)(second)


def seconds(p50: float, p95: float | None = None) -> Percentiles:
    """A latency."""
    return Percentiles(p50_s=p50, p95_s=p50 if p95 is None else p95, p99_s=p95, count=100)


def gpus(count: int = 4, **last: Any) -> tuple[GpuReading, ...]:
    """Equal GPUs but for the last one."""
    return (*(gpu(index) for index in range(count - 1)), gpu(count - 1, **last))


def slow(*reasons: Throttle, **values: Any) -> GpuReading:
    """A GPU with lower clocks, and why."""
    base: dict[str, Any] = {
        "throttle": reasons,
        "sm_clock_mhz": 1200.0,
        "sm_clock_max_mhz": 1980.0,
        "power_w": 349.0,
        "power_limit_w": 350.0,
    }
    return gpu(**(base | values))


def link(**values: Any) -> GpuReading:
    """A GPU on a PCIe 5 slot."""
    base: dict[str, Any] = {
        "pcie_generation": 5,
        "pcie_generation_max": 5,
        "pcie_width": 16,
        "pcie_width_max": 16,
        "pcie_rx_bytes_per_s": 1e9,
        "pcie_tx_bytes_per_s": 1e9,
    }
    return gpu(**(base | values))


def host(**values: Any) -> HostReading:
    """A host with room."""
    base: dict[str, Any] = {
        "cpu_percent": 30.0,
        "cpu_count": 32,
        "memory_used_bytes": 200 * GIB,
        "memory_total_bytes": 1000 * GIB,
        "tree_open_files": 300,
        "tree_open_files_limit": 1024,
    }
    return HostReading(**(base | values))


def serve(**values: Any) -> dict[str, Any]:
    """A profile's `[serve]`."""
    return {"serve": values}


def four(**values: Any) -> dict[str, Any]:
    """A profile for four H100."""
    return {"hardware": {"gpu": "H100", "count": 4, "memory_gib": 80}, "serve": values}


def v4(count: int = 8, gpu_name: str = "H200", **values: Any) -> dict[str, Any]:
    """DeepSeek V4-Flash on one machine, tensor-parallel unless `values` say otherwise."""
    return {
        "hardware": {"gpu": gpu_name, "count": count},
        "model": {
            "id": "deepseek-ai/DeepSeek-V4-Flash-0731",
            "architecture": "deepseek-v4-flash",
            "weights_gb": 167.0,
        },
        "serve": {"tensor_parallel_size": count, "kv_cache_dtype": "fp8", "block_size": 256} | values,
    }


def speculative(drafts: int, method: str = "mtp") -> dict[str, Any]:
    """A profile that speculates."""
    return serve(speculative_config={"method": method, "num_speculative_tokens": drafts})


def accepted(*positions: float, **values: Any) -> Series:
    """Acceptance by position."""
    rate = sum(positions) / len(positions)
    figures = {"spec_acceptance_rate": rate, "spec_acceptance_by_position": positions} | values
    return steady(running=4, **({"waiting": 0} | figures | {"spec_accepted_length": 1 + sum(positions)}))


def uneven(share: float, running: int = 20) -> Series:
    """Two engines, one with more than its part."""
    first = int(running * share / 2)
    return steady(
        gpus(2),
        running=running,
        waiting=0,
        engines=2,
        imbalance=share,
        by_engine=(
            EngineShare(engine="0", running=first, waiting=0),
            EngineShare(engine="1", running=running - first, waiting=0),
        ),
    )


NEED = {"running": 30, "waiting": 5, "kv_cache_usage": 0.8}
OFFLOAD = {"running": 30, "waiting": 5, "kv_cache_usage": 0.93}
REAL = {"requests_finished_total": 500, "kv_cache_tokens": 200_000, "longest_context_tokens": 6000}
CUT = {"length_capped_share": 0.8, "generation_lengths": Lengths(mean=100, p50=100, p95=100, p99=100, count=90)}
CAPPED = {"max_num_queued_reqs": 8}
PREFIX = {"prefix_cache_hit_rate": 0.001, "mean_prompt_tokens": 2000.0}
TTFT_QUEUE = {"running": 64, "waiting": 40, "ttft": seconds(4.0, 8.0), "queue": seconds(3.0), "kv_cache_usage": 0.7}
TTFT_PREFILL = {
    "running": 4,
    "waiting": 0,
    "ttft": seconds(3.0, 5.0),
    "prefill": seconds(2.5),
    "mean_prompt_tokens": 20_000.0,
    "prefill_share": 0.6,
}
PREFILL = {"running": 20, "waiting": 6, "kv_cache_usage": 0.4, "ttft": seconds(2.0, 4.0), "itl": seconds(0.03, 0.2)}
DRAFTS = PREFILL | {"step_tokens_max": 2048}
IDLE = {"running": 0, "waiting": 0, "generation_tokens_total": 7, "requests_finished_total": 3}
FULL_GPU = (gpu(util_percent=95.0),)
TARGETS = {"targets": {"ttft_s": 1.0, "tpot_s": 0.05}}
PRICE = {"cost": {"usd_per_hour": 30}}
MISSED = Goodput(share_min=0.4, share_max=0.6, per_s_min=4, per_s_max=6)
MET = Goodput(share_min=0.7, share_max=0.95, per_s_min=7, per_s_max=9)

EXAMPLES: tuple[Example, ...] = (
    Example("gpu-fault", "uncorrected ECC errors", True, steady(gpus(ecc_uncorrected=2))),
    Example("gpu-fault", "fell off the bus a minute ago", True, steady(gpus(xid=79, xid_s=1e9 - 60))),
    Example("gpu-fault", "a row remap failed", True, steady(gpus(row_remap_failed=True))),
    Example("gpu-fault", "corrected errors only", False, steady(gpus(ecc_corrected=9000, ecc_uncorrected=0))),
    Example("gpu-fault", "yesterday", False, steady(gpus(xid=79, xid_s=1e9 - 86_400, ecc_uncorrected=0))),
    Example("gpu-xid", "a program's fault", True, steady(gpus(xid=31, xid_s=1e9 - 5))),
    Example("gpu-xid", "one that nobody named", True, steady(gpus(xid=999, xid_s=1e9 - 5))),
    Example("gpu-xid", "none", False, steady(gpus(ecc_uncorrected=0))),
    Example("gpu-xid", "one to drain for", False, steady(gpus(xid=48, xid_s=1e9 - 5))),
    Example("host-memory", "97%", True, steady(host=host(memory_used_bytes=970 * GIB))),
    Example("host-memory", "94%", False, steady(host=host(memory_used_bytes=940 * GIB))),
    Example("open-files", "900 of 1,024", True, steady(host=host(tree_open_files=900))),
    Example("open-files", "800 of 1,024", False, steady(host=host(tree_open_files=800))),
    Example("server-errors", "one a second", True, errors("5xx", 1.0)),
    Example("server-errors", "one code by its number", True, errors("500", 0.5)),
    Example("server-errors", "one a minute", False, errors("5xx", 1 / 60)),
    Example(
        "server-errors",
        "one in five hundred",
        False,
        lambda second: steady(http_errors_by_status={"5xx": second}, requests_finished_total=500 * second)(second),
    ),
    Example(
        "server-errors",
        "refusals for a full queue",
        False,
        lambda second: steady(http_errors_by_status={"5xx": second}, admission_rejections_total=second)(second),
    ),
    Example("gpu-thermal", "too hot", True, steady((gpu(), slow(Throttle.SW_THERMAL, index=1, temperature_c=89.0)))),
    Example(
        "gpu-thermal",
        "now and then",
        False,
        lambda second: steady((slow(*((Throttle.HW_THERMAL,) if second % 4 == 0 else ())),))(second),
    ),
    Example("gpu-thermal", "slow for another reason", False, steady((slow(Throttle.POWER_CAP),))),
    Example("kv-cache-full", "95% and a queue", True, steady(running=100, waiting=5, kv_cache_usage=0.95)),
    Example(
        "kv-cache-full",
        "preemptions",
        True,
        growing({"preemptions_total": 0.5}, running=8, waiting=8, kv_cache_usage=0.7),
        serve(max_num_seqs=16),
    ),
    Example(
        "kv-cache-full",
        "waiting for capacity below the cap",
        True,
        steady(running=8, waiting=6, waiting_capacity=6, kv_cache_usage=0.8),
        serve(max_num_seqs=64),
    ),
    Example("kv-cache-full", "full, and nobody waits", False, steady(running=8, waiting=0, kv_cache_usage=0.95)),
    Example(
        "kv-cache-full",
        "waiting for a place in the batch",
        False,
        steady(running=8, waiting=6, waiting_capacity=6, kv_cache_usage=0.8),
        serve(max_num_seqs=8),
    ),
    Example("raise-max-num-seqs", "two of sixteen run", True, steady(), serve(max_num_seqs=2)),
    Example("raise-max-num-seqs", "nobody waits", False, steady(waiting=0), serve(max_num_seqs=2)),
    Example("raise-max-num-seqs", "the GPU is busy", False, steady(FULL_GPU), serve(max_num_seqs=2)),
    Example("sequence-cap", "a busy GPU", True, steady(FULL_GPU), serve(max_num_seqs=2)),
    Example("sequence-cap", "KV cache at 55%", False, steady(FULL_GPU, kv_cache_usage=0.55), serve(max_num_seqs=2)),
    Example("ttft-queue", "a full machine", True, steady(FULL_GPU, **TTFT_QUEUE), serve(max_num_seqs=64)),
    Example(
        "ttft-queue",
        "a third of it is queue",
        False,
        steady(FULL_GPU, **(TTFT_QUEUE | {"queue": seconds(1.3)})),
        serve(max_num_seqs=64),
    ),
    Example(
        "ttft-queue",
        "quick",
        False,
        steady(FULL_GPU, **(TTFT_QUEUE | {"ttft": seconds(0.5), "queue": seconds(0.4)})),
        serve(max_num_seqs=64),
    ),
    Example("load-too-small", "three requests", True, steady(running=3, waiting=0)),
    Example("load-too-small", "nothing comes out", False, steady(running=3, waiting=0, generation_tokens_total=9)),
    Example(
        "kernels-compiled", "one after the other", True, growing({"kernels_compiled_total": 0.2}, running=5, waiting=2)
    ),
    Example(
        "kernels-compiled",
        "a long one, for which requests queue",
        True,
        steady(running=0, waiting=2, kernels_compiled_total=1, kernel_compiling="mhc_fused_tilelang"),
    ),
    Example("kernels-compiled", "none is compiled", False, steady(running=5, waiting=2, kernels_compiled_total=9)),
    Example(
        "kernels-compiled",
        "nobody waits",
        False,
        growing({"kernels_compiled_total": 0.2}, running=0, waiting=0),
    ),
    Example("kernels-compiled", "its log is not read", False, steady(running=5, waiting=2)),
    Example("load-too-small", "nothing runs", False, steady(running=0, waiting=0)),
    Example("load-too-small", "utilization at 70%", False, steady((gpu(util_percent=70.0),), running=3, waiting=0)),
    Example("tp-to-dp", "V4-Flash on eight H200", True, steady(gpus(8), **NEED), v4()),
    Example(
        "tp-to-dp", "no dimensions known", True, steady(gpus(8), **NEED), v4() | {"model": {"id": "a/deepseek-v3"}}
    ),
    Example("tp-to-dp", "the KV cache has room", False, steady(gpus(8), **(NEED | {"kv_cache_usage": 0.6})), v4()),
    Example("tp-to-dp", "nobody waits", False, steady(gpus(8), **(NEED | {"waiting": 0})), v4()),
    Example(
        "tp-to-dp",
        "data-parallel already",
        False,
        steady(gpus(8), **NEED),
        v4(tensor_parallel_size=1, data_parallel_size=8, enable_expert_parallel=True),
    ),
    Example("prefill-budget", "room everywhere, and a queue", True, steady(**PREFILL), serve(max_num_seqs=128)),
    Example(
        "prefill-budget",
        "nobody waits",
        False,
        steady(**(PREFILL | {"waiting": 0})),
        serve(max_num_seqs=128),
    ),
    # As on two H200: 8,192 tokens less 6 for each of 1,024 requests.
    Example("draft-slots", "room for 1,024, and 26 come", True, steady(gpus(2), **DRAFTS), speculative(7)),
    Example(
        "draft-slots",
        "more than half of what may run",
        False,
        steady(gpus(2), **(DRAFTS | {"running": 300, "waiting": 300})),
        speculative(7),
    ),
    Example("draft-slots", "the log says of no lack", False, steady(gpus(2), **PREFILL), speculative(7)),
    Example("draft-slots", "nobody waits", False, steady(gpus(2), **(DRAFTS | {"waiting": 0})), speculative(7)),
    Example("ttft-prefill", "prompts of 20,000 tokens", True, steady(**TTFT_PREFILL)),
    Example("ttft-prefill", "prompts of one step", True, steady(**(TTFT_PREFILL | {"mean_prompt_tokens": 3000.0}))),
    Example("ttft-prefill", "a third is prefill", False, steady(**(TTFT_PREFILL | {"prefill": seconds(1.0)}))),
    Example("ttft-prefill", "others wait", False, steady(**(TTFT_PREFILL | {"waiting": 3}))),
    Example(
        "targets-missed", "60% at best", True, steady(goodput=MISSED, ttft=seconds(1.0), tpot=seconds(0.1)), TARGETS
    ),
    Example("targets-missed", "95% at best", False, steady(goodput=MET), TARGETS),
    Example(
        "admission-rejections",
        "two a second",
        True,
        growing({"admission_rejections_total": 2}, running=8, waiting=0),
        serve(max_num_seqs=16, extra=CAPPED),
    ),
    Example(
        "admission-rejections",
        "long ago",
        False,
        steady(running=8, waiting=0, admission_rejections_total=700),
        serve(max_num_seqs=16, extra=CAPPED),
    ),
    Example("spec-too-costly", "one in ten", True, accepted(0.2, 0.07, 0.02), speculative(3)),
    Example("spec-too-costly", "none pays", True, accepted(0.1), speculative(1)),
    Example("spec-too-costly", "half", False, accepted(0.8, 0.5, 0.32), speculative(3)),
    Example("spec-too-costly", "no speculation", False, accepted(0.1)),
    Example("spec-too-short", "nearly all", True, accepted(0.92, 0.85), speculative(2)),
    Example("spec-too-short", "falls off", False, accepted(0.9, 0.6), speculative(2)),
    Example("spec-too-short", "as long as recipes go", False, accepted(0.95, 0.92, 0.9), speculative(3)),
    Example("spec-too-short", "others wait", False, accepted(0.92, 0.85, waiting=3), speculative(2)),
    Example(
        "graphs-too-small",
        "300 requests, graphs for 128",
        True,
        steady(running=300, waiting=0),
        serve(extra={"max_cudagraph_capture_size": 128}),
    ),
    Example(
        "graphs-too-small",
        "with drafts",
        True,
        steady(running=60, waiting=0, spec_acceptance_rate=0.8, spec_acceptance_by_position=(0.85, 0.7, 0.6)),
        serve(
            compilation_config={"max_cudagraph_capture_size": 128},
            speculative_config={"method": "mtp", "num_speculative_tokens": 3},
        ),
    ),
    Example(
        "graphs-too-small",
        "all covered",
        False,
        steady(running=128, waiting=0),
        serve(extra={"max_cudagraph_capture_size": 128}),
    ),
    Example("host-cpu", "97%", True, steady(host=host(cpu_percent=97.0))),
    Example("host-cpu", "80%", False, steady(host=host(cpu_percent=80.0))),
    Example("host-cpu", "the GPU is busy too", False, steady(FULL_GPU, host(cpu_percent=97.0))),
    Example("engines-uneven", "18 of 20", True, uneven(1.8), serve(data_parallel_size=2)),
    Example("engines-uneven", "14 of 20", False, uneven(1.4), serve(data_parallel_size=2)),
    Example("engines-uneven", "two requests", False, uneven(2.0, running=2), serve(data_parallel_size=2)),
    Example("gpu-power-brake", "braked", True, steady((slow(Throttle.POWER_BRAKE, Throttle.HW_SLOWDOWN),))),
    Example("gpu-power-brake", "heat", False, steady((slow(Throttle.HW_SLOWDOWN, Throttle.HW_THERMAL),))),
    Example("gpu-power-brake", "idle", False, steady((slow(Throttle.IDLE),))),
    Example("pcie-bound", "50 of 63 GB/s", True, steady((link(pcie_rx_bytes_per_s=50e9),))),
    Example("pcie-bound", "40 of 63 GB/s", False, steady((link(pcie_rx_bytes_per_s=40e9),))),
    Example("pcie-bound", "nothing runs", False, steady((link(pcie_rx_bytes_per_s=50e9),), running=0)),
    Example("pcie-link", "eight lanes", True, steady((link(pcie_width=8),))),
    Example("pcie-link", "generation 3 of 5", True, steady((link(pcie_generation=3),))),
    Example("pcie-link", "asleep", False, steady((link(pcie_generation=1, util_percent=0.0),))),
    Example("pcie-link", "whole", False, steady((link(),))),
    Example(
        "nvlink-down",
        "one GPU lost two",
        True,
        steady(tuple(gpu(i, nvlink_active=16 if i == 3 else 18, nvlink_count=18) for i in range(4))),
        four(),
    ),
    Example(
        "nvlink-down",
        "cards without a bridge",
        False,
        steady(tuple(gpu(i, nvlink_active=0, nvlink_count=18) for i in range(4))),
        four(),
    ),
    Example("gpu-repair-pending", "a row", True, steady(gpus(row_remap_pending=True))),
    Example("gpu-repair-pending", "a page", True, steady(gpus(pages_pending=True))),
    Example("gpu-repair-pending", "repaired", False, steady(gpus(row_remap_pending=False, rows_remapped=3))),
    Example("gpu-hot", "88 °C", True, steady(gpus(temperature_c=88.0))),
    Example("gpu-hot", "84 °C", False, steady(gpus(temperature_c=84.0))),
    Example("idle-spend", "nothing runs", True, steady(**IDLE), PRICE, after=busy_again),
    Example(
        "idle-spend",
        "a short request now and then",
        False,
        lambda second: steady(**(IDLE | {"requests_finished_total": second // 300}))(second),
        PRICE,
    ),
    Example("kv-fp8", "two thirds used", True, steady(running=20, waiting=0, kv_cache_usage=0.66)),
    Example("kv-fp8", "half used", False, steady(running=20, waiting=0, kv_cache_usage=0.5)),
    Example("kv-fp8", "FP8 already", False, steady(kv_cache_usage=0.66), serve(kv_cache_dtype="fp8")),
    Example("kv-fp8", "the server says FP8", False, steady(kv_cache_usage=0.66, cache_dtype="fp8_e4m3")),
    Example("kv-fp8", "V4 has it", False, steady(gpus(8), kv_cache_usage=0.66), v4(kv_cache_dtype="auto")),
    Example(
        "kv-offload",
        "800 GiB free",
        True,
        steady(host=host(), **OFFLOAD),
        serve(kv_cache_dtype="fp8"),
        {"engine_version": "0.30.0"},
    ),
    Example(
        "kv-offload",
        "V4 on vLLM 0.32",
        True,
        steady(gpus(8), host(), **OFFLOAD),
        v4(),
        {"engine_version": "0.32.0"},
    ),
    Example(
        "kv-offload",
        "V4 on vLLM 0.25",
        False,
        steady(gpus(8), host(), **OFFLOAD),
        v4(),
        {"engine_version": "0.25.0"},
    ),
    Example(
        "kv-offload",
        "300 of 1,000 GiB free",
        False,
        steady(host=host(memory_used_bytes=700 * GIB), **OFFLOAD),
        {},
        {"engine_version": "0.30.0"},
    ),
    Example(
        "kv-offload",
        "the KV cache has room",
        False,
        steady(host=host(), **(OFFLOAD | {"kv_cache_usage": 0.5})),
        {},
        {"engine_version": "0.30.0"},
    ),
    Example("context-unused", "6,000 of 131,072", True, steady(**REAL), {}, {"max_model_len": 131_072}),
    Example("context-unused", "6,000 of 8,192", False, steady(**REAL), {}, {"max_model_len": 8192}),
    Example(
        "context-unused",
        "all fit at their longest",
        False,
        steady(**(REAL | {"kv_cache_tokens": 16 * 131_072})),
        {},
        {"max_model_len": 131_072},
    ),
    Example("context-unused", "nobody waits", False, steady(**(REAL | {"waiting": 0})), {}, {"max_model_len": 131_072}),
    Example(
        "context-unused",
        "ten requests so far",
        False,
        steady(**(REAL | {"requests_finished_total": 10})),
        {},
        {"max_model_len": 131_072},
    ),
    Example(
        "experts-uneven",
        "one GPU draws 300 W more",
        True,
        steady(tuple(gpu(i, power_w=400.0 + 300.0 * (i == 2)) for i in range(4)), running=64, waiting=0),
        four(enable_expert_parallel=True, data_parallel_size=4),
    ),
    Example(
        "experts-uneven",
        "40 W more",
        False,
        steady(tuple(gpu(i, power_w=400.0 + 40.0 * (i == 2)) for i in range(4)), running=64, waiting=0),
        four(enable_expert_parallel=True, data_parallel_size=4),
    ),
    Example("gpus-uneven", "50% and 90%", True, steady(gpus(util_percent=90.0)), four(tensor_parallel_size=4)),
    Example("gpus-uneven", "50% and 79%", False, steady(gpus(util_percent=79.0)), four(tensor_parallel_size=4)),
    Example("gpu-power-cap", "61% of the clock", True, steady((slow(Throttle.POWER_CAP),))),
    Example("gpu-power-cap", "93% of the clock", False, steady((slow(Throttle.POWER_CAP, sm_clock_mhz=1850.0),))),
    Example("eager-mode", "asked for", True, steady(), serve(enforce_eager=True)),
    Example("eager-mode", "nothing runs", False, steady(running=0), serve(enforce_eager=True)),
    Example("graphs-off", "asked for", True, steady(), serve(compilation_config={"cudagraph_mode": "NONE"})),
    Example(
        "graphs-off", "decode only", False, steady(), serve(compilation_config={"cudagraph_mode": "FULL_DECODE_ONLY"})
    ),
    Example(
        "prefix-cache-off", "long prompts", True, steady(mean_prompt_tokens=3000.0), serve(enable_prefix_caching=False)
    ),
    Example(
        "prefix-cache-off", "short ones", False, steady(mean_prompt_tokens=100.0), serve(enable_prefix_caching=False)
    ),
    Example("prefix-cache-useless", "no hit", True, steady(**PREFIX)),
    Example("prefix-cache-useless", "two in a hundred", False, steady(**(PREFIX | {"prefix_cache_hit_rate": 0.02}))),
    Example("prefix-cache-useless", "short prompts", False, steady(**(PREFIX | {"mean_prompt_tokens": 90.0}))),
    Example("answers-cut", "80%", True, steady(**CUT)),
    Example("answers-cut", "20%", False, steady(**(CUT | {"length_capped_share": 0.2}))),
    Example("answers-cut", "of five", False, steady(**(CUT | {"generation_lengths": Lengths(p50=9, p99=9, count=5)}))),
    Example("client-errors", "one a second", True, errors("4xx", 1.0)),
    Example("client-errors", "one in a hundred", False, one_in_a_hundred),
    Example(
        "engine-old",
        "three releases",
        True,
        steady(),
        {"engine": {"vllm": ">=0.25"}},
        {"engine_version": "0.30.0"},
        lasts=True,
    ),
    Example(
        "engine-old",
        "below the range",
        True,
        steady(),
        {"engine": {"vllm": ">=0.33"}},
        {"engine_version": "0.32.0"},
        lasts=True,
    ),
    Example("engine-old", "one release", False, steady(), {"engine": {"vllm": ">=0.25"}}, {"engine_version": "0.32.0"}),
    Example("engine-old", "newer", False, steady(), {"engine": {"vllm": ">=0.25"}}, {"engine_version": "0.40.0"}),
    Example(
        "engine-old",
        "all the profile allows",
        False,
        steady(),
        {"engine": {"vllm": "<0.29"}},
        {"engine_version": "0.28.0"},
    ),
    Example("gpus-unused", "one of two", True, steady((gpu(), gpu(1, memory_used_bytes=GIB, util_percent=0.0)))),
    Example("gpus-unused", "another program", False, steady((gpu(), gpu(1, memory_used_bytes=GIB, util_percent=40.0)))),
)
