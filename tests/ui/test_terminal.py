"""The real driver on a pseudo-terminal: signals end it cleanly, and nothing that others print reaches the screen."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

DEADLINE_S = 30.0
MOUSE_MODES = (9, 1000, 1002, 1003, 1005, 1006, 1015, 1016)
MOUSE_MODES_USED = (1000, 1003, 1006, 1015)
PROGRAM = """
import os, sys, threading, time
from console.tui.run import run_tui
from tests.fakes.backend import attached, snapshot
backend, session = attached(snapshot())
threading.Timer(0.2, lambda: os.write(2, b"stray words of a library")).start()
raise SystemExit(run_tui(backend, mouse={mouse}))
"""


def read_until(master: int, wanted: bytes, process: subprocess.Popen[bytes]) -> bytes:
    """What the terminal got, until it got this or the program ended."""
    got = b""
    end = time.monotonic() + DEADLINE_S
    while wanted not in got and time.monotonic() < end:
        if select.select([master], [], [], 0.1)[0]:
            try:
                got += os.read(master, 65_536)
            except OSError:
                break
        elif process.poll() is not None:
            break
    return got


def test_the_demo_needs_nothing_and_writes_nothing(tmp_path: Path) -> None:
    """No GPU, no engine, an empty home that cannot be written to by accident: nothing is in it afterwards."""
    home = tmp_path / "home"
    home.mkdir()
    names = {
        name: str(home / name) for name in ("XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME")
    }
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, 80))
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "console", "--demo"],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        env={**os.environ, **names, "HOME": str(home), "TERM": "xterm-256color", "PATH": "/nowhere"},
    )
    os.close(slave)
    try:
        shown = read_until(master, b"DEMO", process)
        assert b"DEMO" in shown
        os.write(master, b"q")
        rest = read_until(master, b"\x1b[?1049l", process)
        read_until(master, b"never", process)
        assert b"\x1b[?1049l" in rest
        assert process.wait(DEADLINE_S) == 0
        assert list(home.rglob("*")) == []
    finally:
        process.kill()
        process.wait()
        os.close(master)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)])
def test_signals_leave_a_clean_terminal(tmp_path: Path, number: int, code: int) -> None:
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, 80))
    mouse = number == signal.SIGTERM
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(mouse=mouse)],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        env={**os.environ, "TERM": "xterm-256color", "LC_ALL": "C", "PYTHONPATH": str(Path.cwd())},
    )
    os.close(slave)
    try:
        shown = read_until(master, "● READY".encode(), process)
        assert "● READY".encode() in shown, "UTF-8 whatever the locale"
        for mode in MOUSE_MODES:
            assert (b"\x1b[?%dh" % mode in shown) is (mouse and mode in MOUSE_MODES_USED), mode
        log = tmp_path / "state" / "dsv4-console" / "console.log"
        end = time.monotonic() + DEADLINE_S
        while b"stray words" not in log.read_bytes() and time.monotonic() < end:
            shown += read_until(master, b"stray words", process) if select.select([master], [], [], 0.05)[0] else b""
        assert b"stray words" in log.read_bytes()
        assert b"stray words" not in shown
        process.send_signal(number)
        rest = read_until(master, b"\x1b[?1049l", process)
        rest += read_until(master, b"\x1b[?25h", process)
        assert b"\x1b[?1049l" in rest
        assert process.wait(DEADLINE_S) == code
    finally:
        process.kill()
        process.wait()
        os.close(master)


def test_a_line_that_drops_without_a_signal_ends_it() -> None:
    """No SIGHUP comes where the terminal is not the controlling one; a screen that nobody sees would go on for ever."""
    process, master = started(PROGRAM.format(mouse=True))
    try:
        assert "● READY".encode() in read_until(master, "● READY".encode(), process)
        os.close(master)
        assert process.wait(DEADLINE_S) == 129
    finally:
        process.kill()
        process.wait()


def test_mouse_bytes_past_column_95_cost_nothing() -> None:
    """X10 bytes, as after a reattach in tmux, are no UTF-8 there; then keys still work."""
    process, master = started(PROGRAM.format(mouse=True), width=160)
    try:
        assert b"READY" in read_until(master, b"READY", process)
        for column in (96, 127, 159):
            os.write(master, b"\x1b[M" + bytes((32, 32 + column + 1, 32 + 5)))
        os.write(master, b"?")
        assert b"Keys" in read_until(master, b"Keys", process)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert b"\x1b[?1049l" in read_until(master, b"\x1b[?1049l", process)
        assert process.wait(DEADLINE_S) == 143
    finally:
        process.kill()
        process.wait()
        os.close(master)


def started(program: str, width: int = 80) -> tuple[subprocess.Popen[bytes], int]:
    """A program on a pseudo-terminal that is not its controlling one, and the other end of that."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, width))
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        env={**os.environ, "TERM": "xterm-256color", "PYTHONPATH": str(Path.cwd())},
    )
    os.close(slave)
    return process, master
