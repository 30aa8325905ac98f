"""NVIDIA GPUs through NVML; the only importer of pynvml (the distribution `nvidia-ml-py`).

NVML is loaded when it is opened, never at import. A call that fails makes one figure `None`; only if no GPU tells
anything is it an error, because then the driver has gone away and the library must be opened afresh.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from console.core.errors import HardwareError
from console.core.models import GpuReading
from console.core.xid import XidSeen, bus_id
from console.io.gpu.base import not_open
from console.io.gpu.nvml_calls import Nvml
from console.io.gpu.nvml_errors import error_code, hardware_error
from console.io.gpu.nvml_rates import PcieTurns, Rates
from console.io.gpu.nvml_read import SLOW_S, as_text, mig_mode, read_fast, read_slow
from console.io.gpu.processes import describe
from console.io.gpu.xid import XidWatch

__all__ = ["NvmlBackend"]

GPUS_MAX = 64


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """What does not change about one GPU."""

    index: int
    handle: Any = None
    """`None` if the driver would not give one."""
    name: str | None = None
    uuid: str | None = None


class NvmlBackend:
    """GPU figures from the NVIDIA driver.

    Args:
        clock: seconds that never go back, replaced in tests.
        xids: listens for Xid errors, replaced in tests.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, xids: XidWatch | None = None) -> None:
        self._clock = clock
        self._nvml: Nvml | None = None
        self._devices: tuple[Device, ...] = ()
        self._session: int | None = None
        self._xids = xids or XidWatch()
        self._forget()

    def _forget(self) -> None:
        self._slow: dict[int, dict[str, Any]] = {}
        self._slow_due_s: dict[int, float] = {}
        self._rates: dict[int, Rates] = {}
        self._turns = PcieTurns()
        self._read_before = False

    @property
    def name(self) -> str:
        """`nvml`."""
        return "nvml"

    def open(self) -> None:
        """Load NVML and find the GPUs.

        Raises:
            HardwareError: no library, no driver, versions that differ, no permission.
        """
        self.close()
        try:
            import pynvml
        except ImportError as error:
            raise HardwareError(
                "The Python package nvidia-ml-py is missing", str(error), "Install dsv4-console again."
            ) from error
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            raise hardware_error(error_code(error), str(error)) from error
        self._nvml = nvml = Nvml(pynvml)
        count = nvml.ask("nvmlDeviceGetCount")
        if count is None:
            self.close()
            raise hardware_error(nvml.last_code)
        self._devices = tuple(find(nvml, index) for index in range(min(count, GPUS_MAX)))

    def watch(self, session_pid: int | None = None) -> None:
        """Listen for Xid errors from now on, and mark the processes of this session as the server's own."""
        nvml = self._opened()
        if session_pid != self._session:
            self._session = session_pid
            self._slow_due_s = {}
        if not self._xids.listening:
            buses = {}
            for device in self._devices:
                info = nvml.ask("nvmlDeviceGetPciInfo", device.handle) if device.handle is not None else None
                bus = bus_id(as_text(info.busId) or "") if info is not None else None
                if bus is not None:
                    buses[bus] = device.index
            self._xids.start(nvml.module, {d.index: d.handle for d in self._devices if d.handle is not None}, buses)

    def read_all(self) -> tuple[GpuReading, ...]:
        """One reading per GPU; a lost one keeps its name and has no figures.

        Raises:
            HardwareError: not open, or no GPU tells anything.
        """
        nvml, now_s = self._opened(), self._clock()
        nvml.take_trouble()
        if self._xids.take_ecc():
            self._slow_due_s = {}
        figures = [self._figures(nvml, device, now_s) for device in self._devices]
        needy = [
            (device.index, device.handle)
            for device in self._devices
            if device.handle is not None and self._rates[device.index].samples_pcie
        ]
        if self._read_before:  # whoever reads only once does not wait for samples
            self._turns.sample(nvml, needy, now_s)
        self._read_before = True
        readings = tuple(
            GpuReading(
                index=device.index,
                name=device.name,
                uuid=device.uuid,
                **(self._turns.latest(device.index, now_s) | found),
                **self._xids.last(device.index),
            )
            for device, found in zip(self._devices, figures, strict=True)
        )
        if readings and all(nothing_known(reading) for reading in readings):
            raise hardware_error(nvml.take_trouble())
        return readings

    def take_xids(self) -> tuple[XidSeen, ...]:
        """Xid errors since the last call."""
        return self._xids.take()

    def driver_version(self) -> str | None:
        """For example `580.159.04`."""
        return as_text(self._opened().ask("nvmlSystemGetDriverVersion"))

    def compute_capabilities(self) -> tuple[tuple[int, int] | None, ...]:
        """Major and minor of each GPU."""
        nvml = self._opened()
        found = (nvml.ask("nvmlDeviceGetCudaComputeCapability", device.handle) for device in self._devices)
        return tuple(None if pair is None else (int(pair[0]), int(pair[1])) for pair in found)

    def cuda_driver_version(self) -> tuple[int, int] | None:
        """Major and minor of the newest CUDA that the driver supports."""
        number = self._opened().ask("nvmlSystemGetCudaDriverVersion_v2")
        # nvml.h: NVML_CUDA_DRIVER_VERSION_MAJOR is number / 1000, _MINOR is number % 1000 / 10.
        return None if number is None else (int(number) // 1000, int(number) % 1000 // 10)

    def mig_modes(self) -> tuple[bool | None, ...]:
        """Whether each GPU is cut into instances; one that has no such mode is not."""
        nvml = self._opened()
        return tuple(mig_mode(nvml, device.handle) for device in self._devices)

    def holders(self) -> tuple[tuple[int, int, int | None], ...]:
        """GPU index, process id and bytes of each process that computes on a GPU."""
        nvml = self._opened()
        return tuple(
            (device.index, pid, held) for device in self._devices for pid, held in computing(nvml, device.handle) or ()
        )

    def memory_used_by_pid(self) -> Mapping[int, int]:
        """Bytes that each process holds on all GPUs together, where the driver tells."""
        used: dict[int, int] = {}
        for _, pid, held in self.holders():
            if held is not None:
                used[pid] = used.get(pid, 0) + held
        return used

    def close(self) -> None:
        """Let go of NVML. Xid errors that were seen are kept."""
        self._xids.stop()
        if self._nvml is not None:
            self._nvml.ask("nvmlShutdown")
        self._nvml = None
        self._devices = ()
        self._forget()

    def _opened(self) -> Nvml:
        if self._nvml is None:
            raise not_open(self.name)
        return self._nvml

    def _figures(self, nvml: Nvml, device: Device, now_s: float) -> dict[str, Any]:
        """All that this GPU tells now, and what it told of the things that are asked seldom."""
        if device.handle is None:
            return {}
        rates = self._rates.setdefault(device.index, Rates())
        found, counters = read_fast(nvml, device.index, device.handle, now_s)
        found |= rates.read(counters, now_s)
        due_s = self._slow_due_s.get(device.index)
        if due_s is None or now_s >= due_s:
            slow = read_slow(nvml, device.index, device.handle, now_s)
            holders = computing(nvml, device.handle)
            if holders is not None:
                slow["processes"] = describe(holders, self._session)
            self._slow[device.index] = slow
            # After the first time each GPU keeps a place of its own in the period.
            spread = SLOW_S * device.index / len(self._devices) if due_s is None else 0.0
            self._slow_due_s[device.index] = now_s + SLOW_S + spread
        return self._slow[device.index] | found


def find(nvml: Nvml, index: int) -> Device:
    """What does not change about the GPU of this index."""
    handle = nvml.ask("nvmlDeviceGetHandleByIndex", index)
    if handle is None:
        return Device(index=index)
    name, uuid = (as_text(nvml.ask(call, handle)) for call in ("nvmlDeviceGetName", "nvmlDeviceGetUUID"))
    return Device(index=index, handle=handle, name=name, uuid=uuid)


def computing(nvml: Nvml, handle: Any) -> list[tuple[int, int | None]] | None:
    """Process id and bytes of each process that computes on a GPU; `None` if the driver does not tell."""
    found = nvml.ask("nvmlDeviceGetComputeRunningProcesses", handle)
    if found is None:
        return None
    return [(int(each.pid), None if each.usedGpuMemory is None else int(each.usedGpuMemory)) for each in found]


def nothing_known(reading: GpuReading) -> bool:
    """Whether a GPU told no figure at all."""
    figures = (reading.util_percent, reading.memory_used_bytes, reading.power_w, reading.temperature_c)
    return all(figure is None for figure in figures)
