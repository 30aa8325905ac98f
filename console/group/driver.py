"""One machine of a group as its coordinator holds it: orders over SSH, then its supervisor's own socket.

Whatever breaks, it tries again: an order is done once however often it is given, and a supervisor that was lost has a
successor. It only tells what it knows for certain; `console.core.group` decides.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

import msgspec

from console.client.session import SocketSession, connect
from console.core import group
from console.core.errors import ConsoleError, RemoteError
from console.core.grouporder import Found, Order
from console.core.models import LIVE_STATES, Money, NodePlace, RunInfo, ServerState, ServerStatus
from console.io.groups import GroupSpec
from console.io.runs import RunDir
from console.io.ssh import SshConnection, SshTarget
from console.protocol import Pushed

__all__ = ["NodeDriver", "order_for", "target_of"]

ORDER_TIMEOUT_S = 300.0
"""A start returns once its supervisor listens; a machine that works on other things may take long for that."""
AGAIN_S = (0.5, 1.0, 2.0, 5.0)
"""Before each further try; the last one from then on."""

Tell = Callable[[group.Event], None]


def target_of(spec: GroupSpec, rank: int) -> SshTarget:
    """One machine for SSH."""
    config = Path(spec.ssh_config) if spec.ssh_config is not None else None
    return SshTarget(spec.hosts[rank], config, spec.ssh_commands[rank])


def order_for(spec: GroupSpec, rank: int, attempt: int) -> Order:
    """One machine's part of one attempt."""
    place = NodePlace(
        group=spec.id,
        attempt=attempt,
        rank=rank,
        hosts=spec.hosts,
        addresses=spec.addresses,
        port=spec.port,
        meets=spec.meets,
    )
    return Order(
        profile=spec.profile_name,
        overrides=spec.overrides,
        engine=spec.engine,
        allow_public=spec.allow_public,
        force=spec.force,
        place=place,
    )


