"""A front end's side of the conversation with one supervisor, and what can be read of a run without one."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from pathlib import Path

import msgspec

from console.client.api import ChatDelta, ChatMessage, ChatOptions, LogReader, Lost, Update
from console.core.errors import NotRunningError, UsageError
from console.core.models import ProfileChange, RunInfo
from console.core.snooze import Snooze, with_it, without
from console.core.text import Redactor
from console.io.logtail import LogTail
from console.io.runs import LaunchSpec, RunDir
from console.io.secrets import known_secrets
from console.io.snoozes import read_snoozes, write_snoozes
from console.protocol import (
    FULL,
    LINE_BYTES_MAX,
    GroupNews,
    Happened,
    Hello,
    History,
    Hold,
    Keep,
    Postpone,
    Pushed,
    Reply,
    Restart,
    Revert,
    ServerMessage,
    Stop,
    Subscribe,
    Try,
    Welcome,
    decode_server,
    encode,
)

__all__ = ["Inbox", "SocketSession", "chat_with", "connect", "load_chat"]

REPLY_TIMEOUT_S = 10.0
CONNECT_TIMEOUT_S = 5.0
UPDATES_MAX = 10_000
"""Updates that wait for a reader that does not come; beyond it the oldest go."""


class Inbox:
    """Updates that wait to be read. Of snapshots in a row only the newest is kept, so a slow reader costs nothing."""

    def __init__(self) -> None:
        self._updates: deque[Update] = deque(maxlen=UPDATES_MAX)
        self._wake = asyncio.Event()

    def put(self, update: Update) -> None:
        """Add one."""
        if isinstance(update, Pushed) and self._updates and isinstance(self._updates[-1], Pushed):
            self._updates.pop()
        self._updates.append(update)
        self._wake.set()

    async def get(self) -> Update:
        """The oldest; waits for one."""
        while not self._updates:
            self._wake.clear()
            await self._wake.wait()
        return self._updates.popleft()


class SocketSession:
    """A session over the run's Unix socket (see `console.client.api.Session`)."""

    def __init__(
        self, run_dir: RunDir, run: RunInfo, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._dir = run_dir
        self._run = run
        self._reader = reader
        self._writer = writer
        self._ids = itertools.count(1)
        self._replies: dict[int, asyncio.Future[Reply]] = {}
        self._updates = Inbox()
        self._lost: Lost | None = None
        self._listener = asyncio.create_task(self._listen())

    @property
    def run(self) -> RunInfo:
        """The run as its supervisor described it."""
        return self._run

    @property
    def run_dir(self) -> RunDir:
        """Where it keeps its files."""
        return self._dir

    async def updates(self, history_s: float = 0.0) -> AsyncIterator[Update]:
        """History of the last `history_s` seconds first, then every snapshot and event; ends after `Lost`."""
        try:
            await self._ask(Subscribe(id=next(self._ids), history_s=history_s))
        except NotRunningError as error:
            yield Lost(reason=error.message)
            return
        while True:
            update = await self._updates.get()
            yield update
            if isinstance(update, Lost):
                return

    async def stop(self, drain_timeout_s: float | None = None) -> None:
        """Ask for a stop. Raises NotRunningError if nobody answers."""
        await self._ask(Stop(id=next(self._ids), drain_timeout_s=drain_timeout_s))

    async def restart(self, drain_timeout_s: float | None = None) -> None:
        """Ask for a restart. Raises NotRunningError if nobody answers."""
        await self._ask(Restart(id=next(self._ids), drain_timeout_s=drain_timeout_s))

    async def postpone(self) -> None:
        """Postpone the idle deadlines. Raises UsageError where there is none, NotRunningError if nobody answers."""
        await self._ask(Postpone(id=next(self._ids)))

    async def group_news(self, *, ending: bool) -> None:
        """Tell a machine of a group that its head is ready, or ends. Raises NotRunningError if nobody answers."""
        await self._ask(GroupNews(id=next(self._ids), ending=ending))

    async def attempt(self, change: tuple[ProfileChange, ...], spec: LaunchSpec, lease_s: float) -> tuple[str, int]:
        """Ask for a restart with other settings, which go again where this line breaks (see `console.core.trial`).

        Returns:
            Id of the trial, and the number of these settings in it.

        Raises:
            NotRunningError: nobody answers.
            UsageError: it is refused, with the reason.
        """
        message = Try(id=next(self._ids), change=change, spec=msgspec.to_builtins(spec), lease_s=lease_s)
        data = (await self._ask(message)).data
        return str(data.get("trial")), int(data.get("number", 1))

    async def hold(self) -> None:
        """Say that whoever tries settings is still there. Raises as `attempt`."""
        await self._ask(Hold(id=next(self._ids)))

    async def keep(self) -> None:
        """Make the settings that are tried the run's. Raises as `attempt`."""
        await self._ask(Keep(id=next(self._ids)))

    async def revert(self, why: str = "") -> None:
        """Ask for what served before the trial. Returns once accepted; raises as `attempt`."""
        await self._ask(Revert(id=next(self._ids), why=why))

    def snoozes(self) -> tuple[Snooze, ...]:
        """Hints that are put aside, as the run's directory says."""
        return read_snoozes(self._dir)

    async def snooze(self, new: Snooze) -> tuple[Snooze, ...]:
        """Put a hint aside. Raises StateError if that could not be written."""
        return await asyncio.to_thread(self._rewrite, lambda known: with_it(known, new))

    async def wake(self, hint: str) -> tuple[Snooze, ...]:
        """Show a hint again. Raises as `snooze`."""
        return await asyncio.to_thread(self._rewrite, lambda known: without(known, hint))

    def _rewrite(self, change: Callable[[tuple[Snooze, ...]], tuple[Snooze, ...]]) -> tuple[Snooze, ...]:
        """Change what is on the disk: another console may have put other hints aside meanwhile."""
        snoozes = change(read_snoozes(self._dir))
        write_snoozes(self._dir, snoozes)
        return snoozes

    def log(self) -> LogReader:
        """Read the server's log from its start, without the secrets that are known here."""
        return LogTail(self._dir.log_path, Redactor(known_secrets(self._run)))

    def chat(self, messages: Sequence[ChatMessage], options: ChatOptions) -> AsyncIterator[ChatDelta]:
        """Stream an answer of the served model."""
        return chat_with(self._run, messages, options)

    async def close(self) -> None:
        """Detach; the server goes on."""
        self._listener.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._listener
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()

    async def _ask(
        self, message: Subscribe | Stop | Restart | Postpone | GroupNews | Try | Hold | Keep | Revert
    ) -> Reply:
        if self._lost is not None:
            raise _gone(self._lost.reason)
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._replies[message.id] = future
        try:
            self._writer.write(encode(message))
            await self._writer.drain()
            async with asyncio.timeout(REPLY_TIMEOUT_S):
                reply = await future
        except TimeoutError as error:
            raise _gone(f"no answer within {REPLY_TIMEOUT_S:.0f} s") from error
        except ConnectionError as error:
            raise _gone(str(error)) from error
        finally:
            self._replies.pop(message.id, None)
        if reply.error:
            raise UsageError("The supervisor refused", reply.error)
        return reply

    async def _listen(self) -> None:
        reason = "the supervisor closed the line"
        try:
            while line := await self._reader.readline():
                self._take(decode_server(line))
        except (ConnectionError, ValueError, msgspec.DecodeError) as error:
            reason = f"the line to the supervisor broke: {error}"
        self._lost = Lost(reason=reason)
        self._updates.put(self._lost)
        for future in self._replies.values():
            if not future.done():
                future.set_exception(_gone(reason))

    def _take(self, message: ServerMessage) -> None:
        match message:
            case Reply(id=number):
                future = self._replies.get(number)
                if future is not None and not future.done():
                    future.set_result(message)
            case History() | Pushed() | Happened():
                self._updates.put(message)
            case Welcome(run=run):
                self._run = run


async def chat_with(
    run: RunInfo,
    messages: Sequence[ChatMessage],
    options: ChatOptions,
    *,
    api_key: str | None = None,
    socket_path: Path | None = None,
) -> AsyncGenerator[ChatDelta, None]:
    """Stream an answer of a run's model.

    Args:
        run: whose model.
        messages: the conversation, oldest first.
        options: sampling and length.
        api_key: where the server wants one; by default `VLLM_API_KEY` of this environment.
        socket_path: a Unix socket that leads to the server.
    """
    if run.place is not None and run.place.rank:
        yield ChatDelta(error=f"This machine has no HTTP server: ask the head, {run.place.hosts[0]}")
        return
    stream_chat = await asyncio.to_thread(load_chat)
    key = api_key or os.environ.get("VLLM_API_KEY")
    answer = stream_chat(run.url, run.model, messages, options, api_key=key, socket_path=socket_path)
    async with contextlib.aclosing(answer) as deltas:
        async for delta in deltas:
            yield delta


def load_chat() -> Callable[..., AsyncGenerator[ChatDelta, None]]:
    """httpx takes a third of a second to import: only those who chat pay for it, and never on the event loop."""
    from console.io.chat import stream_chat

    return stream_chat


def _gone(reason: str) -> NotRunningError:
    return NotRunningError("The supervisor does not answer", reason, "Look at it again with: dsv4-console status")


async def connect(run_dir: RunDir, socket_path: Path | None = None) -> SocketSession:
    """Open a session with the supervisor of a run.

    Args:
        run_dir: of the run, or its mirror.
        socket_path: of the supervisor, where it is not in that directory.

    Raises:
        NotRunningError: nobody listens.
        UsageError: the supervisor speaks another protocol version; the message says which side to update.
    """
    try:
        way = run_dir.reachable_socket() if socket_path is None else contextlib.nullcontext(str(socket_path))
        with way as path:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                reader, writer = await asyncio.open_unix_connection(path, limit=LINE_BYTES_MAX)
    except (OSError, TimeoutError) as error:
        raise NotRunningError(
            "The run has no supervisor", f"{run_dir.socket_path}: {error}", "See its end with: dsv4-console status"
        ) from error
    try:
        writer.write(encode(Hello(client="dsv4-console")))
        await writer.drain()
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            line = await reader.readline()
        answer = decode_server(line)
    except (OSError, TimeoutError, msgspec.DecodeError) as error:
        writer.close()
        raise NotRunningError("The supervisor does not answer", f"{run_dir.socket_path}: {error}") from error
    if isinstance(answer, Welcome):
        return SocketSession(run_dir, answer.run, reader, writer)
    writer.close()
    text = answer.error if isinstance(answer, Reply) else "it did not greet"
    if isinstance(answer, Reply) and answer.data.get(FULL):
        raise UsageError("The supervisor takes no more front ends", text, "Close a console, or end one by its pid.")
    raise UsageError("The supervisor is of another version", text)
