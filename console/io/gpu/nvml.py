"""NVIDIA GPUs through NVML; the only importer of pynvml (the distribution `nvidia-ml-py`).

NVML is loaded when it is opened, never at import. A call that fails makes one figure `None`; only if no GPU tells
anything is it an error, because then the driver has gone away and the library must be opened afresh.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from console.core.errors import HardwareError
from console.core.models import GpuReading
from console.io.gpu.base import not_open

__all__ = ["NvmlBackend"]

GPUS_MAX = 64
MILLIWATTS = 1000.0
NOT_SUPPORTED = 3
NO_LIBRARY = 12
UNKNOWN_CODE = 999
GET_ACCESS = "In a container, start it with GPU access (--gpus all)."

ERRORS: dict[int, tuple[str, str, str]] = {
    1: (
        "The GPU driver went away",
        "NVML is no longer initialized",
        "It is opened again by itself; run nvidia-smi if this stays.",
    ),
    4: (
        "No permission to read the GPUs",
        "The driver refuses this user",
        f"Check who may open /dev/nvidiactl and /dev/nvidia0. {GET_ACCESS}",
    ),
    9: (
        "NVIDIA driver not loaded",
        "The NVML library is there, but the kernel module does not answer",
        f"Run nvidia-smi; load the module (modprobe nvidia) or reboot after an installation. {GET_ACCESS}",
    ),
    NO_LIBRARY: (
        "No NVIDIA driver found",
        "The library libnvidia-ml.so.1 is not installed",
        f"Install the NVIDIA driver, or choose a CPU profile such as cpu-smoke. {GET_ACCESS}",
    ),
    15: (
        "GPU lost",
        "A GPU has fallen off the bus",
        "Look for Xid errors in the kernel log (dmesg); reset the GPU or reboot the machine.",
    ),
    18: (
        "NVIDIA driver and library differ in version",
        "The driver was updated while the old kernel module stayed loaded",
        "Reboot, or unload and load the nvidia kernel modules.",
    ),
}
"""NVML's error code → title, message, fix. Codes: `nvmlReturn_t` in NVIDIA's `nvml.h`."""


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """What does not change about one GPU."""

    index: int
    handle: Any = None
    """`None` if the driver would not give one."""
    name: str | None = None
    uuid: str | None = None


class NvmlBackend:
    """GPU figures from the NVIDIA driver."""

    def __init__(self) -> None:
        self._nvml: Any = None
        self._devices: tuple[Device, ...] = ()
        self._last_code = UNKNOWN_CODE

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
        self._nvml = pynvml
        count = self._ask("nvmlDeviceGetCount")
        if count is None:
            code = self._last_code
            self.close()
            raise hardware_error(code)
        self._devices = tuple(self._find(index) for index in range(min(count, GPUS_MAX)))

    def read_all(self) -> tuple[GpuReading, ...]:
        """One reading per GPU; a lost one keeps its name and has no figures.

        Raises:
            HardwareError: not open, or no GPU tells anything.
        """
        self._need_open()
        readings = tuple(self._read(device) for device in self._devices)
        if readings and all(nothing_known(reading) for reading in readings):
            raise hardware_error(self._last_code)
        return readings

    def driver_version(self) -> str | None:
        """For example `580.159.04`."""
        self._need_open()
        return as_text(self._ask("nvmlSystemGetDriverVersion"))

    def compute_capabilities(self) -> tuple[tuple[int, int] | None, ...]:
        """Major and minor of each GPU."""
        self._need_open()
        found = (self._ask("nvmlDeviceGetCudaComputeCapability", device.handle) for device in self._devices)
        return tuple(None if pair is None else (int(pair[0]), int(pair[1])) for pair in found)

    def cuda_driver_version(self) -> tuple[int, int] | None:
        """Major and minor of the newest CUDA that the driver supports."""
        self._need_open()
        number = self._ask("nvmlSystemGetCudaDriverVersion_v2")
        # nvml.h: NVML_CUDA_DRIVER_VERSION_MAJOR is number / 1000, _MINOR is number % 1000 / 10.
        return None if number is None else (int(number) // 1000, int(number) % 1000 // 10)

    def mig_modes(self) -> tuple[bool | None, ...]:
        """Whether each GPU is cut into instances; one that has no such mode is not."""
        self._need_open()
        return tuple(self._mig(device) for device in self._devices)

    def holders(self) -> tuple[tuple[int, int, int | None], ...]:
        """GPU index, process id and bytes of each process that computes on a GPU."""
        self._need_open()
        return tuple(
            (device.index, int(each.pid), None if each.usedGpuMemory is None else int(each.usedGpuMemory))
            for device in self._devices
            for each in self._ask("nvmlDeviceGetComputeRunningProcesses", device.handle) or ()
        )

    def memory_used_by_pid(self) -> Mapping[int, int]:
        """Bytes that each process holds on all GPUs together, where the driver tells."""
        used: dict[int, int] = {}
        for _, pid, held in self.holders():
            if held is not None:
                used[pid] = used.get(pid, 0) + held
        return used

    def close(self) -> None:
        """Let go of NVML."""
        if self._nvml is not None:
            self._ask("nvmlShutdown")
        self._nvml = None
        self._devices = ()

    def _need_open(self) -> None:
        if self._nvml is None:
            raise not_open(self.name)

    def _find(self, index: int) -> Device:
        handle = self._ask("nvmlDeviceGetHandleByIndex", index)
        if handle is None:
            return Device(index=index)
        name, uuid = (as_text(self._ask(call, handle)) for call in ("nvmlDeviceGetName", "nvmlDeviceGetUUID"))
        return Device(index=index, handle=handle, name=name, uuid=uuid)

    def _read(self, device: Device) -> GpuReading:
        handle = device.handle
        if handle is None:
            return GpuReading(index=device.index)
        rates = self._ask("nvmlDeviceGetUtilizationRates", handle)
        # Version 2 leaves out what the driver reserves, as nvidia-smi does; old drivers have version 1 alone.
        memory = self._ask("nvmlDeviceGetMemoryInfo", handle, getattr(self._nvml, "nvmlMemory_v2", None))
        if memory is None:
            memory = self._ask("nvmlDeviceGetMemoryInfo", handle)
        temperature = self._ask("nvmlDeviceGetTemperature", handle, getattr(self._nvml, "NVML_TEMPERATURE_GPU", 0))
        return GpuReading(
            index=device.index,
            name=device.name,
            uuid=device.uuid,
            util_percent=None if rates is None else float(rates.gpu),
            memory_used_bytes=None if memory is None else int(memory.used),
            memory_total_bytes=None if memory is None else int(memory.total),
            power_w=watts(self._ask("nvmlDeviceGetPowerUsage", handle)),
            power_limit_w=watts(self._ask("nvmlDeviceGetEnforcedPowerLimit", handle)),
            temperature_c=None if temperature is None else float(temperature),
        )

    def _mig(self, device: Device) -> bool | None:
        self._last_code = UNKNOWN_CODE
        modes = self._ask("nvmlDeviceGetMigMode", device.handle)
        if modes is None:
            return False if self._last_code == NOT_SUPPORTED else None
        return bool(modes[0])

    def _ask(self, function: str, *args: Any) -> Any:
        """What an NVML function answers; `None` if it fails or this library does not have it."""
        call = getattr(self._nvml, function, None)
        if call is None:
            return None
        try:
            return call(*args)
        except self._nvml.NVMLError as error:
            self._last_code = error_code(error)
            return None


def hardware_error(code: int, detail: str = "") -> HardwareError:
    """What an NVML error code means for the operator."""
    known = ERRORS.get(code)
    if known is not None:
        return HardwareError(*known)
    return HardwareError("NVML does not answer", detail or f"NVML error {code}", "Run nvidia-smi to see what it says.")


def error_code(error: Exception) -> int:
    """NVML's code inside an exception of pynvml."""
    return int(getattr(error, "value", UNKNOWN_CODE))


def nothing_known(reading: GpuReading) -> bool:
    """Whether a GPU told no figure at all."""
    figures = (reading.util_percent, reading.memory_used_bytes, reading.power_w, reading.temperature_c)
    return all(figure is None for figure in figures)


def watts(milliwatts: int | None) -> float | None:
    """NVML's milliwatts as watts."""
    return None if milliwatts is None else milliwatts / MILLIWATTS


def as_text(value: str | bytes | None) -> str | None:
    """Text that older versions of pynvml give as bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
