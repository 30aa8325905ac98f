"""Several sources of servers as one backend, and a follower that keeps a row for each of them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Container, Sequence
from typing import Any, Protocol, cast
from urllib.parse import urlsplit

from console.client.api import Away, Backend, Lost, Session
from console.client.watch_session import refused
from console.core.errors import ConsoleError, RemoteError
from console.core.fleet import FleetRow, row_of, worst_first
from console.core.hosts import machine_of
from console.core.models import NodePlace, RunInfo, ServerState, Snapshot
from console.core.nodes import is_loopback
from console.protocol import Pushed

__all__ = ["Fleet", "Member", "with_members"]

LOOK_S = 2.0
"""Between two looks at which servers there are."""
AGAIN_S = 2.0
"""After a session was lost, before it is attached to again."""
KEPT_STATES = frozenset({ServerState.FAILED, ServerState.CRASHED})
"""A row that ended so stays while somebody looks."""
ABOUT_ONE = ("replan", "experiment", "bench", "bench_results")
"""Calls of a backend whose first argument is the id of a run."""


class Member(Protocol):
    """What a source of servers has to have; a whole `Backend` of another machine has it too."""

    async def runs(self) -> tuple[RunInfo, ...]: ...

    async def attach(self, run_id: str) -> Session: ...


class _Fleet:
    """A backend whose runs are those of several sources (see `with_members`)."""

    def __init__(self, inner: Backend, members: Sequence[Member]) -> None:
        self._inner = inner
        self._members = tuple(members)
        self._homes: dict[str, Member] = {}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self._about_one(name) if name in ABOUT_ONE else getattr(self._inner, name)

    async def runs(self) -> tuple[RunInfo, ...]:
        """Those of this machine, then those of each member; a server that several have counts once, for the first.

        A group is one server: where it is known as a whole, or its head is, its machines' own runs are part of it.
        """
        found = list(await self._inner.runs())
        for member in self._members:
            theirs = await member.runs()
            self._homes |= {run.id: member for run in theirs}
            known = {place_of(run) for run in found}
            found += [run for run in theirs if place_of(run) not in known]
        heads = {run.place.group for run in found if run.place is not None and run.place.rank == 0}
        groups = {run.id for run in found if run.place is None}
        return tuple(run for run in found if run.place is None or not _is_part(run.place, groups, heads))

    async def attach(self, run_id: str) -> Session:
        """Attach where it is at home."""
        home = await self._home(run_id)
        return await (self._inner if home is None else home).attach(run_id)

    async def look(self, run_id: str) -> Session:
        """As `attach`, where only figures are wanted."""
        home = await self._home(run_id)
        found: Session = await look_of(self._inner if home is None else home)(run_id)
        return found

    async def _home(self, run_id: str) -> Member | None:
        for member in self._members if run_id not in self._homes else ():
            self._homes |= {run.id: member for run in await member.runs()}
        return self._homes.get(run_id)

    def _about_one(self, name: str) -> Callable[..., Any]:
        """A call about one run goes where it is at home; a member that has no such call changes nothing."""

        async def call(*arguments: Any, **named: Any) -> Any:
            run_id = arguments[0] if arguments else named.get("run_id")
            home = None if run_id is None else await self._home(run_id)
            if home is None:
                return await getattr(self._inner, name)(*arguments, **named)
            act = getattr(home, name, None)
            if act is None:
                if name == "bench_results":
                    return ()
                raise refused()
            return await act(*arguments, **named)

        return call


def with_members(inner: Backend, members: Sequence[Member]) -> Backend:
    """This backend, with the servers of other sources in its list."""
    return cast("Backend", _Fleet(inner, members)) if members else inner


def look_of(source: Any) -> Callable[[str], Any]:
    """How a source of servers is asked for figures alone."""
    found: Callable[[str], Any] = getattr(source, "look", source.attach)
    return found


def _is_part(place: NodePlace, groups: Container[str], heads: Container[str]) -> bool:
    """Whether a machine's run of a group is told of by another row already."""
    return place.group in groups or (place.rank > 0 and place.group in heads)


