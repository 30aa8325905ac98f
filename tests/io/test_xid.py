"""Xid errors from NVML's events and from a kernel log in a pipe."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pynvml as real
import pytest

from console.io.gpu.nvml import NvmlBackend
from console.io.gpu.xid import KEPT_MAX, KERNEL_FIRST_S, SAME_S, XidLog, XidWatch
from tests.fakes.nvml import NOT_SUPPORTED, FakeNvml

LIMIT_S = 20.0


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def until(condition: Callable[[], object]) -> None:
    end_s = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.005)


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    module = FakeNvml(2)
    monkeypatch.setitem(sys.modules, "pynvml", module)
    return module


@pytest.fixture
def kmsg(tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """Writes records of a kernel log."""
    path = tmp_path / "kmsg"
    os.mkfifo(path)
    writer = os.open(path, os.O_RDWR)

    def write(text: str) -> None:
        os.write(writer, f"4,1234,5678901,-;{text}\n".encode())

    yield write
    os.close(writer)


def watching(tmp_path: Path, clock: Clock | None = None) -> NvmlBackend:
    backend = NvmlBackend(xids=XidWatch(XidLog(clock or Clock(), wall=lambda: 1e9), tmp_path / "kmsg"))
    backend.open()
    backend.watch()
    return backend


def test_the_kernel_log_tells_of_a_gpu_by_its_bus(stub: FakeNvml, kmsg: Callable[[str], None], tmp_path: Path) -> None:
    backend = watching(tmp_path)
    found = []
    kmsg("usb 1-1: new device")
    kmsg("NVRM: Xid (PCI:0000:1a:00): 79, pid=7, GPU has fallen off the bus.")
    until(lambda: found.extend(backend.take_xids()) or found)
    (seen,) = found
    assert (seen.gpu, seen.number, seen.time_s, seen.detail) == (1, 79, 1e9, "pid=7, GPU has fallen off the bus.")
    assert [(reading.xid, reading.xid_s) for reading in backend.read_all()] == [(None, None), (79, 1e9)]
    kmsg("NVRM: Xid (PCI:0000:ff:00): 48, pid=7")
    until(lambda: found.extend(backend.take_xids()) or len(found) == 2)
    assert found[1].gpu is None
    backend.close()


def test_nothing_is_missed_while_nvml_is_opened_again(
    stub: FakeNvml, kmsg: Callable[[str], None], tmp_path: Path
) -> None:
    backend = watching(tmp_path)
    backend.close()
    kmsg("NVRM: Xid (PCI:0000:19:00): 48, pid=7")
    backend.open()
    backend.watch()
    until(lambda: backend.read_all()[0].xid == 48)
    backend.close()
    assert [seen.number for seen in backend.take_xids()] == [48]


def test_events_of_nvml_where_the_kernel_log_is_closed_to_us(stub: FakeNvml, tmp_path: Path) -> None:
    backend = watching(tmp_path)
    until(lambda: len(stub.registered) == 2)
    assert set(stub.registered.values()) == {real.nvmlEventTypeXidCriticalError | real.nvmlEventTypeDoubleBitEccError}
    stub.happen(1, 31)
    found = []
    until(lambda: found.extend(backend.take_xids()) or found)
    assert [(seen.gpu, seen.number) for seen in found] == [(1, 31)]
    backend.close()


def test_an_error_told_twice_is_one(stub: FakeNvml, kmsg: Callable[[str], None], tmp_path: Path) -> None:
    clock = Clock()
    backend = watching(tmp_path, clock)
    stub.happen(0, 94)
    until(stub.events.empty)
    found = []
    kmsg("NVRM: Xid (PCI:0000:19:00): 94, pid=7, Contained")
    until(lambda: found.extend(backend.take_xids()) or found)
    clock.now_s += KERNEL_FIRST_S + 1
    assert [seen.detail for seen in (*found, *backend.take_xids())] == ["pid=7, Contained"]
    stub.happen(0, 95)
    until(stub.events.empty)
    assert backend.take_xids() == ()
    clock.now_s += KERNEL_FIRST_S + 1
    until(lambda: found.extend(backend.take_xids()) or len(found) == 2)
    backend.close()


def test_a_double_bit_error_has_the_counts_read_at_once(stub: FakeNvml, tmp_path: Path) -> None:
    backend = watching(tmp_path)
    assert backend.read_all()[0].ecc_uncorrected == 0
    stub.ecc = [0, 2]
    assert backend.read_all()[0].ecc_uncorrected == 0
    stub.happen(0, 0, real.nvmlEventTypeDoubleBitEccError)
    until(lambda: backend.read_all()[0].ecc_uncorrected == 2)
    assert backend.take_xids() == ()
    backend.close()


def test_a_driver_without_events(stub: FakeNvml, kmsg: Callable[[str], None], tmp_path: Path) -> None:
    stub.fail["nvmlEventSetCreate", None] = NOT_SUPPORTED
    backend = watching(tmp_path)
    kmsg("NVRM: Xid (PCI:0000:19:00): 13, pid=7")
    until(lambda: backend.read_all()[0].xid == 13)
    backend.close()
    assert stub.opened == 0


def test_a_driver_that_hangs_does_not_silence_the_kernel_log(
    stub: FakeNvml, kmsg: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = threading.Event()
    monkeypatch.setattr(stub, "_nvmlDeviceGetSupportedEventTypes", lambda index: driver.wait(LIMIT_S), raising=False)
    monkeypatch.setattr("console.io.gpu.xid.JOIN_S", 0.01)
    backend = watching(tmp_path)
    kmsg("NVRM: Xid (PCI:0000:19:00): 119, pid=7")
    found = []
    until(lambda: found.extend(backend.take_xids()) or found)
    backend.close()
    driver.set()
    until(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("xid ")])


def test_closing_leaves_nothing(stub: FakeNvml, kmsg: Callable[[str], None], tmp_path: Path) -> None:
    threads, files = set(threading.enumerate()), open_files()
    for _ in range(3):
        backend = watching(tmp_path)
        backend.watch(7)
        backend.close()
        del backend
    assert set(threading.enumerate()) <= threads
    assert open_files() == files
    assert (stub.opened, stub.event_sets) == (0, 0)


class TestLog:
    def test_a_flood_of_one_error_is_told_once(self) -> None:
        clock = Clock()
        log = XidLog(clock)
        for _ in range(1000):
            log.kernel(0, 31, "pid=7")
            clock.now_s += 0.1
        assert len(log.take()) == 1
        clock.now_s += SAME_S + 1
        log.kernel(0, 31, "pid=7")
        assert len(log.take()) == 1

    def test_it_is_bounded(self) -> None:
        log = XidLog(Clock())
        for number in range(3 * KEPT_MAX):
            log.kernel(None, number, "")
            log.event(None, 5000 + number, wait=True)
        assert [seen.number for seen in log.take()][-1] == 3 * KEPT_MAX - 1
        assert log.take() == ()

    def test_one_that_follows_does_not_hide_a_worse_one(self) -> None:
        log = XidLog(Clock())
        numbers = []
        for number in (45, 79, 45, 31):
            log.kernel(0, number, "")
            last = log.last(0)
            numbers.append(last.number if last else None)
        assert numbers == [45, 79, 79, 31]
