"""The far end of `--host`: answers the calls of a console elsewhere, over stdin and stdout, and ends with them.

What it launches is detached as always and stays. What it does for its caller (a download, a benchmark, a trial) is
given up when the line ends, as if that console had been left.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shutil
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from console.client.api import LaunchPlan
from console.client.backend import LocalBackend
from console.client.remote.wire import (
    LINE_BYTES_MAX,
    SILENCE_S,
    Answer,
    Asked,
    Call,
    Cancel,
    FromFar,
    LogPiece,
    Reach,
    Ready,
    Result,
    Told,
    encode,
    encode_value,
    failure_of,
    signature,
    to_far,
    value_of,
)
from console.client.session import SocketSession
from console.core.models import RunInfo
from console.core.snooze import Snooze, with_it, without
from console.core.text import Redactor
from console.io import paths, runs
from console.io.logindex import ArchiveReader
from console.io.runs import RunDir
from console.io.secrets import known_secrets
from console.io.snoozes import read_snoozes, write_snoozes
from console.io.ssh_pipes import private_directory

__all__ = ["Far", "serve_stdio"]

PIECE_BYTES = 1024 * 1024
"""Of the log, before packing."""
LOOK_S = 0.1
WAIT_S_MAX = 20.0
REDACT_LINES = 64
"""Looked at together: most have nothing to hide."""
SOCKET_PATH_BYTES_MAX = 100


class Far:
    """Everything that can be called (see `console.client.remote.wire`)."""

    def __init__(self, backend: LocalBackend) -> None:
        self.backend = backend
        self._directory: Path | None = None
        self._numbers = itertools.count(1)
        self._readers: dict[str, _Log] = {}

    def find_call(self, name: str) -> Callable[..., Any]:
        """The function behind a call."""
        found: Callable[..., Any] = getattr(self, name, None) or getattr(self.backend, name)
        return found

    async def reach(self, run_id: str) -> Reach:
        """Attach, as a console here would, and say where the supervisor is."""
        return await self._reach(await self.backend.attach(run_id))

    async def start(self, plan: LaunchPlan) -> Reach:
        """Launch, and say where the supervisor is."""
        return await self._reach(await self.backend.launch(plan))

    async def find(self, name: str) -> str:
        """Id of the run that is meant. Raises NotRunningError."""
        return (await asyncio.to_thread(runs.find_run, name))[1].id

    async def log(self, run_id: str, first_byte: int, wait_s: float) -> LogPiece:
        """A stretch of the log. Raises StateError where it cannot be read."""
        reader = self._readers.get(run_id)
        if reader is None:
            run, info = await asyncio.to_thread(_run, run_id)
            reader = self._readers[run_id] = _Log(run, info)
        until = time.monotonic() + min(wait_s, WAIT_S_MAX)
        while True:
            piece = await asyncio.to_thread(reader.read, first_byte)
            if piece.end_byte != first_byte or time.monotonic() > until:
                return piece
            await asyncio.sleep(LOOK_S)

    async def snooze(self, run_id: str, new: Snooze) -> tuple[Snooze, ...]:
        """Put a hint aside. Raises StateError."""
        return await asyncio.to_thread(_rewrite, run_id, lambda known: with_it(known, new))

    async def wake(self, run_id: str, hint: str) -> tuple[Snooze, ...]:
        """Show a hint again. Raises StateError."""
        return await asyncio.to_thread(_rewrite, run_id, lambda known: without(known, hint))

    def close(self) -> None:
        """Let go of files."""
        for reader in self._readers.values():
            reader.close()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)

    async def _reach(self, session: SocketSession) -> Reach:
        run, info = session.run_dir, session.run
        await session.close()
        return Reach(
            run=info,
            socket=self._short(run.socket_path),
            log=str(run.log_path),
            snoozes=read_snoozes(run),
            api_key=os.environ.get("VLLM_API_KEY", ""),
        )

    def _short(self, path: Path) -> str:
        """A path that fits into a Unix address: sshd opens it as it is."""
        if len(os.fsencode(path)) < SOCKET_PATH_BYTES_MAX:
            return str(path)
        if self._directory is None:
            self._directory = private_directory()
        link = self._directory / str(next(self._numbers))
        link.symlink_to(path)
        return str(link)


class _Log:
    """Reads a run's log by its byte offsets, archives included."""

    def __init__(self, run: RunDir, info: RunInfo) -> None:
        self._path = run.log_path
        self._redact = Redactor(known_secrets(info))
        self._archive = ArchiveReader(run.log_path)

    def read(self, first_byte: int) -> LogPiece:
        dropped = self._archive.index.dropped
        lines_before = 0
        if dropped is not None and first_byte < dropped.end_byte:
            first_byte, lines_before = dropped.end_byte, dropped.lines
        data = self._whole_lines(first_byte)
        return LogPiece(
            first_byte=first_byte,
            end_byte=first_byte + len(data),
            lines_before=lines_before,
            packed=zlib.compress(self._hide(data), 1) if data else b"",
        )

    def _whole_lines(self, first_byte: int) -> bytes:
        """What there is from this byte on, up to the last end of a line; of one that is very long, a part."""
        data = b""
        while len(data) < PIECE_BYTES and (more := self._bytes(first_byte + len(data), PIECE_BYTES - len(data))):
            data += more
        end = data.rfind(b"\n") + 1
        return data[:end] if end or len(data) < PIECE_BYTES else data

    def _bytes(self, at: int, count: int) -> bytes:
        if (archived := self._archive.read(at, count)) is not None:
            return archived
        try:
            with self._path.open("rb") as file:
                data = os.pread(file.fileno(), count, at)
        except FileNotFoundError:
            return b""
        # Freed while it was read, these bytes would be zeros; their archive is entered before they are freed.
        archived = self._archive.read(at, count)
        return data if archived is None else archived

    def _hide(self, data: bytes) -> bytes:
        lines = data.decode("utf-8", "surrogateescape").split("\n")
        out: list[str] = []
        for begin in range(0, len(lines), REDACT_LINES):
            some = lines[begin : begin + REDACT_LINES]
            text = "\n".join(some)
            out += some if self._redact(text) == text else map(self._redact, some)
        return "\n".join(out).encode("utf-8", "surrogateescape")

    def close(self) -> None:
        self._archive.close()


