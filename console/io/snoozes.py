"""`snoozed.json` of a run: the hints that its operator has put aside.

In the run's directory and not with the supervisor: a snooze changes what is shown, never what is judged or recorded,
so no supervisor has to know of it; it goes with the run, outlasts console and supervisor, and every console of the
run finds it when it attaches. Not with the operator's settings: another run has other figures.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from console.core.errors import StateError
from console.core.snooze import SNOOZES_MAX, Snooze
from console.io.runs import RunDir, write_atomic

__all__ = ["FILE_NAME", "read_snoozes", "write_snoozes"]

FILE_NAME = "snoozed.json"
BYTES_MAX = 64 * 1024
"""More is no file of ours."""


def read_snoozes(run: RunDir) -> tuple[Snooze, ...]:
    """What is put aside; nothing where the file is missing or cannot be read: then every hint shows."""
    try:
        with (run.path / FILE_NAME).open("rb") as file:
            return msgspec.json.decode(file.read(BYTES_MAX), type=tuple[Snooze, ...])[-SNOOZES_MAX:]
    except (OSError, msgspec.DecodeError):
        return ()


def write_snoozes(run: RunDir, snoozes: Sequence[Snooze]) -> None:
    """Replace the file.

    Raises:
        StateError: the disk is full, or the directory is not writable.
    """
    path = run.path / FILE_NAME
    try:
        write_atomic(path, msgspec.json.encode(snoozes) + b"\n", sync=False)
    except OSError as error:
        raise StateError(
            "The snooze could not be kept", f"{path}: {error.strerror}", "Free some disk space."
        ) from error
