"""Rules about how the model is spread: KV cache kept several times over, uneven engines, uneven experts.

DeepSeek V4 has one KV head and V3 one latent vector, so each tensor-parallel rank keeps the whole KV cache; with
data-parallel attention each GPU keeps the cache of its own requests. What that gives is computed with the program's
own fit arithmetic, and proposed as a change only where that says it fits.
"""

from __future__ import annotations

from functools import lru_cache

import msgspec

from console.core.fit import FitSummary, fit
from console.core.hints import addresses
from console.core.hints.phrases import kv_words, on_gpus, queue_words
from console.core.hints.rule import Finding, Rule
from console.core.hints.setting import Setting
from console.core.hints.window import POWER, Point, Window
from console.core.hints.words import plural
from console.core.models import Level, ProfileChange
from console.core.profile import Profile

__all__ = ["ENGINES_UNEVEN", "EXPERTS_UNEVEN", "TP_TO_DP", "data_parallel"]

KV_NEEDED = 0.7
"""Mean usage from which more KV cache is worth a restart."""
GAIN_MIN = 1.5
FITS = frozenset({"fits", "tight"})
UNEVEN = 1.5
"""Busiest engine's requests over the mean."""
REQUESTS_PER_ENGINE = 2.0
"""With fewer, one request more or less is an imbalance."""
POWER_SPREAD = 0.2
"""Between the GPUs of one machine, over the mean; equal GPUs under equal load stay within a tenth."""


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """A profile with data-parallel attention in place of tensor parallelism."""

    changes: tuple[ProfileChange, ...]
    engines: int
    before: float | None = None
    """Requests of the longest context at once, over all engines."""
    after: float | None = None
    """`None` where it is unknown or does not fit."""


def at_once(summary: FitSummary) -> float | None:
    """Requests of the longest context that fit at once, over all engines; `None` if it does not fit."""
    if summary.max_concurrency is None or summary.verdict not in FITS:
        return None
    return summary.max_concurrency * summary.engines


@lru_cache(maxsize=8)
def _spread(encoded: bytes, version: str | None) -> Spread:
    profile = msgspec.json.decode(encoded, type=Profile)
    serve = profile.serve
    engines = (serve.tensor_parallel_size or 1) * (serve.data_parallel_size or 1)
    wanted = {"tensor_parallel_size": 1, "data_parallel_size": engines, "enable_expert_parallel": True}
    changes = tuple(
        ProfileChange(key=f"serve.{key}", before=before, after=after)
        for key, after in wanted.items()
        if (before := getattr(serve, key)) != after
    )
    spread = msgspec.structs.replace(profile, serve=msgspec.structs.replace(serve, **wanted))
    return Spread(
        changes=changes,
        engines=engines,
        before=at_once(fit(profile, engine_version=version)),
        after=at_once(fit(spread, engine_version=version)),
    )


def data_parallel(setting: Setting) -> Spread:
    """What data-parallel attention would change and give; computed once per profile."""
    return _spread(msgspec.json.encode(setting.profile), setting.limits.engine_version)


def preemptions(point: Point) -> float | None:
    """vLLM's counter."""
    return point.engine.preemptions_total if point.engine else None


def judge_spread(window: Window, setting: Setting, held_s: float) -> Finding | None:
    """The KV cache is the limit, and each GPU of the group holds the same one."""
    busy = window.busy
    usage = busy.mean(lambda point: point.kv_usage) if busy else None
    if busy is None or usage is None or usage < KV_NEEDED:
        return None
    waiting = busy.mean(lambda point: point.waiting) or 0.0
    if waiting < 1 and not window.growth(preemptions):
        return None
    found = data_parallel(setting)
    group = setting.tensor_parallel
    known = found.before is not None and found.after is not None
    ratio = found.after / found.before if found.before and found.after else 0.0
    if known and ratio < GAIN_MIN:
        return None
    basis = (
        f"By the fit arithmetic {found.before:.1f} requests of the longest context fit now, {found.after:.1f} with "
        f"{found.engines} engines."
        if known
        else "Whether the weights fit that way is not known here: dsv4-console profiles fit tells for a shipped "
        "profile whose name ends in -dep."
    )
    return Finding(
        evidence=(
            kv_words(busy),
            queue_words(busy, window),
            f"tensor_parallel_size = {group}: {group} GPUs hold the same KV cache.",
        ),
        basis=(basis,),
        change=found.changes if known else (),
        gain=f"{f'About {ratio:.1f} times' if known else 'Up to ' + str(group) + ' times'} the KV cache in all, so "
        "that many more requests at once.",
        risk="One request alone gets slower, since a single GPU computes its attention; max_num_seqs then counts per "
        "engine; attention weights are on each GPU.",
    )


