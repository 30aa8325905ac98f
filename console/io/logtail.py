"""Follows a log file that another process writes: what came since the last call, as clean lines.

Separate so that the supervisor and every front end read the same file the same way, through archives (`logindex`),
rotation, truncation and a file that does not exist yet. Nothing here waits; the caller decides how often to look.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

from console.core.logparse import LineSplitter
from console.core.models import LogPage
from console.io.logindex import ArchiveReader

__all__ = ["PAGE_BYTES_MAX", "READ_BYTES", "LogTail"]

READ_BYTES: Final = 64 * 1024
PAGE_BYTES_MAX: Final = 256 * 1024
LINE_READ_BYTES_MAX: Final = 64 * 1024 * 1024
"""So far an end of a line is looked for beyond the page."""
REDACT_LINES: Final = 64
"""Looked at together."""
SKIP_READ_BYTES: Final = 1024 * 1024
"""Read at a time where only line ends are counted."""


class LogTail:
    """Reads a log from its start, a page at a time.

    A file that was cut or replaced is read from its start; line numbers go on counting, so that a number means one
    line for the life of this reader. What a replaced file still held is read first. What was dropped from a log is
    passed over, and counted in the page after it.

    Args:
        path: the log.
        redact: hides what a line must not show; the file keeps it.
    """

    def __init__(self, path: Path, redact: Callable[[str], str] = str) -> None:
        self._path = path
        self._redact = redact
        self._file: BinaryIO | None = None
        self._identity: tuple[int, int] | None = None
        self._read_bytes = 0
        self._offset = 0
        self._lines = 0
        self._skipped = 0
        self._splitter = LineSplitter()
        self._archive = ArchiveReader(path)

    @property
    def partial(self) -> str:
        """The line not yet ended, for example a progress bar as it stands. Not part of any page."""
        return self._redact(self._splitter.partial)

    @property
    def offset(self) -> int:
        """Bytes read so far."""
        return self._read_bytes

    @property
    def lines_read(self) -> int:
        """Lines given out so far."""
        return self._lines

    def read(self, bytes_max: int = PAGE_BYTES_MAX, *, flush: bool = False) -> LogPage:
        """What came since the last call, at most `bytes_max` bytes or one line; no lines if nothing did.

        Args:
            bytes_max: bytes to read from the file.
            flush: give out the last line too, though it has no newline: the writer has ended.

        Raises:
            OSError: the file is there and cannot be read.
        """
        lines: list[str] = []
        self._pass_dropped()
        first = self._lines + 1
        left = bytes_max
        ended = False
        # A page without lines means that there are none, so a line longer than a page is read to its end.
        while left > 0 or (not lines and left > -LINE_READ_BYTES_MAX):
            if lines and self._dropped_here():
                break  # the lines of a page have no gap
            data = self._more(min(READ_BYTES, left) if left > 0 else READ_BYTES)
            if not data:
                if not self._follow(lines):
                    ended = True
                    break
                continue
            left -= len(data)
            lines += self._take(data)
        if flush and ended:
            lines += self._splitter.flush()
            self._offset = self._read_bytes
        self._lines = first - 1 + len(lines)
        skipped = self._skipped if lines else 0
        self._skipped -= skipped
        return LogPage(lines=tuple(self._hide(lines)), offset=self._offset, first_line=first, skipped=skipped)

    def _hide(self, lines: list[str]) -> Iterator[str]:
        """The lines without secrets. Most have none, which one look at many of them together tells."""
        for begin in range(0, len(lines), REDACT_LINES):
            some = lines[begin : begin + REDACT_LINES]
            text = "\n".join(some)
            yield from some if self._redact(text) == text else map(self._redact, some)

    def skip_to_last(self, bytes_max: int) -> int:
        """Pass over whole lines so that about `bytes_max` bytes are left to read. Returns how many lines that were.

        Raises:
            OSError: the file is there and cannot be read.
        """
        try:
            target = self._path.stat().st_size - bytes_max
        except FileNotFoundError:
            return 0
        if target <= self._read_bytes:
            return 0
        before = self._lines
        index = self._archive.index
        self._splitter = LineSplitter()
        if self._read_bytes < index.end_byte <= target:
            self._read_bytes, self._lines = index.end_byte, index.lines
        while data := self._more(SKIP_READ_BYTES):
            if self._read_bytes + len(data) > target:
                at = data.find(b"\n", max(0, target - self._read_bytes))
                if at >= 0:
                    self._pass(data[: at + 1])
                    break
            self._pass(data)
        self._skipped += self._lines - before
        return self._lines - before

    def _pass(self, data: bytes) -> None:
        self._lines += data.count(b"\n")
        self._read_bytes += len(data)
        self._offset = self._read_bytes

    def _dropped_here(self) -> bool:
        dropped = self._archive.index.dropped
        return dropped is not None and self._read_bytes < dropped.end_byte

    def _pass_dropped(self) -> None:
        """Go on after what is no longer kept."""
        dropped = self._archive.index.dropped
        if dropped is None or self._read_bytes >= dropped.end_byte:
            return
        self._skipped += max(0, dropped.lines - self._lines)
        self._read_bytes = self._offset = dropped.end_byte
        self._lines = max(self._lines, dropped.lines)
        self._splitter = LineSplitter()

    def close(self) -> None:
        """Let go of the file. A later `read` opens it again and starts over."""
        if self._file is not None:
            self._file.close()
        self._file = None
        self._identity = None
        self._read_bytes = self._offset = 0
        self._splitter = LineSplitter()
        self._archive.close()

    def _more(self, bytes_max: int) -> bytes:
        if self._file is None:
            self._open()
        if self._file is None:
            return b""
        at = self._read_bytes
        if (archived := self._archive.read(at, bytes_max)) is not None:
            return archived
        data = os.pread(self._file.fileno(), bytes_max, at)
        # Freed while it was read, these bytes would be zeros; their archive is entered before they are freed.
        archived = self._archive.read(at, bytes_max)
        return data if archived is None else archived

    def _take(self, data: bytes) -> list[str]:
        end = data.rfind(b"\n")
        if end >= 0:
            self._offset = self._read_bytes + end + 1
        self._read_bytes += len(data)
        return self._splitter.feed(data)

    def _open(self) -> None:
        try:
            self._file = self._path.open("rb", buffering=0)
        except FileNotFoundError:
            return
        status = os.fstat(self._file.fileno())
        self._identity = (status.st_dev, status.st_ino)

    def _follow(self, lines: list[str]) -> bool:
        """At the end of the file: whether it was cut or replaced and reading starts over."""
        if self._file is None:
            return False
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return False
        replaced = (status.st_dev, status.st_ino) != self._identity
        if not replaced and status.st_size >= self._read_bytes:
            return False
        # What the writer added between the last read and the replacement.
        late = os.pread(self._file.fileno(), READ_BYTES, self._read_bytes) if replaced else b""
        if late:
            lines += self._take(late)
            return True
        lines += self._splitter.flush()
        self.close()
        return True
