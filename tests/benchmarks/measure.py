"""Clocks and scales: repeated timing of commands, CPU and memory of process trees, ratios with their spread."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import psutil

__all__ = ["Spread", "Usage", "Watched", "time_commands"]

MIB = 2**20


@dataclass(frozen=True)
class Spread:
    """Several measurements of one thing."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def text(self, unit: str, digits: int = 0, scale: float = 1.0) -> str:
        """Median with the extremes: `87 ms (84 to 101, n=20)`."""
        low, middle, high = (f"{v * scale:.{digits}f}" for v in (min(self.values), self.median, max(self.values)))
        return f"{middle} {unit} ({low} to {high}, n={len(self.values)})"


def time_commands(
    commands: Mapping[str, Sequence[str]], runs: int, env: Mapping[str, str] | None = None
) -> dict[str, Spread]:
    """Seconds that each command takes from start to end.

    In turns, after one run of each that does not count, so that what else the machine does hits all alike.

    Raises:
        subprocess.CalledProcessError: one of them fails.
    """
    taken: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(runs + 1):
        for name, command in commands.items():
            started = time.perf_counter()
            subprocess.run(
                command, env=env, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )  # fmt: skip
            if turn:
                taken[name].append(time.perf_counter() - started)
    return {name: Spread(tuple(values)) for name, values in taken.items()}


@dataclass(frozen=True)
class Usage:
    """What a process and its children took over a while."""

    cpu_percent: float
    """Of one core."""
    rss_mib: float
    """Resident, as `top` shows it; the largest seen."""
    pss_mib: float | None
    """Shared pages divided among their users; `None` where it cannot be read."""


class Watched:
    """A process tree under observation."""

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)
        self._began = time.monotonic()
        self._cpu_s = self._spent()
        self._rss = 0
        self._pss = 0
        self.look()

    def look(self) -> None:
        """Note the memory; call now and then."""
        rss = pss = 0
        for process in self._tree():
            try:
                rss += process.memory_info().rss
                pss += process.memory_full_info().pss
            except (psutil.Error, AttributeError):
                continue
        self._rss, self._pss = max(self._rss, rss), max(self._pss, pss)

    def result(self) -> Usage:
        """Since it was made."""
        self.look()
        share = (self._spent() - self._cpu_s) / (time.monotonic() - self._began)
        return Usage(share * 100, self._rss / MIB, self._pss / MIB if self._pss else None)

    def _tree(self) -> list[psutil.Process]:
        try:
            return [self._root, *(child for child in self._root.children(recursive=True) if self._ours(child))]
        except psutil.NoSuchProcess:
            return []

    def _ours(self, child: psutil.Process) -> bool:
        """Children in a session of their own (the server under its supervisor) are not counted."""
        try:
            return psutil.os.getsid(child.pid) == psutil.os.getsid(self._root.pid)
        except (psutil.Error, OSError):
            return False

    def _spent(self) -> float:
        total = 0.0
        for process in self._tree():
            try:
                times = process.cpu_times()
            except psutil.Error:
                continue
            total += times.user + times.system
        return total
