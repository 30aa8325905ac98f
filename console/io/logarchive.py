"""Keeps a server's log within bounds while the server goes on writing it, without a pipe and without losing a byte.

A pipe would tie the server's life to its reader, and a renamed file would go on growing under its new name, since the
server holds it open. So the old head of `server.log` is copied into a compressed archive, made durable, entered in the
index, and only then freed with `fallocate(2)` (`FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE`): the file keeps its
length, appends are not touched, and the disk space comes back.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import gzip
import os
import time
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from console.io.logindex import (
    Dropped,
    LogIndex,
    Segment,
    archive_path,
    index_path,
    read_index,
    sync_directory,
)
from console.io.runs import write_atomic

__all__ = ["SEGMENT_BYTES", "SPARE_BYTES", "TOTAL_BYTES_MAX", "LogArchive", "punch"]

SEGMENT_BYTES: Final = 64 * 1024 * 1024
"""Raw size of one archive."""
SPARE_BYTES: Final = 16 * 1024 * 1024
"""So much of the end is always left in `server.log`, where it is read fastest."""
TOTAL_BYTES_MAX: Final = 1024 * 1024 * 1024
"""Raw size of all archives of one run. Log lines compress to about a tenth of it."""
COPY_BYTES: Final = 1024 * 1024
RETRY_S: Final = 60.0
"""After a failure, for example of a full disk."""

_KEEP_SIZE: Final = 0x01
_PUNCH_HOLE: Final = 0x02
_UNSUPPORTED: Final = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.ENODEV})


def punch(handle: int, end_byte: int) -> None:
    """Free the bytes before `end_byte` of an open file; its length stays.

    Raises:
        OSError: the file system cannot do it.
    """
    try:
        fallocate = ctypes.CDLL(None, use_errno=True).fallocate
    except AttributeError as error:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS)) from error
    fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    if fallocate(handle, _KEEP_SIZE | _PUNCH_HOLE, 0, end_byte) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


class LogArchive:
    """Archives one log. Only its supervisor has one; `rotate` is for a thread, one call at a time."""

    def __init__(
        self,
        log_path: Path,
        *,
        segment_bytes: int = SEGMENT_BYTES,
        spare_bytes: int = SPARE_BYTES,
        total_bytes_max: int = TOTAL_BYTES_MAX,
    ) -> None:
        self._path = log_path
        self._segment_bytes = segment_bytes
        self._spare_bytes = spare_bytes
        self._total_bytes_max = total_bytes_max
        self._index = read_index(log_path)
        self._usable: bool | None = None
        self._retry_s = 0.0
        self._said = ""

    def due(self) -> bool:
        """Whether there is enough to archive, and no reason to wait."""
        if self._usable is False or time.monotonic() < self._retry_s:
            return False
        try:
            size = self._path.stat().st_size
        except OSError:
            return False
        return size < self._index.end_byte or size - self._index.end_byte > self._segment_bytes + self._spare_bytes

    def rotate(self) -> tuple[str, ...]:
        """Archive what is due. Returns what the operator should know; raises nothing."""
        said: list[str] = []
        try:
            with self._path.open("r+b", buffering=0) as log:
                self._rotate(log.fileno(), said)
        except OSError as error:
            self._retry_s = time.monotonic() + RETRY_S
            text = f"the log could not be archived and goes on growing: {error.strerror or error}"
            if text != self._said:
                said.append(text)
            self._said = text
        else:
            self._said = ""
        return tuple(said)

    def _rotate(self, log: int, said: list[str]) -> None:
        if self._usable is None and not self._probe(said):
            return
        if os.fstat(log).st_size < self._index.end_byte:
            said.append(
                "server.log was cut by another program; line numbers begin anew, and its earlier archives are left "
                f"as {self._path.name}.*.gz"
            )
            self._write(LogIndex())
        punch_to = self._index.end_byte
        while os.fstat(log).st_size - self._index.end_byte > self._segment_bytes + self._spare_bytes:
            self._archive(log)
            punch(log, self._index.end_byte)
            punch_to = 0
            self._drop(said)
        if punch_to:  # a supervisor that ended between entry and freeing left this to us
            punch(log, punch_to)

    def _probe(self, said: list[str]) -> bool:
        """Whether the file system can free the head of a file."""
        probe = self._path.with_name(".punch")
        try:
            with probe.open("wb", buffering=0) as file:
                file.write(bytes(8192))
                punch(file.fileno(), 4096)
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            self._usable = False
            said.append(
                f"this file system cannot free the head of a file ({error.strerror}): server.log grows without a limit"
            )
            return False
        finally:
            probe.unlink(missing_ok=True)
        self._usable = True
        return True

    def _archive(self, log: int) -> None:
        first = self._index.end_byte
        end = _line_end(log, first, first + self._segment_bytes)
        number = self._next_number()
        path = archive_path(self._path, number)
        part = path.with_suffix(".part")
        try:
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as raw:
                lines = _compress(log, first, end, raw)
                raw.flush()
                os.fsync(raw.fileno())
            part.replace(path)
            sync_directory(path.parent)
            segment = Segment(number=number, first_byte=first, end_byte=end, lines=lines)
            self._write(LogIndex(segments=(*self._index.segments, segment), dropped=self._index.dropped))
        except BaseException:
            entered = self._index.end_byte == end
            for left in (part,) if entered else (part, path):
                with contextlib.suppress(OSError):
                    left.unlink()
            raise

    def _next_number(self) -> int:
        """One more than any archive that is there, entered or not."""
        numbers = [
            int(name)
            for path in self._path.parent.glob(f"{self._path.name}.*.gz")
            if (name := path.name.split(".")[-2]).isdecimal()
        ]
        return max([*numbers, *(segment.number for segment in self._index.segments)], default=0) + 1

    def _drop(self, said: list[str]) -> None:
        """Let the oldest archives go while there are too many bytes in them."""
        segments = list(self._index.segments)
        gone: list[Segment] = []
        while segments and segments[-1].end_byte - segments[0].first_byte > self._total_bytes_max:
            gone.append(segments.pop(0))
        if not gone:
            return
        before = self._index.dropped.lines if self._index.dropped else 0
        lines = before + sum(segment.lines for segment in gone)
        now = time.time()
        dropped = Dropped(end_byte=gone[-1].end_byte, lines=lines, at_s=now)
        self._write(LogIndex(segments=tuple(segments), dropped=dropped))
        for segment in gone:
            archive_path(self._path, segment.number).unlink(missing_ok=True)
        said.append(
            f"lines 1–{lines:,} of server.log were dropped on {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(now))}"
            f" (the log is kept up to {self._total_bytes_max // 2**20:,} MiB)"
        )

    def _write(self, index: LogIndex) -> None:
        write_atomic(index_path(self._path), msgspec.json.encode(index))
        self._index = index
        sync_directory(self._path.parent)


def _line_end(log: int, first: int, end: int) -> int:
    """The offset after the last line end before `end`; `end` itself where one line is longer than that."""
    at = end
    while at > first:
        start = max(first, at - COPY_BYTES)
        found = os.pread(log, at - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        at = start
    return end


def _compress(log: int, first: int, end: int, target: BinaryIO) -> int:
    """Copy these bytes; returns how many line ends are in them."""
    lines = 0
    at = first
    with gzip.GzipFile("", "wb", 1, target, mtime=0) as packed:
        while at < end:
            data = os.pread(log, min(COPY_BYTES, end - at), at)
            if not data:
                raise OSError(errno.EIO, "server.log became shorter while it was read")
            packed.write(data)
            lines += data.count(b"\n")
            at += len(data)
    return lines
