"""Memory that is still held, against what was used before the launch."""

from __future__ import annotations

from console.core.gpumemory import TOLERANCE_BYTES, still_held, used_bytes
from console.core.models import GpuReading

GIB = 1024**3


def gpu(index: int, used: int | None) -> GpuReading:
    return GpuReading(index=index, memory_used_bytes=used)


def test_held_by_more_than_the_tolerance() -> None:
    before = used_bytes((gpu(0, GIB), gpu(1, 2 * GIB)))
    assert still_held(before, (gpu(0, GIB + TOLERANCE_BYTES), gpu(1, 0))) == ""
    held = still_held(before, (gpu(0, GIB), gpu(1, 72 * GIB)))
    assert held == "GPU 1 uses 72.0 GiB, 2.0 GiB before the launch"


def test_what_cannot_be_seen_is_not_held() -> None:
    assert still_held((), (gpu(0, 70 * GIB),)) == ""
    assert still_held((None,), (gpu(0, 70 * GIB),)) == ""
    assert still_held((GIB,), (gpu(0, None),)) == ""
    assert still_held((GIB,), None) == ""
