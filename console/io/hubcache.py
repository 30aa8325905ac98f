"""The cache of huggingface_hub as a download changes it: how much of a listing is here, and what is only in the way.

Bytes are counted on disk, whoever writes them: `hf` tells its progress in bars for people, which change with versions.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import time
from pathlib import Path

from console.core.download import Listing

__all__ = ["incomplete_files", "is_resumable", "measure", "repository_path", "snapshot_path", "sweep"]

BLOCK_BYTES = 512
"""Unit of `st_blocks`, whatever the file system's own."""
ABANDONED_S = 3600.0
"""What nobody holds and nobody wrote to for so long was left by a process that was killed."""
UNIQUE = re.compile(r"(?P<blob>.+)\.[0-9a-f]{8}\.incomplete")
"""huggingface_hub 2.4 writes to a name of its own per process, and never takes it up again as older ones do."""


def repository_path(cache: Path, model: str) -> Path:
    """Where the cache keeps a model."""
    return cache / f"models--{model.replace('/', '--')}"


def snapshot_path(cache: Path, model: str, commit: str) -> Path:
    """The files of one commit, as links."""
    return repository_path(cache, model) / "snapshots" / commit


def is_resumable(name: str) -> bool:
    """Whether a download takes up this unfinished file again, by its name."""
    return name.endswith(".incomplete") and UNIQUE.fullmatch(name) is None


def measure(cache: Path, model: str, listing: Listing) -> tuple[int, int]:
    """Bytes and files of a listing that are here, parts of unfinished files included in the bytes."""
    partial: dict[str, int] = {}
    for path in incomplete_files(cache, model):
        match = UNIQUE.fullmatch(path.name)
        blob = match["blob"] if match else path.name.removesuffix(".incomplete")
        with contextlib.suppress(OSError):
            found = path.stat()
            # Xet writes out of order, so a file may be long and mostly holes.
            partial[blob] = max(partial.get(blob, 0), min(found.st_size, found.st_blocks * BLOCK_BYTES))
    blobs = repository_path(cache, model) / "blobs"
    snapshot = snapshot_path(cache, model, listing.commit)
    done_bytes = files = 0
    counted: set[str] = set()
    for file in listing.wanted:
        # A cache without symbolic links has the file in the snapshot alone.
        here = (blobs / file.blob).exists() or (snapshot / file.name).exists()
        files += here
        if file.blob not in counted:
            counted.add(file.blob)
            done_bytes += file.size_bytes if here else min(partial.get(file.blob, 0), file.size_bytes)
    return done_bytes, files


def incomplete_files(cache: Path, model: str) -> tuple[Path, ...]:
    """Unfinished files, those that nobody will take up again included."""
    try:
        return tuple((repository_path(cache, model) / "blobs").glob("*.incomplete"))
    except OSError:
        return ()


def sweep(cache: Path, model: str, mine_since: frozenset[Path] | None = None) -> int:
    """Delete unfinished files that nobody writes and nobody can take up again. Returns the bytes that they took.

    Nobody writes a file whose lock is free; and since some network file systems give a lock to everyone, it must
    also be one that came after `mine_since` was listed, or be `ABANDONED_S` old.
    """
    freed = 0
    for path in incomplete_files(cache, model):
        match = UNIQUE.fullmatch(path.name)
        if match is None:
            continue
        with contextlib.suppress(OSError):
            found = path.stat()
            mine = mine_since is not None and path not in mine_since
            if (mine or time.time() - found.st_mtime > ABANDONED_S) and _unlocked(cache, model, match["blob"]):
                path.unlink()
                freed += found.st_blocks * BLOCK_BYTES
    return freed


def _unlocked(cache: Path, model: str, blob: str) -> bool:
    lock = cache / ".locks" / repository_path(cache, model).name / f"{blob}.lock"
    try:
        handle = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True
