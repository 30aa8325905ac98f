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

__all__ = ["Terminal"]

FULL_SCREEN = b"\x1b[?1049h"
ESCAPES = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[PX^_].*?\x1b\\|[@-Z\\-_])", re.S)
PAINTED_CHARS = 200
"""So many visible characters on the full screen count as the first paint: more than a title, less than a pane."""
KEPT_BYTES = 65_536
END_S = 5.0


class Terminal:
    """Starts `argv` at once; `close` ends it."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], columns: int = 160, rows: int = 50) -> None:
        self.started = time.perf_counter()
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            try:
                os.execvpe(argv[0], list(argv), dict(env) | {"TERM": "xterm-256color", "COLORTERM": "truecolor"})
            finally:
                os._exit(127)
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.first_paint_s: float | None = None
        self.bytes = 0
        self._head = b""
        self._painted = threading.Event()
        self._ended = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_painted(self, timeout_s: float) -> float:
        """Seconds from start to first paint.

        Raises:
            TimeoutError: there was none.
        """
        if not self._painted.wait(timeout_s) or self.first_paint_s is None:
            shown = ESCAPES.sub(b"", self._head).decode(errors="replace").strip()[-400:]
            raise TimeoutError(f"nothing painted within {timeout_s:.0f} s; it said: {shown or 'nothing'}")
        return self.first_paint_s

    def send(self, keys: str) -> None:
        """Type."""
        with contextlib.suppress(OSError):
            os.write(self._fd, keys.encode())

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
                data = os.read(self._fd, 65_536)
            except OSError:
                return
            self.bytes += len(data)
            if self.first_paint_s is None and len(self._head) < KEPT_BYTES:
                self._head += data
                self._look(time.perf_counter())

    def _look(self, now: float) -> None:
        _, opened, after = self._head.partition(FULL_SCREEN)
        if opened and len(ESCAPES.sub(b"", after).split()) and self._visible(after) >= PAINTED_CHARS:
            self.first_paint_s = now - self.started
            self._painted.set()

    @staticmethod
    def _visible(data: bytes) -> int:
        text = ESCAPES.sub(b"", data).decode(errors="ignore")
        return sum(not char.isspace() and char.isprintable() for char in text)
