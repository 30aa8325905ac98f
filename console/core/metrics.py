"""Which of vLLM's metrics are kept, what each means, and how a scrape of them becomes one `EngineReading`.

One row of `METRICS` per family: to keep another one, add a row and its use in `EngineMetrics`. Names and types are
those of vLLM 0.25 to 0.33 (`vllm/v1/metrics/loggers.py`). Each family has one series per engine (label `engine`);
with data parallelism a row says how they become one figure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

from console.core.liveness import Marks
from console.core.models import EngineReading, Percentiles
from console.core.series import Buckets, CounterRate, HistogramWindow, quantile, rising
from console.core.units import Unit

__all__ = [
    "LATENCY_WINDOW_S",
    "METRICS",
    "RATE_WINDOW_S",
    "SAMPLE_NAMES",
    "Combine",
    "EngineMetrics",
    "Families",
    "Kind",
    "Metric",
    "Point",
]

RATE_WINDOW_S = 5.0
"""Token rates: short, so that a change is seen at once."""
LATENCY_WINDOW_S = 60.0
"""Percentiles, hit rate, preemptions, lengths: long enough to hold some requests."""

USAGE = "vllm:kv_cache_usage_perc"
RUNNING = "vllm:num_requests_running"
WAITING = "vllm:num_requests_waiting"
CACHE_CONFIG = "vllm:cache_config_info"
PROMPT = "vllm:prompt_tokens"
GENERATION = "vllm:generation_tokens"
PREEMPTIONS = "vllm:num_preemptions"
QUERIES = "vllm:prefix_cache_queries"
HITS = "vllm:prefix_cache_hits"
FINISHED = "vllm:request_success"
TTFT = "vllm:time_to_first_token_seconds"
ITL = "vllm:inter_token_latency_seconds"
PROMPT_LENGTH = "vllm:request_prompt_tokens"
GENERATION_LENGTH = "vllm:request_generation_tokens"


MARKS = ((RUNNING, WAITING), (PROMPT,), (GENERATION,), (FINISHED,), (PREEMPTIONS,), (USAGE,))


class Kind(StrEnum):
    """Type of a family in the exposition."""

    GAUGE = "gauge"
    INFO = "info"
    """A gauge of 1 whose labels are the figures."""
    COUNTER = "counter"
    HISTOGRAM = "histogram"


class Combine(StrEnum):
    """How the series of several engines become one."""

    SUM = "sum"
    MEAN = "mean"


SUFFIXES: dict[Kind, tuple[str, ...]] = {
    Kind.GAUGE: ("",),
    Kind.INFO: ("",),
    Kind.COUNTER: ("_total",),
    Kind.HISTOGRAM: ("_bucket", "_sum", "_count"),
}
"""What the exposition hangs on a family's name."""


class Metric(NamedTuple):
    """One family that is kept."""

    name: str
    """As vLLM defines it: a counter without `_total`."""
    kind: Kind
    combine: Combine
    label: str
    """As a front end writes it."""
    unit: Unit
    fields: tuple[str, ...]
    """Fields of `EngineReading` that come from it."""


