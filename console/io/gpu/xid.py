"""Listens for Xid errors: NVML's events and the kernel log, in threads of their own.

Two sources, because either may be missing (the kernel log needs root or `CAP_SYSLOG`, NVML's events need a driver that
still answers) and two threads, because a call of a broken driver may never return: the kernel log is read all the same.
An error that both tell counts once. All that is kept is bounded.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from console.core.models import Level
from console.core.xid import BusId, XidSeen, meaning, parse_kernel
from console.io.gpu.nvml_errors import TIMEOUT, error_code

__all__ = ["KMSG", "XidLog", "XidWatch"]

KMSG: Final = Path("/dev/kmsg")
RECORD_BYTES: Final = 16_384
"""More than the kernel gives for one record (`CONSOLE_EXT_LOG_MAX`, 8192)."""
RECORDS_PER_WAKE: Final = 2_000
WAIT_MS: Final = 500
"""NVML's wait for an event: closing takes no longer."""
JOIN_S: Final = 1.0
"""A thread that has not ended after this hangs in the driver and is left behind."""
EVENT_ERRORS_MAX: Final = 10
"""After so many failed waits in a row NVML's events are given up; the kernel log goes on."""
KEPT_MAX: Final = 256
SAME_S: Final = 10.0
"""The same error of the same GPU within this time is one."""
KERNEL_FIRST_S: Final = 2.0
"""So long an error told by NVML waits for the kernel's line, which has more to say."""

Key = tuple[int | None, int]
"""Index of the GPU and number of the error."""


