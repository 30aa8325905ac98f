"""Sentences and thresholds that several rules share."""

from __future__ import annotations

from console.core.hints.setting import Setting
from console.core.hints.window import Window
from console.core.hints.words import percent, plural, tokens

__all__ = [
    "LOW_UTILIZATION",
    "kv_words",
    "low_utilization",
    "on_gpus",
    "queue_words",
    "throughput_words",
    "utilization_words",
]

LOW_UTILIZATION = 70.0
"""Percent. Below it there is room on the GPUs."""

MOSTLY_BUSY = 0.8


def on_gpus(setting: Setting) -> bool:
    """The engine runs on GPUs."""
    return not setting.on_cpu


def low_utilization(window: Window) -> bool:
    """Whether the mean over the window is known and low."""
    mean = window.mean(lambda point: point.utilization)
    return mean is not None and mean < LOW_UTILIZATION


def utilization_words(window: Window, setting: Setting) -> str:
    """Mean utilization, and of what; on the CPU build it says that host CPU stands in."""
    mean = window.mean(lambda point: point.utilization)
    if mean is None:
        return "GPU utilization is unknown."
    host = window.host
    if setting.on_cpu:
        if host.tree_cpu_percent is not None and host.cpu_count:
            return (
                f"The server's processes use {mean:.0f}% of {plural(host.cpu_count, 'core')} "
                "(host CPU stands in for GPU utilization)."
            )
        return f"The host's CPU is {mean:.0f}% busy (host CPU stands in for GPU utilization)."
    count = len(window.gpus_in_use)
    return f"GPU utilization {mean:.0f}%" + (f", mean of {count} GPUs." if count > 1 else ".")


def queue_words(window: Window, whole: Window | None = None) -> str:
    """Mean of running and waiting, with the cap where it is known.

    If `window` holds only the busy points of `whole`, it says how many they are.
    """
    running = window.mean(lambda point: point.running) or 0.0
    waiting = window.mean(lambda point: point.waiting) or 0.0
    of_cap = "" if window.cap is None else f" of at most {window.cap}"
    words = f"{plural(round(running, 1), 'request')} run{of_cap}, {round(waiting, 1):g} wait"
    if whole is None or len(window.points) >= MOSTLY_BUSY * len(whole.points):
        return f"{words}."
    return f"{words}, in the {len(window.points)} of {len(whole.points)} samples in which any runs."


def kv_words(window: Window) -> str:
    """Mean and peak of KV cache usage, with its size where it is known."""
    mean = window.mean(lambda point: point.kv_usage) or 0.0
    peak = window.peak(lambda point: point.kv_usage) or 0.0
    engine = window.engine
    size = engine.kv_cache_tokens if engine is not None else None
    of_size = "" if size is None else f" of {tokens(size)} tokens"
    return f"KV cache {percent(mean)} used{of_size}, peak {percent(peak)}."


def throughput_words(window: Window) -> str:
    """Mean output rate as `1,224 tok/s`, empty if it is unknown."""
    rate = window.mean(lambda point: point.engine.generation_tokens_per_s if point.engine else None)
    return "" if rate is None else f"{tokens(rate)} tok/s"
