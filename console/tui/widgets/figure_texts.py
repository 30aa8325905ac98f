"""The texts of figures that have no chart: each is empty where there is nothing to say."""

from __future__ import annotations

from dataclasses import dataclass

from console.core.models import EngineReading, Goodput, GpuReading, Lengths, Percentiles, RunInfo
from console.tui import fmt
from console.tui.glyphs import UNKNOWN

__all__ = [
    "Facts",
    "busy_text",
    "cache_text",
    "ended_text",
    "energy_text",
    "errors_text",
    "estimate_text",
    "goodput_text",
    "imbalance_text",
    "lengths_text",
    "longest_parts_text",
    "longest_text",
    "p95_text",
    "peaks_text",
    "percent_range",
    "percentile_text",
    "positions_text",
    "prefix_text",
    "ratio",
    "requests_text",
    "sources_text",
    "speculation_text",
    "waiting_text",
]

RARE_PER_S = 0.1
REASONS = ("stop", "length", "abort", "error", "repetition")
SOURCES = (("local_compute", "computed"), ("local_cache_hit", "cached"), ("external_kv_transfer", "external"))


@dataclass(frozen=True, slots=True)
class Facts:
    """What facts are read from."""

    engine: EngineReading
    run: RunInfo
    gpus: tuple[GpuReading, ...] = ()


def percentile_text(value: Percentiles, seconds: float | None) -> str:
    """A percentile, or the bound of the lowest bucket where it is only known to lie in that."""
    lowest_s = value.lowest_bound_s
    if seconds is not None and lowest_s is not None and seconds <= lowest_s:
        return f"≤{fmt.latency(lowest_s)}"
    return fmt.latency(seconds)


def percent_range(low: float, high: float) -> str:
    """`50–70%`, or `80%` for a point."""
    first, last = fmt.percent(low * 100), fmt.percent(high * 100)
    return last if first == last else f"{first.rstrip('%')}–{last}"


def requests_text(per_s: float | None) -> str:
    """A rate of requests: `4/s`, or `2/min` where a second is too short for one."""
    if per_s is None:
        return ""
    return f"{fmt.count(per_s)}/s" if per_s == 0 or per_s >= RARE_PER_S else f"{fmt.count(per_s * 60)}/min"


def goodput_text(value: Goodput | None) -> str:
    """Share and rate of requests that met the targets, then each target alone."""
    if value is None:
        return ""
    low, high = requests_text(value.per_s_min), requests_text(value.per_s_max)
    rate = high if low == high else f"{low.removesuffix('/s')}–{high}"
    both = value.ttft_share is not None and value.tpot_share is not None
    alone = f" (TTFT {ratio(value.ttft_share)} TPOT {ratio(value.tpot_share)})" if both else ""
    return f"{percent_range(value.share_min, value.share_max)} {rate}{alone}"


def ratio(value: float | None) -> str:
    """A share as percent."""
    return UNKNOWN if value is None else fmt.percent(value * 100)


def ended_text(engine: EngineReading) -> str:
    """How finished requests ended, since the server started."""
    reasons = engine.finished_by_reason or {}
    names = [*REASONS, *sorted(set(reasons) - set(REASONS))]
    return " ".join(f"{name} {fmt.whole(reasons[name])}" for name in names if reasons.get(name))


def errors_text(engine: EngineReading) -> str:
    """Answers of `/v1` with an error."""
    errors = engine.http_errors_by_status
    return "" if errors is None else " ".join(f"{status} {fmt.whole(count)}" for status, count in errors.items())


def waiting_text(engine: EngineReading) -> str:
    """What waiting requests wait for."""
    if not engine.waiting or engine.waiting_capacity is None:
        return ""
    return f"capacity {fmt.whole(engine.waiting_capacity)} deferred {fmt.whole(engine.waiting_deferred)}"


def lengths_text(value: Lengths | None) -> str:
    """A length's mean and percentiles."""
    if value is None or not value.count:
        return ""
    return (
        f"mean {fmt.count(value.mean)} p50 {fmt.count(value.p50)} p95 {fmt.count(value.p95)} p99 {fmt.count(value.p99)}"
    )


def longest_text(facts: Facts) -> str:
    """Upper bound of the longest request, and how much of the context that is."""
    tokens, limit = facts.engine.longest_context_tokens, facts.run.max_model_len
    if tokens is None:
        return ""
    share = f" of {fmt.count(limit)} ({fmt.percent(100 * tokens / limit)})" if limit else ""
    return f"≤{fmt.count(tokens)}{share}"