METRICS: tuple[Metric, ...] = (
    Metric(USAGE, Kind.GAUGE, Combine.MEAN, "KV cache", Unit.RATIO, ("kv_cache_usage",)),
    Metric(RUNNING, Kind.GAUGE, Combine.SUM, "running", Unit.COUNT, ("running", "engines")),
    Metric(WAITING, Kind.GAUGE, Combine.SUM, "waiting", Unit.COUNT, ("waiting",)),
    Metric(CACHE_CONFIG, Kind.INFO, Combine.SUM, "KV cache tokens", Unit.COUNT, ("kv_cache_tokens",)),
    Metric(
        PROMPT,
        Kind.COUNTER,
        Combine.SUM,
        "prompt tokens",
        Unit.RATE,
        ("prompt_tokens_per_s", "prompt_tokens_total"),
    ),
    Metric(
        GENERATION,
        Kind.COUNTER,
        Combine.SUM,
        "output tokens",
        Unit.RATE,
        ("generation_tokens_per_s", "generation_tokens_total"),
    ),
    Metric(
        PREEMPTIONS,
        Kind.COUNTER,
        Combine.SUM,
        "preemptions",
        Unit.COUNT,
        ("preemptions_total", "preemptions_per_s"),
    ),
    Metric(QUERIES, Kind.COUNTER, Combine.SUM, "prefix cache", Unit.RATIO, ("prefix_cache_hit_rate",)),
    Metric(HITS, Kind.COUNTER, Combine.SUM, "prefix cache", Unit.RATIO, ("prefix_cache_hit_rate",)),
    Metric(FINISHED, Kind.COUNTER, Combine.SUM, "finished", Unit.COUNT, ("requests_finished_total",)),
    Metric(TTFT, Kind.HISTOGRAM, Combine.SUM, "first token", Unit.LATENCY, ("ttft",)),
    Metric(ITL, Kind.HISTOGRAM, Combine.SUM, "between tokens", Unit.LATENCY, ("itl",)),
    Metric(PROMPT_LENGTH, Kind.HISTOGRAM, Combine.SUM, "prompt length", Unit.COUNT, ("mean_prompt_tokens",)),
    Metric(GENERATION_LENGTH, Kind.HISTOGRAM, Combine.SUM, "answer length", Unit.COUNT, ("mean_generation_tokens",)),
)

SAMPLE_NAMES: Mapping[str, tuple[str, str]] = {
    row.name + suffix: (row.name, suffix) for row in METRICS for suffix in SUFFIXES[row.kind]
}
"""Name of a line in the exposition → family and suffix. All other lines may be skipped unread."""


class Point(NamedTuple):
    """One line of the exposition."""

    suffix: str
    labels: Mapping[str, str]
    value: float


Families = Mapping[str, Sequence[Point]]
"""Family name → its lines, for families of `METRICS` only."""

COMBINERS: dict[Combine, Callable[[Sequence[float]], float]] = {
    Combine.SUM: math.fsum,
    Combine.MEAN: lambda values: math.fsum(values) / len(values),
}


class EngineMetrics:
    """Turns scrapes of one server into readings. A new server gets a new one."""

    def __init__(self, rate_window_s: float = RATE_WINDOW_S, latency_window_s: float = LATENCY_WINDOW_S) -> None:
        long_ones = {PREEMPTIONS, QUERIES, HITS}
        self._counters = {
            row.name: CounterRate(latency_window_s if row.name in long_ones else rate_window_s)
            for row in METRICS
            if row.kind is Kind.COUNTER
        }
        self._histograms = {
            row.name: HistogramWindow(latency_window_s) for row in METRICS if row.kind is Kind.HISTOGRAM
        }
        self.marks: Marks | None = None
        """Per engine what moves while it works, as of the last scrape (see `console.core.liveness`)."""

    def feed(self, families: Families, now_s: float) -> EngineReading:
        """Take in one scrape, read at `now_s` (a clock that never goes back); a missing family is `None`."""
        values: dict[str, float | None] = {}
        for row in METRICS:
            points = families.get(row.name, ())
            if row.kind is Kind.HISTOGRAM:
                buckets = read_buckets(points)
                if buckets is not None:
                    self._histograms[row.name].feed(buckets, now_s)
            elif row.kind is not Kind.INFO:
                value = combined(points, row.combine)
                values[row.name] = value
                if row.kind is Kind.COUNTER and value is not None:
                    self._counters[row.name].feed(value, now_s)

        def rate(name: str) -> float | None:
            return None if values[name] is None else self._counters[name].per_s()

        engines = {point.labels.get("engine", "") for point in families.get(RUNNING, ())}
        self.marks = marks_of(families)
        return EngineReading(
            kv_cache_usage=values[USAGE],
            kv_cache_tokens=cache_tokens(families.get(CACHE_CONFIG, ())),
            running=whole(values[RUNNING]),
            waiting=whole(values[WAITING]),
            prompt_tokens_per_s=rate(PROMPT),
            generation_tokens_per_s=rate(GENERATION),
            ttft=self._percentiles(TTFT, families),
            itl=self._percentiles(ITL, families),
            preemptions_total=whole(values[PREEMPTIONS]),
            preemptions_per_s=rate(PREEMPTIONS),
            prefix_cache_hit_rate=self._hit_rate(),
            requests_finished_total=whole(values[FINISHED]),
            prompt_tokens_total=whole(values[PROMPT]),
            generation_tokens_total=whole(values[GENERATION]),
            mean_prompt_tokens=self._histograms[PROMPT_LENGTH].mean(),
            mean_generation_tokens=self._histograms[GENERATION_LENGTH].mean(),
            engines=max(1, len(engines)),
        )

    def _percentiles(self, name: str, families: Families) -> Percentiles | None:
        window = self._histograms[name].window() if families.get(name) else None
        if window is None:
            return None
        return Percentiles(
            p50_s=quantile(0.50, window.bounds, window.counts),
            p95_s=quantile(0.95, window.bounds, window.counts),
            p99_s=quantile(0.99, window.bounds, window.counts),
            count=int(window.counts[-1]),
        )

    def _hit_rate(self) -> float | None:
        looked_up, found = self._counters[QUERIES].increase(), self._counters[HITS].increase()
        if not looked_up or found is None:
            return None
        return min(1.0, found / looked_up)


