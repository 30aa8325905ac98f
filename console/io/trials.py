"""The files of trials: `trial.json`, the settings that are tried, and reports under `tune/`.

`launch.json` stays what served before the trial until the operator's word. Keeping is one rename, so at any moment
the run directory says one or the other and never half of each.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import msgspec

from console.core.errors import StateError
from console.io.paths import make_private_dir
from console.io.runs import LaunchSpec, RunDir, write_atomic

__all__ = ["drop_trial", "keep_trial", "read_trial", "write_report", "write_trial"]


def _path(run: RunDir) -> Path:
    return run.path / "trial.json"


def write_trial(run: RunDir, spec: LaunchSpec) -> None:
    """Write down settings before they are tried.

    Raises:
        OSError: the disk is full or the directory is not writable.
    """
    write_atomic(_path(run), msgspec.json.format(msgspec.json.encode(spec)) + b"\n")


def read_trial(run: RunDir) -> LaunchSpec | None:
    """The settings that are tried; `None` if there are none that can be read."""
    try:
        return msgspec.json.decode(_path(run).read_bytes(), type=LaunchSpec)
    except (OSError, msgspec.DecodeError):
        return None


def keep_trial(run: RunDir) -> None:
    """What is tried takes the place of `launch.json`, at once.

    Raises:
        OSError: the directory is not writable.
    """
    _path(run).replace(run.launch_path)


def drop_trial(run: RunDir) -> None:
    """Forget what was tried."""
    with contextlib.suppress(OSError):
        _path(run).unlink()


def write_report(run: RunDir, name: str, text: str, data: bytes) -> Path:
    """Keep a report with its run, for people and for programs. Returns the file for people.

    Raises:
        StateError: it cannot be written.
    """
    try:
        directory = make_private_dir(run.path / "tune")
        write_atomic(directory / f"{name}.json", data)
        path = directory / f"{name}.md"
        write_atomic(path, text.encode())
    except OSError as error:
        raise StateError(
            "Cannot keep the report", f"{run.path / 'tune'}: {error.strerror}", "Free some disk space."
        ) from error
    return path
