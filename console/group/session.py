"""A whole group as one session: its coordinator's record, and the figures, events and logs of all its machines.

What it asks for (a stop, a restart) it writes down as a wish, as the commands do: the coordinator does it everywhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence

import msgspec

from console.client.api import ChatDelta, ChatMessage, ChatOptions, LogReader, Lost, Update
from console.client.remote.session import RemoteSession
from console.core.errors import ConsoleError, NotRunningError, StateError
from console.core.groupview import group_event, group_sample, merge_samples, merged, node_event
from console.core.hints import HintEngine
from console.core.hints.table import NODE_RULES
from console.core.models import EventRecord, RunInfo, Sample, Snapshot
from console.core.money import added
from console.core.overrides import apply_overrides
from console.core.snooze import Snooze
from console.group.launch import hold
from console.group.member import Member
from console.group.merged_log import MergedLog
from console.io import profiles
from console.io.groups import GroupDir, GroupRecord, is_held
from console.protocol import Happened, History, Pushed

__all__ = ["GroupSession", "run_of"]

TICK_S = 0.5
LAST_LINES_S = 5.0
"""After the end of a group: when for so long no line of a log has come, there is none left."""
SETTLE_S = 20.0
"""Machines are waited for so long before the first picture; who comes later is shown then."""


def run_of(record: GroupRecord, head: RunInfo | None = None) -> RunInfo:
    """A group as a run.

    Args:
        record: of the group.
        head: the head's run, which tells what its profile has set; `None` where it is not known.
    """
    spec = record.spec
    base = head or RunInfo(id=spec.id, profile_name=spec.profile_name)
    return msgspec.structs.replace(
        base,
        id=spec.id,
        profile_name=spec.profile_name,
        model=spec.model,
        url=spec.url,
        created_s=spec.created_s,
        state=str(record.group.state),
        reason=record.group.reason,
        usd_per_hour=base.usd_per_hour if base.usd_per_hour is not None else spec.usd_per_hour,
        supervisor_pid=None,
        guardian_pid=None,
        server_pid=None,
        diagnosis=None,
        place=None,
    )


class GroupSession:
    """One group (see `console.client.api.Session`). Use `open`."""

    def __init__(self, folder: GroupDir, record: GroupRecord) -> None:
        self._folder = folder
        self._record = record
        spec = record.spec
        self.hosts = spec.hosts
        """Whom a stop is about."""
        self._log = MergedLog(spec.hosts, spec.created_s)
        self._members = [Member(spec, rank, self._wanted(rank), self._opened) for rank in range(len(spec.hosts))]
        self._following: list[asyncio.Task[None]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._seq = 0
        self._hints: HintEngine | None = None

    @classmethod
    async def open(cls, folder: GroupDir, history_s: float) -> GroupSession:
        """Attach; a group that nobody holds together gets a coordinator first.

        Args:
            folder: of the group.
            history_s: how much of the past its machines are asked for.

        Raises:
            NotRunningError: it is over.
            StateError: its record cannot be read, or the coordinator did not come up.
        """
        record = await asyncio.to_thread(folder.read)
        if record.group.over:
            raise NotRunningError(
                "The group is over",
                f"{record.spec.id}: {record.group.state} {record.group.reason}".strip(),
                f"Its logs: dsv4-console logs {record.spec.id}",
            )
        await hold(folder)
        session = cls(folder, record)
        session._hints = await asyncio.to_thread(_hints_of, record)
        session._begin(history_s)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_S):
                await asyncio.gather(*(member.settled.wait() for member in session._members))
        return session

    def _begin(self, history_s: float) -> None:
        for member in self._members:
            member.history_s = history_s
        self._following = [asyncio.create_task(member.run()) for member in self._members]
        self._tasks = [*self._following, asyncio.create_task(self._log.run()), asyncio.create_task(self._look())]

    @property
    def run(self) -> RunInfo:
        """The group, with what the head's supervisor knows of the profile."""
        return run_of(self._record, self._members[0].heard.run)

    async def updates(self, history_s: float = 0.0) -> AsyncIterator[Update]:
        """The past of all machines, then a snapshot of all of them twice a second, and what happens anywhere."""
        events, offset = self._folder.events()
        told = [event for one in events if (event := group_event(one)) is not None]
        past = sorted([*told, *self._news()], key=lambda event: event.time_s)
        samples = merge_samples([member.samples for member in self._members]) if history_s else ()
        yield History(samples=samples, events=tuple(past))
        while True:
            self._seq += 1
            yield Pushed(snapshot=self._snapshot())
            events, offset = self._folder.events(offset)
            new = [event for one in events if (event := group_event(one)) is not None]
            for event in sorted([*new, *self._news()], key=lambda event: event.time_s):
                yield Happened(event=event)
            if missed := self._missed():
                yield History(samples=missed)
            if self._record.group.over:
                yield Pushed(snapshot=self._snapshot())
                yield Lost(reason="the group is over")
                return
            await asyncio.sleep(TICK_S)

    async def stop(self, drain_timeout_s: float | None = None) -> None:
        """Ask for a stop on all machines. Raises StateError if it cannot be written down, NotRunningError if over."""
        await self._wish("stop", drain_timeout_s)

    async def restart(self, drain_timeout_s: float | None = None) -> None:
        """Ask for a stop and a new start on all machines. Raises as `stop`."""
        await self._wish("restart", drain_timeout_s)

    async def postpone(self) -> None:
        """Postpone the idle deadlines, which the head counts. Raises as its session does."""
        await self._head().postpone()

    def snoozes(self) -> tuple[Snooze, ...]:
        """Hints that are put aside; the head keeps them."""
        head = self._members[0].session
        return head.snoozes() if head is not None else ()

    async def snooze(self, new: Snooze) -> tuple[Snooze, ...]:
        """Put a hint aside. Raises as the head's session does."""
        return await self._head().snooze(new)

    async def wake(self, hint: str) -> tuple[Snooze, ...]:
        """Show a hint again. Raises as `snooze`."""
        return await self._head().wake(hint)

    def log(self) -> LogReader:
        """Read the merged log from its start."""
        return self._log.reader()

    async def chat(self, messages: Sequence[ChatMessage], options: ChatOptions) -> AsyncIterator[ChatDelta]:
        """Stream an answer of the served model, from the head."""
        head = self._members[0].session
        if head is None:
            yield ChatDelta(done=True, error=f"{self.hosts[0]}, the head, is not reached")
            return
        async for delta in head.chat(messages, options):
            yield delta

    @property
    def log_there(self) -> str:
        """Where the logs are: each machine keeps its own, and this one's directory what happened."""
        files = ", ".join(f"{node.host}: {node.run}/server.log" for node in self._record.group.nodes if node.run)
        return f"in the runs of each machine: {files}" if files else str(self._folder.path)

    async def close(self) -> None:
        """Detach; the group goes on."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(member.close() for member in self._members), return_exceptions=True)
        await asyncio.to_thread(self._log.close)

    def _wanted(self, rank: int) -> Callable[[], str]:
        return lambda: self._record.group.nodes[rank].run

    def _opened(self, rank: int, session: RemoteSession) -> None:
        self._log.add(rank, session.log(), session.run)

    def _head(self) -> RemoteSession:
        head = self._members[0].session
        if head is None:
            raise NotRunningError("The head is not reached", self.hosts[0], "It is tried again by itself.")
        return head

    def _news(self) -> list[EventRecord]:
        """What happened on the machines since the last call."""
        found = []
        for host, member in zip(self.hosts, self._members, strict=True):
            found += [node_event(host, event) for event in member.events]
            member.events = []
        return found

    def _missed(self) -> tuple[Sample, ...]:
        """Figures of the time in which the head was cut off: most of what is charted is the head's."""
        pasts = [member.missed for member in self._members]
        for member in self._members:
            member.missed = ()
        return merge_samples(pasts) if pasts[0] else ()

    def _snapshot(self) -> Snapshot:
        snapshot = merged(
            self._record.group,
            [member.heard for member in self._members],
            seq=self._seq,
            now_s=time.time(),
            mono_s=time.monotonic(),
            log_bytes=self._log.bytes_written,
        )
        record = self._record
        money = added(record.earlier_money, snapshot.money or record.money)
        snapshot = msgspec.structs.replace(snapshot, money=money)
        if self._hints is None:
            return snapshot
        between = self._hints.update(group_sample(snapshot))
        return msgspec.structs.replace(snapshot, hints=(*between, *snapshot.hints))

    async def _look(self) -> None:
        """Read what the coordinator writes."""
        while not self._record.group.over:
            with contextlib.suppress(StateError):
                self._record = await asyncio.to_thread(self._folder.read)
            await asyncio.sleep(TICK_S / 2)
        # A supervisor whose work is done stays for those who look at it: once the last lines are here, nobody does.
        written, since_s = -1, time.monotonic()
        while time.monotonic() - since_s < LAST_LINES_S:
            if written != self._log.bytes_written:
                written, since_s = self._log.bytes_written, time.monotonic()
            await asyncio.sleep(TICK_S)
        for task in self._following:
            task.cancel()
        await asyncio.gather(*self._following, *(member.close() for member in self._members), return_exceptions=True)

    async def _wish(self, verb: str, drain_s: float | None) -> None:
        if self._record.group.over:
            raise NotRunningError("The group is over", self._record.spec.id)
        try:
            await asyncio.to_thread(self._folder.wish, verb, drain_s)
        except OSError as error:
            raise StateError(
                "Cannot write down what is wanted", f"{self._folder.path}: {error.strerror}", "Free some disk space."
            ) from error
        if not is_held(self._record):
            await hold(self._folder)


def _hints_of(record: GroupRecord) -> HintEngine | None:
    """Judges what holds between the machines; `None` where the profile is not here any more."""
    spec = record.spec
    try:
        profile = apply_overrides(profiles.load(spec.profile_name).profile, spec.overrides)
    except ConsoleError:
        return None
    return HintEngine(profile, rules=NODE_RULES)
