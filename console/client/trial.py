"""A front end's side of a trial: one line to the supervisor that asks, holds on, and keeps or takes back.

The line is the trial's life: whatever ends this process closes it, and the supervisor then goes back by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from types import TracebackType

import msgspec

from console.client.api import Lost
from console.client.launch import base_url
from console.client.session import SocketSession
from console.core.command import build_command, served_name
from console.core.errors import ConsoleError, NotRunningError, ServerFailedError, UsageError
from console.core.groupwords import no_trial
from console.core.models import ProfileChange, RunInfo, ServerState, Snapshot, TrialPhase
from console.core.overrides import apply_changes
from console.core.trial import LEASE_S
from console.io.runs import LaunchSpec, RunDir
from console.protocol import Pushed

__all__ = ["RefusedError", "TrialLine", "changed_spec"]

HOLDS_PER_LEASE = 3
ENDED = frozenset({TrialPhase.KEPT, TrialPhase.REVERTED, TrialPhase.LOST})


class RefusedError(ServerFailedError):
    """The server does not serve with the settings that were tried; those from before serve again."""


def changed_spec(run: RunDir, info: RunInfo, changes: Sequence[ProfileChange]) -> LaunchSpec:
    """What starts this run's server with these changes, on the same engine.

    Raises:
        ProfileError: a change does not fit the profile.
        UsageError: it would serve elsewhere, or under another name.
        StateError: the run's files cannot be read.
    """
    before = run.read_launch()
    profile = apply_changes(before.profile, tuple(changes))
    if (base_url(profile), served_name(profile)) != (before.url, before.model):
        raise UsageError(
            "A trial may not change where the server listens, or the name of its model",
            f"it serves {before.model} at {before.url}",
            "Stop it and launch it with that setting.",
        )
    place = before.argv.index("serve")
    engine, model = before.argv[:place], before.argv[place + 1]
    command = build_command(profile, engine[-1], model, info.engine_version or None)
    watch = profile.supervise
    return msgspec.structs.replace(
        before,
        argv=(*engine[:-1], *command.argv),
        env=command.env,
        profile=profile,
        timing=msgspec.structs.replace(
            before.timing,
            ready_timeout_s=watch.ready_timeout_s,
            drain_timeout_s=watch.drain_timeout_s,
            stop_timeout_s=watch.stop_timeout_s,
            restart=watch.restart,
            hang_timeout_s=watch.hang_timeout_s,
            canary_s=watch.canary_s,
        ),
    )


class TrialLine:
    """A session that is used for trials alone. Closes it, and with it gives up a trial, at the end of `async with`.

    Args:
        session: a line of its own; nobody else reads its updates.
        lease_s: how long the supervisor waits for a word of ours.
        watch: called with every snapshot.
    """

    def __init__(
        self, session: SocketSession, *, lease_s: float = LEASE_S, watch: Callable[[Snapshot], None] = lambda _: None
    ) -> None:
        self.session = session
        self.snapshot: Snapshot | None = None
        self._lease_s = lease_s
        self._watch = watch
        self._lost = ""
        self._changed = asyncio.Event()
        self._open = False
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> TrialLine:
        self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._hold())]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._open and not self._lost:
            with contextlib.suppress(ConsoleError):
                await self.session.revert("whoever tried them gave up")
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await self.session.close()

    @property
    def under_way(self) -> bool:
        """Other settings than those from before may be serving."""
        return self._open

    @property
    def lost(self) -> bool:
        """The supervisor does not answer on this line any more."""
        return bool(self._lost)

    async def serving(self) -> Snapshot:
        """Wait until the server is ready with no trial going back.

        Raises:
            ServerFailedError: it is over.
            NotRunningError: the supervisor was lost.
            UsageError: it is one machine's part of a group.
        """
        run = self.session.run
        if run.place is not None:
            raise no_trial(run.profile_name, run.place.group, run.place.hosts)

        def check(snapshot: Snapshot) -> bool:
            status = snapshot.status
            if status.over and status.started_s is not None:
                raise ServerFailedError("The server is not running", status.reason, "See: dsv4-console logs")
            trial = snapshot.trial
            return status.state is ServerState.READY and (trial is None or trial.phase in ENDED or self._open)

        return await self._until(check)

    async def attempt(self, changes: tuple[ProfileChange, ...], spec: LaunchSpec) -> None:
        """Have these settings served. Returns when the server is ready with them.

        Raises:
            RefusedError: they did not start; those from before serve again, or are about to.
            UsageError: the supervisor refuses.
            NotRunningError: the supervisor was lost; another one takes the settings back.
        """
        before, self._open = self._open, True
        try:
            name, number = await self.session.attempt(changes, spec, self._lease_s)
        except UsageError:
            self._open = before
            raise

        def check(snapshot: Snapshot) -> bool:
            trial = snapshot.trial
            if trial is None or trial.id != name or trial.number != number:
                return False  # of a moment before it was asked
            if trial.phase in ENDED or trial.phase is TrialPhase.REVERTING:
                self._open = False
                raise RefusedError("The server does not serve with these settings", trial.why, "")
            return trial.phase is TrialPhase.SERVING and snapshot.status.state is ServerState.READY

        await self._until(check)

    async def keep(self) -> None:
        """The settings that are tried stay. Raises as `attempt`."""
        await self.session.keep()
        self._open = False

    async def revert(self, why: str) -> None:
        """Have what was there before serve again. Returns when it is ready.

        Raises:
            ServerFailedError: it did not start.
            NotRunningError: the supervisor was lost; another one goes on.
        """
        if self._open:
            await self.session.revert(why)
            self._open = False
        await self.back()

    async def back(self) -> None:
        """Wait until a trial that goes back has ended. Raises as `revert`."""

        def check(snapshot: Snapshot) -> bool:
            trial = snapshot.trial
            if trial is not None and trial.phase is TrialPhase.LOST:
                raise ServerFailedError(
                    "What served before did not start again", trial.why, "See: dsv4-console logs, then restart"
                )
            return trial is None or trial.phase in ENDED

        await self._until(check)

    async def _until(self, check: Callable[[Snapshot], bool]) -> Snapshot:
        """Wait for a snapshot; limits are the supervisor's own (ready timeout, lease)."""
        while True:
            if self._lost:
                self._open = False
                raise NotRunningError("The supervisor was lost", self._lost, "Another one takes the settings back.")
            self._changed.clear()
            if self.snapshot is not None and check(self.snapshot):
                return self.snapshot
            await self._changed.wait()

    async def _listen(self) -> None:
        async for update in self.session.updates():
            match update:
                case Pushed(snapshot=snapshot):
                    self.snapshot = snapshot
                    self._watch(snapshot)
                case Lost(reason=reason):
                    self._lost = reason
                case _:
                    pass
            self._changed.set()

    async def _hold(self) -> None:
        while True:
            await asyncio.sleep(self._lease_s / HOLDS_PER_LEASE)
            if self._open:
                with contextlib.suppress(ConsoleError):  # refused where it has gone back: a snapshot says so too
                    await self.session.hold()
