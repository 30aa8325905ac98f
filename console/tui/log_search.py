"""A search through the whole log, which goes on while lines arrive; another process does the work."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from console.core.errors import UsageError
from console.core.logsearch import Hits
from console.core.logstore import Seen
from console.io.logsearch import LogSearcher
from console.tui.log_buffer import LogBuffer

__all__ = ["LogSearch"]

TELL_S = 0.25
"""Between two counts that are shown."""


class LogSearch:
    """One search.

    Args:
        text: what is looked for.
        regex: it is a pattern.
        found: called after each stretch of lines.
    """

    def __init__(self, text: str, *, regex: bool, found: Callable[[], None]) -> None:
        self.text = text
        self.regex = regex
        self.hits = Hits()
        self.problem = ""
        """Why it ended, in words."""
        self._found = found
        self._told_s = 0.0
        self._told_hits = False
        self._seen = Seen()
        self._grown = asyncio.Event()
        self._rewinds: int | None = None

    @property
    def needle(self) -> str:
        """A plain text, all places of which can be marked; empty if it is a pattern."""
        return "" if self.regex else self.text

    def count_text(self, buffer: LogBuffer, marked: int | None) -> str:
        """`3 of 1,204`, `1,204 found`, `120 found so far`."""
        if self.problem:
            return self.problem
        total = f"{len(self.hits):,}"
        place = self.hits.place(marked) if marked is not None else None
        if self._seen.count < buffer.store.count or buffer.unread:
            so_far = "so far, still counting"
            return f"{place:,} of {total} {so_far}" if place else f"{total} {so_far}"
        return f"{place:,} of {total}" if place else f"{total} found"

    def look(self, buffer: LogBuffer) -> None:
        """The buffer has changed: go on, or take back what is there no more."""
        if self._rewinds is None:
            self._rewinds = buffer.rewinds
        elif buffer.rewinds != self._rewinds:
            self._rewinds = buffer.rewinds
            self.hits.keep(0, buffer.rewound_to)
            self._seen.cut(buffer.rewound_to)
        self._grown.set()

    async def run(self, buffer: LogBuffer) -> None:
        """Search until cancelled, the newest lines first."""
        self.look(buffer)
        try:
            searcher = await LogSearcher.begin(self.text, regex=self.regex)
        except OSError as error:
            self._end(f"no search: {error.strerror or error}")
            return
        try:
            while True:
                self._grown.clear()
                piece = buffer.store.next_piece(self._seen)
                if piece is None:
                    await self._grown.wait()
                    continue
                first, count, packed = piece
                rewinds = buffer.rewinds
                lines, spans = await searcher.look(first, packed)
                if rewinds != buffer.rewinds:
                    continue  # these lines may be others now
                self.hits.add(lines, spans)
                self._seen.add(first, first + count - 1)
                self._tell(buffer)
        except UsageError as error:
            self._end(f"{error.title}: {error.message}")
        except OSError as error:
            self._end(f"no search: {error.strerror or error}")
        finally:
            await searcher.close()

    def _tell(self, buffer: LogBuffer) -> None:
        """The first hit at once, the others now and then, the last count at the end."""
        now = time.monotonic()
        first = len(self.hits) and not self._told_hits
        if first or now - self._told_s > TELL_S or self._seen.count >= buffer.store.count:
            self._told_s, self._told_hits = now, bool(len(self.hits))
            self._found()

    def _end(self, problem: str) -> None:
        self.problem = problem
        self._found()
