"""A program in a pseudo-terminal, read all the time as a terminal would, with what it painted and when."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["Terminal"]

CURSOR_QUESTION = b"\x1b[6n"
"""Every terminal answers it, once it has come so far."""
FULL_SCREEN = b"\x1b[?1049h"
ESCAPES = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[PX^_].*?\x1b\\|[@-Z\\-_])", re.S)
PAINTED_CHARS = 20
"""So many visible characters on the full screen count as the first paint: something to read."""
FILLED_CHARS = 200
"""So many, since the full screen was opened last, count as filled: more than a title, less than a pane."""
KEPT_BYTES = 65_536
END_S = 5.0
SLICE_S = 0.02
"""A slow line is read in pieces of so much time."""


class Terminal:
    """Starts `argv` at once; `close` ends it."""

    def __init__(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        columns: int = 160,
        rows: int = 50,
        bytes_per_s: float | None = None,
    ) -> None:
        """`bytes_per_s` makes it a slow line: no more than that is ever taken."""
        self._slow = bytes_per_s
        self.started = time.perf_counter()
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            try:
                os.execvpe(argv[0], list(argv), dict(env) | {"TERM": "xterm-256color", "COLORTERM": "truecolor"})
            finally:
                os._exit(127)
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.first_paint_s: float | None = None
        self.filled_s: float | None = None
        self.bytes = 0
        self._head = b""
        self._painted = threading.Event()
        self._wanted = b""
        self._since = b""
        self._answered_s = 0.0
        self._answered = threading.Event()
        self._ended = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_painted(self, timeout_s: float) -> tuple[float, float]:
        """Seconds from start to the first paint, and until the screen was filled.

        Raises:
            TimeoutError: it never was.
        """
        if not self._painted.wait(timeout_s) or self.first_paint_s is None or self.filled_s is None:
            shown = ESCAPES.sub(b"", self._head).decode(errors="replace").strip()[-400:]
            raise TimeoutError(f"nothing painted within {timeout_s:.0f} s; it said: {shown or 'nothing'}")
        return self.first_paint_s, self.filled_s

    def send(self, keys: str) -> None:
        """Type."""
        with contextlib.suppress(OSError):
            os.write(self._fd, keys.encode())

    def respond(self, keys: str, wanted: str, timeout_s: float) -> float:
        """Type, and wait for these characters; gives the seconds in between.

        Raises:
            TimeoutError: they never came.
        """
        self._answered.clear()
        self._since, self._wanted = b"", wanted.encode()
        began = time.perf_counter()
        self.send(keys)
        there = self._answered.wait(timeout_s)
        self._wanted = b""
        if not there:
            raise TimeoutError(f"no {wanted!r} within {timeout_s:.0f} s of {keys!r}")
        return self._answered_s - began

    def waited_s(self) -> float | None:
        """How long its main thread has been ready to run without a CPU, since it began; `None` if not known."""
        try:
            text = Path(f"/proc/{self.pid}/task/{self.pid}/schedstat").read_text(encoding="ascii")
            return int(text.split()[1]) / 1e9
        except (OSError, ValueError, IndexError):
            return None

    def close(self) -> None:
        """End it: SIGTERM, then SIGKILL."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)
            deadline = time.monotonic() + END_S
            while time.monotonic() < deadline:
                with contextlib.suppress(ChildProcessError):
                    if os.waitpid(self.pid, os.WNOHANG)[0] == 0:
                        time.sleep(0.02)
                        continue
                self._ended.set()
                self._reader.join(1)
                with contextlib.suppress(OSError):
                    os.close(self._fd)
                return

    def _read(self) -> None:
        while not self._ended.is_set():
            ready, _, _ = select.select([self._fd], [], [], 0.2)
            if not ready:
                continue
            try:
                data = os.read(self._fd, 65_536 if self._slow is None else max(int(self._slow * SLICE_S), 1))
            except OSError:
                return
            self.bytes += len(data)
            if self._slow is not None:
                time.sleep(len(data) / self._slow)
            for _ in range(data.count(CURSOR_QUESTION)):
                self.send("\x1b[1;1R")
            if wanted := self._wanted:
                self._since = (self._since + data)[-KEPT_BYTES:]
                if wanted in ESCAPES.sub(b"", self._since):
                    self._answered_s = time.perf_counter()
                    self._wanted = b""
                    self._answered.set()
            if self.filled_s is None and len(self._head) < KEPT_BYTES:
                self._head += data
                self._look(time.perf_counter())

    def _look(self, now: float) -> None:
        _, opened, after = self._head.partition(FULL_SCREEN)
        if opened and self.first_paint_s is None and self._visible(after) >= PAINTED_CHARS:
            self.first_paint_s = now - self.started
        if opened and self._visible(after.rpartition(FULL_SCREEN)[2]) >= FILLED_CHARS:
            self.filled_s = now - self.started
            self._painted.set()

    @staticmethod
    def _visible(data: bytes) -> int:
        text = ESCAPES.sub(b"", data).decode(errors="ignore")
        return sum(not char.isspace() and char.isprintable() for char in text)
