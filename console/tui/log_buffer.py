"""The log of one run in memory, shared by the tail and the log pane: the newest lines at once, the others after them.

A reader that is far behind passes over what is old, so that the end is there at once. A second reader then fills the
gap from the start, a little at a time, while the log pane is in sight.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from console.client.api import LogReader
from console.core.logstore import LogStore
from console.core.logtimes import stamp_s, utc_offset_s

__all__ = ["BYTES_MAX", "LogBuffer"]

BYTES_MAX = 128 * 1024 * 1024
"""Memory for one log, packed: more than what is kept of it on disk (1 GiB, a tenth of that when packed)."""
DROPPED_SHARE = 16
"""Dropped at once when full: one such part, so that dropping is rare."""
FACTS_BYTES = 15
"""Memory that a line takes beside its text: facts and its place among the rows."""
PUMP_S = 0.03
"""Work per tick that needs no key to wait for long."""
PAGE_BYTES = 64 * 1024
"""Read at a time: some milliseconds of work."""
BEHIND_BYTES_MAX = 2 * 1024 * 1024
"""Further behind the log, lines are passed over for now."""
LAST_BYTES = 256 * 1024
"""Read at once after that."""
STAMP_SLACK_S = 86_400.0
"""A stamp may lie so far outside the life of the run, whatever its zone; else it is none."""


class LogBuffer:
    """Lines counted from 1 as the file counts them.

    Args:
        reader: of the log.
        older: makes a second reader from the start, for what the first one passed over.
        run_id: of the run, which tells the zone of its stamps.
        created_s: launch of the run in Unix time.
    """

    def __init__(
        self,
        reader: LogReader,
        older: Callable[[], LogReader] | None = None,
        *,
        run_id: str = "",
        created_s: float | None = None,
    ) -> None:
        self._reader = reader
        self._older = older
        self._old: LogReader | None = None
        self._old_line = 0
        """Last line that the second reader has given."""
        self.run_id = run_id
        self._created_s = created_s or time.time()
        self.store = LogStore(self._stamp)
        self.hold = False
        """Somebody reads further up: nothing may be dropped, so reading waits when full. The file loses nothing."""
        self.rewinds = 0
        """How often lines were taken back: what was found in them may be there no more."""
        self.rewound_to = 0
        """The first line that was taken back last."""
        self.behind = False
        """There is more to read at once."""
        self._bytes_read = 0

    def _stamp(self, text: str) -> float | None:
        at = stamp_s(text, self._created_s)
        if at is None or not self._created_s - STAMP_SLACK_S <= at <= time.time() + STAMP_SLACK_S:
            return None
        return at

    @property
    def utc_offset_s(self) -> float:
        """How far the log's times are ahead of UTC."""
        # By the run's id alone: the newest lines come first, so the first stamp seen here is not the log's first.
        return utc_offset_s(self.run_id, self._created_s, None)

    @property
    def first_line(self) -> int:
        """Number of the first line that is here."""
        return self.store.first_line

    @property
    def last_line(self) -> int:
        """Number of the newest line; 0 when there is none."""
        return self.store.last_line

    def line(self, number: int) -> str | None:
        """The line with this number, if it is here."""
        return self.store.line(number)

    def tail(self, count: int) -> list[str]:
        """The newest lines."""
        last = self.last_line
        return [text for _, text in self.store.lines(last - count + 1, last)]

    @property
    def full(self) -> bool:
        """No more may be kept."""
        return self.store.packed_bytes + FACTS_BYTES * self.store.count > BYTES_MAX

    @property
    def unread(self) -> int:
        """Lines that are still to be read before the newest ones."""
        if self._older is None or self.full:
            return 0
        return sum(last - max(first, self._old_line + 1) + 1 for first, last in self.store.gaps()
                   if last > self._old_line)  # fmt: skip

    def pump(self, log_bytes: int = 0, budget_s: float = PUMP_S) -> bool:
        """Take what is new, within the limits. True if there was something.

        Args:
            log_bytes: length of the log as far as it is known.
            budget_s: seconds after which the rest waits for the next call.
        """
        grew = False
        if not self.hold and log_bytes - self._bytes_read > BEHIND_BYTES_MAX:
            self._reader.skip_to_last(LAST_BYTES)
        self.behind = False
        until = time.perf_counter() + budget_s
        while not (self.hold and self.full):
            page = self._reader.read(PAGE_BYTES)
            if page.first_line <= self.last_line:
                self._rewind(page.first_line)
                grew = True
                if not page.lines:
                    continue
            if not page.lines:
                break
            self._bytes_read = max(page.offset, self._bytes_read)
            self.store.add(page.first_line, page.lines)
            grew = True
            while self.full and not self.hold and (blocks := sum(len(part.blocks) for part in self.store.parts)):
                self.store.drop_oldest(max(blocks // DROPPED_SHARE, 1))
            if time.perf_counter() > until:
                self.behind = True
                break
        return grew

    def fill(self, budget_s: float) -> bool:
        """Read some of what was passed over. True if there was something."""
        if not self.unread or self._older is None:
            return False
        if self._old is None:
            self._old = self._older()
        until = time.perf_counter() + budget_s
        while self.unread:
            page = self._old.read(PAGE_BYTES)
            if not page.lines:
                self._old_line = self.last_line  # no more is kept
                break
            self._old_line = max(self._old_line, page.first_line + len(page.lines) - 1)
            for first, last in self.store.gaps():
                self._put(page.first_line, page.lines, first, last)
            if time.perf_counter() > until:
                break
        return True

    def _put(self, page_line: int, lines: Sequence[str], first: int, last: int) -> None:
        """Those of a page that lie in a gap."""
        begin = max(first, page_line)
        if begin <= last:
            self.store.add(begin, lines[begin - page_line : last + 1 - page_line])

    def _rewind(self, first_line: int) -> None:
        """Take back this line and those after it: a replay went to an earlier moment."""
        self.store.truncate(first_line)
        self.rewinds += 1
        self.rewound_to = first_line

    def close(self) -> None:
        """Let go of the file."""
        self._reader.close()
        if self._old is not None:
            self._old.close()
