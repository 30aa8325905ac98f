"""Which GPUs of a machine are those of one server: several may share a machine, each with GPUs of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from console.core.models import GpuReading

__all__ = ["VISIBLE", "chosen", "visible_to"]

VISIBLE: Final = "CUDA_VISIBLE_DEVICES"
UUID_CHARS_MIN: Final = len("GPU-") + 1


def visible_to(profile_env: Mapping[str, str], shell: Mapping[str, str]) -> str | None:
    """What a server gets to see: the profile's setting counts before the shell's; `None` for all."""
    return profile_env.get(VISIBLE, shell.get(VISIBLE))


def chosen(gpus: tuple[GpuReading, ...], visible: str | None) -> tuple[GpuReading, ...]:
    """The GPUs that `CUDA_VISIBLE_DEVICES` leaves, in the machine's order.

    As in CUDA, the first entry that names no GPU ends the list. Where it leaves none that is known here (a MIG
    instance, or none at all), all stay: a figure too many is better than none.
    """
    if visible is None:
        return gpus
    wanted: set[int] = set()
    for entry in (part.strip() for part in visible.split(",")):
        found = next((gpu.index for gpu in gpus if _is_called(gpu, entry)), None)
        if found is None:
            break
        wanted.add(found)
    return tuple(gpu for gpu in gpus if gpu.index in wanted) or gpus


def _is_called(gpu: GpuReading, entry: str) -> bool:
    if entry.isdecimal():
        return gpu.index == int(entry)
    return len(entry) >= UUID_CHARS_MIN and (gpu.uuid or "").startswith(entry)