def _run(run_id: str) -> tuple[RunDir, RunInfo]:
    run = RunDir(paths.runs_dir() / Path(run_id).name)
    return run, run.read_info()


def _rewrite(run_id: str, change: Callable[[tuple[Snooze, ...]], tuple[Snooze, ...]]) -> tuple[Snooze, ...]:
    run, _ = _run(run_id)
    snoozes = change(read_snoozes(run))
    write_snoozes(run, snoozes)
    return snoozes


class _Caller:
    """The line to the console that calls."""

    def __init__(self, far: Far, writer: asyncio.StreamWriter) -> None:
        self._far = far
        self._writer = writer
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._answers: dict[int, asyncio.Future[msgspec.Raw]] = {}
        self._numbers = itertools.count(1)

    def take(self, line: bytes) -> None:
        """One line of the caller."""
        match to_far(line):
            case Call() as call:
                task = asyncio.create_task(self._do(call))
                self._tasks[call.id] = task
                task.add_done_callback(lambda _: self._tasks.pop(call.id, None))
            case Cancel(id=number):
                if number in self._tasks:
                    self._tasks[number].cancel()
            case Answer(number=number, value=value):
                future = self._answers.get(number)
                if future is not None and not future.done():
                    future.set_result(value)

    def send(self, message: FromFar) -> None:
        """Tell the caller."""
        self._writer.write(encode(message))

    async def end(self) -> None:
        """Give up what is still being done, and wait until it has cleaned up."""
        tasks = tuple(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _do(self, call: Call) -> None:
        try:
            kinds = signature(call.name)
            values = {key: value_of(raw, kinds.plain[key]) for key, raw in call.arguments.items()}
            functions = {key: self._function(call.id, key, *kinds.functions[key]) for key in call.listens}
            silent = {key: None for key in kinds.functions if key not in functions}
            result = await self._far.find_call(call.name)(**values, **silent, **functions)
            self.send(Result(id=call.id, value=encode_value(result)))
        except Exception as error:
            self.send(failure_of(call.id, error))
        with contextlib.suppress(ConnectionError):
            await self._writer.drain()

    def _function(self, call: int, name: str, parameter: Any, answer: Any) -> Callable[[Any], Any]:
        """What stands here for a function of the caller."""

        def tell(value: Any) -> None:
            self.send(Told(id=call, name=name, value=encode_value(value)))

        async def ask(value: Any) -> Any:
            number = next(self._numbers)
            future: asyncio.Future[msgspec.Raw] = asyncio.get_running_loop().create_future()
            self._answers[number] = future
            try:
                self.send(Asked(id=call, name=name, number=number, value=encode_value(value)))
                return value_of(await future, answer)
            finally:
                del self._answers[number]

        return tell if answer is None else ask


async def _serve(far: Far, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer calls (see `serve_stdio`)."""
    caller = _Caller(far, writer)
    caller.send(Ready())
    try:
        while True:
            async with asyncio.timeout(SILENCE_S):
                line = await reader.readline()
            if not line:
                return
            caller.take(line)
    except (TimeoutError, ConnectionError, ValueError, msgspec.DecodeError):
        return  # whoever is there does not speak with us any more
    finally:
        await caller.end()
        far.close()


async def serve_stdio(far: Far) -> None:
    """Answer calls on stdin and stdout until the line ends, or says nothing for a minute.

    What anything here prints goes to stderr.
    """
    loop = asyncio.get_running_loop()
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    reader = asyncio.StreamReader(limit=LINE_BYTES_MAX)
    protocol = asyncio.StreamReaderProtocol(reader)
    await loop.connect_read_pipe(lambda: protocol, os.fdopen(os.dup(0), "rb", buffering=0))
    transport, flow = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, out)
    writer = asyncio.StreamWriter(transport, flow, None, loop)
    try:
        await _serve(far, reader, writer)
    finally:
        writer.close()
