"""Follows a run until it ends: signals, exit codes, and attaching again when the supervisor is lost."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable

from console.client.api import Lost, Session
from console.core.errors import ConsoleError, ExitCode
from console.core.lifecycle import READY_TIMEOUT
from console.core.models import ServerState, ServerStatus
from console.headless.narrator import Narrator
from console.headless.service import ServiceNotices
from console.protocol import Happened, Pushed

__all__ = ["follow"]

Attach = Callable[[], Awaitable[Session]]

ATTACHES_MAX = 5
"""A supervisor that is lost more often than this is not looked for again."""
ATTACH_PAUSE_S = 0.5
"""Before attaching again, so that a supervisor that is just ending is gone by then."""


async def follow(
    session: Session,
    narrator: Narrator,
    *,
    attach: Attach,
    until_ready: bool,
    drain_timeout_s: float | None,
    notices: ServiceNotices | None = None,
) -> ExitCode:
    """Narrate a session until it ends (or, with `until_ready`, is ready), stopping it on SIGINT and SIGTERM.

    SIGHUP, a terminal that went away, only ends the narration. Returns the exit code of the command.

    Args:
        session: as the launch gave it; it is closed at the end.
        narrator: says what happens.
        attach: attaches to the same run again, where the line to its supervisor broke.
        until_ready: leave once the server is ready.
        drain_timeout_s: how long requests may go on after the first signal; `None` for the profile's.
        notices: tells a service manager, where one started us.
    """
    return await _Follower(session, narrator, attach, until_ready, drain_timeout_s, notices).run()


class _Follower:
    def __init__(
        self,
        session: Session,
        narrator: Narrator,
        attach: Attach,
        until_ready: bool,
        drain_timeout_s: float | None,
        notices: ServiceNotices | None,
    ) -> None:
        self._session = session
        self._narrator = narrator
        self._attach = attach
        self._until_ready = until_ready
        self._drain_timeout_s = drain_timeout_s
        self._notices = notices
        self._got: list[signal.Signals] = []
        self._stops: set[asyncio.Task[None]] = set()
        self._task = asyncio.current_task()

    async def run(self) -> ExitCode:
        loop = asyncio.get_running_loop()
        numbers = [signal.SIGINT, signal.SIGTERM]
        for number in numbers:
            loop.add_signal_handler(number, self._on_stop, number)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # `nohup` asks for narration without a terminal
            numbers.append(signal.SIGHUP)
            loop.add_signal_handler(signal.SIGHUP, self._on_hangup)
        self._narrator.begin()
        if self._notices is not None:
            self._notices.begin()
        try:
            return await self._follow()
        except asyncio.CancelledError:
            if signal.SIGHUP in self._got:
                return ExitCode.OK
            raise
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)
            await self._session.close()

    def _on_stop(self, number: signal.Signals) -> None:
        self._got.append(number)
        first = len(self._got) == 1
        self._narrator.signal(number.name, first=first)
        if self._notices is not None:
            self._notices.stopping()
        # The first signal drains; a second one means now.
        self._request_stop(self._drain_timeout_s if first else 0.0)

    def _on_hangup(self) -> None:
        self._got.append(signal.SIGHUP)
        if self._task is not None:
            self._task.cancel()

    def _request_stop(self, drain_timeout_s: float | None) -> None:
        stop = asyncio.get_running_loop().create_task(self._stop(drain_timeout_s))
        self._stops.add(stop)
        stop.add_done_callback(self._stops.discard)

    async def _stop(self, drain_timeout_s: float | None) -> None:
        # Where nobody answers, the narration says so and attaches again.
        with contextlib.suppress(ConsoleError):
            await self._session.stop(drain_timeout_s)

    async def _follow(self) -> ExitCode:
        for _ in range(ATTACHES_MAX):
            lost = await self._narrate()
            if isinstance(lost, ExitCode):
                return lost
            await self._session.close()
            await asyncio.sleep(ATTACH_PAUSE_S)
            try:
                self._session = await self._attach()
            except ConsoleError as error:
                self._narrator.note(f"lost the supervisor: {lost.reason}. {error.title}: {error.message}".rstrip(": "))
                return ExitCode.SERVER_FAILED
            self._narrator.note(f"lost the supervisor ({lost.reason}) and attached again")
            if self._got:
                self._request_stop(self._drain_timeout_s if len(self._got) == 1 else 0.0)
        self._narrator.note("the supervisor was lost too often; look at the server with: dsv4-console status")
        return ExitCode.SERVER_FAILED

    async def _narrate(self) -> ExitCode | Lost:
        async for update in self._session.updates():
            match update:
                case Pushed(snapshot=snapshot):
                    self._narrator.snapshot(snapshot)
                    if self._notices is not None:
                        self._notices.snapshot(snapshot)
                    code = self._ended(snapshot.status)
                    if code is not None:
                        return code
                    if self._until_ready and snapshot.status.state is ServerState.READY:
                        self._narrator.detached()
                        return ExitCode.OK
                case Happened(event=event):
                    self._narrator.event(event)
                case Lost():
                    return update
                case _:
                    pass
        return Lost(reason="it said nothing more")

    def _ended(self, status: ServerStatus) -> ExitCode | None:
        """The exit code if this status is the end, which is then summed up; why it failed is the last word."""
        if not status.over or status.started_s is None:
            return None
        self._narrator.summary()
        if status.state is ServerState.STOPPED:
            if self._narrator.was_ready:
                return ExitCode.OK
            if not self._got:
                self._narrator.note("somebody stopped it before it was ready")
                return ExitCode.SERVER_FAILED
            return ExitCode.INTERRUPTED if self._got[0] is signal.SIGINT else ExitCode.TERMINATED
        self._narrator.failure(status.diagnosis)
        late = status.diagnosis is not None and status.diagnosis.cause == READY_TIMEOUT.cause
        return ExitCode.NOT_READY if late else ExitCode.SERVER_FAILED
