"""Results of benchmarks, kept with the run that they measured: `RUN/bench/ID.json`, one file each."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import msgspec

from console.core.bench import BenchResult, Shape
from console.core.errors import StateError, UsageError
from console.io import paths
from console.io.runs import RunDir, list_runs, write_atomic

__all__ = ["find", "new_id", "results", "save"]

FOLDER = "bench"
RESULT_BYTES_MAX = 16 * 1024 * 1024
LAST = "last"


def new_id(run: RunDir, shape: Shape) -> str:
    """A name that this run's results do not have yet."""
    stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{shape}"
    taken = {path.stem for path in _files(run)}
    return next(name for name in (stem, *(f"{stem}-{n}" for n in range(2, 1000))) if name not in taken)


def save(run: RunDir, result: BenchResult) -> Path:
    """Write a result, in place of what this id had.

    Raises:
        StateError: it cannot be written.
    """
    folder = paths.make_private_dir(run.path / FOLDER)
    path = folder / f"{result.id}.json"
    try:
        write_atomic(path, msgspec.json.format(msgspec.json.encode(result)) + b"\n")
    except OSError as error:
        raise StateError(
            "The benchmark's result cannot be kept", f"{path}: {error.strerror}", "Free some disk space."
        ) from error
    return path


def results(run: RunDir | None = None) -> tuple[BenchResult, ...]:
    """Results of a run, or of all runs, newest first. What cannot be read is passed over."""
    folders = [run] if run is not None else [each for each, _ in list_runs()]
    found = [result for each in folders for path in _files(each) if (result := _read(path)) is not None]
    return tuple(sorted(found, key=lambda result: (result.created_s, result.id), reverse=True))


def find(name: str) -> BenchResult:
    """The result that is meant: `last`, an id, or the newest one of a run or profile.

    Raises:
        UsageError: there is none.
    """
    known = results()
    for result in known:
        if name in (LAST, result.id):
            return result
    for result in known:
        if name in (result.run_id, result.profile_name):
            return result
    ids = ", ".join(result.id for result in known[:5]) or "none yet"
    raise UsageError(
        "There is no such benchmark", f"{name!r} is no id, run or profile with one; here are: {ids}", "See: bench list"
    )


def _files(run: RunDir) -> list[Path]:
    with contextlib.suppress(OSError):
        return sorted((run.path / FOLDER).glob("*.json"))
    return []


def _read(path: Path) -> BenchResult | None:
    try:
        with path.open("rb") as file:
            return msgspec.json.decode(file.read(RESULT_BYTES_MAX), type=BenchResult)
    except (OSError, msgspec.DecodeError):
        return None
