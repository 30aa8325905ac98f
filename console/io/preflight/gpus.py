"""What the GPU driver tells before a launch: models, memory, who holds it, versions."""

from __future__ import annotations

from pathlib import Path

from console.core.errors import HardwareError
from console.core.preflight import Gpu, GpuFacts, GpuHolder
from console.io.gpu.base import GpuBackend
from console.io.gpu.processes import FIRST_PID_NAMESPACE, uses_gpu

__all__ = ["read_gpus"]

CERTAIN = frozenset({"No NVIDIA driver found", "NVIDIA driver not loaded"})
"""Errors after which it is certain that CUDA finds no GPU; any other leaves that open."""
NAME_BYTES_MAX = 4096


def read_gpus(backend: GpuBackend) -> GpuFacts:
    """Open the backend, ask, close it.

    Raises:
        HardwareError: the driver is there and does not tell.
    """
    try:
        backend.open()
    except HardwareError as error:
        if error.title in CERTAIN:
            return GpuFacts(absent=error.title, absent_remedy=error.fix)
        raise
    try:
        return _read(backend)
    finally:
        backend.close()


def _read(backend: GpuBackend) -> GpuFacts:
    readings = backend.read_all()
    gpus = []
    for reading, capability, mig in zip(readings, backend.compute_capabilities(), backend.mig_modes(), strict=False):
        total, used = reading.memory_total_bytes, reading.memory_used_bytes
        gpus.append(
            Gpu(
                index=reading.index,
                name=reading.name,
                uuid=reading.uuid,
                capability=capability,
                memory_total_bytes=total,
                memory_free_bytes=None if total is None or used is None else total - used,
                mig=mig,
            )
        )
    return GpuFacts(
        gpus=tuple(gpus),
        driver_version=backend.driver_version(),
        cuda_version=backend.cuda_driver_version(),
        holders=tuple(
            GpuHolder(gpu=index, pid=pid, name=_name_of(pid), memory_bytes=held)
            for index, pid, held in backend.holders()
        ),
    )


def _name_of(pid: int) -> str:
    """The command of a process, empty where it cannot be seen.

    Inside a container the driver may tell pids of the host, which mean other processes here or none: there a name
    counts only if the process has a GPU's device open.
    """
    try:
        if str(Path("/proc/self/ns/pid").readlink()) != FIRST_PID_NAMESPACE and not uses_gpu(pid):
            return ""
        with Path(f"/proc/{pid}/cmdline").open("rb") as file:
            return file.read(NAME_BYTES_MAX).replace(b"\0", b" ").decode("utf-8", "replace").strip()
    except OSError:
        return ""
