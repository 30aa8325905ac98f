"""Watches the other machines of a group for as long as the server here runs.

The head watches all others, and they watch the head: that is enough for all to end when one has gone, as the head's
end is seen by everybody. `console.core.peers` judges.
"""

from __future__ import annotations

import asyncio
import contextlib
import time

from console.core.models import NodePlace
from console.core.peers import PeerWatch, Seen, look
from console.io.peers import connected_to, reach, resolved

__all__ = ["PeersWatch"]

LOOK_S = 1.0


class PeersWatch:
    """Watches from `begin` to `end`.

    Args:
        place: of this machine; `None` for a run that is in no group, which has nobody to watch.
        patience_s: how long the head may take to open its port.
    """

    def __init__(self, place: NodePlace | None, patience_s: float) -> None:
        self._place = place
        self._patience_s = patience_s
        self._tasks: list[asyncio.Task[None]] = []
        self.lost = ""
        """Which machine has gone and how that shows; empty while none has."""

    def begin(self) -> None:
        """A server was started: what was known of the others no longer holds."""
        self.end()
        place = self._place
        if place is None or place.port is None:
            return
        others = range(1, len(place.hosts)) if place.rank == 0 else (0,)
        self._tasks = [
            asyncio.create_task(self._watch(place, rank, place.port)) for rank in others if place.addresses[rank]
        ]

    def end(self) -> None:
        """The server has ended."""
        self.lost = ""
        for task in self._tasks:
            task.cancel()
        self._tasks = []

    async def close(self) -> None:
        """End, and wait for it."""
        tasks = self._tasks
        self.end()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _watch(self, place: NodePlace, rank: int, port: int) -> None:
        address = place.addresses[rank]
        number = await asyncio.to_thread(resolved, address)
        # On one machine the head's own connections look like those of the others.
        meets = place.rank == 0 and place.meets and number != await asyncio.to_thread(resolved, place.addresses[0])
        watch, began_s = PeerWatch(), time.monotonic()
        while not self.lost:
            held = await asyncio.to_thread(connected_to, port) if meets else None
            seen = Seen(
                reach=await reach(address, port),
                serves=rank == 0,
                connected=None if held is None else number in held,
            )
            watch, why = look(watch, seen, time.monotonic())
            if seen.serves and not watch.opened and time.monotonic() - began_s >= self._patience_s:
                why = f"it did not open its port within {self._patience_s:.0f} s"
            if why:
                where = f"{address}:{port}" if seen.serves else address
                self.lost = f"node {rank} ({place.hosts[rank]}, {where}): {why}"
            await asyncio.sleep(LOOK_S)
