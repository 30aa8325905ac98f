"""Searches lines in a process of its own (see `logsearch_child`): no pattern can hold up whoever asks."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from array import array

import msgspec

from console.core.errors import UsageError
from console.io.engines.child import uninterrupted
from console.io.logsearch_child import CPU_S, FRAME, REFUSED

__all__ = ["LogSearcher"]


class LogSearcher:
    """One search. Make it with `begin`, end it with `close`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018 - asked for in `begin`
        self._process, self._stdin, self._stdout = process, process.stdin, process.stdout

    @classmethod
    async def begin(cls, text: str, *, regex: bool) -> LogSearcher:
        """Start the process.

        Raises:
            OSError: it cannot be started.
        """
        starting = asyncio.ensure_future(
            asyncio.create_subprocess_exec(
                sys.executable, "-m", "console.io.logsearch_child",
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
        )  # fmt: skip
        # Cancelled in the middle, with the loop about to end, asyncio would not wait for the process.
        try:
            searcher = cls(await asyncio.shield(starting))
        except asyncio.CancelledError:
            await uninterrupted(asyncio.wait([starting]))
            if not starting.exception():
                await cls(starting.result()).close()
            raise
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
            code = await self._process.wait()
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
        """End the process, also where whoever closes it is cancelled meanwhile."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self._stdin.close()
        await uninterrupted(self._ended())

    async def _ended(self) -> None:
        await self._process.wait()
        await self._stdout.read()  # asyncio lets go of a process only once its pipes have ended
