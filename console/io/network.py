"""What the machine's busiest network interface moves, through psutil.

Traffic of RDMA (InfiniBand, RoCE with GPUDirect) passes the kernel by and is in none of these figures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import psutil

__all__ = ["Network", "NetworkMeter"]

SPEED_AGE_MAX_S = 60.0
"""An interface changes its speed seldom, and asking for it is a system call for each."""
LOOPBACK = "lo"
MEGABIT_BYTES = 125_000
NO_SPEED = 65_535


class Network(NamedTuple):
    """Of one interface; rates in bytes a second, `None` where they are not known."""

    interface: str | None = None
    rx_bytes_per_s: float | None = None
    tx_bytes_per_s: float | None = None
    speed_bytes_per_s: float | None = None
    """Of its link in one direction, as its driver tells it; virtual ones have none."""


class NetworkMeter:
    """Rates since the call before; the first has none.

    Args:
        counters: bytes of each interface, replaced in tests.
        speeds: of each interface, replaced in tests.
    """

    def __init__(
        self,
        counters: Callable[[], Mapping[str, Any]] = lambda: psutil.net_io_counters(pernic=True, nowrap=False),
        speeds: Callable[[], Mapping[str, Any]] = psutil.net_if_stats,
    ) -> None:
        self._counters = counters
        self._read_speeds = speeds
        self._before: tuple[float, dict[str, tuple[int, int]]] | None = None
        self._speeds: Mapping[str, Any] = {}
        self._speeds_s: float | None = None

    def read(self, now_s: float) -> Network:
        """The busiest interface, the loopback left out. `now_s`: seconds that never go back."""
        try:
            found = self._counters()
        except OSError:
            return Network()
        now = {name: (each.bytes_recv, each.bytes_sent) for name, each in found.items() if name != LOOPBACK}
        before, self._before = self._before, (now_s, now)
        if before is None or now_s <= before[0]:
            return Network()
        passed_s = now_s - before[0]
        rates = {
            name: (max(rx - before[1][name][0], 0) / passed_s, max(tx - before[1][name][1], 0) / passed_s)
            for name, (rx, tx) in now.items()
            if name in before[1]
        }
        if not rates:
            return Network()
        name = max(rates, key=lambda one: max(rates[one]))
        return Network(name, *rates[name], self._speed(name, now_s))

    def _speed(self, name: str, now_s: float) -> float | None:
        if self._speeds_s is None or now_s - self._speeds_s >= SPEED_AGE_MAX_S:
            try:
                self._speeds, self._speeds_s = self._read_speeds(), now_s
            except OSError:
                return None
        stats = self._speeds.get(name)
        # The kernel says 0 or -1 where a driver tells none, and psutil passes on 65535 for that of some.
        if stats is None or stats.speed <= 0 or stats.speed == NO_SPEED:
            return None
        return float(stats.speed * MEGABIT_BYTES)
