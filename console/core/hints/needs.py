"""Which readings rules may ask for, how to see that one is there, and what to say when it is not."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from console.core.hints.setting import Setting
from console.core.hints.window import Point
from console.core.models import EngineReading, GpuReading

__all__ = ["NEEDS", "Need"]


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """One reading or setting that a rule cannot do without."""

    title: str
    present: Callable[[Point, Setting], bool]
    why: Callable[[Point, Setting], str]
    """Why it is missing, in a few words."""


def no_gpu(point: Point, setting: Setting) -> str:
    """Why no GPU figure is there."""
    if setting.on_cpu:
        return "no host CPU reading to stand in for it"
    if point.gpus is None:
        return "no NVML on this machine, or it does not answer"
    return "the driver does not report it" if point.gpus else "the driver shows no GPU"


def no_engine(point: Point, setting: Setting) -> str:
    """Why no figure of vLLM's is there."""
    return "no answer from /metrics" if point.engine is None else "not in vLLM's /metrics"


def of_gpus(title: str, known: Callable[[GpuReading], object]) -> Need:
    """A figure that at least one GPU must tell."""
    return Need(
        title=title,
        present=lambda point, setting: any(known(gpu) is not None for gpu in point.gpus or ()),
        why=no_gpu,
    )


def of_engine(title: str, known: Callable[[EngineReading], object], otherwise: str = "not in vLLM's /metrics") -> Need:
    """A figure that vLLM must tell at any time."""
    return Need(
        title=title,
        present=lambda point, setting: point.engine is not None and known(point.engine) is not None,
        why=lambda point, setting: "no answer from /metrics" if point.engine is None else otherwise,
    )


def of_load(title: str, known: Callable[[EngineReading], object], otherwise: str) -> Need:
    """A figure of the last seconds' requests: there is none while nothing runs, and none is missed then."""
    return Need(
        title=title,
        present=lambda point, setting: (
            point.engine is not None and (not point.running or known(point.engine) is not None)
        ),
        why=lambda point, setting: "no answer from /metrics" if point.engine is None else otherwise,
    )


def setting_default(title: str, known: Callable[[Point, Setting], object]) -> Need:
    """A setting that vLLM chooses by the GPU's memory where the profile leaves it out."""
    return Need(
        title=title,
        present=lambda point, setting: known(point, setting) is not None,
        why=lambda point, setting: "unset, and vLLM's default depends on GPU memory that is unknown here",
    )


