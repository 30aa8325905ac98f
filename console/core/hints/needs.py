"""Which readings rules may ask for, how to see that one is there, and what to say when it is not."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from console.core.hints.setting import Setting
from console.core.hints.window import Point

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


NEEDS: dict[str, Need] = {
    "utilization": Need(
        title="GPU utilization",
        present=lambda point, setting: point.utilization is not None,
        why=no_gpu,
    ),
    "gpus": Need(
        title="GPU readings",
        present=lambda point, setting: bool(point.gpus),
        why=no_gpu,
    ),
    "gpu-memory": Need(
        title="GPU memory",
        present=lambda point, setting: (
            bool(point.gpus)
            and all(gpu.memory_used_bytes is not None and gpu.memory_total_bytes for gpu in point.gpus or ())
        ),
        why=no_gpu,
    ),
    "gpu-temperature": Need(
        title="GPU temperature",
        present=lambda point, setting: any(gpu.temperature_c is not None for gpu in point.gpus or ()),
        why=no_gpu,
    ),
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
    "cap": Need(
        title="max_num_seqs in force",
        present=lambda point, setting: setting.seqs_limit(point.gpus_in_use) is not None,
        why=lambda point, setting: "unset, and vLLM's default depends on GPU memory that is unknown here",
    ),
    "batched-tokens": Need(
        title="max_num_batched_tokens in force",
        present=lambda point, setting: setting.batched_tokens_limit(point.gpus_in_use) is not None,
        why=lambda point, setting: "unset, and vLLM's default depends on GPU memory that is unknown here",
    ),
    "engine": Need(
        title="vLLM's figures",
        present=lambda point, setting: point.engine is not None,
        why=no_engine,
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
    "price": Need(
        title="price",
        present=lambda point, setting: setting.usd_per_hour is not None,
        why=lambda point, setting: "usd_per_hour is not set in the profile's [cost]",
    ),
}
