"""What tests of hints build on: profiles, series of samples, and what comes of watching them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from console.core.hints import HintEngine
from console.core.models import EngineReading, GpuReading, Hint, HintState, HostReading, Sample, ServerState
from console.core.profile import Profile

__all__ = ["CPU", "GIB", "Series", "engine", "firing", "gpu", "profile", "steady", "unjudged", "watch"]

GIB = 2**30


def profile(**tables: Any) -> Profile:
    """A profile for one H100 unless `tables` say otherwise."""
    base: dict[str, Any] = {
        "profile": {"title": "test"},
        "model": {"id": "meta-llama/Llama-4-Maverick"},
        "hardware": {"gpu": "H100", "count": 1, "memory_gib": 80},
    }
    return msgspec.convert(base | tables, Profile)


CPU = {"engine": {"kind": "cpu"}, "hardware": {"gpu": "none"}, "model": {"id": "generated:tiny"}}


def gpu(index: int = 0, **values: Any) -> GpuReading:
    """A busy H100 that holds a model."""
    base: dict[str, Any] = {
        "name": "NVIDIA H100 80GB HBM3",
        "util_percent": 50.0,
        "memory_used_bytes": 73 * GIB,
        "memory_total_bytes": 80 * GIB,
        "temperature_c": 60.0,
    }
    return GpuReading(index=index, **(base | values))


def engine(second: int, **values: Any) -> EngineReading:
    """An engine that answers; its counters go up."""
    base: dict[str, Any] = {
        "running": 2,
        "waiting": 14,
        "kv_cache_usage": 0.04,
        "kv_cache_tokens": 100_000,
        "generation_tokens_total": 1000 * second,
        "generation_tokens_per_s": 1000.0,
        "prompt_tokens_per_s": 500.0,
        "preemptions_total": 0,
        "requests_finished_total": second,
    }
    return EngineReading(**(base | values))


Series = Callable[[int], Sample]


def steady(gpus: Iterable[GpuReading] | None = (gpu(),), host: HostReading | None = None, **values: Any) -> Series:
    """The same figures each second."""
    fixed = None if gpus is None else tuple(gpus)

    def sample(second: int) -> Sample:
        return Sample(
            time_s=1e9 + second,
            state=ServerState.READY,
            gpus=fixed,
            host=host or HostReading(cpu_percent=30.0, cpu_count=32),
            engine=engine(second, **values),
        )

    return sample


def watch(series: Series, of: Profile, seconds: int = 90, **more: Any) -> tuple[Hint, ...]:
    """The hints after so many seconds of a series."""
    hints = HintEngine(of, **more)
    found: tuple[Hint, ...] = ()
    for second in range(seconds):
        found = hints.update(series(second))
    return found


def firing(hints: Iterable[Hint]) -> dict[str, Hint]:
    """Hints that fire, by id."""
    return {hint.id: hint for hint in hints if hint.state is HintState.FIRING}


def unjudged(hints: Iterable[Hint]) -> dict[str, str]:
    """What is missing, by rule."""
    return {hint.id: hint.missing for hint in hints if hint.state is HintState.UNJUDGED}
