"""A copy of a run's log, grown by byte offset: whatever reads a log here reads the copy as if the run were here.

It stays for the next console, which goes on at the byte where this one ended. Copies are private and pruned.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import zlib
from pathlib import Path
from typing import IO

import msgspec

from console.client.remote.wire import LogPiece
from console.io import paths
from console.io.logindex import Dropped, LogIndex, index_path
from console.io.runs import RunDir, write_atomic

__all__ = ["Mirror"]

MIRRORS_KEPT = 30
MIRRORS_BYTES_MAX = 4 * 1024**3
"""Of all copies together; beyond it the oldest go."""
STATE_NAME = "mirror.json"
LOCK_NAME = "lock"


class _Place(msgspec.Struct, frozen=True, kw_only=True):
    """How far the copy is."""

    there: int = 0
    """Byte of the log there at which to go on."""
    here: int = 0
    """Length of the copy then: hidden secrets have another length."""


class Mirror:
    """The copy for one run. Two consoles have two.

    Args:
        host: the machine, as the operator named it.
        run_id: of the run.

    Raises:
        StateError: the cache directory is not writable.
    """

    def __init__(self, host: str, run_id: str) -> None:
        root = paths.make_private_dir(_root())
        folder = paths.make_private_dir(root / f"{_safe(host)}.{_safe(run_id)}")
        self._own = False
        lock = _claim(folder)
        if lock is None:
            # Another console looks at this run. Its copy is not ours to write.
            folder = paths.make_private_dir(root / f"{folder.name}.{os.getpid()}")
            self._own = True
            lock = _claim(folder)
        self._lock = lock
        self.run = RunDir(folder)
        self._place = self._read_place()
        with self.run.log_path.open("ab") as file:
            os.fchmod(file.fileno(), 0o600)
            # What was written without being noted down would come twice.
            file.truncate(self._place.here)
        os.utime(folder)
        _prune(root, folder)

    @property
    def next_byte(self) -> int:
        """Of the log there, the first that is not here."""
        return self._place.there

    def add(self, piece: LogPiece) -> None:
        """Put down a piece that begins at `next_byte`, or later where the log has lost what was before.

        Raises:
            OSError: it cannot be written.
        """
        path = self.run.log_path
        here = self._place.here
        with path.open("r+b") as file:
            if piece.first_byte > self._place.there:
                # A hole and an index say so, as they do in a log whose oldest part was dropped.
                here = max(piece.first_byte, here + 1)
                file.truncate(here)
                dropped = Dropped(end_byte=here, lines=piece.lines_before, at_s=0.0)
                write_atomic(index_path(path), msgspec.json.encode(LogIndex(dropped=dropped)), sync=False)
            if piece.packed:
                file.seek(here)
                here += file.write(zlib.decompress(piece.packed))
        self._place = _Place(there=piece.end_byte, here=here)
        write_atomic(self.run.path / STATE_NAME, msgspec.json.encode(self._place), sync=False)

    def close(self) -> None:
        """Let go of it."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None
        if self._own:
            shutil.rmtree(self.run.path, ignore_errors=True)

    def _read_place(self) -> _Place:
        try:
            place = msgspec.json.decode((self.run.path / STATE_NAME).read_bytes(), type=_Place)
            size = self.run.log_path.stat().st_size
        except (OSError, msgspec.DecodeError):
            size, place = 0, _Place()
        if size >= place.here and place.here:
            return place
        index_path(self.run.log_path).unlink(missing_ok=True)
        return _Place()


def _root() -> Path:
    return paths.cache_dir() / "remote"


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9@._-]+", "-", name)[:80].lstrip(".") or "-"


def _claim(folder: Path) -> IO[bytes] | None:
    """Hold a copy; `None` where somebody else does."""
    file = (folder / LOCK_NAME).open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def _prune(root: Path, keep: Path) -> None:
    """Remove the oldest copies beyond the limits, never one that somebody holds."""
    with contextlib.suppress(OSError):
        folders = sorted((path for path in root.iterdir() if path.is_dir()), key=lambda path: -path.stat().st_mtime)
        total = 0
        for place, path in enumerate(folders):
            total += sum(file.stat().st_blocks * 512 for file in path.iterdir())
            if (place >= MIRRORS_KEPT or total > MIRRORS_BYTES_MAX) and path != keep:
                lock = _claim(path)
                if lock is not None:
                    shutil.rmtree(path, ignore_errors=True)
                    lock.close()
