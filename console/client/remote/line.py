"""The line to another machine: one SSH connection, the far end over it, and both made again after a drop.

Who calls waits for the answer or gets an error that says that the line is gone; what is being done there for a caller
ends with the line. Nothing here asks anything once the screen is painted: where OpenSSH would have to, it is said.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from console import __version__
from console.client.remote.wire import (
    FAR_VERSION,
    LINE_BYTES_MAX,
    SILENCE_S,
    Answer,
    Asked,
    Call,
    Cancel,
    Failure,
    Here,
    Ready,
    Result,
    Signature,
    ToFar,
    Told,
    encode,
    encode_value,
    error_of,
    from_far,
    signature,
    value_of,
)
from console.core.errors import ExitCode, RemoteError
from console.core.sshfaults import Cause
from console.io.ssh import SshConnection, SshTarget
from console.io.ssh_pipes import Conversation

__all__ = ["FAR_COMMAND", "Line"]

FAR_COMMAND = "far-end"
READY_TIMEOUT_S = 60.0
"""A console there answers in half a second, on a starved machine in twenty."""
ANSWER_TIMEOUT_S = 20.0
HERE_S = SILENCE_S / 4
STRAY_LINES_MAX = 200
"""What a login shell may print before the far end speaks."""
MUST_ASK = frozenset({Cause.KEY_REFUSED, Cause.HOST_KEY_UNKNOWN, Cause.HOST_KEY_CHANGED})


class _Pending:
    """A call that waits for its answer."""

    def __init__(self, kinds: Signature, functions: dict[str, Callable[[Any], Any]]) -> None:
        self.kinds = kinds
        self.functions = functions
        self.done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()


class Line:
    """One machine, as `--host` names it. `open` it before the screen is painted.

    Args:
        target: which machine.
        options: of `far-end` there.
    """

    def __init__(self, target: SshTarget, options: Sequence[str] = ()) -> None:
        self.ssh = SshConnection(target)
        self.up = asyncio.Event()
        """Set while there is a far end to ask."""
        self.connection = 0
        """Number of the connection, counted from 1: a drop ends one for good."""
        self._command = (FAR_COMMAND, *options)
        self._talk: Conversation | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._tasks: tuple[asyncio.Task[None], ...] = ()
        self._closed = False
        self._making = asyncio.Lock()
        self._ids = itertools.count(1)
        self._pending: dict[int, _Pending] = {}
        self._asked: set[asyncio.Task[None]] = set()

    @property
    def host(self) -> str:
        """As the operator named it."""
        return self.ssh.target.host

    def open(self) -> None:
        """Log in, with whatever OpenSSH asks on the terminal, and see that the console is there.

        Raises:
            RemoteError: one of both failed.
        """
        self.ssh.open(ask=True)
        try:
            done = self.ssh.ask_console(self._command)
            if done.code == ExitCode.USAGE:
                raise self._other_version("an older one that has no `far-end`, or refuses its options", done.stderr)
            self._check(next(iter(_ready_lines(done.stdout.splitlines())), None), done.stderr)
        except BaseException:
            self.ssh.close()
            raise

    async def close(self) -> None:
        """Hang up for good; servers there go on."""
        self._closed = True
        await asyncio.to_thread(self.ssh.close)  # also ends an attempt that is being made
        async with self._making:
            await self._drop("the console is being left")
            await asyncio.to_thread(self.ssh.close)

    async def ensure(self) -> None:
        """Make what is missing of the line. Asks nothing.

        Raises:
            RemoteError: it cannot be made now.
        """
        async with self._making:
            if self._closed:
                raise self._lost("the console is being left")
            if self._writer is not None and self.ssh.is_alive:
                return
            await self._drop("the line is made again")
            if not self.ssh.is_alive:
                try:
                    await asyncio.to_thread(self.ssh.open, ask=False)
                except RemoteError as error:
                    raise self._explained(error) from error
            await self._begin()

    async def stands(self, connection: int) -> bool:
        """Whether this connection is still there and its far end answers; `ssh` alone notices a drop late."""
        if connection != self.connection or not self.up.is_set():
            return False
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                await self._call("runs", {})
        except (RemoteError, TimeoutError):
            return False
        return connection == self.connection

    async def call(self, name: str, /, **arguments: Any) -> Any:
        """Do this there, and give its result. Cancelling gives it up there too.

        Raises:
            RemoteError: there is no line.
            console.core.errors.ConsoleError: as the method that is called.
        """
        await self.ensure()
        return await self._call(name, arguments)

    async def _call(self, name: str, arguments: Mapping[str, Any]) -> Any:
        kinds = signature(name)
        functions = {key: arguments[key] for key in kinds.functions if arguments.get(key) is not None}
        plain = {key: encode_value(value) for key, value in arguments.items() if key in kinds.plain}
        number, pending = next(self._ids), _Pending(kinds, functions)
        self._pending[number] = pending
        try:
            self._send(Call(id=number, name=name, arguments=plain, listens=tuple(functions)))
            return await pending.done
        except asyncio.CancelledError:
            self._send(Cancel(id=number))
            raise
        finally:
            self._pending.pop(number, None)

    async def forward_socket(self, path: str) -> Path:
        """A socket here that leads to one there. Raises RemoteError."""
        await self.ensure()
        return await self.ssh.forward_socket(path)

    async def forward_port(self, port: int, address: str) -> Path:
        """A socket here that leads to a port there. Raises RemoteError."""
        await self.ensure()
        return await self.ssh.forward_port(port, address)

    async def _begin(self) -> None:
        """Start the far end and listen to it."""
        talk = await asyncio.to_thread(self.ssh.talk, self._command)
        try:
            reader, writer = await asyncio.open_connection(sock=talk.socket, limit=LINE_BYTES_MAX)
        except BaseException:
            talk.close()
            raise
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                line = await _first_line(reader)
            if line is None:
                code, said = await asyncio.to_thread(talk.ended)
                self.ssh.check_installed(code, said)
                raise RemoteError("The far end did not start", f"{self.host}: {said.strip()[-500:]}", self._try_it())
            self._check(line, "")
        except BaseException as error:
            writer.close()
            await asyncio.to_thread(talk.close)
            if isinstance(error, (TimeoutError, ConnectionError, ValueError)):
                raise self._lost("the far end does not answer") from error
            raise
        self._talk, self._writer = talk, writer
        self._tasks = (asyncio.create_task(self._listen(reader)), asyncio.create_task(self._say_here()))
        self.connection += 1
        self.up.set()

    async def _drop(self, reason: str) -> None:
        """Let go of the far end, if there is one."""
        tasks, self._tasks = self._tasks, ()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._broke(reason)
        talk, self._talk = self._talk, None
        if talk is not None:
            await asyncio.to_thread(talk.close)

    def _broke(self, reason: str) -> None:
        """Nobody answers any more."""
        self.up.clear()
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()
        for pending in self._pending.values():
            if not pending.done.done():
                pending.done.set_exception(self._lost(reason))

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        reason = "the far end hung up"
        try:
            while line := await reader.readline():
                self._take(line)
        except (ConnectionError, ValueError, msgspec.DecodeError) as error:
            reason = str(error)
        self._broke(reason)

    async def _say_here(self) -> None:
        while True:
            await asyncio.sleep(HERE_S)
            self._send(Here())

    def _take(self, line: bytes) -> None:
        message = from_far(line)
        pending = self._pending.get(getattr(message, "id", 0))
        if pending is None or pending.done.done():
            return
        match message:
            case Result(value=value):
                try:
                    pending.done.set_result(value_of(value, pending.kinds.result))
                except msgspec.DecodeError as error:
                    pending.done.set_exception(self._other_version("its answer cannot be read", str(error)))
            case Failure():
                pending.done.set_exception(error_of(message, self.host))
            case Told(name=name, value=value):
                pending.functions[name](value_of(value, pending.kinds.functions[name][0]))
            case Asked():
                task = asyncio.create_task(self._answer(pending, message))
                self._asked.add(task)
                task.add_done_callback(self._asked.discard)

    async def _answer(self, pending: _Pending, asked: Asked) -> None:
        answer = pending.functions[asked.name](value_of(asked.value, pending.kinds.functions[asked.name][0]))
        if inspect.isawaitable(answer):
            answer = await answer
        self._send(Answer(number=asked.number, value=encode_value(answer)))

    def _send(self, message: ToFar) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(encode(message))

    def _check(self, line: bytes | None, said: str) -> None:
        """Whether the far end is one that we can speak with. Raises RemoteError."""
        ready: object = None
        if line is not None:
            with contextlib.suppress(msgspec.DecodeError):
                ready = from_far(line)
        if not isinstance(ready, Ready):
            text = "\n".join(part for part in (self.host, said.strip()[-500:]) if part)
            raise RemoteError("The far end did not start", text, self._try_it())
        if ready.protocol != FAR_VERSION:
            raise self._other_version(f"{ready.version} (protocol {ready.protocol})")

    def _other_version(self, there: str, said: str = "") -> RemoteError:
        return RemoteError(
            "Another version of dsv4-console is there",
            f"{self.host}: {there}; here: {__version__} (protocol {FAR_VERSION})\n{said.strip()[-500:]}".strip(),
            "Install the same version on both machines.",
            Cause.OTHER_VERSION,
        )

    def _try_it(self) -> str:
        return f"Try it: ssh {self.host} dsv4-console --version"

    def _lost(self, reason: str) -> RemoteError:
        return RemoteError(
            f"No connection to {self.host}",
            reason,
            "It is tried again by itself; servers there go on.",
            Cause.LOST,
        )

    def _explained(self, error: RemoteError) -> RemoteError:
        """Where OpenSSH would have to ask, this is what to do: there is no question once the screen is painted."""
        if error.cause not in MUST_ASK:
            return error
        fix = f"{error.fix} This console tries again; or leave it and start it again, where ssh can ask."
        return RemoteError(error.title, error.message, fix, error.cause)


def _ready_lines(lines: Sequence[bytes]) -> list[bytes]:
    """The far end's lines, without what a login shell printed before them."""
    for place, line in enumerate(lines):
        with contextlib.suppress(msgspec.DecodeError):
            if isinstance(from_far(line), Ready):
                return list(lines[place:])
    return []


async def _first_line(reader: asyncio.StreamReader) -> bytes | None:
    """The far end's first line; `None` if it ended before."""
    for _ in range(STRAY_LINES_MAX):
        line = await reader.readline()
        if not line:
            return None
        if _ready_lines([line]):
            return line
    return None
