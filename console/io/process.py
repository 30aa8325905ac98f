"""Processes: who they are across pid reuse, starting the server in its own session, signalling it, proving it gone.

A process is named by its pid and its start time since boot, taken from `/proc/PID/stat` where there is one: unlike a
wall-clock time it does not move when the clock is set.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

__all__ = [
    "become_subreaper",
    "die_with_parent",
    "is_command_of",
    "is_same_process",
    "kill_session",
    "listener_of",
    "owned_session",
    "process_start_s",
    "reap_session",
    "send_signal",
    "session_listens",
    "session_members",
    "sessions_writing_to",
    "spawn_server",
    "stopped_members",
]

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def process_start_s(pid: int) -> float | None:
    """Start time of a process in seconds since boot; `None` if there is no such process or all of it has ended.

    A killed process looks like a zombie as soon as its first thread is gone, while others still hold its files and GPU
    memory (seen on an H100: 6 GiB held after all of vLLM looked gone). It counts until its last thread has ended.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return None
        return _portable_start_s(pid)
    except (OSError, ProcessLookupError):
        return None
    # man 5 proc: after the name come state (field 3), num_threads (20) and starttime (22) in clock ticks.
    if fields[0] == b"X" or (fields[0] == b"Z" and int(fields[17]) <= 1):
        return None
    return int(fields[19]) / _TICKS_PER_S


def _portable_start_s(pid: int) -> float | None:
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.Error:
        return None


def is_same_process(pid: int | None, start_s: float | None) -> bool:
    """Whether the process of this pid and start time still runs (a zombie does not)."""
    if pid is None or start_s is None:
        return False
    now_s = process_start_s(pid)
    return now_s is not None and abs(now_s - start_s) < 0.02  # one clock tick is 0.01 s


def become_subreaper() -> None:
    """Let orphans of this process's children come to it, so that no zombie hides whether they are gone."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def die_with_parent() -> None:
    """For a child, before it becomes its program: SIGTERM when the process that started it ends, however it ends."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)


def reap_session(session_id: int) -> None:
    """Collect the exit status of those processes of a session that ended and have become this process's children."""
    for pid in psutil.pids():
        with contextlib.suppress(ProcessLookupError, PermissionError, ChildProcessError):
            if os.getsid(pid) == session_id:
                os.waitpid(pid, os.WNOHANG)


def spawn_server(
    argv: Sequence[str], env: Mapping[str, str], log_path: Path, cwd: Path | None = None
) -> subprocess.Popen[bytes]:
    """Start the server in its own session, writing to `log_path`.

    A file and not a pipe: with a pipe the server dies with its reader.

    Raises:
        OSError: it cannot be executed, or the log cannot be opened.
    """
    with log_path.open("ab") as log:
        os.fchmod(log.fileno(), 0o600)  # it may hold what users ask the model
        return subprocess.Popen(
            list(argv),
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            start_new_session=True,
        )


def send_signal(pid: int, number: signal.Signals) -> bool:
    """Signal one process; `False` if it is gone."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def is_command_of(pid: int, *parts: str) -> bool:
    """Whether a live process's command line has all these texts in it."""
    try:
        process = psutil.Process(pid)
        command = " ".join(process.cmdline())
        return process.status() != psutil.STATUS_ZOMBIE and all(part in command for part in parts)
    except psutil.Error:
        return False


def session_members(session_id: int) -> tuple[int, ...]:
    """Processes of a session that are no zombies, in order of pid."""
    members = []
    for pid in psutil.pids():
        try:
            if os.getsid(pid) == session_id and process_start_s(pid) is not None:
                members.append(pid)
        except (ProcessLookupError, PermissionError):
            continue
    return tuple(sorted(members))


def owned_session(session_id: int, start_s: float | None, log_path: Path) -> bool:
    """Whether processes run in the session of the server that was started with this pid and start time.

    A pid may be given out again once the whole session is gone. So a leader must be the same process, and where the
    leader is gone, one of the others must still write to the server's log.
    """
    leader_s = process_start_s(session_id)
    if leader_s is not None:
        return start_s is not None and is_same_process(session_id, start_s)
    members = session_members(session_id)
    if not members or not Path("/proc/self/fd").exists():
        return bool(members)
    return any(_writes_to(pid, str(log_path)) for pid in members)


def sessions_writing_to(log_path: Path) -> tuple[int, ...]:
    """Sessions with a process whose output goes to this file; none where that cannot be seen."""
    name, own = str(log_path), os.getsid(0)
    found = set()
    for pid in psutil.pids():
        if _writes_to(pid, name) and process_start_s(pid) is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                found.add(os.getsid(pid))
    return tuple(sorted(found - {own, 0}))


def _writes_to(pid: int, name: str) -> bool:
    for number in (1, 2):
        with contextlib.suppress(OSError):
            if str(Path(f"/proc/{pid}/fd/{number}").readlink()) == name:
                return True
    return False


def stopped_members(session_id: int) -> tuple[tuple[int, str], ...]:
    """Pid and name of the processes of a session that are stopped (SIGSTOP, a debugger)."""
    found = []
    for pid in session_members(session_id):
        with contextlib.suppress(psutil.Error):
            member = psutil.Process(pid)
            if member.status() in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP):
                found.append((pid, member.name()))
    return tuple(found)


def kill_session(session_id: int) -> tuple[int, ...]:
    """SIGKILL every process of a session, whatever group it moved to. Returns whom it reached."""
    return tuple(pid for pid in session_members(session_id) if send_signal(pid, signal.SIGKILL))


def session_listens(session_id: int, port: int) -> bool | None:
    """Whether a process of the session listens on a TCP port; `None` where that cannot be seen."""
    seen = False
    for pid in session_members(session_id):
        try:
            connections = psutil.Process(pid).net_connections(kind="tcp")
        except psutil.Error:
            continue
        seen = True
        for connection in connections:
            if connection.status == psutil.CONN_LISTEN and getattr(connection.laddr, "port", None) == port:
                return True
    return False if seen else None


def listener_of(port: int) -> tuple[int, str] | None:
    """Pid and name of the process that listens on a TCP port; `None` if nobody does or it cannot be seen."""
    try:
        connections = psutil.net_connections(kind="tcp")
    except psutil.Error:
        return None
    for connection in connections:
        listening = connection.status == psutil.CONN_LISTEN
        if listening and connection.pid and getattr(connection.laddr, "port", None) == port:
            with contextlib.suppress(psutil.Error):
                return connection.pid, psutil.Process(connection.pid).name()
    return None
