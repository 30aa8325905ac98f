"""What every source of GPU figures does: the real one over a scripted `pynvml`, the scripted one, and a real driver."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from console.core.errors import HardwareError
from console.core.models import GpuProcess, GpuReading, Throttle
from console.core.xid import XidSeen
from console.io.gpu import processes
from console.io.gpu.base import GpuBackend
from console.io.gpu.fake import FakeGpuBackend, idle_gpus
from console.io.gpu.nvml import NvmlBackend
from console.io.gpu.nvml_read import FAST, SLOW, SLOW_S
from console.io.gpu.xid import XidLog, XidWatch
from tests.fakes.nvml import LOST, MIB, NOT_SUPPORTED, FakeNvml

HAS_DRIVER = Path("/proc/driver/nvidia").exists() or Path("/dev/nvidiactl").exists()
H100 = "NVIDIA H100 80GB HBM3"
SELDOM_ANSWERED = {"pages_pending", "xid", "xid_s"}
"""An H100 has none of the first, and a healthy one none of the others."""
EVERY = tuple(field.name for field in msgspec.structs.fields(GpuReading))


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=[2, 8, 16])
def stub(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    module = FakeNvml(getattr(request, "param", 2))
    module.processes = {0: [(os.getpid(), 3000 * MIB), (2**22 - 1, None)]}
    monkeypatch.setitem(sys.modules, "pynvml", module)
    monkeypatch.setattr(processes, "FIRST_PID_NAMESPACE", str(Path("/proc/self/ns/pid").readlink()))
    return module


def nvml(clock: Clock, tmp_path: Path) -> NvmlBackend:
    return NvmlBackend(clock, XidWatch(XidLog(clock), tmp_path / "kmsg"))


@pytest.fixture(params=["nvml", "fake"])
def backend(request: pytest.FixtureRequest, stub: FakeNvml, clock: Clock, tmp_path: Path) -> Iterator[GpuBackend]:
    if request.param == "nvml":
        made: GpuBackend = nvml(clock, tmp_path)
    else:
        busy = GpuProcess(pid=os.getpid(), name="python", memory_bytes=3000 * MIB)
        first, *others = idle_gpus(stub.count)
        frame = (msgspec.structs.replace(first, processes=(busy,)), *others)
        made = FakeGpuBackend([frame], used_by_pid={os.getpid(): 3000 * MIB})
    yield made
    made.close()


class TestContract:
    def test_it_must_be_open(self, backend: GpuBackend) -> None:
        calls = [
            backend.read_all,
            backend.watch,
            backend.driver_version,
            backend.compute_capabilities,
            backend.memory_used_by_pid,
            backend.cuda_driver_version,
            backend.mig_modes,
            backend.holders,
        ]
        for _ in range(2):
            for call in calls:
                with pytest.raises(HardwareError, match="not open"):
                    call()
            assert backend.take_xids() == ()
            backend.open()
            backend.close()
            backend.close()

    def test_every_field_is_told(self, backend: GpuBackend, stub: FakeNvml, clock: Clock) -> None:
        backend.open()
        backend.read_all()
        clock.now_s += 1
        readings = backend.read_all()
        assert [reading.index for reading in readings] == list(range(stub.count))
        assert len({reading.uuid for reading in readings}) == stub.count
        for reading in readings:
            assert reading.name == H100
            unknown = {name for name in EVERY if getattr(reading, name) is None}
            assert unknown <= SELDOM_ANSWERED
        backend.close()

    def test_figures_make_sense_together(self, backend: GpuBackend, clock: Clock) -> None:
        backend.open()
        backend.read_all()
        clock.now_s += 1
        for reading in backend.read_all():
            percents = (reading.util_percent, reading.memory_util_percent)
            assert all(percent is not None and 0 <= percent <= 100 for percent in percents)
            used, free, total = reading.memory_used_bytes, reading.memory_free_bytes, reading.memory_total_bytes
            assert used is not None
            assert free is not None
            assert total is not None
            assert 0 < used + free <= total
            assert (reading.sm_clock_mhz or 0) <= (reading.sm_clock_max_mhz or 0)
            assert (reading.temperature_c or 0) < (reading.temperature_limit_c or 0)
            assert (reading.nvlink_active or 0) <= (reading.nvlink_count or 0)
            assert (reading.pcie_width or 0) <= (reading.pcie_width_max or 0)
            assert (reading.pcie_generation or 0) <= (reading.pcie_generation_max or 0)
            assert isinstance(reading.throttle, tuple)
            assert {type(each) for each in reading.throttle} <= {Throttle}

    def test_opening_again_and_reading_again(self, backend: GpuBackend, stub: FakeNvml) -> None:
        backend.open()
        backend.open()
        backend.watch(1)
        backend.close()
        backend.open()
        backend.watch()
        assert len(backend.read_all()) == len(backend.read_all()) == stub.count
        assert backend.name

    def test_the_sessions_processes_are_its_own(self, backend: GpuBackend) -> None:
        backend.open()
        backend.watch(os.getsid(0))
        (mine, *_), *others = (reading.processes or () for reading in backend.read_all())
        assert (mine.pid, mine.memory_bytes, mine.own) == (os.getpid(), 3000 * MIB, True)
        assert mine.name
        assert not any(others)
        backend.watch(None)
        assert not any(process.own for reading in backend.read_all() for process in reading.processes or ())

    def test_what_preflight_asks(self, backend: GpuBackend, stub: FakeNvml) -> None:
        backend.open()
        assert backend.driver_version() == "580.159.04"
        assert set(backend.compute_capabilities()) == {(9, 0)}
        assert (backend.cuda_driver_version() or (0,))[0] == 13
        assert backend.mig_modes() == (False,) * stub.count
        assert backend.memory_used_by_pid() == {os.getpid(): 3000 * MIB}
        assert backend.holders()[0] == (0, os.getpid(), 3000 * MIB)


class TestNvml:
    @pytest.fixture(params=[2])
    def stub(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
        module = FakeNvml(request.param)
        monkeypatch.setitem(sys.modules, "pynvml", module)
        return module

    def test_figures_and_units(self, stub: FakeNvml, clock: Clock, tmp_path: Path) -> None:
        stub.throttle, stub.ecc, stub.rows, stub.mig = 0x44, [3, 1], (2, 1, 1, 0), 1
        backend = nvml(clock, tmp_path)
        backend.open()
        backend.read_all()
        stub.move("PCIE_COUNT_RX_BYTES", 2_000_000_000)
        stub.move("NVLINK_THROUGHPUT_DATA_TX", 4096)
        clock.now_s += 2
        told = backend.read_all()[0]
        assert told == GpuReading(
            index=0,
            name=H100,
            uuid="GPU-0",
            util_percent=42.0,
            memory_util_percent=7.0,
            memory_used_bytes=2100 * MIB,
            memory_total_bytes=81_559 * MIB,
            memory_free_bytes=78_979 * MIB,
            power_w=412.6,
            power_limit_w=700.0,
            temperature_c=63.0,
            memory_temperature_c=58.0,
            temperature_limit_c=89.0,
            sm_clock_mhz=1755.0,
            sm_clock_max_mhz=1980.0,
            memory_clock_mhz=2619.0,
            throttle=(Throttle.POWER_CAP, Throttle.HW_THERMAL),
            ecc_corrected=3,
            ecc_uncorrected=1,
            rows_remapped=3,
            row_remap_pending=True,
            row_remap_failed=False,
            pages_pending=False,
            pcie_rx_bytes_per_s=1e9,
            pcie_tx_bytes_per_s=0.0,
            pcie_generation=5,
            pcie_generation_max=5,
            pcie_width=8,
            pcie_width_max=16,
            nvlink_rx_bytes_per_s=0.0,
            nvlink_tx_bytes_per_s=2048 * 1024.0,
            nvlink_active=18,
            nvlink_count=18,
            mig=True,
            processes=(),
        )
        backend.close()

    QUESTIONS = tuple((question.calls, question.fields) for question in (*FAST, *SLOW))

    @pytest.mark.parametrize(("calls", "fields"), QUESTIONS, ids=[fields[0] for _, fields in QUESTIONS])
    @pytest.mark.parametrize("code", [NOT_SUPPORTED, LOST, 999])
    def test_a_call_that_fails_leaves_only_its_fields_unknown(
        self, stub: FakeNvml, clock: Clock, tmp_path: Path, calls: tuple[tuple[str, ...], ...], fields: tuple[str, ...],
        code: int,
    ) -> None:  # fmt: skip
        for call in calls:
            stub.fail[call[0], 1] = code
        backend = nvml(clock, tmp_path)
        backend.open()
        backend.read_all()
        clock.now_s += 1
        whole, lacking = backend.read_all()
        lost = {name for name in EVERY if getattr(whole, name) is not None and getattr(lacking, name) is None}
        shared = {row for row_calls, rows in self.QUESTIONS for row in rows if row_calls[0][0] == calls[0][0]}
        assert set(fields) <= lost <= shared | ({"temperature_limit_c"} if "temperature_c" in fields else set())
        backend.close()

    @pytest.mark.parametrize(
        ("name", "fields"),
        [
            ("MEMORY_TEMP", {"memory_temperature_c"}),
            ("NVLINK_LINK_COUNT", {"nvlink_count", "nvlink_active"}),
            ("NVLINK_THROUGHPUT_DATA_RX", {"nvlink_rx_bytes_per_s"}),
            ("NVLINK_THROUGHPUT_DATA_TX", {"nvlink_tx_bytes_per_s"}),
        ],
    )
    def test_a_field_that_fails_leaves_only_its_own_unknown(
        self, stub: FakeNvml, clock: Clock, tmp_path: Path, name: str, fields: set[str]
    ) -> None:
        stub.fail[name, 1] = NOT_SUPPORTED
        backend = nvml(clock, tmp_path)
        backend.open()
        backend.read_all()
        clock.now_s += 1
        whole, lacking = backend.read_all()
        assert {name for name in EVERY if getattr(whole, name) is not None and getattr(lacking, name) is None} == fields
        backend.close()

    def test_the_slowdown_threshold_of_older_gpus(self, stub: FakeNvml, clock: Clock, tmp_path: Path) -> None:
        stub.fail["TEMPERATURE_SLOWDOWN_TLIMIT", 0] = NOT_SUPPORTED
        stub.fail["nvmlDeviceGetMarginTemperature", 1] = NOT_SUPPORTED
        backend = nvml(clock, tmp_path)
        backend.open()
        assert [reading.temperature_limit_c for reading in backend.read_all()] == [92.0, 92.0]
        backend.close()

    def test_no_link_that_tells_is_not_no_link_that_is_up(self, stub: FakeNvml, clock: Clock, tmp_path: Path) -> None:
        stub.fail["nvmlDeviceGetNvLinkState", 0] = NOT_SUPPORTED
        stub.links_up[1] = 17
        backend = nvml(clock, tmp_path)
        backend.open()
        assert [(r.nvlink_active, r.nvlink_count) for r in backend.read_all()] == [(None, 18), (17, 18)]
        backend.close()

    def test_what_a_gpu_lacks_is_not_asked_at_every_reading(self, stub: FakeNvml, clock: Clock, tmp_path: Path) -> None:
        stub.fail["nvmlDeviceGetPowerUsage", None] = NOT_SUPPORTED
        stub.fail["nvmlDeviceGetClockInfo", None] = LOST
        backend = nvml(clock, tmp_path)
        backend.open()
        for _ in range(3):
            backend.read_all()
            clock.now_s += 1
        assert stub.calls.count("nvmlDeviceGetPowerUsage") == 2
        assert stub.calls.count("nvmlDeviceGetClockInfo") == 2 * 2 * 3
        clock.now_s += 60
        del stub.fail["nvmlDeviceGetPowerUsage", None]
        assert backend.read_all()[0].power_w == 412.6
        backend.close()

    @pytest.mark.parametrize("stub", [16], indirect=True)
    def test_what_changes_seldom_is_asked_seldom_and_in_turn(
        self, stub: FakeNvml, clock: Clock, tmp_path: Path
    ) -> None:
        backend = nvml(clock, tmp_path)
        backend.open()
        backend.read_all()
        asked = []
        period = int(SLOW_S)
        for _ in range(3 * period):
            clock.now_s += 1
            stub.calls.clear()
            backend.read_all()
            asked.append(stub.calls.count("nvmlDeviceGetRemappedRows"))
        assert sum(asked[period:]) == pytest.approx(16 * 2, abs=4)
        assert max(asked[period:]) <= 16 / SLOW_S + 1
        backend.close()

    @pytest.mark.parametrize("stub", [16], indirect=True)
    def test_pcie_is_sampled_in_turns_where_it_has_no_wide_counter(
        self, stub: FakeNvml, clock: Clock, tmp_path: Path
    ) -> None:
        for index in range(8):
            stub.fail["PCIE_COUNT_RX_BYTES", index] = NOT_SUPPORTED
        backend = nvml(clock, tmp_path)
        backend.open()
        assert stub.calls.count("nvmlDeviceGetPcieThroughput") == 0
        for _ in range(5):
            backend.read_all()
            stub.calls.clear()
            clock.now_s += 1
            readings = backend.read_all()
            assert stub.calls.count("nvmlDeviceGetPcieThroughput") <= 4
            clock.now_s += 1
        assert {reading.pcie_rx_bytes_per_s for reading in readings[:8]} == {481_000.0}
        assert {reading.pcie_tx_bytes_per_s for reading in readings[8:]} == {0.0}
        backend.close()

    def test_a_narrow_counter_tells_no_rate(self, stub: FakeNvml, clock: Clock, tmp_path: Path) -> None:
        kind, _ = stub.fields["PCIE_COUNT_RX_BYTES"]
        stub.fields["PCIE_COUNT_RX_BYTES"] = (kind, 4_000_000_000)
        backend = nvml(clock, tmp_path)
        backend.open()
        backend.read_all()
        stub.fields["PCIE_COUNT_RX_BYTES"] = (kind, 1_000)
        for _ in range(3):
            clock.now_s += 1
            reading = backend.read_all()[0]
        assert (reading.pcie_rx_bytes_per_s, reading.pcie_tx_bytes_per_s) == (481_000.0, 997_000.0)
        backend.close()

    def test_a_counter_that_is_reset_is_unknown_once(self, stub: FakeNvml, clock: Clock, tmp_path: Path) -> None:
        backend = nvml(clock, tmp_path)
        backend.open()
        backend.read_all()
        stub.move("NVLINK_THROUGHPUT_DATA_RX", -4_999_000)
        clock.now_s += 1
        assert backend.read_all()[0].nvlink_rx_bytes_per_s is None
        stub.move("NVLINK_THROUGHPUT_DATA_RX", 1000)
        clock.now_s += 1
        assert backend.read_all()[0].nvlink_rx_bytes_per_s == 1_024_000.0
        backend.close()

    def test_the_first_reading_does_not_wait_for_samples(self, stub: FakeNvml, clock: Clock, tmp_path: Path) -> None:
        stub.fail["PCIE_COUNT_RX_BYTES", None] = NOT_SUPPORTED
        backend = nvml(clock, tmp_path)
        backend.open()
        backend.read_all()
        assert "nvmlDeviceGetPcieThroughput" not in stub.calls
        backend.close()


def test_in_a_container_a_pid_may_mean_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "FIRST_PID_NAMESPACE", "pid:[1]")
    session = os.getsid(0)
    holders = [(os.getpid(), 5), (2**22 - 1, 6)]
    nobody = (GpuProcess(pid=2**22 - 1, memory_bytes=6), GpuProcess(pid=os.getpid(), memory_bytes=5))
    assert processes.describe(holders, session) == nobody
    monkeypatch.setattr(processes, "uses_gpu", lambda pid: True)
    gone, mine = processes.describe(holders, session)
    assert (gone.name, gone.own, mine.own) == (None, False, True)
    assert mine.name
    many = processes.describe([(pid, pid) for pid in range(2**22, 2**22 + 200)], None)
    assert len(many) == processes.PROCESSES_MAX
    assert many[0].memory_bytes == 2**22 + 199


def test_scripted_errors_come_with_their_reading() -> None:
    seen = XidSeen(79, 1e9, 1, "GPU has fallen off the bus.")
    backend = FakeGpuBackend([idle_gpus(2)], xids=[(), (seen,)])
    backend.open()
    backend.watch()
    assert [reading.xid for reading in backend.read_all()] == [None, None]
    assert [reading.xid for reading in backend.read_all()] == [None, 79]
    assert backend.take_xids() == (seen,)
    assert backend.take_xids() == ()
    assert backend.read_all()[1].xid_s == 1e9


@pytest.mark.gpu
@pytest.mark.skipif(not HAS_DRIVER, reason="this machine has no NVIDIA driver")
def test_a_real_driver() -> None:
    backend = NvmlBackend()
    backend.open()
    backend.watch(os.getsid(0))
    backend.read_all()
    readings = backend.read_all()
    assert readings
    for reading in readings:
        assert reading.name
        assert reading.memory_total_bytes
        assert reading.sm_clock_max_mhz
        assert reading.throttle is not None
        assert reading.mig is not None
        assert reading.processes is not None
    backend.close()
    assert backend.take_xids() == ()
