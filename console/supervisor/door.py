"""The supervisor's Unix socket: many front ends at once, none of which can slow the supervisor down.

What must not be missed (replies, events) waits in a bounded queue per client; of snapshots only the newest waits. A
client that does not read until its queue is full is cut off, and can come back for the history.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections import deque
from collections.abc import Awaitable, Callable

import msgspec

from console.core.models import EventRecord, RunInfo, Snapshot
from console.io.runs import RunDir
from console.protocol import (
    FULL,
    LINE_BYTES_MAX,
    PROTOCOL_VERSION,
    ClientMessage,
    Happened,
    Hello,
    History,
    Pushed,
    Reply,
    ServerMessage,
    Subscribe,
    Welcome,
    decode_client,
    encode,
)

__all__ = ["Door"]

QUEUE_MESSAGES_MAX = 2_000
QUEUE_BYTES_MAX = 32 * 1024 * 1024
"""A client is cut off at either limit; two whole histories fit."""
WRITE_BUFFER_BYTES = 256 * 1024
"""Handed to the transport before a client has to read."""
CLIENTS_MAX = 64
HELLO_TIMEOUT_S = 10.0
REFUSE_TIMEOUT_S = 2.0

Handler = Callable[[ClientMessage, int], Awaitable[Reply]]
"""Answers a request of the client with this number; no two connections have the same."""


class _Client:
    """One connection's outgoing side."""

    def __init__(self, writer: asyncio.StreamWriter, number: int) -> None:
        self.writer = writer
        self.number = number
        self.subscribed = False
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._snapshot: bytes | None = None
        self._wake = asyncio.Event()

    def send(self, message: ServerMessage) -> None:
        data = encode(message)
        if len(self._queue) >= QUEUE_MESSAGES_MAX or self._queued_bytes + len(data) > QUEUE_BYTES_MAX:
            self.writer.transport.abort()
            return
        self._queue.append(data)
        self._queued_bytes += len(data)
        self._wake.set()

    @property
    def has_more(self) -> bool:
        """Something waits to be written."""
        return bool(self._queue or self._snapshot)

    def offer(self, snapshot: bytes) -> None:
        self._snapshot = snapshot
        self._wake.set()

    async def pump(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                data = self._queue.popleft()
                self._queued_bytes -= len(data)
                self.writer.write(data)
                await self.writer.drain()
            if self._snapshot is not None:
                self.writer.write(self._snapshot)
                self._snapshot = None
                await self.writer.drain()


class Door:
    """Accepts front ends on `control.sock` of a run directory."""

    def __init__(
        self,
        run: RunDir,
        *,
        info: Callable[[], RunInfo],
        history: Callable[[float], Awaitable[History]],
        handle: Handler,
        left: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._run = run
        self._info = info
        self._history = history
        self._handle = handle
        self._left = left
        self._numbers = itertools.count(1)
        self._clients: set[_Client] = set()
        self._newest: bytes | None = None
        self._server: asyncio.Server | None = None

    @property
    def client_count(self) -> int:
        """Front ends attached now."""
        return len(self._clients)

    async def open(self) -> None:
        """Start to listen. A socket that an earlier supervisor left is replaced.

        Raises:
            OSError: the directory is not writable.
        """
        with contextlib.suppress(FileNotFoundError):
            self._run.socket_path.unlink()
        self._run.path.chmod(0o700)  # somebody may have opened it to others since it was made
        with self._run.reachable_socket() as path:
            before = os.umask(0o177)
            try:
                self._server = await asyncio.start_unix_server(self._serve, path=path, limit=LINE_BYTES_MAX)
            finally:
                os.umask(before)

    async def close(self) -> None:
        """Say what is left to say, close all connections and remove the socket."""
        if self._server is not None:
            self._server.close()
        for _ in range(20):
            if not any(client.has_more for client in self._clients):
                break
            await asyncio.sleep(0.05)
        for client in tuple(self._clients):
            client.writer.close()
        with contextlib.suppress(FileNotFoundError):
            self._run.socket_path.unlink()

    def publish(self, snapshot: Snapshot) -> None:
        """Give every subscriber the newest snapshot."""
        self._newest = encode(Pushed(snapshot=snapshot))
        for client in self._clients:
            if client.subscribed:
                client.offer(self._newest)

    def announce(self, event: EventRecord) -> None:
        """Tell every subscriber that something happened."""
        for client in tuple(self._clients):
            if client.subscribed:
                client.send(Happened(event=event))

    def introduce(self) -> None:
        """Tell every subscriber of the run anew, since its settings are others."""
        for client in tuple(self._clients):
            if client.subscribed:
                client.send(Welcome(run=self._info()))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._clients) >= CLIENTS_MAX:
            await _refuse(reader, writer)
            return
        writer.transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        client = _Client(writer, next(self._numbers))
        self._clients.add(client)
        pump = asyncio.create_task(client.pump())
        try:
            if await self._greet(reader, client):
                await self._converse(reader, client)
        except (ConnectionError, asyncio.IncompleteReadError, TimeoutError, ValueError, asyncio.CancelledError):
            # A front end went away, spoke no line of this protocol within the limits, or the supervisor ends; asyncio
            # would print the traceback of a cancelled connection (python/cpython#110894).
            pass
        finally:
            await asyncio.sleep(0)
            pump.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionError):
                await pump
            self._clients.discard(client)
            self._left(client.number)
            writer.close()

    async def _greet(self, reader: asyncio.StreamReader, client: _Client) -> bool:
        async with asyncio.timeout(HELLO_TIMEOUT_S):
            line = await reader.readline()
        try:
            hello = decode_client(line)
        except msgspec.DecodeError:
            hello = None
        if not isinstance(hello, Hello):
            client.writer.write(encode(Reply(id=0, error="the first line must be a hello of this protocol")))
            await client.writer.drain()
            return False
        if hello.version != PROTOCOL_VERSION:
            newer = "this console" if hello.version < PROTOCOL_VERSION else "the supervisor"
            text = (
                f"the supervisor speaks protocol {PROTOCOL_VERSION} and this console {hello.version}: "
                f"{newer} is the older one; use the same dsv4-console version for both"
            )
            client.writer.write(encode(Reply(id=0, error=text)))
            await client.writer.drain()
            return False
        client.send(Welcome(run=self._info()))
        return True

    async def _converse(self, reader: asyncio.StreamReader, client: _Client) -> None:
        while line := await reader.readline():
            try:
                message = decode_client(line)
            except msgspec.DecodeError as error:
                client.send(Reply(id=0, error=f"not understood: {error}"))
                continue
            if isinstance(message, Subscribe):
                client.send(Reply(id=message.id))
                client.send(await self._history(message.history_s))
                client.subscribed = True
                if self._newest is not None:
                    client.offer(self._newest)
            else:
                client.send(await self._handle(message, client.number))


async def _refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Say that there is no room. Its greeting is read first: closing over unread bytes would discard the answer."""
    text = f"{CLIENTS_MAX} front ends are attached already; close one of them"
    with contextlib.suppress(ConnectionError, TimeoutError, ValueError):
        async with asyncio.timeout(REFUSE_TIMEOUT_S):
            await reader.readline()
        writer.write(encode(Reply(id=0, error=text, data={FULL: True})))
        async with asyncio.timeout(REFUSE_TIMEOUT_S):
            await writer.drain()
    writer.close()
