"""A scripted `pynvml`: healthy H100 with knobs for what fails, checked against the real module's signatures.

Constants, structs and errors are the real module's own, so that a name that it does not have fails here too.
"""

from __future__ import annotations

import ctypes
import inspect
import queue
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

import pynvml as real

NOT_SUPPORTED, NO_PERMISSION, TIMEOUT, LOST = 3, 4, 10, 15
MIB = 1024**2
FIRST_HANDLE = 0x7F00_0000_1000
UINT, ULL, INT = (
    real.NVML_VALUE_TYPE_UNSIGNED_INT,
    real.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG,
    real.NVML_VALUE_TYPE_SIGNED_INT,
)
MEMBERS = {UINT: "uiVal", ULL: "ullVal", INT: "siVal"}


class FakeNvml(ModuleType):
    """`pynvml` with `count` H100.

    Attributes:
        fail: `(function or field, index)` → code of the error; an index of `None` fails it for all.
        fields: value type and value of each field, by name without `NVML_FI_DEV_`.
        cost_s: seconds of a call by its function's name, spent busily.
    """

    NVMLError = real.NVMLError

    def __init__(self, count: int = 2) -> None:
        super().__init__("pynvml")
        self.count = count
        self.fail: dict[tuple[str, int | None], int] = {}
        self.as_bytes = False
        self.opened = 0
        self.calls: list[str] = []
        self.cost_s: dict[str, float] = {}
        self.cost_each_s = 0.0
        self.checks = True
        self.old = False
        """A driver from before `nvmlMemory_v2` and `…EventReasons`."""
        self.throttle = 0x1
        self.ecc = [0, 0]
        self.rows = (0, 0, 0, 0)
        self.links_up = dict.fromkeys(range(count), 18)
        self.mig = 0
        self.processes: dict[int, list[tuple[int, int | None]]] = {}
        self.events: queue.Queue[tuple[int, int, int]] = queue.Queue()
        self.registered: dict[int, int] = {}
        self.event_sets = 0
        self.fields: dict[str, tuple[int, int]] = {
            "MEMORY_TEMP": (UINT, 58),
            "NVLINK_LINK_COUNT": (UINT, 18),
            "TEMPERATURE_SLOWDOWN_TLIMIT": (INT, -2),
            "NVLINK_THROUGHPUT_DATA_RX": (ULL, 5_000_000),
            "NVLINK_THROUGHPUT_DATA_TX": (ULL, 7_000_000),
            "PCIE_COUNT_RX_BYTES": (ULL, 90_000_000_000),
            "PCIE_COUNT_TX_BYTES": (ULL, 40_000_000_000),
        }

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("nvml") or not callable(getattr(real, name, None)):
            return getattr(real, name)
        answer = getattr(self, f"_{name}", None)
        if answer is None:
            raise AttributeError(name)

        def call(*args: Any) -> Any:
            if self.checks:
                inspect.signature(getattr(real, name)).bind(*args)
                self.calls.append(name)
            spend(self.cost_s.get(name, self.cost_each_s))
            index = index_of(args[0]) if args else None
            self.raise_if_failing(name, index)
            return answer(*((index, *args[1:]) if index is not None else args))

        return call

    def raise_if_failing(self, name: str, index: int | None) -> None:
        for key in ((name, index), (name, None)):
            if key in self.fail:
                raise real.NVMLError(self.fail[key])

    def text(self, value: str) -> str | bytes:
        return value.encode() if self.as_bytes else value

    def move(self, name: str, by: int) -> None:
        """Let a counter grow."""
        kind, value = self.fields[name]
        self.fields[name] = (kind, value + by)

    def happen(self, index: int, xid: int, kind: int = real.nvmlEventTypeXidCriticalError) -> None:
        """An event."""
        self.events.put((index, kind, xid))

    def _nvmlInit(self) -> None:
        self.opened += 1

    def _nvmlShutdown(self) -> None:
        self.opened -= 1

    def _nvmlDeviceGetCount(self) -> int:
        return self.count

    def _nvmlSystemGetDriverVersion(self) -> str | bytes:
        return self.text("580.159.04")

    def _nvmlSystemGetCudaDriverVersion_v2(self) -> int:
        return 13_020

    def _nvmlDeviceGetHandleByIndex(self, index: int) -> Any:
        self.raise_if_failing("nvmlDeviceGetHandleByIndex", index)
        return ctypes.cast(FIRST_HANDLE + index, real.c_nvmlDevice_t)

    def _nvmlDeviceGetName(self, index: int) -> str | bytes:
        return self.text("NVIDIA H100 80GB HBM3")

    def _nvmlDeviceGetUUID(self, index: int) -> str | bytes:
        return self.text(f"GPU-{index}")

    def _nvmlDeviceGetPciInfo(self, index: int) -> Any:
        info = real.nvmlPciInfo_t()
        info.busId = f"00000000:{0x19 + index:02X}:00.0".encode()
        return info if self.as_bytes else SimpleNamespace(busId=info.busId)

    def _nvmlDeviceGetUtilizationRates(self, index: int) -> Any:
        return SimpleNamespace(gpu=42, memory=7)

    def _nvmlDeviceGetMemoryInfo(self, index: int, version: int | None = None) -> Any:
        if version is not None and self.old:
            raise real.NVMLError(13)
        reserved = 0 if version is None else 480
        used = 2580 - reserved
        return SimpleNamespace(total=81_559 * MIB, used=used * MIB, free=(81_559 - 480 - 2100) * MIB)

    def _nvmlDeviceGetPowerUsage(self, index: int) -> int:
        return 412_600

    def _nvmlDeviceGetEnforcedPowerLimit(self, index: int) -> int:
        return 700_000

    def _nvmlDeviceGetTemperature(self, index: int, sensor: int) -> int:
        assert sensor == real.NVML_TEMPERATURE_GPU
        return 63

    def _nvmlDeviceGetMarginTemperature(self, index: int) -> int:
        return 24

    def _nvmlDeviceGetTemperatureThreshold(self, index: int, which: int) -> int:
        assert which == real.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN
        return 92

    def _nvmlDeviceGetClockInfo(self, index: int, which: int) -> int:
        return {real.NVML_CLOCK_SM: 1755, real.NVML_CLOCK_MEM: 2619}[which]

    def _nvmlDeviceGetMaxClockInfo(self, index: int, which: int) -> int:
        return {real.NVML_CLOCK_SM: 1980}[which]

    def _nvmlDeviceGetCurrentClocksEventReasons(self, index: int) -> int:
        if self.old:
            raise real.NVMLError(13)
        return self.throttle

    def _nvmlDeviceGetCurrentClocksThrottleReasons(self, index: int) -> int:
        return self.throttle

    def _nvmlDeviceGetTotalEccErrors(self, index: int, kind: int, counter: int) -> int:
        assert counter == real.NVML_VOLATILE_ECC
        return self.ecc[kind]

    def _nvmlDeviceGetRemappedRows(self, index: int) -> tuple[int, int, int, int]:
        return self.rows

    def _nvmlDeviceGetRetiredPagesPendingStatus(self, index: int) -> int:
        return 0

    def _nvmlDeviceGetCurrPcieLinkGeneration(self, index: int) -> int:
        return 5

    def _nvmlDeviceGetMaxPcieLinkGeneration(self, index: int) -> int:
        return 5

    def _nvmlDeviceGetCurrPcieLinkWidth(self, index: int) -> int:
        return 8

    def _nvmlDeviceGetMaxPcieLinkWidth(self, index: int) -> int:
        return 16

    def _nvmlDeviceGetPcieThroughput(self, index: int, counter: int) -> int:
        return {real.NVML_PCIE_UTIL_RX_BYTES: 481, real.NVML_PCIE_UTIL_TX_BYTES: 997}[counter]

    def _nvmlDeviceGetNvLinkState(self, index: int, link: int) -> int:
        return int(link < self.links_up[index])

    def _nvmlDeviceGetMigMode(self, index: int) -> list[int]:
        return [self.mig, 1]

    def _nvmlDeviceGetEccMode(self, index: int) -> list[int]:
        return [1, 1]

    def _nvmlDeviceGetCudaComputeCapability(self, index: int) -> tuple[int, int]:
        return (9, 0)

    def _nvmlDeviceGetComputeRunningProcesses(self, index: int) -> list[Any]:
        return [SimpleNamespace(pid=pid, usedGpuMemory=held) for pid, held in self.processes.get(index, ())]

    def _nvmlDeviceGetFieldValues(self, index: int, wanted: list[tuple[int, int]]) -> Any:
        values = (real.c_nvmlFieldValue_t * len(wanted))()
        for value, (number, scope) in zip(values, wanted, strict=True):
            name = FIELD_NAMES[number]
            value.fieldId, value.scopeId = number, scope
            try:
                self.raise_if_failing(name, index)
                kind, figure = self.fields[name]
            except (real.NVMLError, KeyError) as error:
                value.nvmlReturn = getattr(error, "value", NOT_SUPPORTED)
                continue
            if name.startswith("NVLINK_THROUGHPUT") and scope != 0xFFFF_FFFF:
                figure //= 18
            value.valueType = kind
            setattr(value.value, MEMBERS[kind], figure)
        return values

    def _nvmlEventSetCreate(self) -> Any:
        self.event_sets += 1
        return object()

    def _nvmlEventSetFree(self, events: Any) -> None:
        self.event_sets -= 1

    def _nvmlDeviceGetSupportedEventTypes(self, index: int) -> int:
        return int(real.nvmlEventTypeAll)

    def _nvmlDeviceRegisterEvents(self, index: int, kinds: int, events: Any) -> None:
        self.registered[index] = kinds

    def _nvmlEventSetWait(self, events: Any, wait_ms: int) -> Any:
        try:
            index, kind, xid = self.events.get(timeout=wait_ms / 1000)
        except queue.Empty:
            raise real.NVMLError(TIMEOUT) from None
        return SimpleNamespace(
            device=ctypes.cast(FIRST_HANDLE + index, real.c_nvmlDevice_t), eventType=kind, eventData=xid
        )


