"""Whether the memory of a dead server's GPUs is free again: the driver frees it some time after the last process."""

from __future__ import annotations

from collections.abc import Sequence

from console.core.models import GpuReading

__all__ = ["TOLERANCE_BYTES", "still_held", "used_bytes"]

TOLERANCE_BYTES = 1024**3
"""More than before the launch by less than this is free: contexts of monitors come and go with some 100 MB each."""
GIB = 1024**3


def used_bytes(gpus: Sequence[GpuReading] | None) -> tuple[int | None, ...]:
    """Memory used on each GPU; empty where there is none to see."""
    return tuple(gpu.memory_used_bytes for gpu in gpus or ())


def still_held(before: Sequence[int | None], gpus: Sequence[GpuReading] | None) -> str:
    """Which GPUs hold more than they did before the launch, in words; empty if none does or it cannot be seen."""
    held = []
    for gpu, earlier in zip(gpus or (), before, strict=False):
        used = gpu.memory_used_bytes
        if used is not None and earlier is not None and used - earlier > TOLERANCE_BYTES:
            held.append(f"GPU {gpu.index} uses {used / GIB:.1f} GiB, {earlier / GIB:.1f} GiB before the launch")
    return "; ".join(held)
