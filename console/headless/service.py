"""What a service manager hears of a headless run: ready, its state in words, stopping, and that we are alive.

Separate from the narrator, which speaks to people and programs; both see the same snapshots.
"""

from __future__ import annotations

import asyncio
import contextlib

from console.core.errors import StateError
from console.core.models import LIVE_STATES, RunInfo, ServerState, Snapshot
from console.core.units import ratio_text
from console.io import runs
from console.io.notify import Notifier
from console.io.runs import RunDir

__all__ = ["ServiceNotices"]

SUPERVISOR_GONE_S = 15.0
"""It lingers for 5 s after an end that nobody asked for."""
LOOK_S = 0.1
EXTEND_SPARE_S = 60.0
"""Beyond the supervisor's own deadline."""


class ServiceNotices:
    """Passes snapshots on. `READY=1` is said once: a restart later is the supervisor's affair."""

    def __init__(self, notifier: Notifier) -> None:
        self._notifier = notifier
        self._ready = False
        self._stopping = False
        self._status = ""
        self._deadline_s: float | None = None
        self._pulse: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Start to say that we are alive, if that is wanted."""
        if self._notifier.watchdog_s is not None:
            self._pulse = asyncio.create_task(self._beat(self._notifier.watchdog_s))

    def snapshot(self, snapshot: Snapshot) -> None:
        """Say what is new in it."""
        status = snapshot.status
        fields: dict[str, str | int] = {}
        if status.state is ServerState.READY and not self._ready:
            self._ready = True
            fields["READY"] = 1
        text = _words(snapshot)
        if text != self._status:
            self._status = fields["STATUS"] = text
        waiting = status.state in {ServerState.STARTING, ServerState.LOADING, ServerState.STOPPING}
        if waiting and status.deadline_s is not None and status.deadline_s != self._deadline_s:
            # A second attempt, or a stop with a longer drain, goes beyond what the unit could know.
            self._deadline_s = status.deadline_s
            left_s = max(0.0, status.deadline_s - snapshot.time_s) + EXTEND_SPARE_S
            fields["EXTEND_TIMEOUT_USEC"] = int(left_s * 1e6)
        if fields:
            self._notifier.send(**fields)

    def stopping(self) -> None:
        """A stop was asked for."""
        if not self._stopping:
            self._stopping = True
            self._notifier.send(STOPPING=1, STATUS="stopping the server")

    async def close(self, run: RunDir, info: RunInfo) -> None:
        """Say nothing more, and wait for the supervisor's end: whoever is left after us gets SIGKILL.

        Args:
            run: the run.
            info: as its first supervisor described it.
        """
        owners = [info]
        for _ in range(int(SUPERVISOR_GONE_S / LOOK_S)):
            with contextlib.suppress(StateError):
                owners.append(run.read_info())
            owners = [owner for owner in owners if runs.is_supervised(owner)][-1:]
            if not owners:
                break
            await asyncio.sleep(LOOK_S)
        if self._pulse is not None:
            self._pulse.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._pulse

    async def _beat(self, period_s: float) -> None:
        while True:
            self._notifier.send(WATCHDOG=1)
            await asyncio.sleep(period_s)


def _words(snapshot: Snapshot) -> str:
    """The state in a line that changes when something changed, and not with every figure."""
    status = snapshot.status
    text = str(status.state)
    if status.phase is not None and status.state in LIVE_STATES:
        text += f": {status.phase}"
        if status.progress is not None and status.progress < 1:
            text += f" {ratio_text(round(status.progress, 1))}"
    if status.reason:
        text += f" – {status.reason}"
    if status.state is ServerState.STOPPING and status.in_flight:
        text += f", {status.in_flight} in flight"
    return text
