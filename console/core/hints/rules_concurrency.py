"""Rules about how many requests run at a time: the sequence cap, the KV cache's room, and the load itself."""

from __future__ import annotations

from math import floor

import msgspec

from console.core.hints import addresses
from console.core.hints.phrases import (
    kv_words,
    low_utilization,
    queue_words,
    throughput_words,
    utilization_words,
)
from console.core.hints.rule import Finding, Rule
from console.core.hints.setting import Setting
from console.core.hints.window import Window
from console.core.hints.words import latency, percent, tokens
from console.core.models import Level

__all__ = ["LOAD_TOO_SMALL", "RAISE_MAX_NUM_SEQS", "SEQUENCE_CAP"]

AT_CAP_SHARE = 0.7
"""Share of samples at the cap from which it counts as the limit: a scrape may fall between two requests."""
BELOW_CAP_SHARE = 0.3
WAITING_MIN = 1.0
KV_TARGET = 0.85
"""Share of the KV cache that a proposal may fill at the lengths seen; above it vLLM starts to preempt."""
KV_LOW = 0.5
KV_EMPTY = 1e-6
"""Usage below which the cache counts as empty: the smallest a million blocks can show."""
RAISE_RATIO_MIN = 1.25
"""A smaller raise is not worth a restart."""
TIDY_FROM = 32
"""From here on proposals that are no power of two are multiples of 8."""
WINDOW_S = 20.0
HOLD_S = 10.0
CLEAR_S = 20.0


class Raise(msgspec.Struct, frozen=True, kw_only=True):
    """A new `max_num_seqs` and how it was found, per engine."""

    before: int
    after: int
    basis: str

    @property
    def ratio(self) -> float:
        """How many times as many requests may run."""
        return self.after / self.before


def next_power_of_two(value: float) -> int:
    """The smallest power of two that is not below `value`."""
    return 1 << max(0, (max(1, round(value)) - 1).bit_length())


def last_power_of_two(value: int) -> int:
    """The largest power of two that is not above `value` (at least 1)."""
    return 1 << (max(1, value).bit_length() - 1)


def tidy(allowed: int, before: int) -> int:
    """A round number not above `allowed`: a power of two if that is worth a restart, else a multiple of 8."""
    power = last_power_of_two(allowed)
    if power >= before * RAISE_RATIO_MIN:
        return power
    return allowed if allowed < TIDY_FROM else allowed // 8 * 8


def queue_at_cap(window: Window) -> Window | None:
    """The busy part of the window, if requests wait in it while as many run as may, and tokens come out.

    Without the tokens it might be a hung engine.
    """
    busy = window.busy
    if busy is None or window.output_tokens == 0 or busy.share_at_cap() < AT_CAP_SHARE:
        return None
    waiting = busy.mean(lambda point: point.waiting)
    return busy if waiting is not None and waiting >= WAITING_MIN else None


def propose(window: Window, setting: Setting) -> Raise | None:
    """How far `max_num_seqs` can go up: for all that run and wait, as far as the KV cache has room.

    Room at the lengths seen is `running / usage × KV_TARGET`: each running request takes `usage × size / running`
    tokens, and the size of the cache cancels out. The peak of usage is taken, so the estimate is careful. Queues
    swing, so what wants to run is the mean of the fuller half of the samples.
    """
    engine, cap = window.engine, window.cap
    running = window.mean(lambda each: each.running) or 0.0
    wanting = window.high(lambda each: None if each.running is None else each.running + (each.waiting or 0.0)) or 0.0
    usage = window.peak(lambda each: each.kv_usage)
    if cap is None or engine is None or usage is None or running <= 0:
        return None
    engines = max(1, engine.engines)
    before = cap // engines
    wanted = next_power_of_two(wanting / engines)
    room = floor(KV_TARGET * running / engines / usage) if usage > KV_EMPTY else wanted
    allowed = min(room, setting.seqs_ceiling(before))
    after = wanted if wanted <= allowed else tidy(allowed, before)
    if after < before * RAISE_RATIO_MIN:
        return None
    size = engine.kv_cache_tokens
    each = f"about {tokens(usage * size / running)} tokens" if size else percent(usage / running)
    room_words = f"has room for {tokens(room)} at a time" if usage > KV_EMPTY else "is as good as empty"
    per_engine = " per engine" if engines > 1 else ""
    basis = (
        f"A running request takes {each} of KV cache, which {room_words}{per_engine}; "
        f"{wanting:.0f} want to run, so {before} → {after}{per_engine}."
    )
    return Raise(before=before, after=after, basis=basis)


def raise_risk(window: Window, setting: Setting) -> str:
    """What more running requests may cost."""
    itl = window.latest(lambda point: point.engine.itl.p95_s if point.engine and point.engine.itl else None)
    now = "" if itl is None else f" (ITL p95 now {latency(itl)})"
    graphs = (
        ""
        if setting.on_cpu or not setting.serve.speculative_config
        else " With speculation, CUDA graphs cover it only if --max-cudagraph-capture-size grows with it."
    )
    return f"Each token may come later{now}; longer requests than now may fill the KV cache.{graphs}"


