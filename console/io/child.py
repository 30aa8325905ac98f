"""A command that is listened to while it runs, in a session of its own of which nothing is left afterwards.

Kept apart from `console.io.engines.child`, which installs: there a whole log is kept and a lock handed on; here the
command is interrupted as a terminal would, because vLLM's client closes its requests on that.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import os
import signal
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from console.io.engines.child import uninterrupted
from console.io.process import die_with_parent, kill_session

__all__ = ["INTERRUPT_WAIT_S", "Child"]

CHUNK_BYTES = 65_536
LINE_CHARS_MAX = 4_096
TAIL_LINES = 400
"""A traceback of aiohttp has 30 lines, and vLLM prints up to ten of them."""
INTERRUPT_WAIT_S = 3.0
"""Between SIGINT and SIGKILL."""
POLL_S = 0.1
REST_WAIT_S = 2.0
"""For the end of the output, once the command has ended: a process of its own may still hold the pipe."""


class Child:
    """One run of a command. Use `start`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        """The last lines of its output, progress bars left out."""

    @classmethod
    async def start(cls, argv: Sequence[str], *, env: Mapping[str, str], cwd: Path) -> Child:
        """Start `argv` with its output listened to.

        Raises:
            OSError: it cannot be executed.
        """
        starting = asyncio.ensure_future(
            asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env=dict(env),
                cwd=cwd,
                start_new_session=True,
                # A killed command must not leave its load on the server.
                preexec_fn=die_with_parent,
            )
        )
        # Cancelled in the middle, asyncio would end the process but not the children it may have by then.
        try:
            return cls(await asyncio.shield(starting))
        except asyncio.CancelledError:
            await uninterrupted(asyncio.wait([starting]))
            if not starting.exception():
                await uninterrupted(cls(starting.result()).end())
            raise

    async def run(self, on_line: Callable[[str], None], timeout_s: float) -> int:
        """Listen until it ends; returns its exit code, negative for a signal.

        Cancelling, a timeout, or an exception from `on_line` ends it with everything in its session.

        Raises:
            TimeoutError: it took more than `timeout_s`.
        """
        reading = asyncio.ensure_future(self._read(on_line))
        waiting = asyncio.ensure_future(self._exit())
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.wait({reading, waiting}, return_when=asyncio.FIRST_COMPLETED)
                if reading.done():
                    reading.result()
                code = await waiting
                await asyncio.wait({reading}, timeout=REST_WAIT_S)
                if reading.done():
                    reading.result()
                return code
        finally:
            await uninterrupted(self.end())
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await reading
            await waiting

    async def _exit(self) -> int:
        """Its exit code, as soon as it has one. asyncio's own `wait` also waits for whoever else holds the pipe."""
        while (code := self._process.returncode) is None:
            await asyncio.sleep(POLL_S)
        return code

    async def end(self) -> None:
        """Interrupt it if it runs, then kill what is left of its session."""
        process = self._process
        try:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGINT)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(INTERRUPT_WAIT_S):
                        await self._exit()
        finally:
            kill_session(process.pid)  # also where the program is ending and every task is cancelled
        await self._exit()
        # Who left the session may still hold the pipe; that is waited for no longer than it takes to be harmless.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REST_WAIT_S):
                await process.wait()

    async def _read(self, on_line: Callable[[str], None]) -> None:
        assert self._process.stdout is not None  # noqa: S101 - asked for above
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        pending = ""
        while chunk := await self._process.stdout.read(CHUNK_BYTES):
            *lines, pending = (pending + decoder.decode(chunk)).replace("\r", "\n").split("\n")
            pending = pending[-LINE_CHARS_MAX:]
            for line in lines:
                self._deliver(line, on_line)
        self._deliver(pending, on_line)

    def _deliver(self, line: str, on_line: Callable[[str], None]) -> None:
        if text := line[:LINE_CHARS_MAX].rstrip():
            if "%|" not in text:
                self.tail.append(text)
            on_line(text)
