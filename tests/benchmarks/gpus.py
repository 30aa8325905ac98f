"""What watching 16 GPUs costs: our own time, and the driver's calls at an assumed cost."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

from console.io.gpu.nvml import NvmlBackend
from console.io.gpu.xid import XidWatch
from tests.benchmarks.world import World
from tests.fakes.nvml import NOT_SUPPORTED, FakeNvml, patched

__all__ = ["gpus"]

GPUS = 16
CALL_S = 50e-6
"""Assumed for each call that has no figure of its own; `python -m tests.gpu --parts 1` measures a real driver."""
COST_S = {
    "nvmlDeviceGetName": 5e-6,
    "nvmlDeviceGetUtilizationRates": 20e-6,
    "nvmlDeviceGetMemoryInfo": 10e-6,
    "nvmlDeviceGetPowerUsage": 100e-6,
    "nvmlDeviceGetFieldValues": 400e-6,
    "nvmlDeviceGetTotalEccErrors": 200e-6,
    "nvmlDeviceGetComputeRunningProcesses": 200e-6,
    "nvmlDeviceGetNvLinkState": 20e-6,
    "nvmlDeviceGetPcieThroughput": 200e-6,
}
"""Of the processor, assumed: `nvmlDeviceGetPcieThroughput` waits 20 ms and works little of that."""


class Clock:
    """Goes on by a second at each reading, so that a minute takes no minute."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def gpus(world: World, quick: bool) -> None:
    """Processor time per second of watching at 1 Hz, with wide PCIe counters and with sampling."""
    seconds = 60 if quick else 300
    for title, sampled, cost in (
        ("our own time", False, False),
        ("with a driver's", False, True),
        ("with a driver's, PCIe sampled in turns", True, True),
    ):
        module = FakeNvml(GPUS)
        module.checks = False
        module.processes = {index: [(2**22 - 1 - index, 2**36)] for index in range(GPUS)}
        if sampled:
            module.fail["PCIE_COUNT_RX_BYTES", None] = NOT_SUPPORTED
        if cost:
            module.cost_s, module.cost_each_s = COST_S, CALL_S
        percent, longest_ms = watch(module, seconds)
        print(f"  {GPUS} GPUs  {title:<42} {percent:.2f} % of a core  longest reading {longest_ms:.1f} ms")
    module = FakeNvml(GPUS)
    watch(module, 60)
    counted = Counter(module.calls)
    calls = ", ".join(f"{name.removeprefix('nvmlDeviceGet')} {n / 60:.0f}" for name, n in counted.most_common(6))
    print(f"  calls per second: {sum(counted.values()) / 60:.0f} ({calls})")


def watch(module: FakeNvml, seconds: int) -> tuple[float, float]:
    """Percent of a core over so many readings, one per second, and the longest of them in milliseconds."""
    clock = Clock()
    with patched(module), TemporaryDirectory() as folder:
        backend = NvmlBackend(clock, XidWatch(kmsg=Path(folder) / "none"))
        backend.open()
        backend.watch()
        backend.read_all()
        longest_s, began_s = 0.0, time.process_time()
        for _ in range(seconds):
            clock.now_s += 1.0
            one_s = time.process_time()
            backend.read_all()
            longest_s = max(longest_s, time.process_time() - one_s)
        spent_s = time.process_time() - began_s
        backend.close()
    return 100 * spent_s / seconds, longest_s * 1000