class XidLog:
    """Errors as they come in, each once. Any thread may call any of it.

    Args:
        clock: seconds that never go back, replaced in tests.
        wall: Unix time, replaced in tests.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._wall = wall
        self._lock = threading.Lock()
        self._news: deque[XidSeen] = deque(maxlen=KEPT_MAX)
        self._waiting: dict[Key, tuple[float, XidSeen]] = {}
        self._said_s: dict[Key, float] = {}
        self._last: dict[int, XidSeen] = {}

    def kernel(self, gpu: int | None, number: int, detail: str) -> None:
        """The kernel log tells of an error."""
        with self._lock:
            self._waiting.pop((gpu, number), None)
            self._add(XidSeen(number, self._wall(), gpu, detail))

    def event(self, gpu: int | None, number: int, *, wait: bool) -> None:
        """NVML tells of an error; with `wait` the kernel log may still say it better."""
        seen = XidSeen(number, self._wall(), gpu)
        with self._lock:
            if not wait:
                self._add(seen)
            elif len(self._waiting) < KEPT_MAX:
                self._waiting.setdefault((gpu, number), (self._clock() + KERNEL_FIRST_S, seen))

    def take(self) -> tuple[XidSeen, ...]:
        """What is new since the last call."""
        with self._lock:
            for key, (due_s, seen) in list(self._waiting.items()):
                if self._clock() >= due_s:
                    del self._waiting[key]
                    self._add(seen)
            news = tuple(self._news)
            self._news.clear()
            return news

    def last(self, gpu: int) -> XidSeen | None:
        """The last error of a GPU; one that follows from others (`Level.WARN`) does not hide a worse one."""
        with self._lock:
            return self._last.get(gpu)

    def _add(self, seen: XidSeen) -> None:
        key, now_s = (seen.gpu, seen.number), self._clock()
        before_s = self._said_s.get(key)
        if before_s is None and len(self._said_s) >= KEPT_MAX:
            self._said_s.clear()
        self._said_s[key] = now_s
        if before_s is None or now_s - before_s > SAME_S:
            self._news.append(seen)
        if seen.gpu is not None:
            known = self._last.get(seen.gpu)
            worse = known is not None and meaning(known.number).level is Level.BAD
            if not worse or meaning(seen.number).level is Level.BAD:
                self._last[seen.gpu] = seen


class XidWatch:
    """The two threads.

    Args:
        log: where errors go; it outlives `stop`.
        kmsg: the kernel log.
    """

    def __init__(self, log: XidLog | None = None, kmsg: Path = KMSG) -> None:
        self._log = log or XidLog()
        self._kmsg = kmsg
        self._threads: list[threading.Thread] = []
        self._stop = threading.Event()
        self._wake: int | None = None
        self._kernel: int | None = None
        self._ecc = threading.Event()

    @property
    def listening(self) -> bool:
        """Between `start` and `stop`."""
        return self._wake is not None

    def start(self, nvml: Any, handles: Mapping[int, Any], buses: Mapping[BusId, int]) -> None:
        """Begin to listen. Returns at once; what cannot be listened to is left out.

        Args:
            nvml: pynvml, initialized.
            handles: NVML's handle of each GPU by its index.
            buses: index of the GPU by its PCI bus id.
        """
        self.stop()
        self._stop = stop = threading.Event()
        wake_read, self._wake = os.pipe()
        self._open_kernel_log()
        self._run("xid events", self._events, nvml, dict(handles), self._kernel is not None, stop)
        self._run("xid kernel", self._kernel_log, self._kernel, wake_read, dict(buses))

    def stop(self) -> None:
        """Stop listening: at most a second or two. What was seen stays."""
        if self._wake is None:
            return
        self._stop.set()
        os.close(self._wake)  # the reader of the kernel log sees the end of the pipe
        self._wake = None
        for thread in self._threads:
            thread.join(JOIN_S)
        self._threads = []

    def take(self) -> tuple[XidSeen, ...]:
        """Errors since the last call. Never blocks."""
        return self._log.take()

    def take_ecc(self) -> bool:
        """Whether a double bit ECC error was told since the last call."""
        told = self._ecc.is_set()
        self._ecc.clear()
        return told

    def last(self, gpu: int) -> dict[str, Any]:
        """`xid` and `xid_s` of a GPU's reading."""
        seen = self._log.last(gpu)
        return {} if seen is None else {"xid": seen.number, "xid_s": seen.time_s}

    def _run(self, name: str, body: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=body, args=arguments, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _events(self, nvml: Any, handles: dict[int, Any], kernel: bool, stop: threading.Event) -> None:
        """Wait for NVML's events. It has NVML open for itself, since `stop` may have to leave it behind."""
        with contextlib.suppress(nvml.NVMLError):
            nvml.nvmlInit()
            try:
                events = nvml.nvmlEventSetCreate()
                try:
                    gpus = _register(nvml, handles, events)
                    if gpus:
                        self._wait(nvml, events, gpus, kernel, stop)
                finally:
                    nvml.nvmlEventSetFree(events)
            finally:
                nvml.nvmlShutdown()

    def _wait(self, nvml: Any, events: Any, gpus: dict[Any, int], kernel: bool, stop: threading.Event) -> None:
        failures = 0
        while not stop.is_set() and failures < EVENT_ERRORS_MAX:
            try:
                event = nvml.nvmlEventSetWait(events, WAIT_MS)
            except nvml.NVMLError as error:
                if error_code(error) != TIMEOUT:
                    failures += 1
                    stop.wait(WAIT_MS / 1000)
                continue
            failures = 0
            if event.eventType & nvml.nvmlEventTypeXidCriticalError:
                self._log.event(gpus.get(_address(event.device)), int(event.eventData), wait=kernel)
            if event.eventType & nvml.nvmlEventTypeDoubleBitEccError:
                self._ecc.set()

    def _open_kernel_log(self) -> None:
        """Once, from its present end on. It stays open from a `stop` to the next `start`, so that nothing is missed."""
        if self._kernel is not None:
            return
        with contextlib.suppress(OSError):
            self._kernel = os.open(self._kmsg, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            weakref.finalize(self, os.close, self._kernel)
            os.lseek(self._kernel, 0, os.SEEK_END)

    def _kernel_log(self, kmsg: int | None, wake: int, buses: dict[BusId, int]) -> None:
        """Wait for records until the pipe's other end is closed."""
        ready = select.poll()
        ready.register(wake, select.POLLIN)
        if kmsg is not None:
            ready.register(kmsg, select.POLLIN)
        try:
            while kmsg is not None:
                if any(number == wake for number, _ in ready.poll()):
                    return
                self._drain(kmsg, buses)
        except OSError:
            return  # the log went away; NVML's events remain
        finally:
            os.close(wake)

    def _drain(self, kmsg: int, buses: dict[BusId, int]) -> None:
        """Read what there is, bounded.

        Raises:
            OSError: the log cannot be read any more.
        """
        for _ in range(RECORDS_PER_WAKE):
            try:
                record = os.read(kmsg, RECORD_BYTES)
            except BlockingIOError:
                return
            except BrokenPipeError:
                continue  # records were overwritten before they were read; the next read goes on after them
            if not record:
                raise OSError("the kernel log has ended")
            # `6,1234,5678901,-;text`: level, sequence number, microseconds since boot, flags (Linux: dev-kmsg).
            seen = parse_kernel(record.decode("utf-8", "replace").partition(";")[2])
            if seen is not None:
                self._log.kernel(buses.get(seen.bus), seen.number, seen.detail)


def _register(nvml: Any, handles: dict[int, Any], events: Any) -> dict[Any, int]:
    """Register each GPU for the events that it supports. Gives index by handle of those that took it."""
    wanted = nvml.nvmlEventTypeXidCriticalError | nvml.nvmlEventTypeDoubleBitEccError
    gpus = {}
    for index, handle in handles.items():
        with contextlib.suppress(nvml.NVMLError):
            kinds = nvml.nvmlDeviceGetSupportedEventTypes(handle) & wanted
            if kinds:
                nvml.nvmlDeviceRegisterEvents(handle, kinds, events)
                gpus[_address(handle)] = index
    return gpus


def _address(handle: Any) -> Any:
    """What identifies a handle: pynvml gives a new pointer object each time, so its address."""
    try:
        return ctypes.cast(handle, ctypes.c_void_p).value
    except (ctypes.ArgumentError, TypeError):
        return handle
