"""What reading the GPUs costs on a real driver: the processor's time of each NVML call and of a whole reading."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from types import ModuleType
from typing import Any

from console.io.gpu.nvml import NvmlBackend
from console.io.gpu.nvml_rates import SAMPLES_PER_READING
from tests.fakes.nvml import patched

__all__ = ["watch_cost"]

READINGS = 60
PAUSE_S = 0.1


class Timed(ModuleType):
    """A module whose functions are timed."""

    def __init__(self, module: Any) -> None:
        super().__init__(module.__name__)
        self.module = module
        self.spent: dict[str, list[tuple[float, float]]] = defaultdict(list)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.module, name)
        if not name.startswith("nvml") or not callable(found) or "Event" in name:
            return found
        return self.timed(name, found)

    def timed(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any) -> Any:
            wall_s, busy_s = time.perf_counter(), time.thread_time()
            try:
                return call(*args)
            finally:
                self.spent[name].append((time.perf_counter() - wall_s, time.thread_time() - busy_s))

        return timed


def watch_cost() -> dict[str, Any]:
    """So many readings, each a second apart for the reader's clock, and what they took.

    Raises:
        HardwareError: there is no GPU.
    """
    import pynvml

    module, now = Timed(pynvml), [0.0]
    with patched(module):
        backend = NvmlBackend(lambda: now[0])
        try:
            backend.open()
            gpus = len(backend.read_all())
            module.spent.clear()
            busy_s, wall_s = [], []
            for _ in range(READINGS):
                now[0] += 1.0
                time.sleep(PAUSE_S)
                began = time.perf_counter(), time.thread_time()
                backend.read_all()
                wall_s.append(time.perf_counter() - began[0])
                busy_s.append(time.thread_time() - began[1])
        finally:
            backend.close()
    calls = {
        name.removeprefix("nvmlDeviceGet"): {
            "per_s": round(len(times) / READINGS, 1),
            "wall_us": round(1e6 * sum(wall for wall, _ in times) / len(times)),
            "busy_us": round(1e6 * sum(busy for _, busy in times) / len(times)),
        }
        for name, times in sorted(module.spent.items(), key=lambda item: -sum(busy for _, busy in item[1]))
    }
    percent = 100 * sum(busy_s) / READINGS
    # Some GPUs in each reading take their turn at it, however many there are.
    in_turns = 100 * sum(busy for _, busy in module.spent.get("nvmlDeviceGetPcieThroughput", ())) / READINGS
    in_turns_for_16 = in_turns * SAMPLES_PER_READING / max(min(gpus, SAMPLES_PER_READING), 1)
    return {
        "gpus": gpus,
        "percent_of_a_core": round(percent, 3),
        "percent_for_16": round((percent - in_turns) * 16 / max(gpus, 1) + in_turns_for_16, 2),
        "longest_reading_ms": round(1000 * max(wall_s), 1),
        "calls": calls,
    }
