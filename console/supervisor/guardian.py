"""Keeps the supervisor alive: a small parent process that starts it again when it dies unexpectedly.

Separate and nearly free of imports, so that what could end a supervisor (a defect, the OOM killer, a stray SIGKILL)
finds little here. It is the child subreaper of the server's processes, so those of a lost supervisor come to it and
not to process 1: it collects them and notes their exit status for the supervisor that takes over. It never touches
the server: where no supervisor can be kept alive, the server goes on alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

__all__ = ["RESTARTS_MAX", "RESTART_WINDOW_S", "STOP_SIGNALS", "Guardian"]

RESTARTS_MAX = 5
"""A supervisor that dies more often than this within the window is not started again."""
RESTART_WINDOW_S = 60.0
BACKOFF_S = 0.1
"""Before the second restart in the window; doubles from there. The first one is immediate."""
BACKOFF_MAX_S = 5.0
FINAL_CODES_MAX = 64
"""Exit codes 0 to 63 are ends that a new supervisor would only repeat; from there on they tell of a defect."""
EXITS_BYTES_MAX = 64 * 1024
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)

_PR_SET_CHILD_SUBREAPER = 36


class Guardian:
    """Runs `supervise` in a child process for as long as it ends unexpectedly.

    Args:
        supervise: the supervisor's whole life; returns its exit code. It starts with `STOP_SIGNALS` blocked, so that
            none is lost before it can handle them, and unblocks them.
        exits_path: where the exit status of collected processes is noted, a line `PID CODE` each.
    """

    def __init__(self, supervise: Callable[[], int], exits_path: Path) -> None:
        self._supervise = supervise
        self._exits_path = exits_path
        self._child: int | None = None
        self._asked: int | None = None
        self._restarts_s: deque[float] = deque()

    def run(self) -> int:
        """Return the exit code of the last supervisor. In the child itself: the supervisor's own."""
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        for number in STOP_SIGNALS:
            signal.signal(number, self._pass_on)
        while True:
            try:
                inside = self._fork()
            except OSError as error:
                self._say(f"no process for a supervisor: {error.strerror}")
                code = FINAL_CODES_MAX
            else:
                if inside:
                    return self._supervise()
                code = self._wait()
            if 0 <= code < FINAL_CODES_MAX:
                return code
            if not self._may_restart(code):
                return code if code >= 0 else 128 - code

    def _fork(self) -> bool:
        """Whether this is the child now."""
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        try:
            child = os.fork()
        except OSError:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
            raise
        if child == 0:
            # A crash of the interpreter or of a driver's library says where, in the supervisor's log.
            faulthandler.enable()
            for number in STOP_SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            return True
        self._child = child
        if self._asked is not None:
            os.kill(child, self._asked)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        return False

    def _pass_on(self, number: int, _frame: object) -> None:
        self._asked = number
        if self._child is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._child, number)

    def _wait(self) -> int:
        """Collect processes until the supervisor is among them; its exit code, negative for a signal."""
        while True:
            pid, status = os.waitpid(-1, 0)
            code = os.waitstatus_to_exitcode(status)
            if pid == self._child:
                self._child = None
                return code
            self._note_exit(pid, code)

    def _note_exit(self, pid: int, code: int) -> None:
        with contextlib.suppress(OSError):
            full = self._exits_path.exists() and self._exits_path.stat().st_size > EXITS_BYTES_MAX
            with self._exits_path.open("wb" if full else "ab") as file:
                file.write(f"{pid} {code}\n".encode())

    def _may_restart(self, code: int) -> bool:
        how = f"was killed by signal {-code}" if code < 0 else f"ended with {code}"
        now_s = time.monotonic()
        while self._restarts_s and now_s - self._restarts_s[0] > RESTART_WINDOW_S:
            self._restarts_s.popleft()
        if len(self._restarts_s) >= RESTARTS_MAX:
            self._say(
                f"the supervisor {how}; it died {len(self._restarts_s) + 1} times in {RESTART_WINDOW_S:.0f} s and is "
                "not started again. The server goes on; the next start of dsv4-console takes it over"
            )
            return False
        wait_s = min(BACKOFF_S * 2 ** (len(self._restarts_s) - 1), BACKOFF_MAX_S) if self._restarts_s else 0.0
        self._restarts_s.append(now_s)
        self._say(f"the supervisor {how}; starting another in {wait_s:.1f} s")
        time.sleep(wait_s)
        return True

    @staticmethod
    def _say(text: str) -> None:
        with contextlib.suppress(OSError):
            sys.stderr.write(f"guardian: {text}\n")
            sys.stderr.flush()
