"""Samples as columns, and how many of them become one.

A sample is flattened to dotted paths (`gpus.#0.util_percent`), so that a store can keep each figure as one column and
older samples can be merged figure by figure: what spikes keeps its worst value, a rate or a share its mean, a counter
its last value. Nothing is merged across a change of state, a gap in time or a source that came or went. Pure, and
separate from the store, which knows files and nothing of what a figure means.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from operator import mul
from typing import Any, Final

import msgspec

from console.core.models import GpuReading, Sample, ServerState

__all__ = [
    "GAP_S",
    "REDUCE",
    "REDUCE_SUFFIX",
    "STATE_ORDER",
    "Columns",
    "Reduce",
    "concat",
    "flatten",
    "from_rows",
    "groups",
    "reduce",
    "rule",
    "slim",
    "thin",
    "to_samples",
    "within",
]

GAP_S: Final = 5.0
"""Samples further apart than this are never merged: what lies between them stays a gap."""
WIDER: Final = 1.5
WIDENINGS_MAX: Final = 12
"""How often buckets are made wider before changes of state are merged too."""
SOURCES: Final = ("gpus", "host", "engine")
BASIC: Final = ("time_s", "state", "count", "span_s")

Row = dict[str, Any]
Groups = Sequence[tuple[int, int]]


class Reduce(StrEnum):
    """How the values of one figure become one."""

    LAST = "last"
    MEAN = "mean"
    MAX = "max"
    MIN = "min"
    UNION = "union"
    STATE = "state"
    SUM = "sum"


REDUCE: Final[Mapping[str, Reduce]] = {
    "state": Reduce.STATE,
    "count": Reduce.SUM,
    "time_s": Reduce.LAST,
    "kv_cache_usage": Reduce.MAX,
    "waiting": Reduce.MAX,
    "waiting_capacity": Reduce.MAX,
    "waiting_deferred": Reduce.MAX,
    "imbalance": Reduce.MAX,
    "p95_s": Reduce.MAX,
    "p99_s": Reduce.MAX,
    "p95": Reduce.MAX,
    "p99": Reduce.MAX,
    "preemptions_per_s": Reduce.MAX,
    "temperature_c": Reduce.MAX,
    "memory_temperature_c": Reduce.MAX,
    "memory_used_bytes": Reduce.MAX,
    "tree_memory_bytes": Reduce.MAX,
    "memory_bytes": Reduce.MAX,
    "memory_free_bytes": Reduce.MIN,
    "nvlink_active": Reduce.MIN,
    "throttle": Reduce.UNION,
    "running": Reduce.MEAN,
    "p50_s": Reduce.MEAN,
    "p50": Reduce.MEAN,
    "mean": Reduce.MEAN,
    "prefix_cache_hit_rate": Reduce.MEAN,
    "spec_acceptance_rate": Reduce.MEAN,
    "spec_accepted_length": Reduce.MEAN,
    "mean_prompt_tokens": Reduce.MEAN,
    "mean_generation_tokens": Reduce.MEAN,
    "iteration_tokens_mean": Reduce.MEAN,
    "prefill_share": Reduce.MEAN,
    "length_capped_share": Reduce.MEAN,
    "share_min": Reduce.MEAN,
    "share_max": Reduce.MEAN,
    "per_s_min": Reduce.MEAN,
    "per_s_max": Reduce.MEAN,
}
"""By the name of a field. A name that is not here goes by its unit, else its last value stays."""
REDUCE_SUFFIX: Final[Mapping[str, Reduce]] = {
    "_percent": Reduce.MEAN,
    "_per_s": Reduce.MEAN,
    "_w": Reduce.MEAN,
    "_mhz": Reduce.MEAN,
}

STATE_ORDER: Final[tuple[str, ...]] = (
    ServerState.READY,
    ServerState.STOPPED,
    ServerState.STARTING,
    ServerState.LOADING,
    ServerState.STOPPING,
    ServerState.UNHEALTHY,
    ServerState.FAILED,
    ServerState.CRASHED,
)
"""From best to worst, for the one case in which states are merged: more changes of state than points."""

SLIM_GPU: Final = (
    "index",
    "util_percent",
    "memory_used_bytes",
    "memory_total_bytes",
    "power_w",
    "temperature_c",
    "sm_clock_mhz",
    "throttle",
    "pcie_rx_bytes_per_s",
    "pcie_tx_bytes_per_s",
    "nvlink_rx_bytes_per_s",
    "nvlink_tx_bytes_per_s",
)
"""What a chart of the past can show of a GPU; the rest is in every snapshot."""


class Columns(msgspec.Struct, frozen=True):
    """Samples by figure: for each path as many values as there are samples, `None` where one has none."""

    rows: int
    data: dict[str, list[Any]]

    @property
    def times(self) -> list[float]:
        """Wall-clock time of each."""
        return self.data.get("time_s", [])


def rule(path: str) -> Reduce:
    """How the figure of this path is merged."""
    name = path.rpartition(".")[2]
    if name in REDUCE:
        return REDUCE[name]
    return next((how for suffix, how in REDUCE_SUFFIX.items() if name.endswith(suffix)), Reduce.LAST)


def flatten(sample: Sample) -> Row:
    """Dotted paths of all that is known; an index is written `#0`. Default values are left out."""
    row: Row = {}
    _flatten(msgspec.to_builtins(sample), "", row)
    return row


def _flatten(value: Any, path: str, row: Row) -> None:
    if isinstance(value, dict) and value and not any("." in key or key.startswith("#") for key in value):
        lead = path + "." if path else ""
        for key, item in value.items():
            _flatten(item, lead + key, row)
    elif isinstance(value, list | tuple) and value and isinstance(value[0], dict):
        for index, item in enumerate(value):
            _flatten(item, f"{path}.#{index}", row)
    elif value is not None:
        row[path] = list(value) if isinstance(value, tuple) else value


def from_rows(rows: Sequence[Row]) -> Columns:
    """Columns of flattened samples."""
    paths = dict.fromkeys(path for row in rows for path in row)
    return Columns(len(rows), {path: [row.get(path) for row in rows] for path in paths})


def concat(parts: Iterable[Columns]) -> Columns:
    """One after the other."""
    known = list(parts)
    paths = dict.fromkeys(path for part in known for path in part.data)
    data: dict[str, list[Any]] = {}
    for path in paths:
        column: list[Any] = []
        for part in known:
            column += part.data.get(path) or [None] * part.rows
        data[path] = column
    return Columns(sum(part.rows for part in known), data)


def within(columns: Columns, since_s: float | None, until_s: float | None) -> Columns:
    """Only the samples of this time, both ends included."""
    keep = [
        index
        for index, time_s in enumerate(columns.times)
        if (since_s is None or time_s >= since_s) and (until_s is None or time_s <= until_s)
    ]
    if len(keep) == columns.rows:
        return columns
    return Columns(len(keep), {path: [column[i] for i in keep] for path, column in columns.data.items()})


def groups(columns: Columns, width_s: float) -> Groups:
    """Which samples in a row become one: those of one stretch of `width_s`, of one state and without a gap."""
    out: list[tuple[int, int]] = []
    states = columns.data.get("state", [])
    spans = columns.data.get("span_s", [None] * columns.rows)
    there = [_present(columns, source) for source in SOURCES]
    before: tuple[Any, ...] = ()
    start, last_s = 0, -math.inf
    for index, time_s in enumerate(columns.times):
        key = (int(time_s // width_s), states[index], *(known[index] for known in there))
        gap = time_s - (spans[index] or 0.0) - last_s > GAP_S or time_s < last_s
        if index and (key != before or gap):
            out.append((start, index))
            start = index
        before, last_s = key, time_s
    if columns.rows:
        out.append((start, columns.rows))
    return out


def _present(columns: Columns, source: str) -> list[bool]:
    known = [False] * columns.rows
    for path, column in columns.data.items():
        if path == source or path.startswith(source + "."):
            if None not in column:
                return [True] * columns.rows
            known = [had or value is not None for had, value in zip(known, column, strict=True)]
    return known


def reduce(columns: Columns, parts: Groups) -> Columns:
    """One sample per group."""
    if len(parts) == columns.rows:
        return columns
    weights = [count or 1 for count in columns.data.get("count", [None] * columns.rows)]
    spans = columns.data.get("span_s", [None] * columns.rows)
    times = columns.times
    data: dict[str, list[Any]] = {}
    for path, column in columns.data.items():
        how = rule(path)
        if path in {"count", "span_s"}:
            continue
        first = column[0]
        # Most figures never change within a block; only plain values compare cheaply and surely.
        if not isinstance(first, list | dict) and column.count(first) == columns.rows:
            data[path] = [first] * len(parts)
        else:
            quick = _DENSE.get(how) if None not in column else None
            if quick is not None:
                data[path] = [quick(column[a:b]) for a, b in parts]
                continue
            merge = _MERGE[how]
            data[path] = [merge(column[a:b], weights[a:b]) if b - a > 1 else column[a] for a, b in parts]
    data["count"] = [sum(weights[a:b]) for a, b in parts]
    data["span_s"] = [round(times[b - 1] - times[a] + (spans[a] or 0.0), 3) for a, b in parts]
    return Columns(len(parts), data)


def thin(columns: Columns, points_max: int) -> Columns:
    """At most so many samples, evenly over the time; gaps and changes of state stay as long as there is room."""
    if columns.rows <= points_max:
        return columns
    width_s = max((max(columns.times) - min(columns.times)) / points_max, 1e-3)
    for _ in range(WIDENINGS_MAX):
        parts = groups(columns, width_s)
        if len(parts) <= points_max:
            return reduce(columns, parts)
        width_s *= WIDER
    stride = -(-columns.rows // points_max)
    return reduce(columns, [(at, min(at + stride, columns.rows)) for at in range(0, columns.rows, stride)])


def slim(sample: Sample) -> Sample:
    """The sample without what no chart of the past shows: names, limits, processes."""
    if not sample.gpus:
        return sample
    gpus = tuple(GpuReading(**{name: getattr(gpu, name) for name in SLIM_GPU}) for gpu in sample.gpus)
    return msgspec.structs.replace(sample, gpus=gpus)


def _numbers(values: Sequence[Any], weights: Sequence[int]) -> tuple[list[Any], list[int]]:
    known = [pair for pair in zip(values, weights, strict=True) if pair[0] is not None]
    return [value for value, _ in known], [weight for _, weight in known]


def _last(values: Sequence[Any], weights: Sequence[int]) -> Any:
    return next((value for value in reversed(values) if value is not None), None)


def _mean(values: Sequence[Any], weights: Sequence[int]) -> Any:
    if type(values[0]) is float and weights.count(1) == len(weights) and None not in values:
        return sum(values) / len(values)
    if None in values:
        values, weights = _numbers(values, weights)
        if not values:
            return None
    mean = sum(map(mul, values, weights)) / sum(weights)
    # What is counted in whole things stays whole.
    return round(mean) if set(map(type, values)) == {int} else mean


def _extreme(choose: Callable[[list[Any]], Any]) -> Callable[[Sequence[Any], Sequence[int]], Any]:
    def merge(values: Sequence[Any], _weights: Sequence[int]) -> Any:
        known = [value for value in values if value is not None]
        return choose(known) if known else None

    return merge


def _union(lists: list[list[Any]]) -> list[Any]:
    return list(dict.fromkeys(item for each in lists for item in each))


def _worst(states: list[str]) -> str:
    return max(states, key=STATE_ORDER.index)


_MERGE: Final[Mapping[Reduce, Callable[[Sequence[Any], Sequence[int]], Any]]] = {
    Reduce.LAST: _last,
    Reduce.MEAN: _mean,
    Reduce.MAX: _extreme(max),
    Reduce.MIN: _extreme(min),
    Reduce.SUM: _extreme(sum),
    Reduce.UNION: _extreme(_union),
    Reduce.STATE: _extreme(_worst),
}


_DENSE: Final[Mapping[Reduce, Callable[[Sequence[Any]], Any]]] = {
    Reduce.LAST: lambda values: values[-1],
    Reduce.MAX: max,
    Reduce.MIN: min,
}
"""The same for figures that were known throughout, which most are: five minutes of 16 GPUs are 150,000 values."""


class _Node:
    """A part of a path: its own column, or what lies below it."""

    def __init__(self) -> None:
        self.column: list[Any] | None = None
        self.below: dict[str, _Node] = {}

    def value(self, row: int) -> Any:
        if self.below:
            if next(iter(self.below)).startswith("#"):
                items = [item for node in self.below.values() if (item := node.value(row)) is not None]
                if items:
                    return items
            else:
                found = {name: item for name, node in self.below.items() if (item := node.value(row)) is not None}
                if found:
                    return found
        return self.column[row] if self.column is not None else None


def to_samples(columns: Columns) -> Iterator[Sample]:
    """Back to samples; what is none (written by another version) is passed over."""
    root = _Node()
    for path, column in columns.data.items():
        node = root
        for name in path.split("."):
            node = node.below.setdefault(name, _Node())
        node.column = column
    for row in range(columns.rows):
        try:
            yield msgspec.convert(root.value(row), Sample)
        except msgspec.ValidationError:
            continue
