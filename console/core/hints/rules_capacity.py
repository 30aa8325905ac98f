"""Rules about the KV cache's capacity: wider entries than needed, host memory beside it, contexts nobody uses."""

from __future__ import annotations

from console.core import versions
from console.core.hints import addresses
from console.core.hints.phrases import kv_words, on_gpus, queue_words
from console.core.hints.rule import Finding, Rule
from console.core.hints.rules_concurrency import last_power_of_two, next_power_of_two
from console.core.hints.setting import GIB, Setting
from console.core.hints.window import Point, Window
from console.core.hints.words import duration, percent, plural, tokens
from console.core.models import Level

__all__ = ["CONTEXT_UNUSED", "KV_FP8", "KV_OFFLOAD"]

KV_WORTH_FP8 = 0.6
KV_PEAK_FULL = 0.9
KV_MEAN_FULL = 0.85
FREE_SHARE_MIN = 0.4
FREE_GIB_MIN = 64.0
OFFLOAD_GIB_MAX = 512
"""Pinning more takes minutes of the start."""
V4_OFFLOAD_SINCE = ">=0.27"
"""vllm-project/vllm#43142; seen to work on 0.26.1rc (vllm-project/recipes#727, #778)."""
NO_OFFLOAD = ("deepseek-v4.1", "deepseek-v3.2")
"""Models for which it is not known to work in a release."""
FINISHED_MIN = 20
UNUSED_SHARE = 0.5
MARGIN = 1.5
"""Over the longest context seen, before rounding up to a power of two."""
CONTEXT_MIN = 256


def preemptions(point: Point) -> float | None:
    """vLLM's counter."""
    return point.engine.preemptions_total if point.engine else None


def judge_fp8(window: Window, setting: Setting, held_s: float) -> Finding | None:
    """The KV cache is well used, and its entries are twice as wide as they need to be."""
    peak = window.peak(lambda point: point.kv_usage)
    engine = window.engine
    if peak is None or peak < KV_WORTH_FP8 or engine is None or (engine.cache_dtype or "").startswith("fp8"):
        return None
    if not setting.fp8_kv_possible(window.gpus_in_use):
        return None
    return Finding(
        evidence=(
            kv_words(window),
            f"kv_cache_dtype is {setting.serve.kv_cache_dtype or 'unset'}: 16 bits per value, and these GPUs have FP8.",
        ),
        change=setting.change("kv_cache_dtype", "fp8"),
        gain="About twice as many tokens fit into the KV cache, and attention reads half as much.",
        risk="Answers may differ slightly: check quality. The start fails if no attention backend supports it.",
    )


def judge_offload(window: Window, setting: Setting, held_s: float) -> Finding | None:
    """The KV cache is the limit, and the host has memory to spare."""
    busy, host = window.busy, window.host
    peak = window.peak(lambda point: point.kv_usage)
    version = setting.limits.engine_version
    if busy is None or peak is None or host.memory_total_bytes is None or host.memory_used_bytes is None:
        return None
    if setting.is_v4 and (version is None or not versions.satisfies(version, V4_OFFLOAD_SINCE)):
        return None
    thrown_out = window.growth(preemptions) or 0.0
    full = (busy.mean(lambda point: point.kv_usage) or 0.0) >= KV_MEAN_FULL and peak >= KV_PEAK_FULL
    if not full and thrown_out < 1:
        return None
    free_gib = (host.memory_total_bytes - host.memory_used_bytes) / GIB
    if free_gib < FREE_GIB_MIN or free_gib * GIB < FREE_SHARE_MIN * host.memory_total_bytes:
        return None
    size = min(OFFLOAD_GIB_MAX, last_power_of_two(int(free_gib / 2)))
    hits = window.mean(lambda point: point.engine.prefix_cache_hit_rate if point.engine else None)
    evidence = [kv_words(busy), f"Host memory: {free_gib:.0f} of {host.memory_total_bytes / GIB:.0f} GiB free."]
    if thrown_out:
        evidence.append(f"{plural(thrown_out, 'preemption')} in {duration(window.span_s)}.")
    if hits is not None:
        evidence.append(f"Prefix cache hits {percent(hits)}.")
    return Finding(
        evidence=tuple(evidence),
        basis=(f"Half of the free host memory, rounded down to a power of two: {size} GiB.",),
        change=setting.change_extra("kv-offloading-size", size),
        gain="Blocks that must leave the GPU stay in host memory: prompts that come again and requests that were "
        "thrown out are read back in place of computed again. It does not let more requests run at once.",
        risk="The start takes longer (memory is pinned) and fails where a container's limit is lower, or an attention "
        "layout is not covered. Copies use PCIe.",
    )


