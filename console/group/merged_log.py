"""The merged log of a group as a file: whatever reads a log here reads it as that of one run.

It is written anew by each console that looks at the group, from the copies that the sessions keep of each machine's
log, and is gone with that console.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from console.client.api import LogReader
from console.core.grouplog import Merger
from console.core.logtimes import utc_offset_s
from console.core.models import RunInfo
from console.core.text import Redactor
from console.io import paths
from console.io.logtail import LogTail
from console.io.secrets import known_secrets

__all__ = ["MergedLog"]

LOOK_S = 0.2
PAGE_BYTES = 256 * 1024
WAITING_MAX = 20_000
"""Lines of all machines that wait to be put in order, before more are read."""


class _Source:
    """The log of one run."""

    def __init__(self, reader: LogReader, run: RunInfo) -> None:
        self.reader = reader
        self.run = run
        self.last_line = 0
        """Number of the last line that was taken."""


class MergedLog:
    """Grows while `run` runs.

    Args:
        hosts: of the machines, by rank.
        created_s: of the group, in Unix time.

    Raises:
        StateError: the cache directory is not writable.
    """

    def __init__(self, hosts: Sequence[str], created_s: float) -> None:
        root = paths.make_private_dir(paths.cache_dir() / "groups")
        _remove_left(root)
        self._folder = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}.", dir=root))
        self.path = self._folder / "server.log"
        self._file = self.path.open("ab", buffering=0)
        os.fchmod(self._file.fileno(), 0o600)
        self._merger = Merger(hosts, created_s)
        self._sources: list[list[_Source]] = [[] for _ in hosts]
        self._coming: deque[tuple[int, _Source]] = deque()
        """Given by the event loop, taken by the thread that reads."""
        self.bytes_written = 0
        self._working = threading.Lock()
        self._closed = False

    def add(self, rank: int, reader: LogReader, run: RunInfo) -> None:
        """Another run of a machine, after what is left of the one before; or the same, which goes on where it was."""
        self._coming.append((rank, _Source(reader, run)))

    def reader(self) -> LogReader:
        """Reads it from its start."""
        return LogTail(self.path, Redactor(known_secrets()))

    async def run(self) -> None:
        """Put in order what comes, until cancelled."""
        while True:
            more = await asyncio.to_thread(self._step)
            if not more:
                await asyncio.sleep(LOOK_S)

    def _step(self) -> bool:
        """Read and write some. True if there is more at once."""
        with self._working:
            return not self._closed and self._work()

    def _work(self) -> bool:
        while self._coming:
            self._take_in(*self._coming.popleft())
        now_s = time.monotonic()
        behind = [False] * len(self._sources)
        for rank, sources in enumerate(self._sources):
            if self._merger.waiting >= WAITING_MAX:
                behind[rank] = bool(sources)
                continue
            while sources:
                source, run = sources[0], sources[0].run
                page = source.reader.read(PAGE_BYTES)
                if page.lines:
                    known = max(source.last_line + 1 - page.first_line, 0)
                    source.last_line = max(source.last_line, page.first_line + len(page.lines) - 1)
                    offset_s = utc_offset_s(run.id, run.created_s, None)
                    new = page.lines[known:]
                    self._merger.feed(rank, new, pid=run.server_pid or 0, now_s=now_s, offset_s=offset_s)
                    behind[rank] = True
                    break
                if len(sources) == 1:
                    break
                source.reader.close()
                del sources[0]
        full = self._merger.waiting >= WAITING_MAX
        lines = self._merger.take(now_s, behind=() if full else behind)
        if lines:
            data = "".join(f"{text}\n" for text in lines).encode("utf-8", "surrogateescape")
            self._file.write(data)
            self.bytes_written += len(data)
        return any(behind)

    def _take_in(self, rank: int, new: _Source) -> None:
        sources = self._sources[rank]
        if sources and sources[-1].run.id == new.run.id:
            old = sources.pop()
            old.reader.close()
            new.last_line = old.last_line
        sources.append(new)

    def close(self) -> None:
        """Let go of it, once what is being written is written."""
        with self._working:
            self._closed = True
            self._let_go()

    def _let_go(self) -> None:
        for source in [*(source for sources in self._sources for source in sources), *(new for _, new in self._coming)]:
            source.reader.close()
        self._file.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def _remove_left(root: Path) -> None:
    """What consoles that were killed have left."""
    with contextlib.suppress(OSError):
        for folder in root.iterdir():
            owner = folder.name.partition(".")[0]
            if owner.isdecimal() and not Path(f"/proc/{owner}").exists():
                shutil.rmtree(folder, ignore_errors=True)
