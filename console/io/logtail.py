"""Follows a log file that another process writes: what came since the last call, as clean lines.

Separate so that the supervisor and every front end read the same file the same way, through rotation, truncation
and a file that does not exist yet. Nothing here waits; the caller decides how often to look.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO, Final

from console.core.logparse import LineSplitter
from console.core.models import LogPage

__all__ = ["PAGE_BYTES_MAX", "READ_BYTES", "LogTail"]

READ_BYTES: Final = 64 * 1024
PAGE_BYTES_MAX: Final = 256 * 1024


class LogTail:
    """Reads a log from its start, a page at a time.

    A file that was cut or replaced is read from its start; line numbers go on counting, so that a number means one
    line for the life of this reader. What a replaced file still held is read first.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._identity: tuple[int, int] | None = None
        self._read_bytes = 0
        self._offset = 0
        self._lines = 0
        self._splitter = LineSplitter()

    @property
    def partial(self) -> str:
        """The line not yet ended, for example a progress bar as it stands. Not part of any page."""
        return self._splitter.partial

    @property
    def lines_read(self) -> int:
        """Lines given out so far."""
        return self._lines

    def read(self, bytes_max: int = PAGE_BYTES_MAX, *, flush: bool = False) -> LogPage:
        """What came since the last call, at most `bytes_max` bytes; no lines if nothing did.

        Args:
            bytes_max: bytes to read from the file.
            flush: give out the last line too, though it has no newline: the writer has ended.

        Raises:
            OSError: the file is there and cannot be read.
        """
        lines: list[str] = []
        first = self._lines + 1
        left = bytes_max
        while left > 0:
            data = self._more(min(READ_BYTES, left))
            if not data:
                if not self._follow(lines):
                    break
                continue
            left -= len(data)
            lines += self._take(data)
        if flush and left > 0:
            lines += self._splitter.flush()
            self._offset = self._read_bytes
        self._lines = first - 1 + len(lines)
        return LogPage(lines=tuple(lines), offset=self._offset, first_line=first)

    def close(self) -> None:
        """Let go of the file. A later `read` opens it again and starts over."""
        if self._file is not None:
            self._file.close()
        self._file = None
        self._identity = None
        self._splitter = LineSplitter()

    def _more(self, bytes_max: int) -> bytes:
        if self._file is None:
            self._open()
        return b"" if self._file is None else self._file.read(bytes_max)

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
        self._read_bytes = 0
        self._offset = 0

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
        late = self._file.read(READ_BYTES) if replaced else b""
        if late:
            lines += self._take(late)
            return True
        lines += self._splitter.flush()
        self.close()
        return True
