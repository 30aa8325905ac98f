"""What the console sees of a run while a benchmark measures it, on a line of its own to the supervisor."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque

from console.client.session import SocketSession
from console.core.bench import BenchPoint
from console.core.bench_columns import Seen, seen, with_columns
from console.core.errors import ConsoleError
from console.core.models import ServerState, Snapshot
from console.protocol import Pushed

__all__ = ["LAST_TICK_S", "SERVING", "Watch"]

LAST_TICK_S = 3.0
"""How long after a row its last tick may come."""
SAMPLES_MAX = 24 * 3600
SERVING = (ServerState.READY, ServerState.UNHEALTHY)
"""Under heavy load `/health` may be late; that alone ends no row."""


class Watch:
    """Takes in the run's snapshots while rows are measured."""

    def __init__(self, session: SocketSession) -> None:
        self._session = session
        self.samples: deque[Seen] = deque(maxlen=SAMPLES_MAX)
        self.latest: Snapshot | None = None
        self._news = asyncio.Event()
        self._task = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        async for update in self._session.updates():
            if isinstance(update, Pushed):
                self.latest = update.snapshot
                self.samples.append(seen(update.snapshot))
                self._news.set()

    async def until(self, time_s: float, limit_s: float) -> None:
        """Wait for a snapshot of this time or later, or for the limit."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                while not self._task.done() and (self.latest is None or self.latest.time_s < time_s):
                    self._news.clear()
                    await self._news.wait()

    async def ended(self) -> None:
        """Return once the server is neither ready nor merely slow to answer; never where its supervisor is lost."""
        while self.latest is None or self.latest.status.state in SERVING:
            self._news.clear()
            await self._news.wait()

    async def columns(self, point: BenchPoint, usd_per_hour: float | None) -> tuple[BenchPoint, tuple[str, ...]]:
        """A row with what was seen while it ran, and why a column of it is empty."""
        await self.until(point.started_s + point.duration_s, LAST_TICK_S)
        gpus = self.latest.gpus if self.latest else None
        return with_columns(point, self.samples, usd_per_hour, gpus)

    async def close(self) -> None:
        """Detach."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError, ConsoleError):
            await self._task
        await self._session.close()