def judge_context(window: Window, setting: Setting, held_s: float) -> Finding | None:
    """Contexts are allowed that nobody uses, and fewer requests are sure to fit for it."""
    engine, limit, busy = window.engine, setting.limits.max_model_len, window.busy
    if engine is None or limit is None or busy is None or not engine.kv_cache_tokens:
        return None
    longest = engine.longest_context_tokens
    waiting = busy.mean(lambda point: point.waiting)
    if not longest or longest > UNUSED_SHARE * limit or (engine.requests_finished_total or 0) < FINISHED_MIN:
        return None
    running = busy.mean(lambda point: point.running) or 0.0
    sure = engine.kv_cache_tokens / limit
    if waiting is None or waiting < 1 or sure >= running + waiting:
        return None
    after = max(CONTEXT_MIN, next_power_of_two(longest * MARGIN))
    if after > UNUSED_SHARE * limit:
        return None
    then = engine.kv_cache_tokens / after
    now_sure = f"Of requests of {tokens(limit)} tokens the KV cache is sure to hold {sure:.1f} at once"
    lengths = engine.prompt_lengths
    shape = f" (prompts of the last seconds: p99 {tokens(lengths.p99)})" if lengths and lengths.p99 else ""
    return Finding(
        evidence=(
            f"The longest of {tokens(engine.requests_finished_total or 0)} requests took at most {tokens(longest)} of "
            f"{tokens(limit)} tokens{shape}.",
            queue_words(busy, window),
        ),
        basis=(f"{now_sure}; {tokens(limit)} → {tokens(after)}, the power of two above {MARGIN:g} times the longest.",),
        change=setting.change("max_model_len", after),
        gain=(
            f"At {tokens(after)} tokens it is sure to hold {then:.0f}, so max_num_seqs may go up to that without the "
            "risk of preemption."
            if not setting.is_v4
            else "More requests are sure to fit, so max_num_seqs may go up without the risk of preemption; the next "
            "start's log says how many (windows and states of DeepSeek V4 do not shrink with it)."
        ),
        risk=f"Requests over {tokens(after)} tokens are refused. vLLM takes KV blocks as a request grows, so the "
        "length alone frees none.",
    )


def can_offload(setting: Setting) -> bool:
    """Whether KV offload is known for this model, and not set already."""
    model = f"{setting.profile.model.architecture or ''} {setting.profile.model.id}".lower()
    unset = all(setting.flag(flag)[1] is None for flag in ("kv-offloading-size", "kv-transfer-config"))
    cached = setting.serve.enable_prefix_caching is not False
    return on_gpus(setting) and unset and cached and not any(part in model for part in NO_OFFLOAD)


KV_FP8 = Rule(
    id="kv-fp8",
    title="The KV cache is 16 bits wide",
    level=Level.INFO,
    topic="kv-dtype",
    needs=("kv",),
    window_s=30.0,
    hold_s=30.0,
    clear_s=60.0,
    judge=judge_fp8,
    applies=on_gpus,
    looks_at=(
        "kv_cache_dtype unset, auto or 16 bits on GPUs with FP8, and a peak of KV cache usage of 60% or more. Never "
        "for DeepSeek V4, which keeps FP8 whatever is set."
    ),
    proposes='kv_cache_dtype = "fp8".',
    gain="About twice the tokens in the KV cache.",
    risk="Slightly different answers; a restart.",
    doc=addresses.KV_FP8,
)

KV_OFFLOAD = Rule(
    id="kv-offload",
    title="Host memory could hold KV cache",
    level=Level.INFO,
    topic="host-memory",
    needs=("kv", "queue", "host-memory", "engine-version"),
    window_s=30.0,
    hold_s=30.0,
    clear_s=60.0,
    judge=judge_offload,
    applies=can_offload,
    looks_at=(
        "The KV cache is full (peak 90%, mean 85%) or preempts, while 40% and at least 64 GiB of host memory are free. "
        "DeepSeek V4 from vLLM 0.27 on; not V4.1 and V3.2, of which it is not known in a release."
    ),
    proposes=(
        "serve.extra.kv_offloading_size: half of the free host memory in GiB, at most 512 (--kv-offloading-size, which "
        "vLLM has from 0.25 to 0.33 at least)."
    ),
    gain="Prompts that come again are read back, not computed again.",
    risk="A longer start; PCIe traffic; a restart.",
    doc=addresses.KV_OFFLOAD,
)

CONTEXT_UNUSED = Rule(
    id="context-unused",
    title="Contexts are allowed that nobody uses",
    level=Level.INFO,
    topic="context",
    needs=("queue", "kv-tokens", "context", "longest-context"),
    window_s=30.0,
    hold_s=20.0,
    clear_s=30.0,
    judge=judge_context,
    looks_at=(
        "No request of at least 20 took more than half of max_model_len, requests wait, and the KV cache is sure to "
        "hold fewer of that length than want to run."
    ),
    proposes="max_model_len down to the power of two above 1.5 times the longest context seen.",
    gain="A higher max_num_seqs without the risk of preemption.",
    risk="Longer requests are refused; a restart.",
    doc=addresses.CONTEXT,
)
