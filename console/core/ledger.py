"""What earlier starts on this machine measured: vLLM's own figures, kept per checkpoint, engine, GPUs and arguments.

An estimate is worth less than a measurement. After each start that became ready its figures are kept; the next one
with the same key says what to expect and how long it takes. Keeping the files is `console.io.ledger`'s.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from statistics import median
from typing import Final

import msgspec

from console.core.fit import FitSummary
from console.core.models import PHASES, GpuReading, Phase, PhaseTime, ServerStatus
from console.core.nodes import gpus_used
from console.core.phases import StartFacts
from console.core.profile import EngineKind, Profile

__all__ = [
    "Expectation",
    "LedgerEntry",
    "LedgerKey",
    "Measured",
    "added",
    "expectation",
    "gpu_name",
    "key_name",
    "ledger_key",
    "measured",
    "measured_text",
    "newest_match",
    "time_left_s",
]

STARTS_KEPT: Final = 10
"""Newest starts of one key."""
STARTS_COUNTED: Final = 5
"""Newest starts that an expectation is the median of."""
CPU: Final = "CPU"

SERVE_KEYS: Final = (
    "tensor_parallel_size",
    "pipeline_parallel_size",
    "data_parallel_size",
    "enable_expert_parallel",
    "max_model_len",
    "max_num_seqs",
    "max_num_batched_tokens",
    "gpu_memory_utilization",
    "num_gpu_blocks_override",
    "kv_cache_dtype",
    "block_size",
    "dtype",
    "quantization",
    "load_format",
    "enforce_eager",
    "speculative_config",
    "compilation_config",
)
"""Settings that change memory or the time of a start."""
EXTRA_KEYS: Final = re.compile(r"memory|cache|offload|parallel|cudagraph|moe|engram|attention_config|hf_overrides")
"""The same among settings that go through by name."""
ENV_KEYS: Final = ("VLLM_CPU_KVCACHE_SPACE",)


class LedgerKey(msgspec.Struct, frozen=True, kw_only=True):
    """What makes two starts comparable."""

    checkpoint: str
    """Repository or directory, with its revision if one is set."""
    engine_version: str
    gpu: str
    """As NVML names it; `CPU` for the CPU build."""
    gpu_count: int
    settings: tuple[str, ...] = ()
    """`key=value` of what changes memory or the time of a start, sorted."""


class Measured(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One start that became ready, in vLLM's own figures. `None` is what its log did not say."""

    time_s: float
    """Wall-clock time at which it was ready."""
    run: str = ""
    ready_s: float | None = None
    """Seconds from the start of the server to ready."""
    phases: tuple[PhaseTime, ...] = ()
    weights_gib: float | None = None
    kv_gib: float | None = None
    kv_tokens: int | None = None
    max_concurrency: float | None = None
    max_model_len: int | None = None


class LedgerEntry(msgspec.Struct, frozen=True, kw_only=True):
    """All starts of one key, oldest first."""

    key: LedgerKey
    starts: tuple[Measured, ...] = ()


class Expectation(msgspec.Struct, frozen=True, kw_only=True):
    """How long a start takes here."""

    ready_s: float
    phases: tuple[PhaseTime, ...]
    starts: int
    """Starts that it is the median of."""


def ledger_key(profile: Profile, engine_version: str, gpu: str) -> LedgerKey:
    """The key of a start. No secret is in it: keys and tokens are no settings of memory."""
    serve = msgspec.to_builtins(profile.serve)
    settings = [f"serve.{name}={_text(serve[name])}" for name in SERVE_KEYS if serve.get(name) is not None]
    for name, value in profile.serve.extra.items():
        plain = name.replace("-", "_")
        if EXTRA_KEYS.search(plain):
            settings.append(f"serve.{plain}={_text(value)}")
    settings += [f"env.{name}={profile.env[name]}" for name in ENV_KEYS if name in profile.env]
    revision = f"@{profile.model.revision}" if profile.model.revision else ""
    return LedgerKey(
        checkpoint=profile.model.id + revision,
        engine_version=engine_version,
        gpu=gpu,
        gpu_count=0 if gpu == CPU else gpus_used(profile),
        settings=tuple(sorted(settings)),
    )


def gpu_name(profile: Profile, gpus: Sequence[GpuReading] | None) -> str:
    """The GPU of a key: what NVML calls this machine's first."""
    if profile.engine.kind is EngineKind.CPU:
        return CPU
    return next((gpu.name for gpu in gpus or () if gpu.name), profile.hardware.gpu)


def key_name(key: LedgerKey) -> str:
    """A short name for a file, the same for the same key."""
    return hashlib.sha256(msgspec.json.encode(key)).hexdigest()[:24]