def judge_raise(window: Window, setting: Setting, held_s: float) -> Finding | None:
    """Requests wait at the cap while the GPUs have room."""
    busy = queue_at_cap(window)
    if busy is None or not low_utilization(busy):
        return None
    found = propose(busy, setting)
    if found is None:
        return None
    rate = throughput_words(window)
    return Finding(
        evidence=(utilization_words(busy, setting), queue_words(busy, window), kv_words(busy)),
        basis=(found.basis,),
        change=setting.change("max_num_seqs", found.after),
        gain=(
            f"Up to {found.ratio:.3g}× the requests at a time: output{f' (now {rate})' if rate else ''} can rise "
            "until the GPUs or the KV cache are the limit, and TTFT falls because fewer wait."
        ),
        risk=raise_risk(window, setting),
    )


def judge_sequence_cap(window: Window, setting: Setting, held_s: float) -> Finding | None:
    """Requests wait at the cap with a KV cache that is mostly empty, whatever the utilization."""
    usage = window.peak(lambda point: point.kv_usage)
    busy = queue_at_cap(window)
    if usage is None or usage >= KV_LOW or busy is None:
        return None
    found = propose(busy, setting)
    if found is None:
        return None
    return Finding(
        evidence=(queue_words(busy, window), kv_words(busy), utilization_words(busy, setting)),
        basis=(found.basis,),
        change=setting.change("max_num_seqs", found.after),
        gain=(
            "TTFT falls because fewer wait. Output probably rises too, since one decode step then serves more "
            "requests; how much is not known: utilization says how often the device works, not how full each step is."
        ),
        risk=raise_risk(window, setting),
    )


def judge_load(window: Window, setting: Setting, held_s: float) -> Finding | None:
    """Requests run, none waits, and the GPUs have room: nothing to change on the server."""
    running = window.mean(lambda point: point.running)
    waiting = window.mean(lambda point: point.waiting)
    if running is None or waiting is None or not low_utilization(window):
        return None
    if running < 0.5 or waiting >= 0.5 or window.share_at_cap() > BELOW_CAP_SHARE:
        return None
    if window.output_tokens == 0:
        return None  # requests run and nothing comes out: it hangs, or compiles
    return Finding(
        evidence=(utilization_words(window, setting), queue_words(window)),
        gain="No change: the load is too small. More clients or more requests at a time would use what is free.",
        risk="",
    )


RAISE_MAX_NUM_SEQS = Rule(
    id="raise-max-num-seqs",
    title="Raise max-num-seqs",
    level=Level.WARN,
    topic="concurrency",
    needs=("utilization", "queue", "kv", "cap"),
    window_s=WINDOW_S,
    hold_s=HOLD_S,
    clear_s=CLEAR_S,
    judge=judge_raise,
    looks_at=(
        "Mean utilization below 70% (GPUs that hold the model; on the CPU build the server's processes) while "
        "requests wait, as many run as max_num_seqs allows, and the KV cache has room; judged at the moments at "
        "which any request runs."
    ),
    proposes=(
        "max_num_seqs up to the next power of two above running + waiting, no further than 85% of the KV cache "
        "at the lengths seen, nor than max_num_batched_tokens allows."
    ),
    gain="Output up to the ratio of the raise, and a shorter queue.",
    risk="Each token may come later; a restart.",
    doc=addresses.OPTIMIZATION,
)

SEQUENCE_CAP = Rule(
    id="sequence-cap",
    title="Requests wait at the sequence cap",
    level=Level.WARN,
    topic="concurrency",
    needs=("queue", "kv", "cap"),
    window_s=WINDOW_S,
    hold_s=HOLD_S,
    clear_s=CLEAR_S,
    judge=judge_sequence_cap,
    looks_at="Requests wait, as many run as max_num_seqs allows, and the KV cache stays below 50%; any utilization.",
    proposes="max_num_seqs, found as in raise-max-num-seqs.",
    gain="A shorter queue; output probably too, by an unknown amount.",
    risk="Each token may come later; a restart.",
    doc=addresses.OPTIMIZATION,
)

LOAD_TOO_SMALL = Rule(
    id="load-too-small",
    title="The load is too small",
    level=Level.INFO,
    topic="concurrency",
    needs=("utilization", "queue"),
    window_s=WINDOW_S,
    hold_s=20.0,
    clear_s=CLEAR_S,
    judge=judge_load,
    looks_at="Mean utilization below 70% while requests run, none waits and the sequence cap is not reached.",
    proposes="Nothing: the server is not the limit.",
    gain="None on the server; the clients could send more at a time.",
    risk="",
    doc=addresses.METRICS,
)
