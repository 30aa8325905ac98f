"""What a source of GPU figures has to offer. Another vendor's library is one more file with this interface."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from console.core.errors import HardwareError
from console.core.models import GpuReading
from console.core.xid import XidSeen

__all__ = ["GpuBackend", "not_open"]


class GpuBackend(Protocol):
    """Reads the GPUs of this machine. Calls may block for as long as the driver does: use a thread of its own.

    All methods but `open`, `close` and `take_xids` raise `HardwareError` while it is not open.
    """

    @property
    def name(self) -> str:
        """For example `nvml`."""
        ...

    def open(self) -> None:
        """Load the library and find the GPUs. Opening it again after `close`, or twice, is allowed.

        Raises:
            HardwareError: no library, no driver, versions that differ, no permission.
        """
        ...

    def watch(self, session_pid: int | None = None) -> None:
        """Listen for Xid errors from now on until `close`; again and again is allowed.

        Args:
            session_pid: leader of the server's session: processes in it are marked as the server's own.

        Raises:
            HardwareError: it is not open.
        """
        ...

    def take_xids(self) -> tuple[XidSeen, ...]:
        """Xid errors since the last call, oldest first. Never blocks; any thread may ask, open or not."""
        ...

    def read_all(self) -> tuple[GpuReading, ...]:
        """One reading per GPU in the order of their indices; what a GPU does not tell is `None`.

        Rates (PCIe, NVLink) are known from the second reading on. What changes seldom (limits, ECC, links, processes)
        may be some seconds old.

        Raises:
            HardwareError: no GPU tells anything, so that opening it again is the only way on.
        """
        ...

    def driver_version(self) -> str | None:
        """For example `580.159.04`."""
        ...

    def compute_capabilities(self) -> tuple[tuple[int, int] | None, ...]:
        """Major and minor of each GPU, in the order of their indices: (9, 0) for an H100."""
        ...

    def cuda_driver_version(self) -> tuple[int, int] | None:
        """Major and minor of the newest CUDA that the driver supports: (13, 0)."""
        ...

    def mig_modes(self) -> tuple[bool | None, ...]:
        """Whether each GPU is cut into instances; `None` where the driver does not tell. GPUs without MIG: False."""
        ...

    def holders(self) -> tuple[tuple[int, int, int | None], ...]:
        """GPU index, process id and bytes of each process that computes on a GPU.

        Inside a container the driver may tell nothing, or process ids of the host; bytes may be unknown.
        """
        ...

    def memory_used_by_pid(self) -> Mapping[int, int]:
        """Bytes of GPU memory that each process holds on all GPUs together, where the driver tells.

        Inside a container the driver may tell nothing, or process ids of the host.
        """
        ...

    def close(self) -> None:
        """Let go of the library. Never raises."""
        ...


def not_open(name: str) -> HardwareError:
    """The error of a call on a source that is not open."""
    return HardwareError("GPU figures are not open", f"{name} was used before it was opened", "")
