"""The coordinator itself: feeds the group's machine, carries out its effects, writes down what happens.

It owns nothing that serves: killed, cut off or away, it leaves machines that go on and judge for themselves. All that a
successor needs is in `group.json`, written before anything is done.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import Any

import msgspec

from console.core import group
from console.core.group import Announce, Group, Life, StartNode, StopNode
from console.core.groupwords import Narration
from console.core.lifecycle_events import Now
from console.core.models import EventRecord
from console.group.driver import NodeDriver
from console.io import process
from console.io.groups import GroupDir, GroupRecord, Wish
from console.supervisor.guardian import STOP_SIGNALS

__all__ = ["Coordinator"]

TICK_S = 0.25
MONEY_S = 5.0
"""Between two writes of what it costs while nothing else changes."""
RETRY_AFTER_BOOT_S = 60.0
"""A saved moment that lies further ahead than any wait is of an earlier boot."""


class Coordinator:
    """Holds one group together until nothing of it runs and nothing is planned."""

    def __init__(self, folder: GroupDir) -> None:
        self._folder = folder
        self._record = folder.read()
        self._written: GroupRecord | None = None
        self._money_s = 0.0
        self._spec = self._record.spec
        self._group: Group = self._record.group
        self._events: asyncio.Queue[group.Event] = asyncio.Queue()
        self._drivers = [NodeDriver(self._spec, rank, self._events.put_nowait) for rank in range(len(self._spec.hosts))]
        self._narration = Narration(self._group)

    async def run(self) -> None:
        """Return when the group is over."""
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, self._events.put_nowait, group.StopWanted())
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)  # the guardian starts this process with them blocked
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self._write(held=True)
        try:
            self._resume()
            self._feed(group.Tick())
            while not self._group.over:
                self._obey(self._folder.read_wish())
                try:
                    async with asyncio.timeout(TICK_S):
                        event: group.Event = await self._events.get()
                except TimeoutError:
                    event = group.Tick()
                self._feed(event)
        finally:
            await asyncio.gather(*(driver.close() for driver in self._drivers))
            self._write(held=False)

    def _resume(self) -> None:
        """Go on where a lost coordinator was."""
        state = self._group
        if state.retry_at_s is not None and state.retry_at_s > time.monotonic() + RETRY_AFTER_BOOT_S:
            self._group = state = msgspec.structs.replace(state, retry_at_s=time.monotonic())
        for rank, node in enumerate(state.nodes):
            if node.life in (Life.STARTING, Life.UP):
                self._drivers[rank].resume(state.attempt, starting=node.life is Life.STARTING)
                if node.stop_sent:
                    self._drivers[rank].stop(state.drain_s if rank == 0 else 0.0)
                elif node.announced or node.warned:
                    self._drivers[rank].announce(Announce(rank, ending=node.warned))
        if any(node.life is not Life.IDLE for node in state.nodes):
            self._event("note", "another coordinator holds the group together now", {})

    def _obey(self, wish: Wish | None) -> None:
        if wish is None or wish.number <= self._record.obeyed:
            return
        self._record = msgspec.structs.replace(self._record, obeyed=wish.number)
        kind = group.RestartWanted if wish.verb == "restart" else group.StopWanted
        self._feed(kind(wish.drain_s))

    def _feed(self, event: group.Event) -> None:
        now = Now(time.monotonic(), time.time())
        self._group, effects = group.step(self._group, event, now)
        self._write(held=True)
        for line in self._narration.news(self._group, now.wall_s):
            self._event(line.kind, line.text, line.data)
        for effect in effects:
            match effect:
                case StartNode(rank=rank, attempt=attempt):
                    if rank == 0:
                        self._record = msgspec.structs.replace(
                            self._record, money=None, earlier_money=self._record.spent
                        )
                    self._drivers[rank].start(attempt)
                case StopNode(rank=rank, drain_s=drain_s):
                    self._drivers[rank].stop(drain_s)
                case Announce(rank=rank):
                    self._drivers[rank].announce(effect)

    def _event(self, kind: str, text: str, data: dict[str, Any]) -> None:
        self._folder.append_event(EventRecord(time_s=time.time(), kind=kind, text=text, data=data))

    def _write(self, *, held: bool) -> None:
        me = os.getpid() if held else None
        record = msgspec.structs.replace(
            self._record,
            group=self._group,
            coordinator_pid=me,
            coordinator_start_s=process.process_start_s(me) if me is not None else None,
        )
        # A tick that changed nothing is not written again; money changes with every one.
        changed, now_s = record != self._written, time.monotonic()
        if changed or now_s - self._money_s >= MONEY_S:
            record = self._record = msgspec.structs.replace(record, money=self._drivers[0].money or record.money)
            self._money_s = now_s
        if record != self._written:
            self._folder.write(record)
            self._written = record
