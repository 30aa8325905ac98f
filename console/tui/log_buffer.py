"""The log of one run in memory: plain strings with their line numbers, shared by the tail and the log pane."""

from __future__ import annotations

from console.client.api import LogReader

__all__ = ["BATCHES_PER_TICK", "LINES_MAX", "LogBuffer"]

LINES_MAX = 200_000
"""Lines kept. The file keeps the rest."""
LINES_SPARE = 20_000
"""Lines dropped at once when full, so that dropping is rare."""
BATCHES_PER_TICK = 4
"""Reads of 256 KiB per tick: a long log fills in a few ticks and no tick holds up the keys."""
BEHIND_BYTES_MAX = 32 * 1024 * 1024
"""Further behind the log, lines are passed over: the end of it matters more than what could not be kept anyway."""
LAST_BYTES = 16 * 1024 * 1024
"""Read after that."""


class LogBuffer:
    """Lines `first_line` to `last_line`, counted from 1 as the file does."""

    def __init__(self, reader: LogReader) -> None:
        self._reader = reader
        self.lines: list[str] = []
        self.first_line = 1
        self.width = 0
        """Length of the longest line, in characters."""
        self.hold = False
        """Somebody reads further up: nothing may be dropped, so reading waits when full. The file loses nothing."""
        self._bytes_read = 0

    @property
    def last_line(self) -> int:
        """Number of the newest line; one less than `first_line` when there is none."""
        return self.first_line + len(self.lines) - 1

    def line(self, number: int) -> str | None:
        """The line with this number, if it is here."""
        index = number - self.first_line
        return self.lines[index] if 0 <= index < len(self.lines) else None

    def pump(self, log_bytes: int = 0) -> bool:
        """Take what is new, within the limits. True if there was something.

        Args:
            log_bytes: length of the log as far as it is known.
        """
        grew = False
        if not self.hold and log_bytes - self._bytes_read > BEHIND_BYTES_MAX:
            self._reader.skip_to_last(LAST_BYTES)
        for _ in range(BATCHES_PER_TICK):
            if self.hold and len(self.lines) >= LINES_MAX:
                break
            page = self._reader.read()
            if not page.lines:
                break
            self._bytes_read = page.offset
            if not self.lines or page.skipped:
                self.lines.clear()
                self.first_line = page.first_line
            self.lines.extend(page.lines)
            self.width = max(self.width, *map(len, page.lines))
            grew = True
            if not self.hold and len(self.lines) > LINES_MAX:
                dropped = len(self.lines) - LINES_MAX + LINES_SPARE
                del self.lines[:dropped]
                self.first_line += dropped
        return grew

    def close(self) -> None:
        """Let go of the file."""
        self._reader.close()