def marks_of(families: Families) -> dict[str, tuple[float, ...]]:
    """Engine → requests running or waiting there, then its figures that move with every step."""
    sums: dict[str, list[float]] = {}
    for place, names in enumerate(MARKS):
        for point in (point for name in names for point in families.get(name, ())):
            if point.suffix in ("", "_total") and math.isfinite(point.value):
                sums.setdefault(point.labels.get("engine", ""), [0.0] * len(MARKS))[place] += point.value
    return {engine: tuple(values) for engine, values in sums.items()}


def combined(points: Iterable[Point], how: Combine) -> float | None:
    """One figure of all engines: series of one engine (finish reasons, say) are added up first."""
    by_engine: dict[str, float] = {}
    for point in points:
        if math.isfinite(point.value):
            engine = point.labels.get("engine", "")
            by_engine[engine] = by_engine.get(engine, 0.0) + point.value
    return COMBINERS[how](tuple(by_engine.values())) if by_engine else None


def read_buckets(points: Iterable[Point]) -> Buckets | None:
    """The histogram of all engines together; `None` if it is not whole."""
    counts: dict[float, float] = {}
    total = 0.0
    for point in points:
        if not math.isfinite(point.value):
            continue
        if point.suffix == "_sum":
            total += point.value
        elif point.suffix == "_bucket":
            bound = number(point.labels.get("le", ""))
            if bound is None:
                return None
            counts[bound] = counts.get(bound, 0.0) + point.value
    bounds = tuple(sorted(counts))
    if len(bounds) < 2 or bounds[-1] != math.inf or not rising(bounds):
        return None
    return Buckets(bounds, tuple(counts[bound] for bound in bounds), total)


def cache_tokens(points: Iterable[Point]) -> int | None:
    """Size of the KV cache in tokens, all engines together.

    `kv_cache_size_tokens` is one engine's, also with data parallelism, so it is added up. `num_gpu_blocks` of every
    engine is already the sum over all of them (`vllm/v1/engine/core_client.py`), so the largest one counts.
    An engine may stand there more than once, as several API servers see it.
    """
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
    return whole(math.fsum(tokens.values()) if tokens else from_blocks)


def number(text: str) -> float | None:
    """A label's value as a number; `None` for `None`, `auto` and the like."""
    try:
        value = float(text)
    except ValueError:
        return None
    return None if math.isnan(value) else value


def whole(value: float | None) -> int | None:
    """As an integer; `None` stays `None`, and what is not finite becomes it."""
    return round(value) if value is not None and math.isfinite(value) else None
