"""How well a profile suits the GPUs of this machine, and the order in which profiles are offered."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from console.core.fit import GIB, GPU_MEMORY_GIB, fit
from console.core.models import GpuReading, ProfileChange
from console.core.profile import EngineKind, Evidence, Profile

__all__ = ["Suitability", "fewer_gpus", "order_key", "same_gpu", "suit"]

MEMORY_TOLERANCE = 0.9
"""A GPU with this share of the memory asked for counts as having it: cards of one model differ a little."""
EVIDENCE_ORDER = (
    Evidence.MEASURED,
    Evidence.RECIPE,
    Evidence.REPORTED,
    Evidence.DERIVED,
    Evidence.UNVERIFIED,
)
"""Best claim first."""
MODEL_ORDER = ("deepseek-v4-flash", "deepseek-v4-pro", "deepseek-v4.1-flash", "deepseek-v3", "llama-4-maverick")
"""Among profiles that suit a machine alike, the model that serves most needs first."""
TRUSTED = (Evidence.MEASURED, Evidence.RECIPE, Evidence.REPORTED)
"""Claims that count more than arithmetic."""


class Suitability(msgspec.Struct, frozen=True, kw_only=True):
    """How well a profile suits this machine."""

    rank: int
    """0 fits this machine, 1 fits with a change, 2 cannot be told, 3 does not fit."""
    text: str
    """For example `fits: 4 × H200`, `needs 8 × H100, found none`."""
    change: tuple[ProfileChange, ...] = ()
    """What would make it fit, where something simple would."""


def suit(profile: Profile, gpus: tuple[GpuReading, ...] | None) -> Suitability:
    """Compare a profile's hardware with the machine's.

    Args:
        gpus: `None` where they cannot be read.
    """
    gpu, nodes = profile.hardware.gpu, profile.hardware.nodes
    if nodes > 1:
        # Rank 3 whatever is here: one machine cannot launch it.
        each = f" of {profile.hardware.count} × {gpu}" if profile.hardware.count else ""
        return Suitability(rank=3, text=f"needs {nodes} machines{each}")
    if profile.engine.kind is EngineKind.CPU:
        return Suitability(rank=1, text="runs on the CPU, the GPUs stay idle") if gpus else _fits("runs on the CPU")
    wanted = f"{profile.hardware.count} × {gpu}"
    if gpus is None:
        return Suitability(rank=3, text=f"needs {wanted}, no GPU can be read")
    if not gpus:
        return Suitability(rank=3, text=f"needs {wanted}, found none")
    matching = [reading for reading in gpus if reading.name and same_gpu(gpu, reading.name)]
    return _same_model(profile, gpus, matching, wanted) if matching else _other_model(profile, gpus, wanted)


def order_key(name: str, profile: Profile, suitability: Suitability, verdict: str = "unknown") -> tuple[object, ...]:
    """Sorts the best suited first.

    By rank; machines, since this is one; GPUs used; whether memory suffices (`verdict`, which counts less than a claim
    that it was seen to); no better profile named; model; evidence; and name, in which the plain shape comes before its
    variants.
    """
    architecture = profile.model.architecture or ""
    return (
        suitability.rank,
        profile.hardware.nodes,
        -profile.hardware.count,
        verdict == "does not fit" and profile.profile.evidence not in TRUSTED,
        profile.profile.prefer is not None,
        MODEL_ORDER.index(architecture) if architecture in MODEL_ORDER else len(MODEL_ORDER),
        EVIDENCE_ORDER.index(profile.profile.evidence),
        name,
    )


def fewer_gpus(profile: Profile, count: int) -> tuple[ProfileChange, ...]:
    """The changes that put a profile on the largest power of two of `count` GPUs or fewer; empty if it needs none.

    Tensor parallel sizes must divide a model's heads, which are powers of two in all models served here. A shape with
    both keeps its tensor parallel groups as long as one group fits.
    """
    serve, have = profile.serve, 1 << (count.bit_length() - 1) if count else 0
    tensor, data = serve.tensor_parallel_size or 1, serve.data_parallel_size or 1
    if (
        not have
        or profile.hardware.nodes > 1
        or have >= profile.hardware.count
        or (serve.pipeline_parallel_size or 1) > 1
    ):
        return ()
    new_tensor = min(tensor, have)
    new_data = have // new_tensor if data > 1 else 1
    rows = (
        ("hardware.count", profile.hardware.count, new_tensor * new_data),
        ("serve.tensor_parallel_size", serve.tensor_parallel_size, new_tensor),
        ("serve.data_parallel_size", serve.data_parallel_size, new_data),
    )
    return tuple(
        ProfileChange(key=key, before=before, after=after) for key, before, after in rows if (before or 1) != after
    )


def same_gpu(model: str, name: str) -> bool:
    """Whether `name`, as the driver has it (`NVIDIA H100 80GB HBM3`), is the GPU that a profile calls `model`."""
    wanted, words = _words(model), _words(name)
    span = len(wanted)
    return span > 0 and any(words[start : start + span] == wanted for start in range(len(words) - span + 1))


def _same_model(
    profile: Profile, gpus: Sequence[GpuReading], matching: Sequence[GpuReading], wanted: str
) -> Suitability:
    count = profile.hardware.count
    if len(matching) < count:
        return _with_fewer(profile, gpus, matching, wanted)
    small = [reading for reading in matching if _too_small(profile, reading)]
    if len(matching) - len(small) < count:
        have = (small[0].memory_total_bytes or 0) / GIB
        need = _needed_gib(profile) or 0
        return Suitability(rank=3, text=f"needs {need:.0f} GiB per {profile.hardware.gpu}, found {have:.0f} GiB")
    return _fits(f"fits: {wanted}" if len(gpus) == count else f"fits: {wanted} of {len(gpus)}")


def _with_fewer(
    profile: Profile, gpus: Sequence[GpuReading], matching: Sequence[GpuReading], wanted: str
) -> Suitability:
    """Fewer of the right GPUs than it asks for: a change may do."""
    from console.core.overrides import apply_changes

    text = f"needs {wanted}, found {_found(gpus)}"
    changes = fewer_gpus(profile, len(matching))
    memory = min((reading.memory_total_bytes or 0 for reading in matching), default=0) / GIB
    if not changes:
        return Suitability(rank=3, text=text)
    if fit(apply_changes(profile, changes), gpu_memory_gib=memory or None).verdict not in ("fits", "tight"):
        return Suitability(rank=3, text=f"{text}: too little memory, by arithmetic")
    options = " ".join(f"--set {change.key}={change.after}" for change in changes)
    return Suitability(rank=1, text=f"{text}; fits by arithmetic with {options}", change=changes)


def _other_model(profile: Profile, gpus: Sequence[GpuReading], wanted: str) -> Suitability:
    # Only here: whoever merely reads a verdict need not load the checks.
    from console.core.profile_checks import COMPUTE_8, is_v4

    found = _found(gpus)
    if is_v4(profile) and all(any(same_gpu(old, reading.name or "") for old in COMPUTE_8) for reading in gpus):
        return Suitability(rank=3, text=f"needs {wanted}, found {found}: no DeepSeek V4 attention backend there")
    if len(gpus) < profile.hardware.count:
        return Suitability(rank=3, text=f"needs {wanted}, found {found}")
    if _needed_gib(profile) is None or any(reading.memory_total_bytes is None for reading in gpus):
        return Suitability(rank=2, text=f"made for {wanted}, found {found}: memory unknown")
    if sum(not _too_small(profile, reading) for reading in gpus) < profile.hardware.count:
        return Suitability(rank=3, text=f"needs {wanted}, found {found} with less memory")
    return Suitability(rank=1, text=f"made for {wanted}, found {found} with as much memory: not tried")


def _fits(text: str) -> Suitability:
    return Suitability(rank=0, text=text)


def _needed_gib(profile: Profile) -> float | None:
    return profile.hardware.memory_gib or GPU_MEMORY_GIB.get(profile.hardware.gpu.upper())


def _too_small(profile: Profile, reading: GpuReading) -> bool:
    need, have = _needed_gib(profile), reading.memory_total_bytes
    return need is not None and have is not None and have / GIB < need * MEMORY_TOLERANCE


def _found(gpus: Sequence[GpuReading]) -> str:
    counts: dict[str, int] = {}
    for reading in gpus:
        name = (reading.name or "unknown GPU").removeprefix("NVIDIA ")
        counts[name] = counts.get(name, 0) + 1
    return ", ".join(f"{number} × {name}" for name, number in counts.items())


def _words(name: str) -> list[str]:
    return re.findall(r"[A-Z0-9]+", name.upper())