def longest_parts_text(engine: EngineReading) -> str:
    """Upper bounds of the longest prompt and the longest answer."""
    if engine.longest_prompt_tokens is None:
        return ""
    return f"prompt ≤{fmt.count(engine.longest_prompt_tokens)} answer ≤{fmt.count(engine.longest_generation_tokens)}"


def p95_text(engine: EngineReading) -> str:
    """Latencies that a narrow screen has no table for."""
    named = (("e2e", engine.e2e), ("queue", engine.queue), ("prefill", engine.prefill), ("decode", engine.decode))
    return " ".join(
        f"{name} {percentile_text(value, value.p95_s)}" for name, value in named if value and value.p95_s is not None
    )


def speculation_text(engine: EngineReading) -> str:
    """Acceptance, and tokens per step."""
    if engine.spec_acceptance_rate is None:
        return ""
    text = f"{ratio(engine.spec_acceptance_rate)} accepted"
    if engine.spec_accepted_length is not None:
        text += f", {engine.spec_accepted_length:.2f} tokens a step"
    return text


def positions_text(engine: EngineReading) -> str:
    """Acceptance of the first, second … draft token."""
    return " ".join(ratio(share) for share in engine.spec_acceptance_by_position or ())


def busy_text(engine: EngineReading) -> str:
    """Token rates over the time in which requests ran."""
    watched_s = engine.busy_s + engine.idle_s
    if not watched_s or engine.generation_tokens_per_busy_s is None:
        return ""
    return (
        f"{fmt.count(engine.generation_tokens_per_busy_s)} out {fmt.count(engine.prompt_tokens_per_busy_s)} in tok/s,"
        f" {fmt.percent(100 * engine.busy_s / watched_s)} of {fmt.duration(watched_s)}"
    )


def energy_text(facts: Facts) -> str:
    """Energy of all GPUs per output token."""
    watts = [gpu.power_w for gpu in facts.gpus]
    tokens_per_s = facts.engine.generation_tokens_per_s
    if not watts or not tokens_per_s or any(power is None for power in watts):
        return ""
    return f"{sum(power for power in watts if power is not None) / tokens_per_s:.2f} J/token"


def estimate_text(engine: EngineReading) -> str:
    """vLLM's estimate of its own work, per GPU."""
    if engine.flops_per_gpu_per_s is None:
        return ""
    return f"{fmt.count(engine.flops_per_gpu_per_s)}FLOP/s memory {fmt.count(engine.memory_bytes_per_gpu_per_s)}B/s"


def prefix_text(engine: EngineReading) -> str:
    """Hit rates of the prefix cache: now and since the server started."""
    if engine.prefix_caching is False:
        return "off"
    text = ratio(engine.prefix_cache_hit_rate)
    if engine.prefix_cache_hit_rate_total is not None:
        text += f" ({ratio(engine.prefix_cache_hit_rate_total)} since start)"
    return text


def sources_text(engine: EngineReading) -> str:
    """Where prompt tokens came from."""
    shares = engine.prompt_share_by_source
    return "" if shares is None else " ".join(f"{name} {ratio(shares.get(key, 0.0))}" for key, name in SOURCES)


def cache_text(engine: EngineReading) -> str:
    """Use of the KV cache in tokens, its type and its blocks."""
    parts = []
    if engine.kv_cache_tokens is not None and engine.kv_cache_usage is not None:
        used = engine.kv_cache_usage * engine.kv_cache_tokens
        parts.append(f"{fmt.count(round(used))} of {fmt.count(engine.kv_cache_tokens)} tokens")
    if engine.cache_dtype:
        parts.append(engine.cache_dtype)
    if engine.block_size:
        parts.append(f"blocks of {engine.block_size}")
    return ", ".join(parts)


def peaks_text(engine: EngineReading) -> str:
    """The most requests at once."""
    if engine.running_peak is None:
        return ""
    return f"{fmt.whole(engine.running_peak)} running {fmt.whole(engine.waiting_peak)} waiting"


def imbalance_text(engine: EngineReading) -> str:
    """How much more the busiest engine has."""
    if not engine.by_engine:
        return ""
    uneven = "" if engine.imbalance is None else f", busiest {engine.imbalance:.1f}× the mean"
    return f"{len(engine.by_engine)}{uneven}"