def judge_engines(window: Window, setting: Setting, held_s: float) -> Finding | None:
    """One engine has far more requests than the others."""
    share = window.mean(lambda point: point.engine.imbalance if point.engine else None)
    engine = window.engine
    running = window.mean(lambda point: point.running)
    if share is None or engine is None or not running or share < UNEVEN:
        return None
    if running < REQUESTS_PER_ENGINE * max(2, engine.engines):
        return None
    each = ", ".join(
        f"{one.engine}: {one.running} run, {one.waiting or 0} wait"
        for one in engine.by_engine
        if one.running is not None
    )
    return Finding(
        evidence=(
            f"The busiest of {plural(engine.engines, 'engine')} has {share:.1f} times the mean of their requests.",
            *((f"{each}.",) if each else ()),
        ),
        gain="No change of the profile. vLLM gives a new request to the engine with the fewest: requests of very "
        "different length, or a router before it that pins clients, make it uneven.",
        risk="Left alone, the full engine preempts and queues while others have room; with expert parallelism all wait "
        "for it at each layer.",
    )


def judge_experts(window: Window, setting: Setting, held_s: float) -> Finding | None:
    """GPUs of an expert-parallel group do very different amounts of work."""
    running = window.mean(lambda point: point.running)
    uneven = window.mean(lambda point: point.engine.imbalance if point.engine else None) or 0.0
    watts = window.per_gpu(POWER)
    if not running or running < REQUESTS_PER_ENGINE * len(watts) or len(watts) < 2 or uneven >= UNEVEN:
        return None
    low, high = min(watts, key=watts.__getitem__), max(watts, key=watts.__getitem__)
    if watts[high] - watts[low] < POWER_SPREAD * sum(watts.values()) / len(watts):
        return None
    change = () if setting.drafts else setting.change_extra("enable-eplb", after=True)
    advice = (
        "vLLM's load balancer for experts (--enable-eplb) moves busy experts apart"
        if change
        else "vLLM's load balancer for experts (--enable-eplb) would move busy experts apart; not every draft module "
        "takes it, so try it without speculation first"
    )
    return Finding(
        evidence=(
            f"GPU {low} draws {watts[low]:.0f} W and GPU {high} {watts[high]:.0f} W, with experts spread whole over "
            f"{len(watts)} GPUs.",
            queue_words(window),
        ),
        change=change,
        gain=f"All GPUs wait at each layer for the one with the busiest experts. {advice}.",
        risk="The start fails where the model or its expert kernels do not support it; moving experts costs time. "
        "First see that no GPU is slowed down by heat or power.",
    )


TP_TO_DP = Rule(
    id="tp-to-dp",
    title="Each GPU holds the same KV cache",
    level=Level.WARN,
    topic="parallelism",
    needs=("kv", "queue"),
    window_s=30.0,
    hold_s=30.0,
    clear_s=60.0,
    judge=judge_spread,
    applies=lambda setting: (
        on_gpus(setting)
        and setting.replicates_kv
        and setting.tensor_parallel > 1
        and (setting.serve.pipeline_parallel_size or 1) == 1
    ),
    looks_at=(
        "DeepSeek V3 or V4 with tensor parallelism: KV cache usage with a mean of 70% while requests wait or are "
        "preempted."
    ),
    proposes=(
        "tensor_parallel_size 1, data_parallel_size as many as there are GPUs, enable_expert_parallel: where the fit "
        "arithmetic says that it fits and holds 1.5 times the requests."
    ),
    gain="Up to tensor_parallel_size times the KV cache.",
    risk="One request alone gets slower; a restart.",
    doc=addresses.DATA_PARALLEL,
)

ENGINES_UNEVEN = Rule(
    id="engines-uneven",
    title="Engines are unevenly loaded",
    level=Level.WARN,
    topic="balance",
    needs=("imbalance", "queue"),
    window_s=30.0,
    hold_s=30.0,
    clear_s=30.0,
    judge=judge_engines,
    applies=lambda setting: (setting.serve.data_parallel_size or 1) > 1,
    looks_at="With data parallelism: the busiest engine has 1.5 times the mean of requests, at two or more per engine.",
    proposes="Nothing in the profile: the router, or the mix of requests.",
    gain="No queue beside idle engines.",
    risk="",
    doc=addresses.DATA_PARALLEL,
)

EXPERTS_UNEVEN = Rule(
    id="experts-uneven",
    title="Experts are unevenly loaded",
    level=Level.INFO,
    topic="balance",
    needs=("gpu-power", "queue"),
    window_s=60.0,
    hold_s=60.0,
    clear_s=60.0,
    judge=judge_experts,
    applies=lambda setting: (
        on_gpus(setting)
        and setting.serve.enable_expert_parallel is True
        and setting.flag("enable-eplb")[1] is None
        and setting.profile.hardware.count > 1
    ),
    looks_at=(
        "With expert parallelism: mean power of two GPUs differs by a fifth of the mean over 60 s, at two or more "
        "requests per GPU and even engines. vLLM tells nothing of single experts."
    ),
    proposes="serve.extra.enable_eplb = true, where the profile does not speculate.",
    gain="Steps that do not wait for one GPU; unknown until tried.",
    risk="The start fails where it is not supported; a restart.",
    doc=addresses.EXPERT_PARALLEL,
)