class NodeDriver:
    """Carries out what is decided for one machine.

    Args:
        spec: of the group.
        rank: of the machine.
        tell: takes events.
    """

    def __init__(self, spec: GroupSpec, rank: int, tell: Tell) -> None:
        self.money: Money | None = None
        """What this attempt has cost so far, as its supervisor told it last."""
        self._spec = spec
        self._rank = rank
        self._tell = tell
        self._connection: SshConnection | None = None
        self._attempt = 0
        self._starting = False
        self._following: asyncio.Task[None] | None = None
        self._session: SocketSession | None = None
        self._stop_drain_s: float | None = None
        self._stop_wanted = False
        self._announce: group.Announce | None = None
        self._calls: set[asyncio.Task[None]] = set()

    def start(self, attempt: int) -> None:
        """Start the machine's part of this attempt, and follow it to its end."""
        self._stop_wanted, self._announce, self.money = False, None, None
        self._begin(attempt, starting=True)

    def resume(self, attempt: int, *, starting: bool) -> None:
        """Go on where a lost coordinator was.

        Args:
            attempt: the present one.
            starting: it is not known whether the start took place.
        """
        self._begin(attempt, starting=starting)

    def stop(self, drain_s: float | None) -> None:
        """Stop it, as soon as it can be reached."""
        self._stop_wanted, self._stop_drain_s = True, drain_s
        self._call()

    def announce(self, news: group.Announce) -> None:
        """Tell it what is so of the head, as soon as it can be reached."""
        self._announce = news
        self._call()

    async def close(self) -> None:
        """Let go of the machine; what runs there goes on."""
        tasks = [task for task in (self._following, *self._calls) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._disconnect()

    def _begin(self, attempt: int, *, starting: bool) -> None:
        self._attempt, self._starting = attempt, starting
        if self._following is not None:
            self._following.cancel()
        self._following = asyncio.create_task(self._follow_to_the_end())

    def _call(self) -> None:
        """Say to its supervisor what waits to be said; without one, that is done on reaching it."""
        if self._session is not None:
            call = asyncio.create_task(self._say(self._session))
            self._calls.add(call)
            call.add_done_callback(self._calls.discard)

    async def _say(self, session: SocketSession) -> None:
        with contextlib.suppress(ConsoleError):
            if self._stop_wanted:
                await session.stop(self._stop_drain_s)
            elif self._announce is not None:
                await session.group_news(ending=self._announce.ending)

    async def _follow_to_the_end(self) -> None:
        tries = 0
        while True:
            try:
                if await self._follow():
                    break
                tries = 0  # its supervisor went away, and has a successor
                if self._connection is not None and not self._connection.is_alive:
                    self._tell(group.Reached(self._rank, False, "the line to it says nothing any more"))
            except RemoteError as error:
                why = f"{error.title}: {error.message}".replace("\n", " ").rstrip(": ")
                await self._disconnect()
                self._tell(group.Reached(self._rank, False, why))
            except (ConsoleError, TimeoutError):
                pass  # it is there and does not answer yet
            await asyncio.sleep(AGAIN_S[min(tries, len(AGAIN_S) - 1)])
            tries += 1
        await self._disconnect()

    async def _follow(self) -> bool:
        """Reach it and follow it for as long as that goes. Returns whether its end was seen."""
        connection = await self._connected()
        found = await self._ordered(connection)
        if found is None:
            return True
        info = found.run
        if info is None:
            # Only one of the two makes sense to whoever decides.
            self._tell(group.StartFailed(self._rank, "it was never started"))
            gone = ServerStatus(state=ServerState.FAILED, reason="its run is not there any more", over=True)
            self._tell(group.Seen(self._rank, gone))
            return True
        self._starting = False
        self._tell(group.Started(self._rank, info.id))
        if not found.live:
            self._tell(group.Seen(self._rank, _last_words(info)))
            return True
        path = await connection.forward_socket(found.socket)
        # Its files are there, not here: only the line is used.
        session = await connect(RunDir(Path(info.id)), path)
        self._session = session
        try:
            await self._say(session)
            return await self._listen(session)
        finally:
            self._session = None
            await session.close()

    async def _ordered(self, connection: SshConnection) -> Found | None:
        """Start it or find it again; `None` if it told that it could not start."""
        verb = "start" if self._starting and not self._stop_wanted else "find"
        order = order_for(self._spec, self._rank, self._attempt)
        done = await connection.run_console(
            ["node", verb, "--json"], stdin=msgspec.json.encode(order), timeout_s=ORDER_TIMEOUT_S
        )
        if done.code == 0:
            try:
                return msgspec.json.decode(done.stdout, type=Found)
            except msgspec.DecodeError as error:
                raise RemoteError("The answer cannot be read", f"{self._spec.hosts[self._rank]}: {error}") from error
        title, fix = _error_of(done.stdout, done.stderr)
        if verb == "find":
            raise RemoteError(title, fix)
        self._tell(group.StartFailed(self._rank, title, fix))
        return None

    async def _listen(self, session: SocketSession) -> bool:
        before: ServerStatus | None = None
        async for update in session.updates():
            if isinstance(update, Pushed):
                self.money = update.snapshot.money
                status = update.snapshot.status
                if status != before:
                    before = status
                    self._tell(group.Seen(self._rank, status))
                if status.over and status.started_s is not None:
                    return True
        return False

    async def _connected(self) -> SshConnection:
        if self._connection is None or not self._connection.is_alive:
            await self._disconnect()
            self._connection = SshConnection(target_of(self._spec, self._rank))
            await asyncio.to_thread(self._connection.open, ask=False)
        self._tell(group.Reached(self._rank, True))
        return self._connection

    async def _disconnect(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await asyncio.to_thread(connection.close)


def _last_words(info: RunInfo) -> ServerStatus:
    """How a run ended, by its record."""
    states = {str(state): state for state in ServerState if state not in LIVE_STATES}
    state = states.get(info.state, ServerState.CRASHED)
    return ServerStatus(state=state, reason=info.reason, diagnosis=info.diagnosis, over=True)


def _error_of(stdout: bytes, stderr: str) -> tuple[str, str]:
    """Title and remedy of what `dsv4-console --json` says when it fails."""
    with contextlib.suppress(msgspec.DecodeError, KeyError, TypeError, AttributeError):
        error = msgspec.json.decode(stdout)["error"]
        title = ": ".join(filter(None, (error["title"], error.get("message", "").replace("\n", "; "))))
        return title, error.get("fix", "")
    last = stderr.strip().splitlines()
    return (last[-1] if last else "the console there ended without a word"), ""
