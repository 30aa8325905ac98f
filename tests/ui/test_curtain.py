"""What stands on the screen until Textual is loaded, and that the terminal is given back whatever happens meanwhile."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from console.tui.curtain import CLOSE, OPEN, lines, live

WAIT_S = 30.0
PROGRAM = """
import sys, time
from pathlib import Path
from console.tui.curtain import hand_over, raised
with raised(Path(sys.argv[1]), "9.9"):
    {body}
"""


def record(folder: Path, name: str, **values: object) -> None:
    """A launch's `run.json`."""
    (folder / name).mkdir(parents=True)
    (folder / name / "run.json").write_text(json.dumps({"profile_name": name, **values}), encoding="utf-8")


def test_runs_that_live_are_named_newest_first(tmp_path: Path) -> None:
    record(tmp_path, "1-old", supervisor_pid=os.getpid(), state="ready")
    record(tmp_path, "2-over", supervisor_pid=2**22 + 1, state="stopped")
    record(tmp_path, "3-new", supervisor_pid=os.getpid(), state="starting")
    (tmp_path / "4-damaged").mkdir()
    (tmp_path / "4-damaged" / "run.json").write_bytes(b"\xff{")
    assert [each["profile_name"] for each in live(tmp_path)] == ["3-new", "1-old"]


def test_a_run_is_told_with_its_state_and_age() -> None:
    run = {"profile_name": "big", "state": "ready", "server_started_s": 1000.0, "url": "http://127.0.0.1:8000"}
    shown = lines([run], "9.9", 1000.0 + 2 * 3600 + 5 * 60, 80, 24)
    assert " big: ready, started 2 h 05 min ago" in shown
    assert "   http://127.0.0.1:8000" in shown


def test_nothing_of_a_record_reaches_the_terminal_as_a_command() -> None:
    shown = lines([{"profile_name": "\x1b]0;x\x07", "state": "a\nb"}], "9.9", 0.0, 80, 24)
    assert all(char.isprintable() for line in shown for char in line)


@pytest.mark.parametrize("size", [(60, 20), (80, 24)])
def test_it_never_leaves_the_screen(size: tuple[int, int]) -> None:
    runs = [{"profile_name": "n" * 300, "state": "ready", "reason": "r" * 300, "url": "u", "profile_title": "t"}] * 8
    shown = lines(runs, "9.9", 0.0, *size)
    assert len(shown) <= size[1]
    assert max(map(len, shown)) < size[0]


def test_without_a_server_it_says_so() -> None:
    assert " No server of this console is running here." in lines([], "9.9", 0.0, 80, 24)


class InTerminal:
    """A Python program in a pseudo-terminal of 80 × 24."""

    def __init__(self, body: str, runs: Path) -> None:
        self.ours, self.theirs = pty.openpty()
        termios.tcsetwinsize(self.theirs, (24, 80))
        self.before = termios.tcgetattr(self.theirs)
        self.seen = b""
        self.child = subprocess.Popen(
            [sys.executable, "-c", PROGRAM.format(body=body), str(runs)],
            stdin=self.theirs,
            stdout=self.theirs,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "TERM": "xterm"},
            start_new_session=True,
        )

    def read_until(self, text: bytes) -> None:
        """Read on until this was printed."""
        until = time.monotonic() + WAIT_S
        while text not in self.seen:
            assert time.monotonic() < until, self.seen
            if select.select([self.ours], [], [], 0.1)[0]:
                self.seen += os.read(self.ours, 65_536)

    def close(self) -> None:
        """End it."""
        if self.child.poll() is None:
            self.child.kill()
        self.child.wait()
        os.close(self.ours)
        os.close(self.theirs)


@pytest.fixture
def started(tmp_path: Path) -> Iterator[list[InTerminal]]:
    programs: list[InTerminal] = []
    yield programs
    for program in programs:
        program.close()


def test_a_signal_meanwhile_leaves_the_terminal_clean(started: list[InTerminal], tmp_path: Path) -> None:
    started.append(program := InTerminal("print('up', flush=True); time.sleep(60)", tmp_path))
    program.read_until(b"up")
    during = termios.tcgetattr(program.theirs)
    assert not during[3] & termios.ECHO
    program.child.send_signal(signal.SIGTERM)
    program.read_until(CLOSE.encode())
    assert program.child.wait(WAIT_S) == 143
    assert OPEN.encode() in program.seen
    assert termios.tcgetattr(program.theirs)[3] == program.before[3]


def test_a_mistake_meanwhile_leaves_the_terminal_clean(started: list[InTerminal], tmp_path: Path) -> None:
    started.append(program := InTerminal("raise ValueError", tmp_path))
    program.read_until(CLOSE.encode())
    assert program.child.wait(WAIT_S) == 1
    assert termios.tcgetattr(program.theirs)[3] == program.before[3]


def test_the_console_leaves_the_screen_itself(started: list[InTerminal], tmp_path: Path) -> None:
    started.append(program := InTerminal("hand_over(); print('handed', flush=True)", tmp_path))
    program.read_until(b"handed")
    assert program.child.wait(WAIT_S) == 0
    assert CLOSE.encode() not in program.seen
    assert termios.tcgetattr(program.theirs)[3] == program.before[3]
