"""The directory of installed engines: what is in it, locks on its entries, and clearing up after a killed install.

`.NAME.lock` is held while NAME is being made or removed and is gone afterwards, so a lock file that nobody holds is
the trace of a process that was killed. Once it has content, NAME is that process's to clear away.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from console.core import versions
from console.core.errors import EngineError
from console.io import paths
from console.io.engines.records import ENGINE_FILE, NAME, Engine, read_engine

__all__ = [
    "EngineBusyError",
    "EngineLock",
    "aside_path",
    "delete_tree",
    "installed",
    "list_engines",
    "lock_engine",
    "remove",
    "settle",
    "sweep",
    "tools_path",
]


class EngineBusyError(EngineError):
    """Another process is installing or removing this engine."""


class EngineLock:
    """A held lock on one engine name."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        """Handed down to installers, so that one that outlives this process still holds the lock."""

    def claim(self) -> None:
        """From here on the engine's directory is this process's to clear away."""
        os.ftruncate(self.fd, 0)
        os.pwrite(self.fd, f"{os.getpid()}\n".encode(), 0)


def aside_path(directory: Path) -> Path:
    """Where the previous engine of this name waits while it is being replaced."""
    return directory.with_name(f".{directory.name}.old")


def tools_path(directory: Path) -> Path:
    """Where uv is put for one installation, where the machine has none."""
    return directory.with_name(f".{directory.name}.tools")


def list_engines() -> tuple[Engine, ...]:
    """Installed engines, newest first. Clears up after installations that were killed."""
    root = paths.engines_dir()
    sweep(root)
    try:
        found = [read_engine(entry) for entry in root.iterdir() if NAME.fullmatch(entry.name)]
    except OSError:
        return ()
    engines = [engine for engine in found if engine]
    return tuple(sorted(engines, key=lambda engine: (versions.sort_key(engine.version), engine.name), reverse=True))


def installed(name: str) -> Engine | None:
    """The installed engine of this name, if there is one."""
    return next((engine for engine in list_engines() if engine.name == name), None)


def remove(name: str) -> None:
    """Delete an installed engine. Whether a run uses it is for the caller to know.

    Raises:
        EngineError: there is no such engine, it is being installed, or it cannot be deleted.
    """
    root = paths.engines_dir()
    directory = root / name
    known = ", ".join(engine.name for engine in list_engines()) or "none"
    if not NAME.fullmatch(name) or directory.is_symlink() or not (directory / ENGINE_FILE).is_file():
        raise EngineError("No such engine", f"{name!r} is not in {root}; installed: {known}", "Name one of those.")
    with lock_engine(root, name) as lock:
        lock.claim()
        (directory / ENGINE_FILE).unlink()


def sweep(root: Path) -> None:
    """Finish what killed installations and removals left undone."""
    for lock_file in root.glob(".*.lock"):
        name = lock_file.name.removeprefix(".").removesuffix(".lock")
        if not NAME.fullmatch(name):
            continue
        # Busy, or another user's: either way not this process's to clear.
        with contextlib.suppress(EngineError, OSError), lock_engine(root, name):
            pass


def settle(directory: Path) -> None:
    """Leave either the finished engine in `directory`, or the one it was to replace, or nothing.

    Raises:
        EngineError: something cannot be deleted.
    """
    aside = aside_path(directory)
    delete_tree(tools_path(directory))
    if (directory / ENGINE_FILE).is_file():
        delete_tree(aside)
        return
    delete_tree(directory)
    if aside.is_dir():
        aside.rename(directory)


@contextlib.contextmanager
def lock_engine(root: Path, name: str) -> Iterator[EngineLock]:
    """Hold `.NAME.lock`. Leftovers are cleared away on entry (of a killed holder) and on exit (of this one, if it
    claimed the directory); the lock file stays where that fails, for the next sweep.

    Raises:
        EngineBusyError: another process holds it.
        EngineError: a leftover cannot be deleted.
    """
    path = root / f".{name}.lock"
    fd = _open_locked(path, name)
    try:
        try:
            if os.fstat(fd).st_size:
                settle(root / name)
            yield EngineLock(fd)
        finally:
            if os.fstat(fd).st_size:
                settle(root / name)
            path.unlink(missing_ok=True)
    finally:
        os.close(fd)


def delete_tree(directory: Path) -> None:
    """Delete a directory with all in it; none there is as good.

    Raises:
        EngineError: something in it cannot be deleted.
    """
    try:
        shutil.rmtree(directory)
    except FileNotFoundError:
        return
    except OSError as error:
        raise EngineError(
            "Cannot delete part of an engine", f"{error.filename}: {error.strerror}", f"Delete {directory} by hand."
        ) from error


def _open_locked(path: Path, name: str) -> int:
    """Open and lock the file that stands at `path`: its last holder may delete it between the two steps."""
    while True:
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, stat.S_IRUSR | stat.S_IWUSR)
        except OSError as error:
            raise EngineError("Cannot lock the engine", f"{path}: {error.strerror}", "Make it writable.") from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(fd, 32, 0).decode(errors="replace").strip()
            os.close(fd)
            raise EngineBusyError(
                "This engine is being installed or removed already",
                f"{name}" + (f": by process {holder} or an installer that it started" if holder else ""),
                "Wait until that is done, or end that process, then try again.",
            ) from None
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(fd), path.stat()):
                return fd
        os.close(fd)
