"""Reads the archive of a report, from wherever it comes: in memory, within bounds, and nothing is ever unpacked.

Separate from what writes it: a report may come from anybody, so nothing in it is trusted. No path of it reaches the
file system, links and devices are passed over, and its sizes are bounded before and while they are read.
"""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from pathlib import Path
from typing import Final

from console.core.errors import UsageError

__all__ = ["MEMBERS_MAX", "PART_BYTES_MAX", "TOTAL_BYTES_MAX", "read_report"]

TOTAL_BYTES_MAX: Final = 128 * 1024 * 1024
"""Of an archive when it is unpacked, headers and parts that are passed over included. A real one has a few MB."""
PART_BYTES_MAX: Final = 64 * 1024 * 1024
MEMBERS_MAX: Final = 64
CHUNK_BYTES: Final = 64 * 1024


class _TooMuchError(Exception):
    """The archive holds more than a report can."""


class _Bounded(io.RawIOBase):
    """What comes out of a decompressor, up to a limit."""

    def __init__(self, source: gzip.GzipFile) -> None:
        self._source = source
        self._left = TOTAL_BYTES_MAX

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(min(size, self._left + 1) if size >= 0 else self._left + 1)
        self._left -= len(data)
        if self._left < 0:
            raise _TooMuchError(f"it unpacks to more than {TOTAL_BYTES_MAX // 2**20} MiB")
        return data


def read_report(path: Path) -> tuple[dict[str, bytes], tuple[str, ...]]:
    """The parts by their file names, and a sentence for each that was passed over.

    Raises:
        UsageError: it cannot be read, is no such archive, or is larger than a report can be.
    """
    try:
        with path.open("rb") as raw, gzip.GzipFile(fileobj=raw) as unpacked:
            return _parts(_Bounded(unpacked))
    except _TooMuchError as error:
        raise _refused(path, str(error)) from error
    except (tarfile.TarError, zlib.error, EOFError, OSError, ValueError, OverflowError, RecursionError) as error:
        raise _refused(path, f"{type(error).__name__}: {error}") from error


def _refused(path: Path, why: str) -> UsageError:
    return UsageError(
        "This is no report that can be played", f"{path}: {why}", "Make one with: dsv4-console report RUN"
    )


def _parts(source: _Bounded) -> tuple[dict[str, bytes], tuple[str, ...]]:
    parts: dict[str, bytes] = {}
    said: list[str] = []
    # As a stream: there is no seeking back, so every byte counts against the limit once.
    with tarfile.open(fileobj=source, mode="r|", bufsize=CHUNK_BYTES) as archive:
        for count, member in enumerate(archive, 1):
            if count > MEMBERS_MAX:
                raise _TooMuchError(f"it has more than {MEMBERS_MAX} files")
            folder, _, name = member.name.rpartition("/")
            if member.isdir():
                continue
            if not member.isreg() or member.issparse():
                said.append(f"{name[:64]!r} is no plain file and was passed over")
            elif not folder or "/" in folder or folder in {".", ".."} or not name or name in parts:
                said.append(f"{name[:64]!r} does not stand where a report has its files and was passed over")
            elif member.size > PART_BYTES_MAX:
                raise _TooMuchError(f"{name[:64]!r} has {member.size:,} bytes")
            elif (file := archive.extractfile(member)) is not None:
                parts[name] = file.read(PART_BYTES_MAX)
    return parts, tuple(said)
