"""Writes lines of a log to a new file of the user's, never over one that is there."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from console.io.paths import make_private_dir, state_dir

__all__ = ["exports_dir", "write_lines"]

TRIES_MAX: Final = 1_000
"""Files of one second."""


def exports_dir() -> Path:
    """Where copies and exports go."""
    return state_dir() / "exports"


def write_lines(run_id: str, kind: str, lines: Iterable[str]) -> tuple[Path, int]:
    """Write a file for its owner alone. Returns its path and how many lines there are in it.

    Args:
        run_id: whose log it is.
        kind: `log` or `lines`, a part of the name.
        lines: without their ends.

    Raises:
        OSError: it cannot be written; nothing of it is left.
        console.core.errors.StateError: its directory cannot be made.
    """
    make_private_dir(exports_dir())
    path = _new_path(f"{run_id}-{kind}-{time.strftime('%Y%m%d-%H%M%S')}")
    count = 0
    try:
        with path.open("w", encoding="utf-8", errors="surrogateescape") as file:
            for line in lines:
                file.write(line + "\n")
                count += 1
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path, count


def _new_path(stem: str) -> Path:
    """A file that is made here, empty."""
    for turn in range(TRIES_MAX):
        path = exports_dir() / (f"{stem}.log" if not turn else f"{stem}-{turn + 1}.log")
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError:
            continue
        return path
    raise FileExistsError(f"{exports_dir()}: too many files {stem}*")
