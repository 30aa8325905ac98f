"""What the console saw while one row of a benchmark ran: GPU, KV cache, power, and what the tokens cost.

Pure: from samples and a row to that row with these columns, and the reasons of those that stay empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean

import msgspec

from console.core.bench import BenchPoint
from console.core.models import GpuReading, Snapshot

__all__ = ["Seen", "seen", "usd_per_million", "with_columns"]


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """One tick, as far as a row needs it."""

    time_s: float
    """Wall-clock time (Unix)."""
    gpu_util_percent: float | None = None
    power_w: float | None = None
    kv_cache: float | None = None
    """0 to 1."""


def seen(snapshot: Snapshot) -> Seen:
    """The figures of one snapshot."""
    gpus = snapshot.gpus or ()
    power = [gpu.power_w for gpu in gpus]
    return Seen(
        time_s=snapshot.time_s,
        gpu_util_percent=_mean(gpu.util_percent for gpu in gpus),
        power_w=sum(watts for watts in power if watts is not None) if power and None not in power else None,
        kv_cache=snapshot.engine.kv_cache_usage if snapshot.engine else None,
    )


def usd_per_million(usd_per_hour: float | None, output_tokens_per_s: float) -> float | None:
    """Dollars per million output tokens: price per hour ÷ 3600 s ÷ tokens per second × 1,000,000."""
    if usd_per_hour is None or output_tokens_per_s <= 0:
        return None
    return usd_per_hour / 3600 / output_tokens_per_s * 1e6


def with_columns(
    point: BenchPoint, samples: Iterable[Seen], usd_per_hour: float | None, gpus: Sequence[GpuReading] | None
) -> tuple[BenchPoint, tuple[str, ...]]:
    """The row with what was seen between its start and its end, and why a column is empty."""
    end_s = point.started_s + point.duration_s
    during = [each for each in samples if point.started_s <= each.time_s <= end_s]
    peaks = [each.kv_cache for each in during if each.kv_cache is not None]
    filled = msgspec.structs.replace(
        point,
        gpu_util_percent=_mean(each.gpu_util_percent for each in during),
        power_w=_mean(each.power_w for each in during),
        kv_cache_peak=max(peaks, default=None),
        usd_per_million_tokens=usd_per_million(usd_per_hour, point.output_tokens_per_s),
    )
    notes = []
    if filled.usd_per_million_tokens is None and usd_per_hour is None:
        notes.append("No price: set usd_per_hour in the profile's [cost], or in config.toml.")
    if not gpus:
        notes.append("No GPU figures: this machine has no GPU that NVML shows.")
    if not during:
        notes.append("A row was over before the console could look at the server, so its GPU and KV cache are unknown.")
    elif filled.kv_cache_peak is None:
        notes.append("No KV cache figures: /metrics did not answer during a row.")
    elif gpus and (filled.gpu_util_percent is None or filled.power_w is None):
        notes.append("The driver does not tell the utilization or the power of every GPU.")
    return filled, tuple(notes)


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
