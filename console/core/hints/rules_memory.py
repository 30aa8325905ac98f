"""Rules about the KV cache, prefill and the prefix cache: where requests wait although the cap lets them run."""

from __future__ import annotations

from math import floor

from console.core.hints import addresses
from console.core.hints.phrases import kv_words, queue_words, throughput_words
from console.core.hints.rule import Finding, Rule
from console.core.hints.rules_concurrency import next_power_of_two
from console.core.hints.setting import BATCHED_TOKENS_MAX, Setting
from console.core.hints.window import Point, Window
from console.core.hints.words import duration, latency, plural, tokens
from console.core.models import Level, ProfileChange

__all__ = ["DRAFT_SLOTS", "KV_CACHE_FULL", "PREFILL_BUDGET", "PREFIX_CACHE_OFF"]

KV_PEAK_FULL = 0.9
KV_MEAN_FULL = 0.85
KV_BLOCKED = 0.75
"""Mean usage from which requests that wait for capacity below the cap wait for KV blocks: a long prompt needs many
at once."""
PREEMPTIONS_MIN = 3.0
"""In one window. vLLM preempts only when no KV block is free, so a few say what a usage sampled once a second
may miss: it falls back at once when a request is thrown out."""
PEAK_WITH_PREEMPTIONS = 0.6
LOWER_TO = 0.85
"""Share of what ran while it preempted."""
TIDY_FROM = 32
"""From here on proposals are multiples of 8."""
LONG_REQUEST_RATIO = 0.25
MODEL_LEN_STEP = 256
TTFT_MIN_S = 1.0
TTFT_OVER_ITL = 20.0
PROMPT_MIN_TOKENS = 256.0


def preemptions(point: Point) -> float | None:
    """vLLM's counter."""
    return point.engine.preemptions_total if point.engine else None


def judge_kv_full(window: Window, setting: Setting, held_s: float) -> Finding | None:
    """The KV cache is the limit: requests are thrown out of it, or wait for it."""
    peak = window.peak(lambda point: point.kv_usage)
    busy = window.busy or window
    mean = busy.mean(lambda point: point.kv_usage)
    waiting = busy.mean(lambda point: point.waiting)
    if peak is None or mean is None or waiting is None:
        return None
    thrown_out = window.growth(preemptions) or 0.0
    preempts = thrown_out >= PREEMPTIONS_MIN and peak >= PEAK_WITH_PREEMPTIONS
    full = peak >= KV_PEAK_FULL and (thrown_out > 0 or (mean >= KV_MEAN_FULL and waiting >= 1))
    blocked = waiting_for_blocks(busy)
    if not (preempts or full or blocked):
        return None
    evidence = [kv_words(busy), queue_words(busy, window)]
    if blocked:
        evidence.append(f"Of those that wait, {blocked:.0f} wait for capacity although the cap is not reached.")
    if thrown_out > 0:
        evidence.append(f"{plural(thrown_out, 'preemption')} in {duration(window.span_s)}.")
    if setting.fp8_kv_possible(window.gpus_in_use):
        change = setting.change("kv_cache_dtype", "fp8")
        gain = "About twice as many tokens fit into the KV cache: its entries shrink from 16 to 8 bits."
        risk = "Answers may differ slightly: check quality. The start fails if no attention backend supports it."
        basis = f"kv_cache_dtype is {setting.serve.kv_cache_dtype or 'unset'}, and these GPUs have FP8."
    else:
        change, basis, gain, risk = relief(busy, setting, thrown_out)
    return Finding(evidence=tuple(evidence), basis=(basis,), change=change, gain=gain + more_room(setting), risk=risk)


def waiting_for_blocks(busy: Window) -> float:
    """Mean of the requests that wait for capacity below the cap with a cache that is nearly full; 0 if there are none.

    vLLM's reason `capacity` covers the cap and the cache, so it tells of the cache only where the cap is not reached.
    """
    capacity = busy.mean(lambda point: point.engine.waiting_capacity if point.engine else None)
    usage = busy.mean(lambda point: point.kv_usage)
    if capacity is None or usage is None or busy.cap is None or capacity < 1 or usage < KV_BLOCKED:
        return 0.0
    return 0.0 if busy.share_at_cap() > 0 else capacity


