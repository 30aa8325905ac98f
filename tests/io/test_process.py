"""Processes by pid and start time, sessions, and proof that nothing is left."""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from console.io import process


def wait_until(check: object, timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not check():  # type: ignore[operator]
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.02)


FAMILY = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def family(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A process in its own session, with a child; both are gone afterwards."""
    log = tmp_path / "log"
    leader = process.spawn_server([sys.executable, "-c", FAMILY], dict(os.environ), log)
    try:
        wait_until(lambda: log.exists() and log.read_text().endswith("\n"))
        yield leader, int(log.read_text())
    finally:
        process.kill_session(leader.pid)
        leader.wait()


def test_start_time_tells_processes_apart_and_outlives_none() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    start_s = process.process_start_s(child.pid)
    assert start_s is not None
    assert process.is_same_process(child.pid, start_s)
    assert not process.is_same_process(child.pid, start_s + 1)
    assert not process.is_same_process(child.pid, None)
    assert not process.is_same_process(None, start_s)
    child.kill()
    wait_until(lambda: process.process_start_s(child.pid) is None)  # a zombie does not count
    assert not process.is_same_process(child.pid, start_s)
    assert child.stdin is not None
    child.stdin.close()
    child.wait()


def test_a_session_is_found_and_killed_whole_though_its_leader_is_gone(
    family: tuple[subprocess.Popen[bytes], int],
) -> None:
    leader, child = family
    assert process.session_members(leader.pid) == tuple(sorted((leader.pid, child)))
    assert os.getsid(child) == leader.pid != os.getsid(0)
    leader.kill()
    leader.wait()
    wait_until(lambda: process.session_members(leader.pid) == (child,))
    assert process.kill_session(leader.pid) == (child,)
    wait_until(lambda: process.session_members(leader.pid) == ())


def test_output_goes_to_the_file_even_when_we_do_not_read(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("before\n")
    child = process.spawn_server([sys.executable, "-c", "print('after'); raise SystemExit(3)"], dict(os.environ), log)
    assert child.wait() == 3
    assert log.read_text() == "before\nafter\n"


def test_signalling_a_process_that_is_gone_is_no_error() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert not process.send_signal(child.pid, signal.SIGTERM)


def test_the_holder_of_a_port_is_named() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        found = process.listener_of(server.getsockname()[1])
    assert found is not None
    assert found[0] == os.getpid()
    assert process.listener_of(1) is None


HEADLESS_THREADS = """
import ctypes, platform, sys, threading
threading.Thread(target=sys.stdin.buffer.read).start()
print("ready", flush=True)
ctypes.CDLL(None).syscall({"x86_64": 60, "aarch64": 93}[platform.machine()], 0)
"""
"""Ends its first thread alone, as the kernel does on the way to ending all; the other waits for the end of stdin."""


@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="knows no number of the system call")
def test_a_process_is_not_gone_before_its_last_thread() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HEADLESS_THREADS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        wait_until(lambda: psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE)
        assert process.process_start_s(child.pid) is not None
        assert process.session_members(child.pid) == (child.pid,)
        child.stdin.close()
        wait_until(lambda: process.session_members(child.pid) == ())
        assert process.process_start_s(child.pid) is None


def test_a_child_ends_with_the_process_that_started_it() -> None:
    program = (
        "import subprocess, sys, time\n"
        "from console.io.process import die_with_parent\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], preexec_fn=die_with_parent,\n"
        "                         start_new_session=True, stdout=subprocess.DEVNULL)\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    try:
        assert child.is_running()
        parent.kill()
        parent.wait()
        child.wait(10.0)
    finally:
        for process in (parent, child):
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                process.kill()
        parent.stdout.close()