def measured(status: ServerStatus, facts: StartFacts, run: str) -> Measured | None:
    """What to keep of a start that is ready; `None` where its log was not followed from the beginning."""
    if status.ready_s is None or status.started_s is None or not status.phases:
        return None
    return Measured(
        time_s=status.ready_s,
        run=run,
        ready_s=status.ready_s - status.started_s,
        phases=status.phases,
        weights_gib=facts.weights_gib,
        kv_gib=facts.kv_available_gib,
        kv_tokens=facts.kv_cache_tokens,
        max_concurrency=facts.max_concurrency,
        max_model_len=facts.max_model_len,
    )


def added(entry: LedgerEntry | None, key: LedgerKey, start: Measured) -> LedgerEntry:
    """The entry with one more start, the oldest beyond the limit left out."""
    before = entry.starts if entry is not None and entry.key == key else ()
    return LedgerEntry(key=key, starts=(*before, start)[-STARTS_KEPT:])


def newest_match(entries: Iterable[LedgerEntry], key: LedgerKey, *, any_engine: bool = False) -> LedgerEntry | None:
    """The entry of this key; with `any_engine` the newest of those that differ in the engine's version alone."""
    matching = [
        entry
        for entry in entries
        if entry.starts
        and (
            msgspec.structs.replace(entry.key, engine_version="") == msgspec.structs.replace(key, engine_version="")
            if any_engine
            else entry.key == key
        )
    ]
    return max(matching, key=lambda entry: entry.starts[-1].time_s, default=None)


def expectation(entry: LedgerEntry | None) -> Expectation | None:
    """Medians of the newest starts; phases in order, those that any of them had."""
    starts = [start for start in (entry.starts if entry else ()) if start.ready_s is not None][-STARTS_COUNTED:]
    if not starts:
        return None
    times: dict[Phase, list[float]] = {}
    for start in starts:
        for phase in start.phases:
            times.setdefault(phase.phase, []).append(phase.seconds)
    return Expectation(
        ready_s=median(start.ready_s or 0.0 for start in starts),
        phases=tuple(PhaseTime(phase=phase, seconds=median(times[phase])) for phase in PHASES if phase in times),
        starts=len(starts),
    )


def time_left_s(expected: Sequence[PhaseTime], status: ServerStatus, now_s: float) -> float | None:
    """Seconds until ready: what is left of the present phase, and the phases after it.

    A phase that takes longer than expected counts as about to end. `None` without an expectation, or when no phase
    is known yet or the start is over.
    """
    if not expected or status.started_s is None or status.phase is None or status.ready_s is not None:
        return None
    place = PHASES.index(status.phase)
    elapsed = max(0.0, now_s - status.started_s - sum(phase.seconds for phase in status.phases))
    left = 0.0
    for phase in expected:
        if phase.phase is status.phase:
            left += max(0.0, phase.seconds - elapsed)
        elif PHASES.index(phase.phase) > place:
            left += phase.seconds
    return left


def measured_text(entry: LedgerEntry, estimate: FitSummary | None = None) -> str:
    """The newest start in a sentence, and by how much the estimate differs from it."""
    start = entry.starts[-1]
    parts = [
        text
        for value, text in (
            (start.weights_gib, f"weights {start.weights_gib or 0:.2f} GiB"),
            (start.kv_gib, f"KV cache {start.kv_gib or 0:.2f} GiB"),
            (start.kv_tokens, f"{start.kv_tokens or 0:,} tokens"),
            (start.max_concurrency, f"{start.max_concurrency or 0:,.1f} requests of full length"),
            (start.ready_s, f"ready after {start.ready_s or 0:.0f} s"),
        )
        if value is not None
    ]
    date = datetime.fromtimestamp(start.time_s, tz=UTC).date().isoformat()
    text = f"measured here {date} with vLLM {entry.key.engine_version}: " + ", ".join(parts)
    return text + _error_text(start, estimate)


def _error_text(start: Measured, estimate: FitSummary | None) -> str:
    if estimate is None:
        return ""
    errors = [
        f"{name} {guess / found - 1:+.1%}"
        for name, guess, found in (
            ("weights", estimate.weights_gib_per_gpu, start.weights_gib),
            ("KV cache", estimate.kv_gib_per_gpu, start.kv_gib),
            ("tokens", estimate.kv_tokens, start.kv_tokens),
        )
        # Weights of a tiny model round to nothing.
        if guess is not None and found is not None and found > 0.05
    ]
    return f"; the estimate differs by {', '.join(errors)}" if errors else ""


def _text(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value, order="sorted").decode()