FIELD_NAMES = {
    getattr(real, name): name.removeprefix("NVML_FI_DEV_")
    for name in (
        "NVML_FI_DEV_MEMORY_TEMP",
        "NVML_FI_DEV_NVLINK_LINK_COUNT",
        "NVML_FI_DEV_TEMPERATURE_SLOWDOWN_TLIMIT",
        "NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX",
        "NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX",
        "NVML_FI_DEV_PCIE_COUNT_RX_BYTES",
        "NVML_FI_DEV_PCIE_COUNT_TX_BYTES",
    )
}


def index_of(handle: Any) -> int | None:
    """Index of the GPU of a handle; `None` if this is none."""
    try:
        return (ctypes.cast(handle, ctypes.c_void_p).value or 0) - FIRST_HANDLE if is_pointer(handle) else None
    except ctypes.ArgumentError:
        return None


def is_pointer(value: Any) -> bool:
    return isinstance(value, real.c_nvmlDevice_t)


def spend(seconds: float) -> None:
    """Use the processor for so long."""
    until = time.thread_time() + seconds
    while seconds and time.thread_time() < until:
        pass


@contextmanager
def patched(module: ModuleType) -> Iterator[None]:
    """Let `import pynvml` give this module."""
    before = sys.modules.get("pynvml")
    sys.modules["pynvml"] = module
    try:
        yield
    finally:
        if before is None:
            del sys.modules["pynvml"]
        else:
            sys.modules["pynvml"] = before
