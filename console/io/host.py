"""The machine and the server's process tree, through psutil.

The tree is the server's session: `vllm serve` is started as the leader of its own, and all its processes stay in it,
also those whose parent has died. Which processes these are changes seldom, so it is looked up every few seconds and
not at every reading.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import psutil

from console.core.models import HostReading
from console.io.network import NetworkMeter
from console.io.process import session_members

__all__ = ["FILES_AGE_MAX_S", "MEMBERS_AGE_MAX_S", "HostSampler", "open_files"]

MEMBERS_AGE_MAX_S = 5.0
"""After this time the members of the session are looked up again; at once if one is gone."""
PROCESSES_MAX = 4096
FILES_AGE_MAX_S = 5.0
"""Counting the open files of a server with thousands of connections takes milliseconds."""


class OpenFiles(NamedTuple):
    """File descriptors of one process; `None` where the system does not tell."""

    opened: int | None = None
    limit: int | None = None


class Usage(NamedTuple):
    """What the tree had used at one moment."""

    cpu_s: dict[int, float]
    """Processor time of each process."""
    memory_bytes: int


class HostSampler:
    """Reads the machine once per call. Percentages cover the time since the call before; the first has none.

    Calls may take as long as the kernel does: use a thread of its own, and always the same sampler.

    Args:
        clock: seconds that never go back, replaced in tests.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._cpu: tuple[float, float] | None = None
        self._cpu_count = psutil.cpu_count()
        self._session: int | None = None
        self._members: dict[int, psutil.Process] = {}
        self._members_s = 0.0
        self._tree: tuple[float, dict[int, float]] | None = None
        self._files = OpenFiles()
        self._files_s: float | None = None
        self._network = NetworkMeter()

    def read(self, session_pid: int | None = None) -> HostReading:
        """One reading of the machine, and of the session that `session_pid` leads.

        Memory of the tree is each process's own pages plus the largest shared part once (`/proc/PID/statm`): the
        proportional size would be exact, but reading it walks the page tables and takes up to seconds on a large
        server.
        """
        memory = psutil.virtual_memory()
        now_s = self._clock()
        network = self._network.read(now_s)
        tree = self._read_tree(session_pid, now_s)
        files = self._open_files(session_pid, now_s)
        return HostReading(
            cpu_percent=self._cpu_percent(),
            cpu_count=self._cpu_count,
            memory_used_bytes=memory.total - memory.available,
            memory_total_bytes=memory.total,
            tree_cpu_percent=self._tree_percent(tree, now_s),
            tree_memory_bytes=tree.memory_bytes if tree else None,
            tree_processes=len(tree.cpu_s) if tree else None,
            tree_open_files=files.opened,
            tree_open_files_limit=files.limit,
            network_interface=network.interface,
            network_rx_bytes_per_s=network.rx_bytes_per_s,
            network_tx_bytes_per_s=network.tx_bytes_per_s,
            network_speed_bytes_per_s=network.speed_bytes_per_s,
        )

    def _open_files(self, session_pid: int | None, now_s: float) -> OpenFiles:
        """Of the session's leader, `vllm serve` itself: it holds the connections of clients."""
        if self._files_s is not None and now_s - self._files_s < FILES_AGE_MAX_S:
            return self._files
        leader = None if session_pid is None else self._members.get(session_pid)
        self._files, self._files_s = (OpenFiles(), None) if leader is None else (open_files(leader), now_s)
        return self._files

    def _cpu_percent(self) -> float | None:
        times = psutil.cpu_times()
        # Linux counts guest time inside user time, so it must not be added again.
        total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
        busy = total - times.idle - getattr(times, "iowait", 0.0)
        before, self._cpu = self._cpu, (total, busy)
        if before is None or total <= before[0]:
            return None
        return min(100.0, max(0.0, 100 * (busy - before[1]) / (total - before[0])))

    def _tree_percent(self, tree: Usage | None, now_s: float) -> float | None:
        before, self._tree = self._tree, (now_s, tree.cpu_s) if tree else None
        if before is None or tree is None or now_s <= before[0]:
            return None
        # A process seen for the first time has no growth yet.
        grown = sum(max(0.0, cpu_s - before[1].get(pid, cpu_s)) for pid, cpu_s in tree.cpu_s.items())
        return 100 * grown / (now_s - before[0])

    def _read_tree(self, session_pid: int | None, now_s: float) -> Usage | None:
        if session_pid != self._session:
            self._session, self._members, self._tree = session_pid, {}, None
            self._files_s = None
        if session_pid is None:
            return None
        if not self._members or now_s - self._members_s >= MEMBERS_AGE_MAX_S:
            self._find_members(session_pid, now_s)
        cpu_s: dict[int, float] = {}
        own_bytes, shared_bytes = 0, 0
        for pid, process in list(self._members.items()):
            try:
                with process.oneshot():
                    times, memory = process.cpu_times(), process.memory_info()
            except psutil.Error:
                del self._members[pid]
                self._members_s = now_s - MEMBERS_AGE_MAX_S
                continue
            cpu_s[pid] = times.user + times.system
            shared = getattr(memory, "shared", 0)
            own_bytes += memory.rss - shared
            shared_bytes = max(shared_bytes, shared)
        return Usage(cpu_s, own_bytes + shared_bytes) if cpu_s else None

    def _find_members(self, session_pid: int, now_s: float) -> None:
        known, self._members = self._members, {}
        for pid in session_members(session_pid)[:PROCESSES_MAX]:
            try:
                self._members[pid] = known.get(pid) or psutil.Process(pid)
            except psutil.Error:
                continue
        self._members_s = now_s


def open_files(process: psutil.Process) -> OpenFiles:
    """How many file descriptors a process has, and how many it may have."""
    try:
        count = process.num_fds()
        limit = process.rlimit(psutil.RLIMIT_NOFILE)[0]
    except (psutil.Error, OSError, AttributeError):
        return OpenFiles()
    return OpenFiles(count, None if limit < 0 else limit)
