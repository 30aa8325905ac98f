"""Keeps what a run writes within bounds, and says what was lost: archives the log, watches the disk, counts.

Separate from the supervisor proper, which decides about the server: nothing here can hold up or change that.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from console.core.models import Level, SourceStatus
from console.core.units import bytes_text
from console.io.logarchive import LogArchive
from console.supervisor.logwatch import LogWatch
from console.supervisor.records import Records

__all__ = ["Care", "disk_trouble"]

DISK_PERIOD_S: Final = 5.0
DISK_FULL_BYTES: Final = 1024 * 1024
"""With less than this the disk is full: the next page of the log may not fit."""
DISK_LOW_BYTES: Final = 512 * 1024 * 1024
DISK_ROOM: Final = 2
"""A warning ends when there is so many times the room that made it."""
SAY_PERIOD_S: Final = 30.0
"""Between two counts of what is being lost."""

Say = Callable[[str, Level], None]


def disk_trouble(free_bytes: int, before: str) -> str:
    """`full`, `low` or nothing.

    Args:
        free_bytes: room for this user.
        before: the answer before; a warning does not end at the figure that began it.
    """
    if free_bytes < DISK_FULL_BYTES * (DISK_ROOM if before == "full" else 1):
        return "full"
    if free_bytes < DISK_LOW_BYTES * (DISK_ROOM if before else 1):
        return "low"
    return ""


class Care:
    """Looks after one run's files. `tick` is called once a second or so and never waits."""

    def __init__(
        self,
        path: Path,
        log: LogWatch,
        records: Records,
        say: Say,
        *,
        archive: LogArchive | None = None,
        free_bytes: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._log = log
        self._records = records
        self._say = say
        self._archive = archive or LogArchive(path / "server.log")
        self._free_bytes = free_bytes
        self._clock = clock
        self._rotation: asyncio.Task[tuple[str, ...]] | None = None
        self._disk = ""
        self._disk_free_bytes = 0
        self._disk_next_s = 0.0
        self._said: dict[str, tuple[int, float]] = {}

    def tick(self) -> None:
        """Do what is due."""
        self._rotate()
        now = self._clock()
        if now >= self._disk_next_s:
            self._disk_next_s = now + DISK_PERIOD_S
            self._records.retry()
            self._look_at_disk()
        self._count(
            "lines",
            self._log.skipped_lines,
            "lines of the log were not looked at for a diagnosis: they came faster than they can be read."
            " The log has them",
        )
        self._count("records", self._records.lost, f"records could not be written: {self._records.last_error}")

    def sources(self) -> tuple[SourceStatus, ...]:
        """The disk as a source of trouble, while it is one."""
        if not self._disk:
            return ()
        return (SourceStatus(name="disk", ok=False, error=self._disk_text()),)

    async def close(self) -> None:
        """Wait for an archive that is being made, seconds at most, and let go of the log."""
        if self._rotation is not None:
            await self._rotation
            self._tell_rotation(self._rotation)
        self._log.close()

    def _rotate(self) -> None:
        rotation = self._rotation
        if rotation is not None:
            if not rotation.done():
                return
            self._rotation = None
            self._tell_rotation(rotation)
        if self._archive.due():
            self._rotation = asyncio.create_task(asyncio.to_thread(self._archive.rotate))

    def _tell_rotation(self, rotation: asyncio.Task[tuple[str, ...]]) -> None:
        for text in rotation.result():
            self._say(text, Level.WARN)

    def _look_at_disk(self) -> None:
        try:
            self._disk_free_bytes = self._free_bytes(self._path)
        except OSError:
            return
        before, self._disk = self._disk, disk_trouble(self._disk_free_bytes, self._disk)
        if self._disk == before:
            return
        if self._disk:
            self._say(self._disk_text(), Level.BAD if self._disk == "full" else Level.WARN)
        else:
            lost = f"; {self._records.lost:,} records were lost" if self._records.lost else ""
            self._say(f"the disk has room again, {bytes_text(self._disk_free_bytes)} free{lost}", Level.OK)

    def _disk_text(self) -> str:
        free = bytes_text(self._disk_free_bytes)
        if self._disk == "full":
            return (
                f"the disk of {self._path} is full ({free} free): lines of the log and records are being lost, serving "
                "goes on. Free some space"
            )
        return f"the disk of {self._path} is nearly full: {free} free"

    def _count(self, what: str, count: int, text: str) -> None:
        """Say a count that grew: at once, then seldom."""
        said, at_s = self._said.get(what, (0, -SAY_PERIOD_S))
        now = self._clock()
        if count > said and now - at_s >= SAY_PERIOD_S:
            self._said[what] = (count, now)
            self._say(f"{count:,} {text}", Level.WARN)
