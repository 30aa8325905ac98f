"""Rates out of the counters of PCIe and NVLink, and PCIe by sampling where its counters cannot be used.

`nvmlDeviceGetPcieThroughput` watches the bus for 20 ms per direction and call, so GPUs take turns with it. The driver's
byte counters cost a fraction of that and cover all the time between two readings, but some are 32 bits wide ("Value
can be wrapped", `nvml.h`): 4 GiB pass in a tenth of a second, so a narrow counter tells no rate.
"""

from __future__ import annotations

from typing import Any, Final

from console.io.gpu.nvml_calls import ALL_LINKS, Field, Nvml, Value

__all__ = ["RATE_FIELDS", "SAMPLES_PER_READING", "PcieTurns", "Rates"]

KIB: Final = 1024.0
NARROW_END: Final = float(2**32)
PCIE_TX: Final[Field] = ("PCIE_COUNT_TX_BYTES", 0)
PCIE_RX: Final[Field] = ("PCIE_COUNT_RX_BYTES", 0)
NVLINK_TX: Final[Field] = ("NVLINK_THROUGHPUT_DATA_TX", ALL_LINKS)
NVLINK_RX: Final[Field] = ("NVLINK_THROUGHPUT_DATA_RX", ALL_LINKS)
COUNTERS: Final[dict[str, tuple[Field, float]]] = {
    "pcie_rx_bytes_per_s": (PCIE_RX, 1.0),
    "pcie_tx_bytes_per_s": (PCIE_TX, 1.0),
    "nvlink_rx_bytes_per_s": (NVLINK_RX, KIB),
    "nvlink_tx_bytes_per_s": (NVLINK_TX, KIB),
}
"""Field of the reading → counter and its unit in bytes."""
PCIE: Final = ("pcie_rx_bytes_per_s", "pcie_tx_bytes_per_s")
RATE_FIELDS: Final[tuple[Field, ...]] = tuple(field for field, _ in COUNTERS.values())

SAMPLES_PER_READING: Final = 2
"""GPUs whose PCIe bus is sampled in one reading: 80 ms together, so that 16 GPUs have new figures every 8 s."""
SAMPLE_UNIT: Final = 1000.0
"""`nvmlDeviceGetPcieThroughput` answers in KB/s."""
SAMPLE_AGE_MAX_S: Final = 30.0


class Rates:
    """Counters of one GPU over time."""

    def __init__(self) -> None:
        self._before: dict[str, tuple[float, float]] = {}
        self.samples_pcie = True
        """PCIe has no counter that can be used: it must be sampled."""
        self._narrow = False

    def read(self, found: dict[Field, Value], now_s: float) -> dict[str, float]:
        """Bytes per second since the reading before; what is not known yet, or was reset, is left out."""
        rates = {}
        for name, (field, unit) in COUNTERS.items():
            if field not in found:
                self._before.pop(name, None)
                continue
            value, wide = found[field]
            before = self._before.get(name)
            self._before[name] = (value, now_s)
            if name in PCIE and (not wide or (before is not None and value < before[0] < NARROW_END)):
                self._narrow = True
            if before is not None and value >= before[0] and now_s > before[1]:
                rates[name] = (value - before[0]) * unit / (now_s - before[1])
        self.samples_pcie = self._narrow or PCIE_RX not in found
        if self._narrow:
            for name in PCIE:
                rates.pop(name, None)
        return rates


class PcieTurns:
    """Samples the PCIe bus of those GPUs that need it, some at each reading, and keeps what it found."""

    def __init__(self) -> None:
        self._next = 0
        self._found: dict[int, tuple[float, dict[str, float]]] = {}

    def sample(self, nvml: Nvml, needy: list[tuple[int, Any]], now_s: float) -> None:
        """Give the next of `needy` (index and handle) their turn."""
        for _ in range(min(SAMPLES_PER_READING, len(needy))):
            index, handle = needy[self._next % len(needy)]
            self._next += 1
            rates = {}
            for name, direction in zip(PCIE, ("NVML_PCIE_UTIL_RX_BYTES", "NVML_PCIE_UTIL_TX_BYTES"), strict=True):
                which = nvml.constant(direction)
                answer = nvml.ask_device(index, now_s, "nvmlDeviceGetPcieThroughput", handle, which)
                if answer is not None:
                    rates[name] = answer * SAMPLE_UNIT
            self._found[index] = (now_s, rates)

    def latest(self, index: int, now_s: float) -> dict[str, float]:
        """What was found at the last turn of this GPU, unless that is long ago."""
        at_s, rates = self._found.get(index, (now_s, {}))
        return rates if now_s - at_s <= SAMPLE_AGE_MAX_S else {}
