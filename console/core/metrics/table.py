"""Which of vLLM's metrics are kept, and what each means.

One row of `METRICS` per family: to keep another one, add a row and its use in `EngineMetrics`. Names and types are
those of vLLM 0.25 to 0.33 (`vllm/v1/metrics/loggers.py`, `vllm/v1/spec_decode/metrics.py`); `http_requests_total` is
that of its HTTP server. Most families have one series per engine (label `engine`); with data parallelism a row says
how they become one figure. Families that a server does not have (speculation that is off, an older version) are simply
not there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

from console.core.units import Unit

__all__ = [
    "LATENCY_WINDOW_S",
    "METRICS",
    "OF_NO_FAMILY",
    "RATE_WINDOW_S",
    "SAMPLE_NAMES",
    "Combine",
    "Families",
    "Kind",
    "Metric",
    "Point",
]

RATE_WINDOW_S = 5.0
"""Token rates: short, so that a change is seen at once."""
LATENCY_WINDOW_S = 60.0
"""Percentiles, shares, lengths and everything per request: long enough to hold some requests."""

USAGE = "vllm:kv_cache_usage_perc"
RUNNING = "vllm:num_requests_running"
WAITING = "vllm:num_requests_waiting"
WAITING_BY_REASON = "vllm:num_requests_waiting_by_reason"
CACHE_CONFIG = "vllm:cache_config_info"
PROMPT = "vllm:prompt_tokens"
PROMPT_BY_SOURCE = "vllm:prompt_tokens_by_source"
GENERATION = "vllm:generation_tokens"
PREEMPTIONS = "vllm:num_preemptions"
QUERIES = "vllm:prefix_cache_queries"
HITS = "vllm:prefix_cache_hits"
EXTERNAL_QUERIES = "vllm:external_prefix_cache_queries"
EXTERNAL_HITS = "vllm:external_prefix_cache_hits"
FINISHED = "vllm:request_success"
REJECTIONS = "vllm:admission_rejections"
DRAFTS = "vllm:spec_decode_num_drafts"
DRAFT_TOKENS = "vllm:spec_decode_num_draft_tokens"
ACCEPTED = "vllm:spec_decode_num_accepted_tokens"
ACCEPTED_BY_POSITION = "vllm:spec_decode_num_accepted_tokens_per_pos"
FLOPS = "vllm:estimated_flops_per_gpu"
READ_BYTES = "vllm:estimated_read_bytes_per_gpu"
WRITE_BYTES = "vllm:estimated_write_bytes_per_gpu"
HTTP = "http_requests"
TTFT = "vllm:time_to_first_token_seconds"
ITL = "vllm:inter_token_latency_seconds"
TPOT = "vllm:request_time_per_output_token_seconds"
E2E = "vllm:e2e_request_latency_seconds"
QUEUE = "vllm:request_queue_time_seconds"
PREFILL = "vllm:request_prefill_time_seconds"
DECODE = "vllm:request_decode_time_seconds"
PROMPT_LENGTH = "vllm:request_prompt_tokens"
GENERATION_LENGTH = "vllm:request_generation_tokens"
ITERATION = "vllm:iteration_tokens_total"

LENGTH_CAPPED = "length"
"""The `finished_reason` of an answer that ended at its limit of tokens."""


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
    Kind.HISTOGRAM: ("_bucket", "_sum"),
}
"""What the exposition hangs on a family's name, as far as it is read: a histogram's `_count` is its last bucket."""


class Metric(NamedTuple):
    """One family that is kept."""

    name: str
    """As vLLM defines it: a counter without `_total`."""
    kind: Kind
    label: str
    """As a front end writes it."""
    unit: Unit
    fields: tuple[str, ...]
    """Fields of `EngineReading` that come from it."""
    split: str = ""
    """Label whose values are kept apart as well as together."""
    combine: Combine = Combine.SUM
    window_s: float = LATENCY_WINDOW_S


GAUGE, INFO, COUNTER, HISTOGRAM = Kind.GAUGE, Kind.INFO, Kind.COUNTER, Kind.HISTOGRAM
COUNT, RATE, RATIO, LATENCY = Unit.COUNT, Unit.RATE, Unit.RATIO, Unit.LATENCY
NOW_S = RATE_WINDOW_S

METRICS: tuple[Metric, ...] = (
    Metric(USAGE, GAUGE, "KV cache", RATIO, ("kv_cache_usage",), combine=Combine.MEAN),
    Metric(
        RUNNING,
        GAUGE,
        "running",
        COUNT,
        ("running", "running_peak", "busy_s", "idle_s", "engines", "by_engine", "imbalance"),
    ),
    Metric(WAITING, GAUGE, "waiting", COUNT, ("waiting", "waiting_peak")),
    Metric(WAITING_BY_REASON, GAUGE, "waiting for", COUNT, ("waiting_capacity", "waiting_deferred"), "reason"),
    Metric(
        CACHE_CONFIG,
        INFO,
        "KV cache tokens",
        COUNT,
        ("kv_cache_tokens", "prefix_caching", "cache_dtype", "block_size"),
    ),
    Metric(
        PROMPT,
        COUNTER,
        "prompt tokens",
        RATE,
        ("prompt_tokens_per_s", "prompt_tokens_total", "prompt_tokens_per_busy_s"),
        window_s=NOW_S,
    ),
    Metric(PROMPT_BY_SOURCE, COUNTER, "prompt tokens from", RATIO, ("prompt_share_by_source",), "source"),
    Metric(
        GENERATION,
        COUNTER,
        "output tokens",
        RATE,
        ("generation_tokens_per_s", "generation_tokens_total", "generation_tokens_per_busy_s"),
        "engine",
        window_s=NOW_S,
    ),
    Metric(PREEMPTIONS, COUNTER, "preemptions", COUNT, ("preemptions_total", "preemptions_per_s")),
    Metric(QUERIES, COUNTER, "prefix cache", RATIO, ("prefix_cache_hit_rate", "prefix_cache_hit_rate_total")),
    Metric(HITS, COUNTER, "prefix cache", RATIO, ("prefix_cache_hit_rate", "prefix_cache_hit_rate_total")),
    Metric(EXTERNAL_QUERIES, COUNTER, "external KV cache", RATIO, ("external_cache_hit_rate",)),
    Metric(EXTERNAL_HITS, COUNTER, "external KV cache", RATIO, ("external_cache_hit_rate",)),
    Metric(
        FINISHED,
        COUNTER,
        "finished",
        COUNT,
        ("requests_finished_total", "requests_per_s", "finished_by_reason", "length_capped_share"),
        "finished_reason",
    ),
    Metric(REJECTIONS, COUNTER, "rejected", COUNT, ("admission_rejections_total",)),
    Metric(HTTP, COUNTER, "HTTP answers", COUNT, ("http_errors_by_status",), "status"),
    Metric(DRAFTS, COUNTER, "draft steps", COUNT, ("spec_accepted_length", "spec_acceptance_by_position")),
    Metric(DRAFT_TOKENS, COUNTER, "draft tokens", COUNT, ("spec_acceptance_rate",)),
    Metric(ACCEPTED, COUNTER, "accepted tokens", COUNT, ("spec_acceptance_rate", "spec_accepted_length")),
    Metric(ACCEPTED_BY_POSITION, COUNTER, "accepted by position", COUNT, ("spec_acceptance_by_position",), "position"),
    Metric(FLOPS, COUNTER, "operations per GPU", RATE, ("flops_per_gpu_per_s",), window_s=NOW_S),
    Metric(READ_BYTES, COUNTER, "memory read per GPU", RATE, ("memory_bytes_per_gpu_per_s",), window_s=NOW_S),
    Metric(WRITE_BYTES, COUNTER, "memory written per GPU", RATE, ("memory_bytes_per_gpu_per_s",), window_s=NOW_S),
    Metric(TTFT, HISTOGRAM, "first token", LATENCY, ("ttft", "goodput")),
    Metric(ITL, HISTOGRAM, "between tokens", LATENCY, ("itl",)),
    Metric(TPOT, HISTOGRAM, "per output token", LATENCY, ("tpot", "goodput")),
    Metric(E2E, HISTOGRAM, "whole request", LATENCY, ("e2e",)),
    Metric(QUEUE, HISTOGRAM, "queue", LATENCY, ("queue",)),
    Metric(PREFILL, HISTOGRAM, "prefill", LATENCY, ("prefill", "prefill_share")),
    Metric(DECODE, HISTOGRAM, "decode", LATENCY, ("decode", "prefill_share")),
    Metric(
        PROMPT_LENGTH,
        HISTOGRAM,
        "prompt length",
        COUNT,
        ("prompt_lengths", "mean_prompt_tokens", "longest_prompt_tokens", "longest_context_tokens"),
    ),
    Metric(
        GENERATION_LENGTH,
        HISTOGRAM,
        "answer length",
        COUNT,
        ("generation_lengths", "mean_generation_tokens", "longest_generation_tokens", "longest_context_tokens"),
    ),
    Metric(ITERATION, HISTOGRAM, "tokens per step", COUNT, ("iteration_tokens_mean",)),
)

OF_NO_FAMILY: tuple[str, ...] = ("resets_total", "step_tokens_max", "kernels_compiled_total", "kernel_compiling")
"""Fields of `EngineReading` that come from all counters, or from the log."""

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
