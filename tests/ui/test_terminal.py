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


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
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
        assert (b"\x1b[?1003h" in shown) is mouse
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
