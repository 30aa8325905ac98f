"""GPUs that exist on paper: scripted readings, for tests and the demo. The shortest true implementation."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from console.core.errors import HardwareError
from console.core.models import GpuProcess, GpuReading, Throttle
from console.core.xid import XidSeen
from console.io.gpu.base import not_open

__all__ = ["FakeGpuBackend", "idle_gpus"]

H100_NAME = "NVIDIA H100 80GB HBM3"
H100_BYTES = 81_559 * 1024**2
"""As its driver reports it."""
RESERVED_BYTES = 480 * 1024**2
"""What that driver keeps for itself: neither used nor free."""


def idle_gpus(count: int, name: str = H100_NAME, memory_total_bytes: int = H100_BYTES) -> tuple[GpuReading, ...]:
    """GPUs with nothing to do, with the figures of a real H100 at rest."""
    return tuple(
        GpuReading(
            index=index,
            name=name,
            uuid=f"GPU-{index:08d}-0000-0000-0000-000000000000",
            util_percent=0.0,
            memory_used_bytes=0,
            memory_total_bytes=memory_total_bytes,
            power_w=70.0,
            power_limit_w=700.0,
            temperature_c=30.0,
            memory_free_bytes=memory_total_bytes - RESERVED_BYTES,
            memory_util_percent=0.0,
            memory_temperature_c=32.0,
            temperature_limit_c=89.0,
            sm_clock_mhz=345.0,
            sm_clock_max_mhz=1980.0,
            memory_clock_mhz=2619.0,
            throttle=(Throttle.IDLE,),
            ecc_corrected=0,
            ecc_uncorrected=0,
            rows_remapped=0,
            row_remap_pending=False,
            row_remap_failed=False,
            pcie_rx_bytes_per_s=481e3,
            pcie_tx_bytes_per_s=997e3,
            pcie_generation=5,
            pcie_generation_max=5,
            pcie_width=16,
            pcie_width_max=16,
            nvlink_rx_bytes_per_s=0.0,
            nvlink_tx_bytes_per_s=0.0,
            nvlink_active=18,
            nvlink_count=18,
            mig=False,
            processes=(),
        )
        for index in range(count)
    )


class FakeGpuBackend:
    """Gives one frame per reading, then the last one again and again.

    Args:
        frames: readings of all GPUs, or an error to raise in their place.
        open_errors: what `open` raises, one per call, before it succeeds.
        capability: compute capability of every GPU.
        used_by_pid: what `memory_used_by_pid` answers; `holders` tells the same of the first GPU.
        cuda_driver_version: the newest CUDA of the driver.
        mig: MIG mode of every GPU.
        xids: errors that become known with the reading of the same number, if it is watched.
    """

    def __init__(
        self,
        frames: Sequence[tuple[GpuReading, ...] | HardwareError],
        *,
        open_errors: Sequence[HardwareError] = (),
        capability: tuple[int, int] = (9, 0),
        driver_version: str = "580.159.04",
        used_by_pid: Mapping[int, int] | None = None,
        cuda_driver_version: tuple[int, int] | None = (13, 0),
        mig: bool | None = False,
        xids: Sequence[tuple[XidSeen, ...]] = (),
    ) -> None:
        if not frames:
            raise ValueError("a scripted source needs at least one frame")
        self._frames = tuple(frames)
        self._open_errors = list(open_errors)
        self._capability = capability
        self._driver_version = driver_version
        self._used_by_pid = dict(used_by_pid or {})
        self._cuda_driver_version = cuda_driver_version
        self._mig = mig
        self._xids = tuple(xids)
        self._news: list[XidSeen] = []
        self._last: dict[int | None, XidSeen] = {}
        self._watched = False
        self._session: int | None = None
        self._next = 0
        self._open = False

    @property
    def name(self) -> str:
        """`fake`."""
        return "fake"

    def open(self) -> None:
        """Succeed, once the scripted errors are used up.

        Raises:
            HardwareError: the next of `open_errors`.
        """
        self._open = False
        if self._open_errors:
            raise self._open_errors.pop(0)
        self._open = True

    def read_all(self) -> tuple[GpuReading, ...]:
        """The next frame.

        Raises:
            HardwareError: not open, or the frame is an error.
        """
        self._need_open()
        frame = self._frames[min(self._next, len(self._frames) - 1)]
        if self._watched and self._next < len(self._xids):
            self._news += self._xids[self._next]
            self._last |= {seen.gpu: seen for seen in self._xids[self._next]}
        self._next += 1
        if isinstance(frame, HardwareError):
            raise frame
        return tuple(self._known(reading) for reading in frame)

    def watch(self, session_pid: int | None = None) -> None:
        """Tell the scripted errors from now on, and mark the session's processes."""
        self._need_open()
        self._watched, self._session = True, session_pid

    def take_xids(self) -> tuple[XidSeen, ...]:
        """The scripted ones since the last call."""
        news, self._news = tuple(self._news), []
        return news

    def driver_version(self) -> str | None:
        """The scripted one."""
        self._need_open()
        return self._driver_version

    def compute_capabilities(self) -> tuple[tuple[int, int] | None, ...]:
        """The scripted one for each GPU of the first frame that has any."""
        self._need_open()
        return (self._capability,) * self._count

    def cuda_driver_version(self) -> tuple[int, int] | None:
        """The scripted one."""
        self._need_open()
        return self._cuda_driver_version

    def mig_modes(self) -> tuple[bool | None, ...]:
        """The scripted one for each GPU of the first frame that has any."""
        self._need_open()
        return (self._mig,) * self._count

    def holders(self) -> tuple[tuple[int, int, int | None], ...]:
        """The scripted processes, on the first GPU."""
        self._need_open()
        return tuple((0, pid, held) for pid, held in self._used_by_pid.items())

    def memory_used_by_pid(self) -> Mapping[int, int]:
        """The scripted one."""
        self._need_open()
        return dict(self._used_by_pid)

    def close(self) -> None:
        """Close it; frames go on where they were after the next `open`."""
        self._open = self._watched = False

    def _known(self, reading: GpuReading) -> GpuReading:
        """The frame's reading with what is not part of the frame."""
        seen = self._last.get(reading.index)
        if seen is not None:
            reading = replace(reading, xid=seen.number, xid_s=seen.time_s)
        if reading.processes and self._session is not None:
            reading = replace(reading, processes=tuple(self._owned(process) for process in reading.processes))
        return reading

    def _owned(self, process: GpuProcess) -> GpuProcess:
        try:
            return replace(process, own=os.getsid(process.pid) == self._session)
        except OSError:
            return replace(process, own=False)

    @property
    def _count(self) -> int:
        """GPUs of the first frame that is no error."""
        return len(next((frame for frame in self._frames if not isinstance(frame, HardwareError)), ()))

    def _need_open(self) -> None:
        if not self._open:
            raise not_open(self.name)
