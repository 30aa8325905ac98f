"""One scrape by itself: what its lines say, whatever came before.

Several API servers (`--api-server-count`, the default with data parallelism) switch vLLM to Prometheus' multiprocess
mode. Its collector adds up counters and histograms of all processes before they are exposed, and of gauges it shows
the most recent one, as vLLM asks it to. So one engine has one line, as with one process. A gauge with a label `pid`
(another mode, set by hand) has one line per API server, each of which says what that one saw last of the same engine:
these are not added up, the largest counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from console.core.metrics.table import CACHE_CONFIG, HTTP, Combine, Families, Kind, Metric, Point
from console.core.series import Buckets, rising

__all__ = [
    "CacheConfig",
    "by_label",
    "cache_config",
    "combined",
    "engine_order",
    "highest_bound",
    "http_errors",
    "labels_key",
    "number",
    "read_buckets",
    "whole",
]

BOUNDS_CACHED = 4096
"""Texts of bucket bounds that are remembered as numbers."""
API_PREFIX = "/v1"
"""Handlers that clients of the model use; `/metrics`, `/health` and the like are not their errors."""
ERROR_STATUSES = ("4xx", "5xx")

COMBINERS: dict[Combine, Callable[[Sequence[float]], float]] = {
    Combine.SUM: math.fsum,
    Combine.MEAN: lambda values: math.fsum(values) / len(values),
}


def combined(points: Iterable[Point], row: Metric) -> float | None:
    """One figure of all engines: series of one engine (finish reasons, say) are added up first."""
    by_engine: dict[str, float] = {}
    for point in once(points, row.kind):
        engine = point.labels.get("engine", "")
        by_engine[engine] = by_engine.get(engine, 0.0) + point.value
    return COMBINERS[row.combine](tuple(by_engine.values())) if by_engine else None


def by_label(points: Iterable[Point], label: str, kind: Kind) -> dict[str, float]:
    """Value of that label → its series added up."""
    sums: dict[str, float] = {}
    for point in once(points, kind):
        name = point.labels.get(label, "")
        sums[name] = sums.get(name, 0.0) + point.value
    return sums


def once(points: Iterable[Point], kind: Kind) -> Iterable[Point]:
    """Points with a figure; of a gauge that several API servers show with their `pid`, the largest of them."""
    finite = [point for point in points if math.isfinite(point.value)]
    if kind is not Kind.GAUGE or not any("pid" in point.labels for point in finite):
        return finite
    largest: dict[tuple[tuple[str, str], ...], Point] = {}
    for point in finite:
        key = tuple(item for item in point.labels.items() if item[0] != "pid")
        before = largest.get(key)
        if before is None or point.value > before.value:
            largest[key] = point
    return largest.values()


def read_buckets(points: Iterable[Point]) -> dict[str, Buckets]:
    """Engine → its histogram. Empty if one of them is not whole, or they do not have the same bounds."""
    counts: dict[str, dict[float, float]] = {}
    sums: dict[str, float] = {}
    for suffix, labels, value in points:
        engine = labels.get("engine", "")
        if suffix == "_bucket":
            bound = bound_of(labels.get("le", ""))
            if bound is None:
                return {}
            here = counts.get(engine)
            if here is None:
                here = counts[engine] = {}
            here[bound] = here.get(bound, 0.0) + value
        elif suffix == "_sum":
            sums[engine] = sums.get(engine, 0.0) + value
    out: dict[str, Buckets] = {}
    bounds: tuple[float, ...] = ()
    for engine, here in counts.items():
        found = tuple(here)
        if found != bounds:
            if bounds or len(found) < 2 or found[-1] != math.inf or not rising(found):
                return {}
            bounds = found
        values = tuple(here.values())
        total = sums.get(engine, 0.0)
        if not math.isfinite(sum(values) + total):
            return {}
        out[engine] = Buckets(bounds, values, total)
    return out


def highest_bound(buckets: Buckets) -> float | None:
    """Upper bound of the largest observation: infinite if it is above the highest bucket; `None` without any."""
    top = buckets.counts[-1]
    if top <= 0:
        return None
    return next(bound for bound, count in zip(buckets.bounds, buckets.counts, strict=True) if count >= top)


STATED_OFF = 0.1
"""Engines of one server differ by less: their GPUs are alike."""


class CacheConfig(NamedTuple):
    """What `cache_config_info` says. `None` where it does not."""

    tokens: int | None = None
    """Of all engines together, as stated."""
    tokens_of_blocks: int | None = None
    """The same by number and size of the blocks: wrong where layers have caches of their own kinds, as in V4, whose
    blocks hold a few tokens of one layer each (1,854,378 for 4,865,499 tokens on an H200, vLLM 0.26)."""
    prefix_caching: bool | None = None
    dtype: str | None = None
    """As it was asked for: `auto` is the model's own type."""
    block_size: int | None = None


