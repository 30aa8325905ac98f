"""Several engines (data parallel) one by one: what each does, how uneven they are, and what moves in each."""

from __future__ import annotations

import math
from collections.abc import Mapping

from console.core.liveness import Marks
from console.core.metrics.scrape import by_label, engine_order, whole
from console.core.metrics.table import (
    FINISHED,
    GENERATION,
    PREEMPTIONS,
    PROMPT,
    RUNNING,
    USAGE,
    WAITING,
    Families,
    Kind,
)
from console.core.models import EngineShare
from console.core.series import CounterRate

__all__ = ["engine_shares", "imbalance", "marks_of"]

MARKS = ((RUNNING, WAITING), (PROMPT,), (GENERATION,), (FINISHED,), (PREEMPTIONS,), (USAGE,))


def marks_of(families: Families) -> Marks:
    """Engine → requests running or waiting there, then its figures that move with every step."""
    sums: dict[str, list[float]] = {}
    for place, names in enumerate(MARKS):
        for point in (point for name in names for point in families.get(name, ())):
            if math.isfinite(point.value):
                sums.setdefault(point.labels.get("engine", ""), [0.0] * len(MARKS))[place] += point.value
    return {engine: tuple(values) for engine, values in sums.items()}


def engine_shares(families: Families, tokens: Mapping[str, CounterRate]) -> tuple[EngineShare, ...]:
    """Each engine's own figures, in order; empty where there is one.

    Args:
        families: the scrape.
        tokens: output tokens by engine.
    """
    running, waiting, usage = (
        by_label(families.get(name, ()), "engine", Kind.GAUGE) for name in (RUNNING, WAITING, USAGE)
    )
    if len(running) < 2:
        return ()
    return tuple(
        EngineShare(
            engine=name,
            running=whole(running.get(name)),
            waiting=whole(waiting.get(name)),
            kv_cache_usage=usage.get(name),
            generation_tokens_per_s=tokens[name].per_s() if name in tokens else None,
        )
        for name in sorted(running, key=engine_order)
    )


def imbalance(shares: tuple[EngineShare, ...]) -> float | None:
    """Requests of the busiest engine over the mean of all; `None` for one engine or without a request."""
    loads = [(share.running or 0) + (share.waiting or 0) for share in shares]
    total = sum(loads)
    return max(loads) * len(loads) / total if total else None
