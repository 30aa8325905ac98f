"""Which server a supervisor finds when it begins: none, one that another supervisor started, or what is left of it."""

from __future__ import annotations

from console.core.lifecycle import Effect
from console.core.models import RunInfo
from console.core.resume import Saved
from console.io import process
from console.io.runs import RunDir

__all__ = ["find_server"]


def find_server(run: RunDir, info: RunInfo, saved: Saved | None) -> tuple[int | None, float | None]:
    """Pid and start time since boot of the leader of the server's session; both `None` if there is none on record.

    The leader may be dead. A supervisor that died between starting a server and noting its pid has left a plan to
    start one and a process that writes to the run's log.
    """
    if info.server_pid is not None or saved is None or Effect.SPAWN not in saved.pending:
        return info.server_pid, info.server_start_s
    pid = next(iter(process.sessions_writing_to(run.log_path)), None)
    return pid, process.process_start_s(pid) if pid is not None else None