NEEDS: dict[str, Need] = {
    "node-gpus": Need(
        title="GPU readings of several machines",
        present=lambda point, setting: bool(point.gpus) and sum(bool(node.gpus) for node in point.nodes) > 1,
        why=lambda point, setting: "fewer than two machines tell them now",
    ),
    "utilization": Need(
        title="GPU utilization",
        present=lambda point, setting: point.utilization is not None,
        why=no_gpu,
    ),
    "gpus": Need(title="GPU readings", present=lambda point, setting: bool(point.gpus), why=no_gpu),
    "gpu-memory": Need(
        title="GPU memory",
        present=lambda point, setting: (
            bool(point.gpus)
            and all(gpu.memory_used_bytes is not None and gpu.memory_total_bytes for gpu in point.gpus or ())
        ),
        why=no_gpu,
    ),
    "gpu-temperature": of_gpus("GPU temperature", lambda gpu: gpu.temperature_c),
    "gpu-power": of_gpus("GPU power", lambda gpu: gpu.power_w),
    "gpu-throttle": of_gpus("reasons for lower clocks", lambda gpu: gpu.throttle),
    "gpu-errors": Need(
        title="ECC errors, row remaps or Xid events",
        present=lambda point, setting: any(
            value is not None
            for gpu in point.gpus or ()
            for value in (gpu.ecc_uncorrected, gpu.row_remap_failed, gpu.xid)
        ),
        why=no_gpu,
    ),
    "gpu-repairs": Need(
        title="pending row remaps or page retirements",
        present=lambda point, setting: any(
            value is not None for gpu in point.gpus or () for value in (gpu.row_remap_pending, gpu.pages_pending)
        ),
        why=no_gpu,
    ),
    "pcie-link": Need(
        title="state of the PCIe link",
        present=lambda point, setting: any(
            gpu.pcie_width and gpu.pcie_width_max and gpu.pcie_generation and gpu.pcie_generation_max
            for gpu in point.gpus or ()
        ),
        why=no_gpu,
    ),
    "pcie-traffic": Need(
        title="PCIe throughput",
        present=lambda point, setting: any(
            (gpu.pcie_rx_bytes_per_s is not None or gpu.pcie_tx_bytes_per_s is not None)
            and gpu.pcie_width
            and gpu.pcie_generation
            for gpu in point.gpus or ()
        ),
        why=no_gpu,
    ),
    "nvlink": of_gpus("NVLink state", lambda gpu: gpu.nvlink_count if gpu.nvlink_count == 0 else gpu.nvlink_active),
    "queue": Need(
        title="running and waiting requests",
        present=lambda point, setting: point.running is not None and point.waiting is not None,
        why=no_engine,
    ),
    "kv": Need(
        title="KV cache usage",
        present=lambda point, setting: point.kv_usage is not None,
        why=no_engine,
    ),
    "kv-tokens": of_engine("size of the KV cache", lambda engine: engine.kv_cache_tokens),
    "cap": setting_default("max_num_seqs in force", lambda point, setting: setting.seqs_limit(point.gpus_in_use)),
    "batched-tokens": setting_default(
        "max_num_batched_tokens in force", lambda point, setting: setting.batched_tokens_limit(point.gpus_in_use)
    ),
    "context": Need(
        title="max_model_len in force",
        present=lambda point, setting: setting.limits.max_model_len is not None,
        why=lambda point, setting: "neither the profile nor the server told it",
    ),
    "engine": Need(
        title="vLLM's figures",
        present=lambda point, setting: point.engine is not None,
        why=no_engine,
    ),
    "longest-context": of_engine(
        "longest context seen",
        lambda engine: engine.longest_context_tokens if engine.requests_finished_total else 0,
    ),
    "rejections": of_engine(
        "admission rejections", lambda engine: engine.admission_rejections_total, "vLLM counts them from 0.30 on"
    ),
    "http-errors": of_engine("HTTP errors", lambda engine: engine.http_errors_by_status),
    "goodput": of_engine("goodput", lambda engine: engine.goodput, "no request finished lately"),
    "engine-version": Need(
        title="vLLM's version",
        present=lambda point, setting: setting.limits.engine_version is not None,
        why=lambda point, setting: "the engine did not tell it",
    ),
    "queue-time": of_load(
        "queue time and TTFT",
        lambda engine: None if engine.ttft is None else engine.queue,
        "no first token in the last seconds, or not in vLLM's /metrics",
    ),
    "prefill-time": of_load(
        "prefill time and TTFT",
        lambda engine: None if engine.ttft is None else engine.prefill,
        "no request finished lately, or not in vLLM's /metrics",
    ),
    "prefix-hits": of_load(
        "prefix cache hits",
        lambda engine: engine.prefix_cache_hit_rate,
        "nothing was looked up lately, or not in vLLM's /metrics",
    ),
    "acceptance": of_load(
        "acceptance of drafts",
        lambda engine: engine.spec_acceptance_rate,
        "nothing was drafted lately, or not in vLLM's /metrics",
    ),
    "acceptance-by-position": of_load(
        "acceptance of drafts by position",
        lambda engine: engine.spec_acceptance_by_position,
        "nothing was drafted lately, or not in vLLM's /metrics",
    ),
    "length-capped": of_load(
        "share of answers cut at their limit",
        lambda engine: engine.length_capped_share,
        "no request finished lately, or not in vLLM's /metrics",
    ),
    "imbalance": of_load(
        "requests of each engine", lambda engine: engine.imbalance, "vLLM shows fewer than two engines"
    ),
    "host-cpu": Need(
        title="host CPU",
        present=lambda point, setting: point.host is not None and point.host.cpu_percent is not None,
        why=lambda point, setting: "no reading",
    ),
    "host-memory": Need(
        title="host memory",
        present=lambda point, setting: (
            point.host is not None and point.host.memory_used_bytes is not None and bool(point.host.memory_total_bytes)
        ),
        why=lambda point, setting: "no reading",
    ),
    "open-files": Need(
        title="open files of the server",
        present=lambda point, setting: (
            point.host is not None and point.host.tree_open_files is not None and bool(point.host.tree_open_files_limit)
        ),
        why=lambda point, setting: "the system does not tell, or sets no limit",
    ),
    "price": Need(
        title="price",
        present=lambda point, setting: setting.usd_per_hour is not None,
        why=lambda point, setting: "usd_per_hour is not set in the profile's [cost]",
    ),
}