def cache_config(families: Families) -> CacheConfig:
    """The KV cache as it was set up.

    `kv_cache_size_tokens` is one engine's, also with data parallelism, so it is added up. `num_gpu_blocks` of every
    engine is already the sum over all of them (`vllm/v1/engine/core_client.py`), so the largest one counts.
    An engine may stand there more than once, as several API servers see it.
    """
    points = families.get(CACHE_CONFIG, ())
    if not points:
        return CacheConfig()
    tokens: dict[str, float] = {}
    from_blocks: float | None = None
    for point in points:
        size = number(point.labels.get("kv_cache_size_tokens", ""))
        if size is not None:
            engine = point.labels.get("engine", "")
            tokens[engine] = max(size, tokens.get(engine, 0.0))
        blocks, length = (number(point.labels.get(key, "")) for key in ("num_gpu_blocks", "block_size"))
        if blocks is not None and length is not None:
            from_blocks = max(blocks * length, from_blocks or 0.0)
    labels = points[0].labels
    return CacheConfig(
        whole(math.fsum(tokens.values())) if tokens else None,
        whole(from_blocks),
        {"True": True, "False": False}.get(labels.get("enable_prefix_caching", "")),
        labels.get("cache_dtype") or None,
        whole(number(labels.get("block_size", ""))),
    )


def kv_cache_tokens(cache: CacheConfig, printed: int | None, engines: int) -> int | None:
    """Size of the KV cache of all engines together.

    What is stated in `/metrics` counts, unless the log differs by more than `STATED_OFF`: for DeepSeek V4 vLLM 0.26
    states 361,783 tokens where its log has 885,355, since the scheduler's copy of the layout that it is taken from
    keeps one layer's kind of each group (`vllm/v1/core/kv_cache_utils.py`, `generate_scheduler_kv_cache_config`).

    Args:
        cache: as `/metrics` has it.
        printed: one engine's, by the log.
        engines: data parallel engines.
    """
    by_log = None if printed is None else printed * engines
    if cache.tokens and by_log and abs(cache.tokens - by_log) > STATED_OFF * by_log:
        return by_log
    return cache.tokens or by_log or cache.tokens_of_blocks


def http_errors(families: Families) -> dict[str, int] | None:
    """Answers of `/v1` with an error, by class of status; `None` before the server answered any request at all."""
    points = families.get(HTTP, ())
    if not points:
        return None
    found = dict.fromkeys(ERROR_STATUSES, 0)
    for point in points:
        status = point.labels.get("status", "")[:1] + "xx"
        if status in found and point.labels.get("handler", "").startswith(API_PREFIX) and math.isfinite(point.value):
            found[status] += round(point.value)
    return found


def engine_order(name: str) -> tuple[int, str]:
    """Sorts engines by number."""
    return (int(name), "") if name.isdecimal() else (-1, name)


def number(text: str) -> float | None:
    """A label's value as a number; `None` for `None`, `auto` and the like."""
    try:
        value = float(text)
    except ValueError:
        return None
    return None if math.isnan(value) else value


bound_of: Callable[[str], float | None] = lru_cache(BOUNDS_CACHED)(number)


def whole(value: float | None) -> int | None:
    """As an integer; `None` stays `None`, and what is not finite becomes it."""
    return round(value) if value is not None and math.isfinite(value) else None


def labels_key(labels: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """What tells one series of a family from another."""
    return tuple(labels.items())
