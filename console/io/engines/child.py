"""Runs one step of an installation: its output to a log and line by line to a listener, ended with all it started."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import os
import signal
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, TypeVar

__all__ = ["InstallLog", "run_step", "uninterrupted"]

LOG_BYTES_MAX = 16 * 1024 * 1024
LINE_CHARS_MAX = 4_096
TAIL_LINES = 200
CHUNK_BYTES = 65_536
TERM_WAIT_S = 3.0
"""uv and pip end at once on SIGTERM; what does not is killed."""

Result = TypeVar("Result")


class InstallLog:
    """The whole output of an installation in a file, up to a limit, and its last lines in memory."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._file = file
        self._left_bytes = LOG_BYTES_MAX

    def write(self, data: bytes) -> None:
        """Append, and drop what exceeds the limit."""
        self._file.write(data[: self._left_bytes])
        self._file.flush()
        self._left_bytes = max(0, self._left_bytes - len(data))


async def run_step(
    argv: Sequence[str],
    log: InstallLog,
    on_line: Callable[[str], None],
    *,
    env: Mapping[str, str],
    cwd: Path,
    lock_fd: int,
    timeout_s: float,
) -> int:
    """Run `argv` to its end and return its exit code, negative for a signal.

    Cancelling, or an exception from `on_line`, ends the child and everything in its process group.

    Raises:
        OSError: it cannot be started.
        TimeoutError: it took more than `timeout_s`.
    """
    log.write(f"$ {' '.join(argv)}\n".encode())
    # Cancelled while it starts a process, asyncio ends that process but not the children it may have by then.
    starting = asyncio.ensure_future(
        asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=dict(env),
            cwd=cwd,
            start_new_session=True,
            pass_fds=(lock_fd,),
        )
    )
    try:
        process = await asyncio.shield(starting)
        async with asyncio.timeout(timeout_s):
            await _read_lines(process, log, on_line)
            return await process.wait()
    finally:
        await uninterrupted(_end(starting))


async def uninterrupted(work: Awaitable[Result]) -> Result:
    """Finish `work` even if this task is cancelled meanwhile; the cancellation is delivered afterwards."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cancelled = error
        except BaseException:
            break
    if cancelled:
        raise cancelled
    return task.result()


async def _read_lines(process: asyncio.subprocess.Process, log: InstallLog, on_line: Callable[[str], None]) -> None:
    assert process.stdout is not None  # noqa: S101 - asked for above
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    pending = ""
    while chunk := await process.stdout.read(CHUNK_BYTES):
        log.write(chunk)
        *lines, pending = (pending + decoder.decode(chunk)).replace("\r", "\n").split("\n")
        pending = pending[-LINE_CHARS_MAX:]
        for line in lines:
            _deliver(line, log, on_line)
    _deliver(pending, log, on_line)


def _deliver(line: str, log: InstallLog, on_line: Callable[[str], None]) -> None:
    if text := line[:LINE_CHARS_MAX].rstrip():
        log.tail.append(text)
        on_line(text)


async def _end(starting: asyncio.Future[asyncio.subprocess.Process]) -> None:
    """End the process group, unless its leader is done or never came to be."""
    await asyncio.wait([starting])
    if starting.exception() or starting.result().returncode is not None:
        return
    process = starting.result()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(TERM_WAIT_S):
            await process.wait()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