def relief(window: Window, setting: Setting, thrown_out: float) -> tuple[tuple[ProfileChange, ...], str, str, str]:
    """A lower limit that the cache can hold: change, basis, gain and risk."""
    running = window.mean(lambda point: point.running) or 0.0
    engine = window.engine
    engines = max(1, engine.engines if engine else 1)
    length = setting.limits.max_model_len
    used = window.mean(lambda point: point.kv_usage) or 0.0
    size = engine.kv_cache_tokens if engine else None
    each = used * size / running if size and running > 0 else None
    long_ones = each is not None and length is not None and each >= LONG_REQUEST_RATIO * length
    if length is not None and length > 2 * MODEL_LEN_STEP and (running < 2 * engines or (long_ones and not thrown_out)):
        after = max(MODEL_LEN_STEP, length // 2 // MODEL_LEN_STEP * MODEL_LEN_STEP)
        each_words = "" if each is None else f"A running request holds about {tokens(each)} tokens. "
        return (
            setting.change("max_model_len", after),
            f"{each_words}max_model_len {tokens(length)} → {tokens(after)}.",
            "The longest requests take half as much, so about twice as many of them fit.",
            f"Requests over {tokens(after)} tokens are refused.",
        )
    held = max(1, floor(running / engines * (LOWER_TO if thrown_out else 1.0)))
    after = held if held < TIDY_FROM else held // 8 * 8
    per_engine = " per engine" if engines > 1 else ""
    cap = window.cap
    if cap is not None and after >= cap // engines:
        return (
            (),
            "The cap and the KV cache are full at the same time, and nothing is thrown out.",
            "No change of a limit helps: more memory for the KV cache would (more GPUs, shorter contexts).",
            "",
        )
    if thrown_out:
        gain = "No work is thrown away and done again; requests wait in the queue instead, so ITL is steadier."
        basis = f"{running / engines:.1f} requests ran{per_engine} while it preempted; 85% of that is {after}."
    else:
        gain = "Output stays as it is; long answers run less risk of being thrown out half-way."
        basis = f"The cache holds {running / engines:.1f} requests at a time{per_engine}."
    return setting.change("max_num_seqs", after), basis, gain, "More requests wait, so TTFT grows; a restart."


def more_room(setting: Setting) -> str:
    """What would make the cache itself larger."""
    serve = setting.serve
    parts = []
    if serve.num_gpu_blocks_override is not None:
        parts.append(
            f" num_gpu_blocks_override = {serve.num_gpu_blocks_override} sets the cache's size: without it vLLM "
            "takes all the memory it may."
        )
    if setting.is_v4 and setting.tensor_parallel > 1:
        parts.append(
            " DeepSeek V4 keeps the same KV cache on each tensor-parallel rank: data-parallel attention "
            f"(data_parallel_size = {setting.tensor_parallel}, tensor_parallel_size = 1, enable_expert_parallel) "
            "gives each GPU a cache of its own."
        )
    return "".join(parts)


def prompts_wait(window: Window) -> tuple[str, ...] | None:
    """Evidence that requests wait although the cap and the cache have room, which leaves the tokens of a step."""
    waiting = window.mean(lambda point: point.waiting)
    usage = window.peak(lambda point: point.kv_usage)
    engine = window.engine
    if waiting is None or usage is None or engine is None or window.cap is None:
        return None
    if waiting < 1 or usage >= KV_MEAN_FULL or window.share_at_cap() > 0 or (window.growth(preemptions) or 0) > 0:
        return None
    ttft = engine.ttft.p95_s if engine.ttft else None
    itl = engine.itl.p50_s if engine.itl else None
    prompt_rate = window.mean(lambda point: point.engine.prompt_tokens_per_s if point.engine else None)
    if ttft is None or itl is None or not prompt_rate or ttft < TTFT_MIN_S or ttft < TTFT_OVER_ITL * itl:
        return None
    return (
        queue_words(window),
        kv_words(window),
        f"TTFT p95 {latency(ttft)} beside {latency(itl)} between tokens; prompts come in at "
        f"{tokens(prompt_rate)} tok/s.",
    )


def judge_draft_slots(window: Window, setting: Setting, held_s: float) -> Finding | None:
    """Prompts wait for the step's tokens, of which drafts are given more than runs.

    vLLM takes `max_num_seqs` times the slots of a request's drafts off `max_num_batched_tokens`
    (`vllm/config/vllm.py`, 0.26, `_set_max_num_scheduled_tokens`).
    """
    evidence, engine = prompts_wait(window), window.engine
    batched = setting.batched_tokens_limit(window.gpus_in_use)
    step = engine.step_tokens_max if engine else None
    if evidence is None or engine is None or batched is None or step is None or step >= batched:
        return None
    engines = max(1, engine.engines)
    cap = (window.cap or 0) // engines
    slots = (batched - step) // max(1, cap)
    wanting = window.peak(lambda point: (point.running or 0.0) + (point.waiting or 0.0)) or 0.0
    after = next_power_of_two(wanting / engines)
    if slots < 1 or after > cap // 2:
        return None
    return Finding(
        evidence=evidence,
        basis=(
            f"For drafts vLLM keeps {slots} tokens of a step for each of max_num_seqs requests, {tokens(cap)} of them: "
            f"of {tokens(batched)} tokens {tokens(step)} are left for prompts. At most {wanting / engines:.0f} run and "
            f"wait: {cap} → {after} leaves {tokens(batched - slots * after)}.",
        ),
        change=setting.change("max_num_seqs", after),
        gain="Prompts are read in fewer steps, so TTFT falls.",
        risk=f"More than {after} requests at a time wait; steps with prompts in them take longer (ITL p95 grows).",
    )


def judge_prefill(window: Window, setting: Setting, held_s: float) -> Finding | None:
    """Requests wait although the cap and the cache have room: the step's token budget is left."""
    now = setting.batched_tokens_limit(window.gpus_in_use)
    evidence = prompts_wait(window)
    if evidence is None or now is None or now >= BATCHED_TOKENS_MAX:
        return None
    after = min(BATCHED_TOKENS_MAX, now * 2)
    return Finding(
        evidence=evidence,
        basis=(
            f"Neither max_num_seqs nor the KV cache holds them back, which leaves the tokens of one step: "
            f"{tokens(now)} → {tokens(after)}.",
        ),
        change=setting.change("max_num_batched_tokens", after),
        gain="Prompts are read in fewer steps, so TTFT falls.",
        risk=(
            "Steps with prompts in them take longer (ITL p95 grows), and activations take memory from the KV cache. "
            "No help if requests wait for something else (KV transfer, LoRA, grammar)."
        ),
    )


def judge_prefix_cache(window: Window, setting: Setting, held_s: float) -> Finding | None:
    """Long prompts are read in full each time because prefix caching is off."""
    length = window.mean(lambda point: point.engine.mean_prompt_tokens if point.engine else None)
    rate = window.mean(lambda point: point.engine.prompt_tokens_per_s if point.engine else None)
    if length is None or length < PROMPT_MIN_TOKENS or not rate:
        return None
    output = throughput_words(window)
    return Finding(
        evidence=(
            f"Prompts average {tokens(length)} tokens and come in at {tokens(rate)} tok/s"
            f"{f' beside {output} of output' if output else ''}.",
            "enable_prefix_caching = false, so equal beginnings are computed again.",
        ),
        change=setting.change("enable_prefix_caching", None),
        gain="Where prompts share a beginning (system prompt, conversation), that part costs no prefill. "
        "How much they share cannot be seen while it is off.",
        risk="None known beyond a restart; vLLM has it on unless told otherwise.",
    )


KV_CACHE_FULL = Rule(
    id="kv-cache-full",
    title="The KV cache is full",
    level=Level.WARN,
    topic="concurrency",
    needs=("queue", "kv"),
    window_s=30.0,
    hold_s=15.0,
    clear_s=30.0,
    judge=judge_kv_full,
    looks_at=(
        "KV cache usage with a peak of 90% or more in the last 30 s together with preemptions, or with a mean of 85% "
        "while requests wait; or three preemptions at a peak of 60%, since vLLM preempts only when no block is free; "
        "or requests that wait for capacity below the cap at 75%."
    ),
    proposes=(
        "FP8 KV cache where it is 16 bits and the GPUs have FP8 (never for DeepSeek V4, which has it already); "
        "else a lower max_num_seqs; a lower max_model_len where single long requests fill the cache."
    ),
    gain="No work thrown away by preemption; with FP8 about twice the capacity.",
    risk="Longer queue, refused long requests, or slightly different answers (FP8).",
    doc=addresses.OPTIMIZATION,
)

DRAFT_SLOTS = Rule(
    id="draft-slots",
    title="Drafts take the step's tokens",
    level=Level.INFO,
    topic="prefill",
    needs=("queue", "kv", "cap", "batched-tokens"),
    window_s=20.0,
    hold_s=20.0,
    clear_s=20.0,
    judge=judge_draft_slots,
    applies=lambda setting: bool(setting.serve.speculative_config),
    looks_at=(
        "As prefill-budget, with speculation, where the log says that a step takes fewer tokens than "
        "max_num_batched_tokens (`max_num_scheduled_tokens is set to …`) and at most half of max_num_seqs run and wait."
    ),
    proposes="max_num_seqs down to the next power of two above running + waiting.",
    gain="Lower TTFT.",
    risk="A lower cap; longer steps.",
    doc=addresses.SPECULATION,
)

PREFILL_BUDGET = Rule(
    id="prefill-budget",
    title="Prompts wait for the step's token budget",
    level=Level.INFO,
    topic="prefill",
    needs=("queue", "kv", "cap", "batched-tokens"),
    window_s=20.0,
    hold_s=20.0,
    clear_s=20.0,
    judge=judge_prefill,
    looks_at=(
        "Requests wait although max_num_seqs is not reached and the KV cache has room, with TTFT p95 of at least 1 s "
        "and 20 times the time between tokens."
    ),
    proposes="max_num_batched_tokens doubled, to at most 16,384.",
    gain="Lower TTFT.",
    risk="Longer steps, less memory for the KV cache.",
    doc=addresses.PREFILL,
)

PREFIX_CACHE_OFF = Rule(
    id="prefix-cache-off",
    title="Prefix caching is off",
    level=Level.INFO,
    topic="prefix-cache",
    needs=("engine",),
    window_s=30.0,
    hold_s=60.0,
    clear_s=60.0,
    judge=judge_prefix_cache,
    applies=lambda setting: setting.serve.enable_prefix_caching is False,
    looks_at="enable_prefix_caching = false while prompts average 256 tokens or more.",
    proposes="enable_prefix_caching unset, which is on in vLLM.",
    gain="No prefill for shared beginnings; unknown until tried.",
    risk="None known beyond a restart.",
    doc=addresses.PREFIX_CACHE,
)
