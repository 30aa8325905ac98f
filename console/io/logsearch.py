"""Searches lines in a process of its own (see `logsearch_child`): no pattern can hold up whoever asks."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
from array import array

import msgspec

from console.core.errors import UsageError
from console.io.logsearch_child import CPU_S, FRAME, REFUSED

__all__ = ["LogSearcher"]


def _start(handle: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "console.io.logsearch_child"]
    return subprocess.Popen(command, stdin=handle, stdout=handle, stderr=subprocess.DEVNULL, start_new_session=True)


class LogSearcher:
    """One search. Make it with `begin`, end it with `close`.

    A socket and `Popen`, not asyncio's own subprocess: that one, cancelled while it connects its pipes as a loop ends,
    waits for ever, or leaves its process behind (Python 3.11).
    """

    def __init__(
        self, process: subprocess.Popen[bytes], stdin: asyncio.StreamWriter, stdout: asyncio.StreamReader
    ) -> None:
        self._process, self._stdin, self._stdout = process, stdin, stdout

    @classmethod
    async def begin(cls, text: str, *, regex: bool) -> LogSearcher:
        """Start the process.

        Raises:
            OSError: it cannot be started.
        """
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                process = _start(theirs.fileno())
        except BaseException:
            ours.close()
            raise
        try:
            stdout, stdin = await asyncio.open_unix_connection(sock=ours)
        except BaseException:
            ours.close()
            process.kill()
            process.wait()
            raise
        searcher = cls(process, stdin, stdout)
        try:
            await searcher._send(0, msgspec.json.encode({"text": text, "regex": regex}))
        except BaseException:
            await searcher.close()
            raise
        return searcher

    async def look(self, first_line: int, packed: bytes) -> tuple[array[int], array[int]]:
        """Lines that match and their spans, of these packed lines.

        Raises:
            UsageError: it is no pattern, or it takes too long.
            OSError: the process is gone.
        """
        lines: array[int] = array("I")
        spans: array[int] = array("I")
        with contextlib.suppress(OSError):  # what it said before it ended tells more
            await self._send(first_line, packed)
        stdout = self._stdout
        try:
            number, count = FRAME.unpack(await stdout.readexactly(FRAME.size))
            if number == REFUSED:
                raise UsageError("no pattern", (await stdout.readexactly(count)).decode(errors="replace"))
            lines.frombytes(await stdout.readexactly(count * lines.itemsize))
            spans.frombytes(await stdout.readexactly(count * spans.itemsize))
        except asyncio.IncompleteReadError as error:
            code = self._process.wait()  # its end of the socket is closed: it has ended
            if code < 0:
                raise UsageError(
                    "too slow a pattern", f"stopped after {CPU_S:g} s near line {first_line:,}", "Make it simpler."
                ) from error
            raise OSError(f"the search ended with code {code}") from error
        return lines, spans

    async def _send(self, number: int, data: bytes) -> None:
        self._stdin.write(FRAME.pack(number, len(data)) + data)
        await self._stdin.drain()

    async def close(self) -> None:
        """End the process. Done before anything is waited for, so that a cancellation leaves nothing behind."""
        self._process.kill()
        self._process.wait()
        self._stdin.close()
        with contextlib.suppress(OSError):
            await self._stdin.wait_closed()
