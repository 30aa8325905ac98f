"""A run on another machine: its supervisor's own socket, forwarded, and a copy of its log.

After a drop it attaches again by itself. What the supervisor tells of the time between is passed on once: figures
newer than the last one, events that were not told yet.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from console.client.api import Away, ChatDelta, ChatMessage, ChatOptions, LogReader, Lost, Update
from console.client.remote.line import Line
from console.client.remote.mirror import Mirror
from console.client.remote.wire import LogPiece, Reach
from console.client.session import SocketSession, chat_with, connect
from console.core.errors import ConsoleError, NotRunningError, RemoteError, StateError
from console.core.models import EventRecord, Level, RunInfo
from console.core.snooze import Snooze
from console.core.text import Redactor
from console.core.units import elapsed_text
from console.io.logtail import LogTail
from console.io.runs import RunDir
from console.io.secrets import known_secrets
from console.protocol import Happened, History, Pushed

__all__ = ["RemoteSession"]

BACKOFF_S = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Between attempts; the last one holds on."""
HISTORY_SLACK_S = 60.0
"""Asked for beyond the gap: clocks of two machines differ, and old samples are passed over anyway."""
EVENTS_KNOWN_MAX = 4_000
"""Told events that are remembered: more than a supervisor tells at first."""
LOG_WAIT_S = 5.0
"""A call for more of the log waits there for so long."""
TROUBLE_S = 2.0
NO_DIRECTORY = Path(os.devnull)
"""Of a run whose log is not wanted here."""


