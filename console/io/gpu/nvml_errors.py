"""What NVML's error codes mean for the operator. Separate because every other part of NVML's reader needs them."""

from __future__ import annotations

from typing import Final

from console.core.errors import HardwareError

__all__ = [
    "DEPRECATED",
    "ERRORS",
    "FUNCTION_NOT_FOUND",
    "INVALID_ARGUMENT",
    "NOT_SUPPORTED",
    "TIMEOUT",
    "UNKNOWN_CODE",
    "VERSION_MISMATCH",
    "error_code",
    "hardware_error",
]

INVALID_ARGUMENT: Final = 2
NOT_SUPPORTED: Final = 3
TIMEOUT: Final = 10
NO_LIBRARY: Final = 12
FUNCTION_NOT_FOUND: Final = 13
VERSION_MISMATCH: Final = 25
DEPRECATED: Final = 26
UNKNOWN_CODE: Final = 999
GET_ACCESS: Final = "In a container, start it with GPU access (--gpus all)."

ERRORS: Final[dict[int, tuple[str, str, str]]] = {
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


def hardware_error(code: int, detail: str = "") -> HardwareError:
    """What an NVML error code means for the operator."""
    known = ERRORS.get(code)
    if known is not None:
        return HardwareError(*known)
    return HardwareError("NVML does not answer", detail or f"NVML error {code}", "Run nvidia-smi to see what it says.")


def error_code(error: Exception) -> int:
    """NVML's code inside an exception of pynvml."""
    return int(getattr(error, "value", UNKNOWN_CODE))
