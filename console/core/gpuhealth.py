"""What is wrong with a GPU, in words: one table, read by the screen, by `status`, and by whoever judges GPUs.

Separate from the hints: these are facts of one reading, said at once and without a proposal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from console.core.models import GpuReading, Level, Throttle
from console.core.xid import meaning

__all__ = ["CHECKS", "HOT_C", "GpuTrouble", "gpu_troubles"]

HOT_C: Final = 87.0
"""Near the slowdown of a data-centre GPU whose own limit is not known (an H100's: 89 °C)."""
NEAR_LIMIT_C: Final = 2.0
BUSY_PERCENT: Final = 10.0
"""Below this a GPU may have taken its PCIe link to a lower generation to save power."""

GIB: Final = 1024.0**3
SHARED_BYTES: Final = GIB
"""Less than this is a monitor's or a driver's context."""
NAMES_MAX: Final = 3

THERMAL: Final = frozenset({Throttle.SW_THERMAL, Throttle.HW_THERMAL})


class GpuTrouble(NamedTuple):
    """One thing that is wrong, or at `Level.INFO` only worth knowing."""

    level: Level
    short: str
    """At most 13 characters, for a column."""
    text: str


Check = Callable[[GpuReading, Sequence[GpuReading]], GpuTrouble | None]


def _silent(gpu: GpuReading, peers: Sequence[GpuReading]) -> GpuTrouble | None:
    if gpu.util_percent is None and gpu.memory_used_bytes is None:
        return GpuTrouble(Level.WARN, "no answer", "tells neither utilization nor memory")
    return None


def _xid(gpu: GpuReading, peers: Sequence[GpuReading]) -> GpuTrouble | None:
    if gpu.xid is None:
        return None
    known = meaning(gpu.xid)
    level = known.level if known.level is Level.BAD else Level.INFO
    return GpuTrouble(level, f"Xid {gpu.xid}", f"Xid {gpu.xid}: {known.words}")


def _ecc(gpu: GpuReading, peers: Sequence[GpuReading]) -> GpuTrouble | None:
    count = gpu.ecc_uncorrected
    if not count:
        return None
    errors = "error" if count == 1 else "errors"
    short = f"{count} ECC {errors}" if count < 100 else "ECC errors"
    return GpuTrouble(Level.BAD, short, f"{count:,} uncorrected ECC {errors} since the driver was loaded")


def _remap_failed(gpu: GpuReading, peers: Sequence[GpuReading]) -> GpuTrouble | None:
    if gpu.row_remap_failed:
        return GpuTrouble(
            Level.BAD, "remap failed", "a faulty row of its memory could not be replaced: replace the GPU"
        )
    return None


def _remap_pending(gpu: GpuReading, peers: Sequence[GpuReading]) -> GpuTrouble | None:
    if gpu.row_remap_pending:
        return GpuTrouble(Level.WARN, "remap pending", "a faulty row of its memory waits for a reset to be replaced")
    return None


def _pages_pending(gpu: GpuReading, peers: Sequence[GpuReading]) -> GpuTrouble | None:
    if gpu.pages_pending:
        return GpuTrouble(Level.WARN, "pages pending", "faulty pages of its memory wait for a reset to be retired")
    return None


def _slowed(gpu: GpuReading, peers: Sequence[GpuReading]) -> GpuTrouble | None:
    reasons = set(gpu.throttle or ())
    if reasons & THERMAL:
        at = f" at {gpu.temperature_c:.0f} °C" if gpu.temperature_c is not None else ""
        return GpuTrouble(Level.WARN, "thermal", f"slows itself down{at}: {' and '.join(sorted(reasons & THERMAL))}")
    if Throttle.POWER_BRAKE in reasons:
        return GpuTrouble(Level.WARN, "power brake", "slowed down by the power supply's brake signal")
    if Throttle.HW_SLOWDOWN in reasons:
        return GpuTrouble(Level.WARN, "hw slowdown", "slowed down by its hardware (heat or power)")
    return None


def _hot(gpu: GpuReading, peers: Sequence[GpuReading]) -> GpuTrouble | None:
    limit = gpu.temperature_limit_c
    near = HOT_C if limit is None else limit - NEAR_LIMIT_C
    if gpu.temperature_c is None or gpu.temperature_c < near:
        return None
    of = "" if limit is None else f", slowdown from {limit:.0f} °C"
    return GpuTrouble(Level.WARN, "hot", f"{gpu.temperature_c:.0f} °C{of}")


def _pcie(gpu: GpuReading, peers: Sequence[GpuReading]) -> GpuTrouble | None:
    width, width_max = gpu.pcie_width, gpu.pcie_width_max
    if width is not None and width_max is not None and width < width_max:
        return GpuTrouble(Level.WARN, f"PCIe x{width}/{width_max}", f"PCIe has {width} of {width_max} lanes")
    now, best = gpu.pcie_generation, gpu.pcie_generation_max
    if now is not None and best is not None and now < best and (gpu.util_percent or 0.0) >= BUSY_PERCENT:
        return GpuTrouble(Level.WARN, f"PCIe gen {now}/{best}", f"PCIe runs at generation {now} of {best} under load")
    return None


def _nvlink(gpu: GpuReading, peers: Sequence[GpuReading]) -> GpuTrouble | None:
    """Fewer links than a GPU like it: how many are wired at all differs from machine to machine."""
    alike = [peer.nvlink_active for peer in peers if peer.name == gpu.name and peer.nvlink_active is not None]
    best = max(alike, default=0)
    if gpu.nvlink_active is None or gpu.nvlink_active >= best:
        return None
    return GpuTrouble(
        Level.WARN,
        f"NVLink {gpu.nvlink_active}/{best}",
        f"{gpu.nvlink_active} NVLink links are up, {best} on other GPUs",
    )


def _power_cap(gpu: GpuReading, peers: Sequence[GpuReading]) -> GpuTrouble | None:
    if Throttle.POWER_CAP not in (gpu.throttle or ()):
        return None
    cap = f" of {gpu.power_limit_w:.0f} W" if gpu.power_limit_w is not None else ""
    return GpuTrouble(Level.INFO, "power cap", f"clocks are held by its power cap{cap}, which is usual under full load")


def _shared(gpu: GpuReading, peers: Sequence[GpuReading]) -> GpuTrouble | None:
    """Somebody else's memory beside the server's; a process without a name may be the server's own, seen elsewhere."""
    processes = gpu.processes or ()
    others = [each for each in processes if not each.own and each.name and (each.memory_bytes or 0) >= SHARED_BYTES]
    if not others or not any(each.own for each in processes):
        return None
    held = sum(each.memory_bytes or 0 for each in others) / GIB
    who = ", ".join(f"{each.name} (pid {each.pid})" for each in others[:NAMES_MAX])
    return GpuTrouble(Level.INFO, f"{held:.0f} GiB other", f"{held:.1f} GiB are held by others than the server: {who}")


CHECKS: Final[tuple[Check, ...]] = (
    _silent, _remap_failed, _xid, _ecc, _slowed, _hot, _remap_pending, _pages_pending, _pcie, _nvlink, _shared,
    _power_cap,
)  # fmt: skip
"""Gravest first."""


def gpu_troubles(gpu: GpuReading, peers: Sequence[GpuReading] = ()) -> tuple[GpuTrouble, ...]:
    """All that one reading says of a GPU's health, gravest first. What is unknown says nothing.

    Args:
        gpu: its reading.
        peers: readings of all GPUs of the machine at the same moment.
    """
    found = [trouble for check in CHECKS if (trouble := check(gpu, peers)) is not None]
    return tuple(sorted(found, key=lambda trouble: -_WEIGHT[trouble.level]))


_WEIGHT: Final = {Level.OK: 0, Level.INFO: 1, Level.WARN: 2, Level.BAD: 3}