class RemoteSession:
    """One run (see `console.client.api.Session`). Use `open`."""

    def __init__(self, line: Line, reach: Reach, inner: SocketSession, mirror: Mirror | None) -> None:
        self._line = line
        self._reach = reach
        self._inner = inner
        self._mirror = mirror
        self._connection = line.connection
        self._snoozes = reach.snoozes
        self._newest_s = 0.0
        self._told: deque[bytes] = deque(maxlen=EVENTS_KNOWN_MAX)
        self._away: Away | None = None
        self._away_s = 0.0
        self._heard_s = time.time()
        """When it last told anything, by the clock here: a line that falls silent is noticed only later."""
        self._copying = asyncio.create_task(self._copy(mirror)) if mirror is not None else None

    @classmethod
    async def open(cls, line: Line, reach: Reach, *, with_log: bool = True) -> RemoteSession:
        """Attach.

        Args:
            line: to the machine.
            reach: what the far end says of the run.
            with_log: its log is wanted here, and so is copied.

        Raises:
            RemoteError: there is no line.
            NotRunningError: nobody listens there.
            UsageError: the supervisor speaks another protocol version.
        """
        mirror = await asyncio.to_thread(Mirror, line.host, reach.run.id) if with_log else None
        try:
            inner = await connect(_directory(mirror), await line.forward_socket(reach.socket))
        except BaseException:
            if mirror is not None:
                mirror.close()
            raise
        return cls(line, reach, inner, mirror)

    @property
    def run(self) -> RunInfo:
        """The run as its supervisor described it."""
        return self._inner.run

    @property
    def host(self) -> str:
        """The machine, as the operator named it."""
        return self._line.host

    @property
    def log_there(self) -> str:
        """Where the log is, on its machine."""
        return self._reach.log

    async def updates(self, history_s: float = 0.0) -> AsyncIterator[Update]:
        """As of every session; in between `Away`, while there is no way to the machine."""
        owed: Happened | None = None
        while True:
            lost = Lost(reason="")
            async for update in self._inner.updates(history_s):
                if isinstance(update, Lost):
                    lost = update
                    break
                self._heard_s = time.time()
                if (news := self._news(update)) is not None:
                    yield news
                if owed is not None:
                    yield owed  # after what it explains
                    owed = None
            if await self._line.stands(self._connection):
                yield lost  # the supervisor itself has hung up
                return
            async with contextlib.aclosing(self._again(lost.reason)) as attempts:
                async for update in attempts:
                    yield update
                    if isinstance(update, Lost):
                        return
            owed = self._return()
            history_s = max(time.time() - self._newest_s, 0.0) + HISTORY_SLACK_S

    async def stop(self, drain_timeout_s: float | None = None) -> None:
        """Ask for a stop. Raises RemoteError while there is no line, NotRunningError if nobody answers."""
        await self._here().stop(drain_timeout_s)

    async def restart(self, drain_timeout_s: float | None = None) -> None:
        """Ask for a restart. Raises as `stop`."""
        await self._here().restart(drain_timeout_s)

    async def postpone(self) -> None:
        """Postpone the idle deadlines. Raises as `stop`, and UsageError where there is none."""
        await self._here().postpone()

    def snoozes(self) -> tuple[Snooze, ...]:
        """Hints that are put aside, as they were at the start or after the last change here."""
        return self._snoozes

    async def snooze(self, new: Snooze) -> tuple[Snooze, ...]:
        """Put a hint aside, there. Raises StateError, or RemoteError."""
        self._snoozes = await self._line.call("snooze", run_id=self.run.id, new=new)
        return self._snoozes

    async def wake(self, hint: str) -> tuple[Snooze, ...]:
        """Show a hint again. Raises as `snooze`."""
        self._snoozes = await self._line.call("wake", run_id=self.run.id, hint=hint)
        return self._snoozes

    def log(self) -> LogReader:
        """Read the copy of the log from its start. Raises StateError where it was not wanted."""
        if self._mirror is None:
            raise StateError("The log of this run is not copied here", self._reach.log)
        return LogTail(self._mirror.run.log_path, Redactor(known_secrets()))

    async def chat(self, messages: Sequence[ChatMessage], options: ChatOptions) -> AsyncIterator[ChatDelta]:
        """Stream an answer of the served model, through a forwarded port."""
        try:
            address = urlsplit(self.run.url)
            way = await self._line.forward_port(address.port or 80, address.hostname or "127.0.0.1")
        except RemoteError as error:
            yield ChatDelta(done=True, error=f"{error.title}: {error.message}".rstrip(": "))
            return
        answer = chat_with(self.run, messages, options, api_key=self._reach.api_key or None, socket_path=way)
        async with contextlib.aclosing(answer) as deltas:
            async for delta in deltas:
                yield delta

    async def close(self) -> None:
        """Detach; the server goes on."""
        if self._copying is not None:
            self._copying.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._copying
        await self._inner.close()
        if self._mirror is not None:
            await asyncio.to_thread(self._mirror.close)

    def _here(self) -> SocketSession:
        if self._away is not None:
            raise RemoteError(
                f"Not done: no connection to {self._line.host}",
                self._away.reason,
                "It is tried again by itself; the server goes on as it was.",
            )
        return self._inner

    def _news(self, update: Update) -> Update | None:
        """What of an update was not told yet."""
        match update:
            case History(samples=samples, events=events):
                newest_s = self._newest_s
                fresh = tuple(sample for sample in samples if sample.time_s > newest_s)
                self._newest_s = max([newest_s, *(sample.time_s for sample in fresh)])
                unheard = tuple(event for event in events if self._first_time(event))
                return History(samples=fresh, events=unheard) if fresh or unheard else None
            case Pushed(snapshot=snapshot):
                self._newest_s = max(self._newest_s, snapshot.time_s)
            case Happened(event=event) if not self._first_time(event):
                return None
        return update

    def _first_time(self, event: EventRecord) -> bool:
        key = msgspec.json.encode(event)
        if key in self._told:
            return False
        self._told.append(key)
        return True

    async def _again(self, reason: str) -> AsyncGenerator[Update, None]:
        """Attach again, however long that takes; ends with `Lost` where the run is over."""
        remedy, attempt = "", 0
        self._away_s = self._heard_s
        while True:
            attempt += 1
            self._away = Away(attempt=attempt, reason=reason, remedy=remedy, since_s=self._away_s)
            yield self._away
            try:
                await self._attach()
                break
            except NotRunningError as error:
                self._away = None
                yield Lost(reason=error.message or error.title)
                return
            except (ConsoleError, OSError) as error:
                reason, remedy = self._words(error)
            await asyncio.sleep(BACKOFF_S[min(attempt, len(BACKOFF_S)) - 1])
        self._away = None

    def _words(self, error: ConsoleError | OSError) -> tuple[str, str]:
        """Why an attempt failed, on one line, and what to do."""
        if not isinstance(error, ConsoleError):
            return str(error), ""
        lines = [line for line in error.message.splitlines() if line != self._line.host]
        return ": ".join([error.title, *lines[-1:]]), error.fix

    def _return(self) -> Happened:
        """The event that says how long it took."""
        now = time.time()
        text = f"{self._line.host} was out of reach for {elapsed_text(now - self._away_s)}"
        return Happened(event=EventRecord(time_s=now, kind="note", text=text, level=Level.WARN))

    async def _attach(self) -> None:
        reach: Reach = await self._line.call("reach", run_id=self.run.id)
        connection = self._line.connection
        inner = await connect(_directory(self._mirror), await self._line.forward_socket(reach.socket))
        old, self._inner = self._inner, inner
        self._reach, self._connection, self._snoozes = reach, connection, reach.snoozes
        await old.close()

    async def _copy(self, mirror: Mirror) -> None:
        """Let the copy of the log grow for as long as the session is open."""
        while True:
            await self._line.up.wait()
            try:
                piece: LogPiece = await self._line.call(
                    "log", run_id=self.run.id, first_byte=mirror.next_byte, wait_s=LOG_WAIT_S
                )
                if piece.end_byte != mirror.next_byte:
                    await asyncio.to_thread(mirror.add, piece)
            except (ConsoleError, OSError):
                await asyncio.sleep(TROUBLE_S)  # a line that broke, or a full disk: the next look goes on from here


def _directory(mirror: Mirror | None) -> RunDir:
    """Where a session looks for a run's files here: in the copy, or where there are none."""
    return mirror.run if mirror is not None else RunDir(NO_DIRECTORY)
