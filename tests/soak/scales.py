"""What one process of the console holds at a moment, and how two moments compare."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import psutil

__all__ = ["Held", "Roles", "growth", "holds", "table"]

MIB = 2**20
DESCRIPTORS_MAX = 4
"""More open files than at the start by this much is a leak; a request or a rotation may hold a few for a moment."""
THREADS_MAX = 4
MEMORY_MAX_MIB = 24.0
"""Growth that an hour may cost one process: buffers in memory (300 samples, a chart's points) fill up within it."""

Roles = Mapping[str, psutil.Process]


@dataclass(frozen=True)
class Held:
    """One process at one moment."""

    memory_mib: float
    """Proportional (PSS) where it can be read, else resident."""
    descriptors: int
    threads: int
    cpu_s: float
    """Spent since the process began."""


def holds(roles: Roles) -> dict[str, Held]:
    """Look at every process now.

    Raises:
        psutil.NoSuchProcess: one of them has ended.
    """
    found = {}
    for role, process in roles.items():
        with process.oneshot():
            times = process.cpu_times()
            full = process.memory_full_info()
            found[role] = Held(
                memory_mib=(getattr(full, "pss", 0) or full.rss) / MIB,
                descriptors=process.num_fds(),
                threads=process.num_threads(),
                cpu_s=times.user + times.system,
            )
    return found


def growth(start: Mapping[str, Held], end: Mapping[str, Held]) -> list[str]:
    """What grew beyond its bound, in sentences; empty means flat."""
    said = []
    for role, first in start.items():
        last = end[role]
        for what, grown, bound in (
            ("MiB of memory", last.memory_mib - first.memory_mib, MEMORY_MAX_MIB),
            ("open files", last.descriptors - first.descriptors, DESCRIPTORS_MAX),
            ("threads", last.threads - first.threads, THREADS_MAX),
        ):
            if grown > bound:
                said.append(f"{role}: {grown:.0f} more {what} than at the start (bound {bound:.0f})")
    return said


def table(moments: Mapping[str, tuple[float, Mapping[str, Held]]]) -> list[str]:
    """Lines that show processes down and moments across; a moment is its time in seconds and what was held."""
    names = list(moments)
    lines = [f"{'':<14}" + "".join(f"{name:>30}" for name in names)]
    unit = "PSS MiB  files thr  CPU %"
    lines.append(f"{'':<14}" + "".join(f"{unit:>30}" for _ in names))
    first = moments[names[0]]
    for role in first[1]:
        cells = []
        before: tuple[float, Held] | None = None
        for name in names:
            time_s, held = moments[name][0], moments[name][1][role]
            share = "–" if before is None else f"{(held.cpu_s - before[1].cpu_s) / (time_s - before[0]) * 100:.1f}"
            cells.append(f"{held.memory_mib:>8.1f} {held.descriptors:>6} {held.threads:>3} {share:>6}".rjust(30))
            before = (time_s, held)
        lines.append(f"{role:<14}" + "".join(cells))
    return lines
