"""Load, power, memory and NVLink traffic of each GPU over a stretch of time, from the console's own samples."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["FIELDS", "by_gpu", "spread", "timeline"]


class Field(NamedTuple):
    """One figure of a GPU."""

    title: str
    name: str
    factor: float


FIELDS = (
    Field("utilization, %", "util_percent", 1.0),
    Field("power, W", "power_w", 1.0),
    Field("memory, GiB", "memory_used_bytes", 2.0**-30),
    Field("NVLink in, MB/s", "nvlink_rx_bytes_per_s", 1e-6),
    Field("NVLink out, MB/s", "nvlink_tx_bytes_per_s", 1e-6),
    Field("PCIe in, MB/s", "pcie_rx_bytes_per_s", 1e-6),
)


def by_gpu(samples: Iterable[Mapping[str, Any]], since_s: float, until_s: float) -> dict[int, dict[str, float | None]]:
    """Means of each GPU between two times (Unix). What no sample has is `None`."""
    values: dict[int, dict[str, list[float]]] = {}
    for sample in samples:
        if not since_s <= sample["time_s"] <= until_s:
            continue
        for gpu in sample.get("gpus") or ():
            mine = values.setdefault(gpu["index"], {field.title: [] for field in FIELDS})
            for field in FIELDS:
                if gpu.get(field.name) is not None:
                    mine[field.title].append(gpu[field.name] * field.factor)
    return {
        index: {title: round(statistics.fmean(seen), 2) if seen else None for title, seen in mine.items()}
        for index, mine in sorted(values.items())
    }


def spread(gpus: Mapping[int, Mapping[str, float | None]], title: str) -> tuple[float, float] | None:
    """Smallest and largest mean of a figure over the GPUs; `None` where none has it."""
    seen = [value for each in gpus.values() if (value := each.get(title)) is not None]
    return (min(seen), max(seen)) if seen else None


def timeline(samples: list[dict[str, Any]], path: Path) -> int:
    """Every sample of every GPU as CSV: what a chart needs. Returns the number of samples."""
    lines = [",".join(("time_s", "gpu", *(field.name for field in FIELDS)))]
    for sample in samples:
        for gpu in sample.get("gpus") or ():
            cells = [gpu.get(field.name) for field in FIELDS]
            elapsed_s = sample["time_s"] - samples[0]["time_s"]
            lines.append(",".join((f"{elapsed_s:.2f}", str(gpu["index"]), *map(_cell, cells))))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return len(samples)


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:g}"
