"""What a row of the table is, and the few things that several rows need."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from console.core.nodes import gpus_per_node
from console.core.preflight.facts import Facts, Gpu, GpuFacts
from console.core.preflight.report import Override, Verdict
from console.core.profile import EngineKind, Profile

__all__ = [
    "Finding",
    "Rule",
    "any_profile",
    "blocked",
    "cuda",
    "cuda_or_machine",
    "everywhere",
    "gpus_for",
    "info",
    "ok",
    "unknown",
    "visible",
    "warn",
]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What one rule says; the fields are `Check`'s."""

    verdict: Verdict
    text: str
    figures: tuple[str, ...] = ()
    remedy: str = ""
    consequence: str = ""
    override: Override = Override.FORCE
    told: bool = False


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the table."""

    id: str
    title: str
    needs: tuple[str, ...]
    """Fields of `Facts` without which it cannot judge."""
    applies: Callable[[Profile | None], bool]
    """Whether it concerns a launch of this profile, or with `None` the machine as such."""
    judge: Callable[[Facts, Profile | None], Finding | None]
    """`None` where there is nothing to judge, and no row in the report."""


def everywhere(profile: Profile | None) -> bool:
    """With and without a profile."""
    return True


def any_profile(profile: Profile | None) -> bool:
    """With a profile."""
    return profile is not None


def cuda(profile: Profile | None) -> bool:
    """With a profile that needs GPUs."""
    return profile is not None and profile.engine.kind is EngineKind.CUDA


def cuda_or_machine(profile: Profile | None) -> bool:
    """With a profile that needs GPUs, and without a profile."""
    return profile is None or cuda(profile)


def ok(text: str, *figures: str) -> Finding:
    """Nothing is wrong."""
    return Finding(verdict=Verdict.OK, text=text, figures=figures)


def info(text: str, *figures: str, remedy: str = "", told: bool = False) -> Finding:
    """Worth knowing."""
    return Finding(verdict=Verdict.INFO, text=text, figures=figures, remedy=remedy, told=told)


def unknown(text: str, remedy: str = "") -> Finding:
    """It cannot be judged."""
    return Finding(verdict=Verdict.UNKNOWN, text=text, remedy=remedy)


def warn(text: str, *figures: str, remedy: str) -> Finding:
    """It may fail."""
    return Finding(verdict=Verdict.WARN, text=text, figures=figures, remedy=remedy)


def blocked(text: str, *figures: str, remedy: str, consequence: str, override: Override = Override.FORCE) -> Finding:
    """It fails."""
    return Finding(
        verdict=Verdict.BLOCKED, text=text, figures=figures, remedy=remedy, consequence=consequence, override=override
    )


def visible(facts: Facts, gpu: GpuFacts, profile: Profile | None) -> tuple[Gpu, ...]:
    """GPUs that `CUDA_VISIBLE_DEVICES` leaves, in its order; the profile's own setting counts before the shell's.

    As in CUDA, the first entry that names no GPU ends the list.
    """
    wanted = facts.environment.visible_gpus
    if profile is not None:
        wanted = profile.env.get("CUDA_VISIBLE_DEVICES", wanted)
    if wanted is None:
        return gpu.gpus
    found: list[Gpu] = []
    for entry in (part.strip() for part in wanted.split(",")):
        match = next((each for each in gpu.gpus if _is_called(each, entry)), None)
        if match is None:
            break
        found.append(match)
    return tuple(found)


def _is_called(gpu: Gpu, entry: str) -> bool:
    if entry.isdecimal():
        return gpu.index == int(entry)
    return len(entry) > len("GPU-") and bool(gpu.uuid) and str(gpu.uuid).startswith(entry)


def gpus_for(facts: Facts, gpu: GpuFacts, profile: Profile | None) -> tuple[Gpu, ...]:
    """GPUs that a launch would take: the first of the visible ones; without a profile all of them."""
    seen = visible(facts, gpu, profile)
    return seen if profile is None else seen[: gpus_per_node(profile)]
