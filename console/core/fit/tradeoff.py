"""Context length against concurrency, for BF16 and FP8 KV cache: the choice that an operator makes.

Separate from the estimate: the same arithmetic, asked for a table of contexts and types.
"""

from __future__ import annotations

import msgspec

from console.core.fit.architecture import Architecture
from console.core.fit.caches import NoPlan, cache_settings, make_plan
from console.core.fit.estimate import Budget, budget
from console.core.fit.summary import GIB
from console.core.profile import Profile

__all__ = ["CONTEXTS", "KV_TYPES", "TradeRow", "trade_table"]

CONTEXTS = (16_384, 32_768, 65_536, 131_072)
"""Tokens; the model's own limit comes last."""
KV_TYPES = {"bf16": "bfloat16", "fp8": "fp8"}
"""Name here, and what vLLM's `--kv-cache-dtype` calls it."""


class TradeRow(msgspec.Struct, frozen=True, kw_only=True):
    """One context length with one type of KV cache."""

    context: int
    kv_type: str
    gib_per_request: float | None = None
    """On one GPU."""
    max_concurrency: float | None = None
    """Requests of this length at once, over all data parallel engines, as vLLM counts; below 1 it does not start."""
    gib_while_decoding: float | None = None
    """On one GPU, once the prompt is read: windows then hold their own length only."""
    concurrency_while_decoding: float | None = None
    """Requests at once if all decode. vLLM counts the worst case: each request with full steps in flight."""
    reason: str = ""
    """Why there is no figure."""


def trade_table(
    profile: Profile,
    gpu_memory_gib: float | None = None,
    host_memory_gib: float | None = None,
    *,
    architecture: Architecture | None = None,
    engine_version: str | None = None,
) -> tuple[TradeRow, ...]:
    """Every context of `CONTEXTS` and the model's limit, at every type; empty where the model is not known."""
    money = budget(profile, gpu_memory_gib, host_memory_gib, architecture)
    if money.architecture is None:
        return ()
    limit = money.architecture.context
    lengths = [*(length for length in CONTEXTS if length < limit), limit]
    return tuple(
        _row(profile, money, money.architecture, length, name, engine_version)
        for length in lengths
        for name in KV_TYPES
    )


def _row(
    profile: Profile, money: Budget, known: Architecture, length: int, name: str, engine_version: str | None
) -> TradeRow:
    settings = cache_settings(profile, money.parallel, money.step_tokens, engine_version)
    try:
        plan = make_plan(known, msgspec.structs.replace(settings, kv_dtype=KV_TYPES[name]))
    except NoPlan as why:
        return TradeRow(context=length, kv_type=name, reason=str(why))
    gib = plan.request_bytes(length) / GIB
    if money.kv_gib is None:
        return TradeRow(context=length, kv_type=name, gib_per_request=gib, reason="memory or weights are unknown")
    available, engines = max(0.0, money.kv_gib) * GIB, money.parallel.dp
    decoding = msgspec.structs.replace(plan, in_flight=1)
    return TradeRow(
        context=length,
        kv_type=name,
        gib_per_request=gib,
        max_concurrency=plan.concurrency(available, length) * engines,
        gib_while_decoding=decoding.request_bytes(length) / GIB,
        concurrency_while_decoding=decoding.concurrency(available, length) * engines,
    )
