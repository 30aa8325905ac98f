"""Removes old runs, by count and by disk space. Never one that is alive, and never the newest."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Final

import msgspec

from console.core.models import EventRecord, RunInfo
from console.core.units import bytes_text
from console.io.config import Configuration
from console.io.runs import RunDir, is_live, list_runs

__all__ = ["Pruned", "disk_bytes", "prune_runs", "pruned_event"]

GRACE_S: Final = 600.0
"""A run this young may be one that is just being started, whose supervisor is not entered yet."""


class Pruned(msgspec.Struct, frozen=True, kw_only=True):
    """One run that went, or would go."""

    id: str
    size_bytes: int
    why: str


def disk_bytes(path: Path) -> int:
    """Disk space that a run's directory takes: what was freed inside a file does not count."""
    total = 0
    for file in path.rglob("*"):
        try:
            total += file.lstat().st_blocks * 512
        except OSError:
            continue
    return total


def prune_runs(limits: Configuration, *, dry_run: bool = False) -> tuple[Pruned, ...]:
    """Remove runs that are over, oldest first, until both limits hold.

    Args:
        limits: `runs_kept` and `runs_gib`.
        dry_run: only say which.

    Raises:
        StateError: the runs cannot be read.
    """
    found = [(run, info, disk_bytes(run.path)) for run, info in list_runs()]
    total = sum(size for _, _, size in found)
    most = limits.runs_gib * 2**30
    gone: list[Pruned] = []
    for place, (run, info, size) in reversed(list(enumerate(found))):
        over_count, over_size = place >= limits.runs_kept, total > most
        if place == 0 or not (over_count or over_size) or _in_use(run, info):
            continue
        if not dry_run:
            shutil.rmtree(run.path, ignore_errors=True)
            if run.path.exists():
                continue
        total -= size
        why = f"beyond the newest {limits.runs_kept}" if over_count else f"beyond {limits.runs_gib:g} GiB of runs"
        gone.append(Pruned(id=run.id, size_bytes=size, why=why))
    return tuple(gone)


def _in_use(run: RunDir, info: RunInfo) -> bool:
    if is_live(info) or time.time() - info.created_s < GRACE_S:
        return True
    with run.claim() as free:  # a supervisor holds it from its first moment on
        return not free


def pruned_event(gone: tuple[Pruned, ...]) -> EventRecord | None:
    """What was removed, for the record of the run that made room for itself."""
    if not gone:
        return None
    size = bytes_text(sum(each.size_bytes for each in gone))
    runs = "1 old run was" if len(gone) == 1 else f"{len(gone)} old runs were"
    return EventRecord(time_s=time.time(), kind="note", text=f"{runs} removed, {size}: {gone[-1].id} and older")
