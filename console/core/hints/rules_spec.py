"""Rules about speculative decoding: drafts that are thrown away, and drafts that could be longer.

Position i pays if it is accepted often enough: a step with one more draft yields `p_i` more tokens and costs one more
draft and one more token to verify for each request. `PAYS` is a rule of thumb for a draft module of a layer or two;
DSpark with 7 drafts has been seen slower than with 3 under load (vllm-project/recipes#967), and worth nothing at 4%
acceptance (vllm-project/vllm#41834).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from console.core.hints import addresses
from console.core.hints.phrases import throughput_words, utilization_words
from console.core.hints.rule import Finding, Rule
from console.core.hints.setting import Setting
from console.core.hints.window import Point, Window
from console.core.hints.words import percent, plural
from console.core.models import Level, ProfileChange

__all__ = ["SPEC_TOO_COSTLY", "SPEC_TOO_SHORT", "next_position"]

PAYS = 0.3
GOOD = 0.5
"""What the next position must promise: well above `PAYS`, so that a longer draft is not taken back."""
KV_ROOM = 0.85
DRAFTS_MAX = {"mtp": 3, "dspark": 7}
"""The most that vLLM's recipes use, by method."""
DRAFTS_MAX_OTHER = 8
DSPARK_BLOCK = 5
"""vLLM 0.26.0 refuses fewer drafts with DSpark (vllm-project/vllm#50012)."""
DSPARK_STRICT = "0.26."


def acceptance(point: Point) -> float | None:
    """Accepted of drafted tokens."""
    return point.engine.spec_acceptance_rate if point.engine else None


def method(setting: Setting) -> str:
    """The draft method, in small letters."""
    return str((setting.serve.speculative_config or {}).get("method", "")).lower()


def change_drafts(setting: Setting, drafts: int) -> tuple[ProfileChange, ...]:
    """The difference that drafts so many tokens per step; with none the whole table goes."""
    config: dict[str, Any] = dict(setting.serve.speculative_config or {})
    return setting.change("speculative_config", config | {"num_speculative_tokens": drafts} if drafts else None)


def position_words(positions: Sequence[float]) -> str:
    """`By position: 81%, 52%, 12%.`"""
    return f"By position: {', '.join(percent(share) for share in positions)}." if positions else ""


def positions_of(window: Window) -> tuple[float, ...]:
    """The newest acceptance by position, empty where it is unknown."""
    return window.latest(lambda point: point.engine.spec_acceptance_by_position if point.engine else None) or ()


def fewer(setting: Setting, positions: Sequence[float]) -> int:
    """How many drafts pay: those before the first that does not; half as many where positions are unknown."""
    if not positions:
        return setting.drafts // 2
    paying = next((place for place, share in enumerate(positions) if share < PAYS), len(positions))
    strict = method(setting) == "dspark" and (setting.limits.engine_version or DSPARK_STRICT).startswith(DSPARK_STRICT)
    return max(paying, DSPARK_BLOCK) if strict and paying else paying


def judge_costly(window: Window, setting: Setting, held_s: float) -> Finding | None:
    """Most drafts are thrown away."""
    rate, running = window.mean(acceptance), window.mean(lambda point: point.running)
    positions = positions_of(window)[: setting.drafts]
    if rate is None or not running or (rate >= PAYS and (not positions or positions[-1] >= PAYS / 2)):
        return None
    after = fewer(setting, positions)
    if after >= setting.drafts:
        return None
    length = window.latest(lambda point: point.engine.spec_accepted_length if point.engine else None)
    words = f"{percent(rate)} of the drafted tokens are accepted"
    return Finding(
        evidence=tuple(
            filter(
                None,
                (
                    f"{words}, {length:.2f} tokens per step." if length is not None else f"{words}.",
                    position_words(positions),
                    utilization_words(window, setting),
                ),
            )
        ),
        basis=(
            f"A draft pays from about {percent(PAYS)} acceptance on: {plural(setting.drafts, 'draft')} → "
            f"{after or 'no speculation'}.",
        ),
        change=change_drafts(setting, after),
        gain="Less computing and KV cache for tokens that are thrown away: more output where the GPUs are busy.",
        risk="A single request may get slower; another kind of prompt may be accepted more often. A restart.",
    )


def next_position(positions: Sequence[float]) -> float:
    """Acceptance that one more position would have, if it falls off as the last one did: p² / the one before."""
    before = positions[-2] if len(positions) > 1 else 1.0
    return min(positions[-1], positions[-1] ** 2 / before) if before > 0 else 0.0


def judge_short(window: Window, setting: Setting, held_s: float) -> Finding | None:
    """Even the last draft is accepted nearly always, and there is room to verify more."""
    positions = positions_of(window)
    running, waiting = window.mean(lambda point: point.running), window.mean(lambda point: point.waiting)
    usage = window.peak(lambda point: point.kv_usage)
    if len(positions) != setting.drafts or not running or waiting is None or waiting >= 1 or (usage or 0.0) >= KV_ROOM:
        return None
    after = setting.drafts + 1
    batched, seqs = setting.serve.max_num_batched_tokens, setting.serve.max_num_seqs
    room = batched is None or seqs is None or seqs * (1 + after) <= batched
    expected = next_position(positions)
    if expected < GOOD or after > DRAFTS_MAX.get(method(setting), DRAFTS_MAX_OTHER) or not room:
        return None
    rate = throughput_words(window)
    return Finding(
        evidence=tuple(
            filter(
                None, (position_words(positions), f"Output {rate}." if rate else "", utilization_words(window, setting))
            )
        ),
        basis=(f"One more position may expect about {percent(expected)}: {setting.drafts} → {after} drafts per step.",),
        change=change_drafts(setting, after),
        gain=f"About {expected:.2f} more tokens per step and request, as long as the GPUs have room to verify them.",
        risk="Each step verifies more tokens: little gain, or a loss, once many requests run. CUDA graphs cover it "
        "only if max_cudagraph_capture_size grows with it. A restart.",
    )


def speculates(setting: Setting) -> bool:
    """Whether the profile drafts a known number of tokens."""
    return setting.drafts > 0


SPEC_TOO_COSTLY = Rule(
    id="spec-too-costly",
    title="Drafts are thrown away",
    level=Level.WARN,
    topic="speculation",
    needs=("acceptance",),
    window_s=60.0,
    hold_s=60.0,
    clear_s=60.0,
    judge=judge_costly,
    applies=speculates,
    looks_at="With speculation: under 30% of the drafted tokens accepted, or under 15% at the last position.",
    proposes="num_speculative_tokens down to the positions that are accepted in 30% of steps; without any, none.",
    gain="Computing and KV cache for tokens that count.",
    risk="A single request may get slower; a restart.",
    doc=addresses.SPECULATION,
)

SPEC_TOO_SHORT = Rule(
    id="spec-too-short",
    title="Drafts could be longer",
    level=Level.INFO,
    topic="speculation",
    needs=("acceptance-by-position", "queue"),
    window_s=60.0,
    hold_s=60.0,
    clear_s=60.0,
    judge=judge_short,
    applies=speculates,
    looks_at=(
        "With speculation: acceptance by position falls off so slowly that one more position may expect 50%, while "
        "nothing waits and the KV cache has room."
    ),
    proposes="num_speculative_tokens one higher, to at most what vLLM's recipes use (mtp 3, dspark 7, others 8).",
    gain="More tokens per step.",
    risk="Less gain with many requests; a restart.",
    doc=addresses.SPECULATION,
)
