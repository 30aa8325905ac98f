"""Rules about time to the first token: what it is made of, and whether the profile's targets are met."""

from __future__ import annotations

from collections.abc import Callable

from console.core.hints import addresses
from console.core.hints.phrases import kv_words, queue_words, utilization_words
from console.core.hints.rule import Finding, Rule
from console.core.hints.setting import BATCHED_TOKENS_MAX, Setting
from console.core.hints.window import Window
from console.core.hints.words import latency, percent, tokens
from console.core.models import EngineReading, Level, Percentiles, ProfileChange

__all__ = ["TARGETS_MISSED", "TTFT_PREFILL", "TTFT_QUEUE"]

TTFT_MIN_S = 1.0
"""Median below which nobody waits."""
DOMINATES = 0.5
KV_ROOM = 0.85
MET_MIN = 0.9


def median(window: Window, reading: Callable[[EngineReading], Percentiles | None]) -> float | None:
    """Mean over the window of one latency's median."""
    return window.mean(
        lambda point: found.p50_s if point.engine is not None and (found := reading(point.engine)) is not None else None
    )


def judge_queue(window: Window, setting: Setting, held_s: float) -> Finding | None:
    """Half of the time to the first token and more is spent in the queue."""
    ttft, queue = median(window, lambda engine: engine.ttft), median(window, lambda engine: engine.queue)
    busy = window.busy
    if ttft is None or queue is None or busy is None or ttft < TTFT_MIN_S or queue < DOMINATES * ttft:
        return None
    if (busy.mean(lambda point: point.waiting) or 0.0) < 1:
        return None
    return Finding(
        evidence=(
            f"Of a TTFT of {latency(ttft)} (median) {latency(min(queue, ttft))} are queue.",
            queue_words(busy, window),
            utilization_words(busy, setting),
            kv_words(busy),
        ),
        gain="No change of a limit helps while GPUs or KV cache are full: more engines or a faster machine would. "
        "max_num_queued_reqs (vLLM 0.30 and later) turns surplus away at once, so that those who are in wait less.",
        risk="",
    )


def judge_prefill_time(window: Window, setting: Setting, held_s: float) -> Finding | None:
    """Half of the time to the first token and more is spent reading the prompt, with nobody waiting."""
    ttft, prefill = median(window, lambda engine: engine.ttft), median(window, lambda engine: engine.prefill)
    waiting = window.mean(lambda point: point.waiting)
    limit = setting.batched_tokens_limit(window.gpus_in_use)
    if ttft is None or prefill is None or waiting is None or limit is None:
        return None
    if ttft < TTFT_MIN_S or prefill < DOMINATES * ttft or waiting >= 1:
        return None
    length = window.mean(lambda point: point.engine.mean_prompt_tokens if point.engine else None)
    share = window.mean(lambda point: point.engine.prefill_share if point.engine else None)
    room = (window.peak(lambda point: point.kv_usage) or 0.0) < KV_ROOM
    evidence = [f"Of a TTFT of {latency(ttft)} (median) {latency(min(prefill, ttft))} are prefill, and nobody waits."]
    if length is not None:
        evidence.append(f"Prompts average {tokens(length)} tokens; a step takes at most {tokens(limit)}.")
    if share is not None:
        evidence.append(f"Prefill is {percent(share)} of the time requests are worked on.")
    change: tuple[ProfileChange, ...] = ()
    basis: tuple[str, ...] = ()
    if length is not None and length > limit and limit < BATCHED_TOKENS_MAX and room:
        after = min(BATCHED_TOKENS_MAX, limit * 2)
        change = setting.change("max_num_batched_tokens", after)
        basis = (f"A prompt takes {length / limit:.1f} steps: {tokens(limit)} → {tokens(after)}.",)
        gain = "Prompts are read in fewer steps, so TTFT falls; each step costs less overhead."
        risk = "Steps with prompts in them take longer (ITL p95 grows); activations take memory from the KV cache."
    else:
        gain = (
            "A prompt fits into few steps already, so it is computing: more tensor parallelism, a faster GPU, or "
            "prompts that share a beginning (prefix cache)."
        )
        risk = ""
    return Finding(evidence=tuple(evidence), basis=basis, change=change, gain=gain, risk=risk)


def has_targets(setting: Setting) -> bool:
    """The profile sets one."""
    targets = setting.profile.targets
    return targets.ttft_s is not None or targets.tpot_s is not None


def judge_targets(window: Window, setting: Setting, held_s: float) -> Finding | None:
    """Fewer requests than nine in ten meet the targets, however they overlap."""
    best = window.mean(lambda point: point.engine.goodput.share_max if point.engine and point.engine.goodput else None)
    least = window.mean(lambda point: point.engine.goodput.share_min if point.engine and point.engine.goodput else None)
    if best is None or least is None or best >= MET_MIN:
        return None
    engine = window.engine
    figures = [
        f"{name} p95 {latency(found.p95_s)}"
        for name, found in (("TTFT", engine.ttft if engine else None), ("TPOT", engine.tpot if engine else None))
        if found is not None and found.p95_s is not None
    ]
    span = percent(best) if best - least < 0.005 else f"{percent(least)} to {percent(best)}"
    return Finding(
        evidence=(
            f"{span} of the requests meet the profile's [targets].",
            *((f"{', '.join(figures)}.",) if figures else ()),
            queue_words(window),
        ),
        gain="No change by itself: the hints on queue, prefill and KV cache say what holds requests back. A lower "
        "load, or max_num_queued_reqs (vLLM 0.30 and later), keeps the rest in time.",
        risk="",
    )


TTFT_QUEUE = Rule(
    id="ttft-queue",
    title="The first token waits in the queue",
    level=Level.INFO,
    topic="concurrency",
    needs=("queue", "queue-time"),
    window_s=30.0,
    hold_s=30.0,
    clear_s=30.0,
    judge=judge_queue,
    looks_at="Median TTFT of 1 s or more, half of it and more in the queue, and no cap that could be raised.",
    proposes="Nothing: the machine is full. It shows where no rule about limits applies.",
    gain="A shorter queue for those who are let in.",
    risk="",
    doc=addresses.OPTIMIZATION,
)

TTFT_PREFILL = Rule(
    id="ttft-prefill",
    title="The first token waits for the prompt",
    level=Level.INFO,
    topic="prefill",
    needs=("queue", "kv", "batched-tokens", "prefill-time"),
    window_s=30.0,
    hold_s=30.0,
    clear_s=30.0,
    judge=judge_prefill_time,
    looks_at="Median TTFT of 1 s or more, half of it and more prefill, while nothing waits.",
    proposes="max_num_batched_tokens doubled, to at most 16,384, where prompts are longer than one step takes.",
    gain="Lower TTFT.",
    risk="Longer steps, less memory for the KV cache.",
    doc=addresses.PREFILL,
)

TARGETS_MISSED = Rule(
    id="targets-missed",
    title="Targets are missed",
    level=Level.WARN,
    topic="targets",
    needs=("queue", "goodput"),
    window_s=30.0,
    hold_s=30.0,
    clear_s=30.0,
    judge=judge_targets,
    applies=has_targets,
    looks_at="Under 90% of the requests meet the profile's [targets], even if those that miss one miss both.",
    proposes="Nothing by itself: a lower load, or what other hints say.",
    gain="More requests in time.",
    risk="",
    doc=addresses.TARGETS,
)
