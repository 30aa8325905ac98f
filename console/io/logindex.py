"""Where each part of a long log is: still in `server.log`, in an archive beside it, or dropped.

The server writes `server.log` itself, so its file is never renamed or shortened. Its old head is copied into
`server.log.000001.gz`, … and then freed as a hole, so that byte offsets and line numbers mean the same for ever.
Separate from `logarchive`, which makes the archives, since every reader of a log needs this and nothing else.
"""

from __future__ import annotations

import contextlib
import gzip
import os
from pathlib import Path
from typing import Final

import msgspec

__all__ = ["ArchiveReader", "Dropped", "LogIndex", "Segment", "archive_path", "index_path", "read_index"]

INDEX_BYTES_MAX: Final = 4 * 1024 * 1024
"""A longer index is none of ours."""


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """One archive: bytes `first_byte` to `end_byte`, the latter not included."""

    number: int
    first_byte: int
    end_byte: int
    lines: int
    """Line ends in it."""


class Dropped(msgspec.Struct, frozen=True, kw_only=True):
    """The oldest part of the log, which is no longer kept."""

    end_byte: int
    lines: int
    """Line ends in it."""
    at_s: float
    """Wall-clock time at which the last of it went."""


class LogIndex(msgspec.Struct, frozen=True, kw_only=True):
    """What lies outside `server.log`, oldest first, without gaps."""

    segments: tuple[Segment, ...] = ()
    dropped: Dropped | None = None

    @property
    def end_byte(self) -> int:
        """From here on the log is in `server.log` itself."""
        if self.segments:
            return self.segments[-1].end_byte
        return self.dropped.end_byte if self.dropped else 0

    @property
    def lines(self) -> int:
        """Line ends before `end_byte`."""
        return sum(segment.lines for segment in self.segments) + (self.dropped.lines if self.dropped else 0)

    def segment_at(self, offset: int) -> Segment | None:
        """The archive that holds this byte."""
        return next((segment for segment in self.segments if segment.first_byte <= offset < segment.end_byte), None)


def index_path(log_path: Path) -> Path:
    """Where the index of this log is."""
    return log_path.with_name(f"{log_path.name}.index.json")


def archive_path(log_path: Path, number: int) -> Path:
    """Where this archive of the log is."""
    return log_path.with_name(f"{log_path.name}.{number:06d}.gz")


def read_index(log_path: Path) -> LogIndex:
    """The index; an empty one where there is none, or where it cannot be understood.

    Raises:
        OSError: it is there and cannot be read.
    """
    try:
        with index_path(log_path).open("rb") as file:
            return msgspec.json.decode(file.read(INDEX_BYTES_MAX), type=LogIndex)
    except (FileNotFoundError, msgspec.DecodeError):
        return LogIndex()


class ArchiveReader:
    """Reads the archived part of a log by the log's own byte offsets."""

    def __init__(self, log_path: Path) -> None:
        self._path = log_path
        self._index = LogIndex()
        self._version: tuple[int, int, int] | None = None
        self._open: tuple[Segment, gzip.GzipFile] | None = None

    @property
    def index(self) -> LogIndex:
        """The index as it is now. It is replaced as a whole, so a look at the file's identity tells a new one."""
        try:
            status = index_path(self._path).stat()
        except OSError:
            version = None
        else:
            version = (status.st_ino, status.st_mtime_ns, status.st_size)
        if version != self._version:
            self._index, self._version = read_index(self._path), version
        return self._index

    def read(self, offset: int, bytes_max: int) -> bytes | None:
        """Archived bytes from `offset` on; `None` where they are not archived.

        Raises:
            OSError: the archive cannot be read.
        """
        segment = self.index.segment_at(offset)
        if segment is None:
            return None
        try:
            file = self._file(segment)
            file.seek(offset - segment.first_byte)
            data = file.read(min(bytes_max, segment.end_byte - offset))
        except FileNotFoundError:
            if self.index.segment_at(offset) is None:
                return None  # dropped just now
            raise
        except (EOFError, gzip.BadGzipFile) as error:
            raise OSError(f"{archive_path(self._path, segment.number)}: {error}") from error
        if not data:
            raise OSError(f"{archive_path(self._path, segment.number)}: shorter than its index says")
        return data

    def _file(self, segment: Segment) -> gzip.GzipFile:
        if self._open is not None and self._open[0] == segment:
            return self._open[1]
        self.close()
        file = gzip.open(archive_path(self._path, segment.number), "rb")  # noqa: SIM115 - kept open between reads
        self._open = (segment, file)
        return file

    def close(self) -> None:
        """Let go of the archive."""
        if self._open is not None:
            with contextlib.suppress(OSError):
                self._open[1].close()
        self._open = None


def sync_directory(path: Path) -> None:
    """Make a rename in this directory last through a power cut."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
