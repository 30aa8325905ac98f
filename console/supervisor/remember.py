"""Keeps what a start measured, once it is ready. Separate so that the supervisor itself only says when."""

from __future__ import annotations

from collections.abc import Sequence

from console.core.errors import StateError
from console.core.ledger import gpu_name, ledger_key, measured
from console.core.models import GpuReading, RunInfo, ServerStatus
from console.core.profile import Profile
from console.io import ledger
from console.supervisor.logwatch import LogWatch

__all__ = ["remember"]


def remember(
    info: RunInfo, profile: Profile, status: ServerStatus, log: LogWatch, gpus: Sequence[GpuReading] | None
) -> str:
    """Write the start into the ledger. Returns why not, if it could not; a server is none the worse for it."""
    for _ in log.read():
        pass  # health may answer before the last lines were looked at
    start = measured(status, log.facts, info.id)
    if start is None:
        return ""
    try:
        ledger.record(ledger_key(profile, info.engine_version, gpu_name(profile, gpus)), start)
    except (OSError, StateError) as error:
        return f"what this start measured could not be kept: {error}"
    return ""
