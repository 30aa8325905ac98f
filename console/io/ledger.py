"""The ledger on disk: one small file per key in the state directory. A damaged file is as good as none.

Nothing here may stand in the way of a launch: reading answers with what can be read, and the caller of `record`
decides what a full disk is worth.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import msgspec

from console.core.ledger import LedgerEntry, LedgerKey, Measured, added, key_name
from console.io import paths
from console.io.runs import write_atomic

__all__ = ["FILES_MAX", "entries", "ledger_dir", "read", "record"]

FILES_MAX = 200
"""Keys that are kept; those written longest ago go first."""
FILE_BYTES_MAX = 256 * 1024


def ledger_dir() -> Path:
    """Where the ledger is."""
    return paths.state_dir() / "ledger"


def read(key: LedgerKey) -> LedgerEntry | None:
    """The entry of this key; `None` if there is none that can be read."""
    entry = _read(_path(key))
    return entry if entry is not None and entry.key == key else None


def entries() -> tuple[LedgerEntry, ...]:
    """All entries that can be read."""
    try:
        files = sorted(ledger_dir().glob("*.json"))
    except OSError:
        return ()
    return tuple(entry for file in files[: FILES_MAX * 2] if (entry := _read(file)) is not None)


def record(key: LedgerKey, start: Measured) -> None:
    """Keep one start.

    Raises:
        StateError: the directory cannot be made.
        OSError: the file cannot be written.
    """
    paths.make_private_dir(ledger_dir())
    write_atomic(_path(key), msgspec.json.format(msgspec.json.encode(added(read(key), key, start))) + b"\n")
    _prune()


def _path(key: LedgerKey) -> Path:
    return ledger_dir() / f"{key_name(key)}.json"


def _read(path: Path) -> LedgerEntry | None:
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            return None
        return msgspec.json.decode(path.read_bytes(), type=LedgerEntry)
    except (OSError, msgspec.DecodeError, ValueError, RecursionError):
        return None


def _prune() -> None:
    with contextlib.suppress(OSError):
        files = list(ledger_dir().glob("*.json"))
        if len(files) > FILES_MAX:
            files.sort(key=lambda file: file.stat().st_mtime)
            for file in files[:-FILES_MAX]:
                file.unlink(missing_ok=True)