def place_of(run: RunInfo) -> str:
    """Where a server is reached, as one that several sources have is recognized.

    A loopback address is another one on each machine, and what has none is only itself.
    """
    url = run.url.replace("//localhost:", "//127.0.0.1:").rstrip("/")
    if not url:
        return run.id
    return f"{machine_of(run.id)} {url}" if is_loopback(urlsplit(url).hostname or "") else url


class _Seat:
    """What is known of one server."""

    def __init__(self, run: RunInfo) -> None:
        self.run = run
        self.snapshot: Snapshot | None = None
        self.seen_s: float | None = None
        self.ticks = 0
        self.lost = ""
        self.away = ""
        self.task: asyncio.Task[None] | None = None


class Fleet:
    """Follows every server of a backend, as long as `run` runs.

    Args:
        backend: names the servers and gives sessions of them.
        clock: seconds that never go back.
    """

    def __init__(self, backend: Backend, clock: Callable[[], float] = time.monotonic) -> None:
        self._backend = backend
        self._clock = clock
        self._seats: dict[str, _Seat] = {}
        self.looked = False
        """Whether it is known by now which servers there are."""
        self.problem = ""
        """Why that could not be asked the last time; the rows are those of before."""

    def rows(self) -> tuple[FleetRow, ...]:
        """All servers, worst first."""
        return worst_first(self._row(seat) for seat in self._seats.values())

    def _row(self, seat: _Seat) -> FleetRow:
        age_s = None if seat.seen_s is None else self._clock() - seat.seen_s
        return row_of(seat.run, seat.snapshot, age_s=age_s, lost=seat.lost, away=seat.away)

    def heard(self, ticks: int) -> bool:
        """Whether it is known which servers there are, and each has told `ticks` times or cannot be reached."""
        return self.looked and all(seat.ticks >= ticks or seat.lost or seat.away for seat in self._seats.values())

    async def run(self) -> None:
        """Follow until cancelled."""
        try:
            while True:
                await self._look()
                await asyncio.sleep(LOOK_S)
        finally:
            await self._leave(tuple(self._seats.values()))

    async def _look(self) -> None:
        try:
            runs = {run.id: run for run in await self._backend.runs()}
        except ConsoleError as error:
            self.problem, self.looked = str(error), True
            return
        self.problem = ""
        gone = [
            seat
            for key, seat in self._seats.items()
            if key not in runs and (seat.snapshot is None or seat.snapshot.status.state not in KEPT_STATES)
        ]
        for seat in gone:
            del self._seats[seat.run.id]
        await self._leave(gone)
        for key, run in runs.items():
            if key not in self._seats:
                seat = self._seats[key] = _Seat(run)
                seat.task = asyncio.create_task(self._follow(seat), name=f"follow {key}")
        self.looked = True

    @staticmethod
    async def _leave(seats: Sequence[_Seat]) -> None:
        tasks = [seat.task for seat in seats if seat.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, seat: _Seat) -> None:
        while True:
            try:
                session = await look_of(self._backend)(seat.run.id)
            except RemoteError as error:
                seat.away = _words(error)
            except ConsoleError as error:
                seat.lost = _words(error)
            else:
                try:
                    await self._take_all(seat, session)
                finally:
                    await session.close()
            await asyncio.sleep(AGAIN_S)

    async def _take_all(self, seat: _Seat, session: Session) -> None:
        updates: AsyncIterator[Any] = session.updates()
        async with contextlib.aclosing(cast("Any", updates)):
            async for update in updates:
                if isinstance(update, Away):
                    seat.away = update.reason
                if isinstance(update, Lost):
                    over = seat.snapshot is not None and seat.snapshot.status.over
                    seat.lost, seat.away = "" if over else update.reason, ""
                    return
                if isinstance(update, Pushed):
                    seat.run, seat.snapshot = session.run, update.snapshot
                    seat.seen_s, seat.ticks, seat.lost, seat.away = self._clock(), seat.ticks + 1, "", ""


def _words(error: ConsoleError) -> str:
    """An error on one line."""
    return ": ".join([error.title, *error.message.splitlines()[-1:]])
