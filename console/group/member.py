"""One machine of a group as the screen holds it: a session of its own over SSH, made again whenever it is lost.

The coordinator has its own line to each machine; this one is the screen's, so that nothing that a screen asks for can
delay what holds the group together.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any, cast

from console.client.api import Away, Lost
from console.client.remote.line import Line
from console.client.remote.session import RemoteSession
from console.core.errors import ConsoleError
from console.core.groupview import Heard
from console.core.models import EventRecord, Sample
from console.group.driver import target_of
from console.io.groups import GroupSpec
from console.protocol import Happened, History, Pushed

__all__ = ["Member"]

LAST_LINES_S = 10.0
"""After the next attempt has begun, what is left of the log of the one before is here."""
AGAIN_S = (0.5, 1.0, 2.0, 5.0)
"""Before each further try; the last one from then on."""


class Member:
    """Follows one machine's runs, as long as `run` runs.

    Args:
        spec: of the group.
        rank: of the machine.
        wanted: gives the id of its present run; empty while there is none.
        opened: told each session, for its log.
        clock: Unix time here.
    """

    def __init__(
        self,
        spec: GroupSpec,
        rank: int,
        wanted: Callable[[], str],
        opened: Callable[[int, RemoteSession], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.heard = Heard()
        self.events: list[EventRecord] = []
        """Those that nobody has taken yet."""
        self.samples: tuple[Sample, ...] = ()
        """Its past, as it told it first."""
        self.missed: tuple[Sample, ...] = ()
        """What it told later of a time in which it was cut off, and nobody has taken yet."""
        self.settled = asyncio.Event()
        """It has told its past, or cannot be reached, or nothing was started there."""
        self.session: RemoteSession | None = None
        self.history_s = 0.0
        self._rank = rank
        self._wanted = wanted
        self._opened = opened
        self._clock = clock
        self._line = Line(target_of(spec, rank))
        self._sessions: list[RemoteSession] = []
        """That of the attempt before too, for a while: its log may not be copied to the end yet."""
        self._leaving: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Follow until cancelled."""
        tries, done = 0, ""
        while True:
            run_id = self._wanted()
            if not run_id or run_id == done:
                self.settled.set()
                await asyncio.sleep(AGAIN_S[0])
                continue
            try:
                if await self._follow(run_id):
                    done = run_id
                tries = 0
            except ConsoleError as error:
                self._away(": ".join(filter(None, (error.title, error.message.replace("\n", " ")))))
            except OSError as error:
                self._away(str(error))
            self.settled.set()
            await asyncio.sleep(AGAIN_S[min(tries, len(AGAIN_S) - 1)])
            tries += 1

    async def close(self) -> None:
        """Detach; what runs there goes on."""
        if self._leaving is not None:
            self._leaving.cancel()
        await self._let_go()
        await self._line.close()

    async def _let_go(self, newest: RemoteSession | None = None, after_s: float = 0.0) -> None:
        """Close all sessions but the newest."""
        await asyncio.sleep(after_s)
        for session in [each for each in self._sessions if each is not newest]:
            with contextlib.suppress(ConsoleError, OSError):
                await session.close()
            if session in self._sessions:
                self._sessions.remove(session)

    async def _follow(self, run_id: str) -> bool:
        """Follow one run for as long as its session lasts. Returns whether its end was seen."""
        reach = await self._line.call("reach", run_id=run_id)
        if self.session is not None and self.session.run.id == run_id:
            await self._let_go()  # two sessions of one run would have two copies of its log
        session = await RemoteSession.open(self._line, reach)
        # The supervisor of the attempt before stays for as long as somebody looks at it.
        self._leaving = asyncio.create_task(self._let_go(session, LAST_LINES_S))
        self._sessions.append(session)
        self.session = session
        self._opened(self._rank, session)
        updates = cast("Any", session.updates(self.history_s))
        async with contextlib.aclosing(updates):
            async for update in updates:
                match update:
                    case History(samples=samples, events=events):
                        if not self.settled.is_set():
                            self.samples = samples
                        else:
                            self.missed += samples
                        self.events += events
                    case Pushed(snapshot=snapshot):
                        self.heard = Heard(snapshot=snapshot, run=session.run, heard_s=self._clock())
                        self.settled.set()
                    case Happened(event=event):
                        self.events.append(event)
                    case Away(reason=reason):
                        self._away(reason)
                    case Lost():
                        break
                if self._wanted() not in ("", run_id):
                    return True
        last = self.heard.snapshot
        return last is not None and last.status.over

    def _away(self, reason: str) -> None:
        heard = self.heard
        self.heard = Heard(snapshot=heard.snapshot, run=heard.run, heard_s=heard.heard_s, away_why=reason)
