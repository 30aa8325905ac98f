"""Who computes on a GPU: names for the process ids that the driver tells, and which of them are the server's own."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import psutil

from console.core.models import GpuProcess
from console.core.text import clean

__all__ = ["FIRST_PID_NAMESPACE", "PROCESSES_MAX", "describe", "first_namespace", "uses_gpu"]

FIRST_PID_NAMESPACE: Final = "pid:[4026531836]"
"""The kernel's own number for the machine's namespace (`PROC_PID_INIT_INO`); a container's is another."""
PROCESSES_MAX: Final = 64
"""Per GPU: more are cut off, largest first kept."""


def first_namespace() -> bool:
    """Whether process ids here are those of the machine. Inside a container the driver may tell the host's."""
    try:
        return str(Path("/proc/self/ns/pid").readlink()) == FIRST_PID_NAMESPACE
    except OSError:
        return True


def uses_gpu(pid: int) -> bool:
    """Whether the process has a GPU's device open.

    Raises:
        OSError: it cannot be looked at.
    """
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            if str(link.readlink()).startswith("/dev/nvidia"):
                return True
    return False


def describe(holders: Iterable[tuple[int, int | None]], session_pid: int | None) -> tuple[GpuProcess, ...]:
    """Each holder with its name, and whether it belongs to the session that `session_pid` leads; largest first.

    Args:
        holders: process id and bytes.
        session_pid: leader of the server's session; `None` while there is no server.
    """
    found = sorted(holders, key=lambda holder: -(holder[1] or 0))[:PROCESSES_MAX]
    trusted = not found or first_namespace()
    return tuple(_describe(pid, held, session_pid, trusted) for pid, held in found)


def _describe(pid: int, held: int | None, session_pid: int | None, trusted: bool) -> GpuProcess:
    """One holder; a pid that may mean another process in this container has no name and is nobody's own."""
    try:
        if trusted or uses_gpu(pid):
            own = session_pid is not None and os.getsid(pid) == session_pid
            return GpuProcess(pid=pid, name=clean(psutil.Process(pid).name()), memory_bytes=held, own=own)
    except (OSError, psutil.Error):
        pass
    return GpuProcess(pid=pid, memory_bytes=held)
