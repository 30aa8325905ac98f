"""Run directories: one per launch, readable by their owner alone, the whole truth of that launch.

`run.json` who and what · `launch.json` how to start it (again) · `server.log` what the server wrote ·
`events.jsonl` what happened · `samples/` figures · `supervisor.log` the supervisor's own trouble ·
`control.sock` its door · `state.json` what a supervisor leaves to its successor · `money.json` what it cost so far ·
`exits` exit codes that its guardian collected · `trial.json` and `tune/` see `console.io.trials`.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from console.core.errors import NotRunningError, StateError
from console.core.lifecycle import Timing
from console.core.models import LIVE_STATES, EventRecord, Level, NodePlace, RunInfo, Sample, ServerState
from console.core.money import Tally
from console.core.profile import Profile
from console.core.resume import Saved
from console.io import paths
from console.io.process import is_command_of, is_same_process, owned_session, sessions_writing_to
from console.io.samplestore import SampleStore, append_whole, read_samples, time_range

__all__ = [
    "LaunchSpec",
    "RunDir",
    "create_run",
    "damaged_runs",
    "find_run",
    "is_live",
    "is_serving",
    "is_supervised",
    "list_runs",
    "orphaned_session",
    "settle",
    "write_atomic",
]

SOCKET_PATH_BYTES_MAX = 100
"""A Unix address has 108 bytes."""
EVENTS_BYTES_MAX = 16 * 1024 * 1024
"""At this size the file of events starts anew; the one before is kept beside it."""

DAMAGED_FIX = "Its log may still be read: server.log in that directory. Otherwise remove the directory."

T = TypeVar("T")


class LaunchSpec(msgspec.Struct, frozen=True, kw_only=True):
    """`launch.json`: all that a supervisor needs. Secrets are not in it: they come by its own environment."""

    argv: tuple[str, ...]
    env: dict[str, str]
    cwd: str
    url: str
    timing: Timing
    profile: Profile
    model: str
    place: NodePlace | None = None
    """Of a machine of a group; all but the head have no `url`."""


def write_atomic(path: Path, data: bytes, *, sync: bool = True) -> None:
    """Replace a file in one step, readable by its owner alone.

    Args:
        path: the file.
        data: all of it.
        sync: it must outlast a crash of the machine, not only one of this process.

    Raises:
        OSError: the disk is full or the directory is not writable; the old file is then untouched.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise


class RunDir:
    """Paths and records of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.info_path = path / "run.json"
        self.launch_path = path / "launch.json"
        self.log_path = path / "server.log"
        self.events_path = path / "events.jsonl"
        self.samples_path = path / "samples"
        self.supervisor_log_path = path / "supervisor.log"
        self.socket_path = path / "control.sock"
        self.state_path = path / "state.json"
        self.money_path = path / "money.json"
        self.exits_path = path / "exits"
        self.lock_path = path / "supervisor.lock"
        self._store = SampleStore(self.samples_path)

    @property
    def id(self) -> str:
        """The directory's name."""
        return self.path.name

    def read_info(self) -> RunInfo:
        """Read `run.json`.

        Raises:
            StateError: it is missing or damaged.
        """
        return self._read(self.info_path, RunInfo)

    def write_info(self, info: RunInfo) -> None:
        """Replace `run.json`."""
        write_atomic(self.info_path, msgspec.json.format(msgspec.json.encode(info)) + b"\n")

    def read_launch(self) -> LaunchSpec:
        """Read `launch.json`.

        Raises:
            StateError: it is missing or damaged.
        """
        return self._read(self.launch_path, LaunchSpec)

    def write_launch(self, spec: LaunchSpec) -> None:
        """Write `launch.json`."""
        write_atomic(self.launch_path, msgspec.json.format(msgspec.json.encode(spec)) + b"\n")

    def write_state(self, saved: Saved) -> None:
        """Replace `state.json`. Written at every turn of events, so it is not forced to the disk."""
        write_atomic(self.state_path, msgspec.json.encode(saved), sync=False)

    def read_state(self) -> Saved | None:
        """Read `state.json`; `None` if there is none that can be read."""
        try:
            return msgspec.json.decode(self.state_path.read_bytes(), type=Saved)
        except (OSError, msgspec.DecodeError):
            return None

    def write_money(self, tally: Tally) -> None:
        """Replace `money.json`. Written every few seconds, so it is not forced to the disk."""
        write_atomic(self.money_path, msgspec.json.encode(tally), sync=False)

    def read_money(self) -> Tally | None:
        """Read `money.json`; `None` if there is none that can be read."""
        try:
            return msgspec.json.decode(self.money_path.read_bytes(), type=Tally)
        except (OSError, msgspec.DecodeError):
            return None

    def exit_code(self, pid: int) -> int | None:
        """How a process ended, if the guardian has collected it; negative for a signal."""
        try:
            lines = self.exits_path.read_text(encoding="ascii", errors="replace").splitlines()
        except OSError:
            return None
        for line in reversed(lines):
            name, _, code = line.partition(" ")
            if name == str(pid):
                with contextlib.suppress(ValueError):
                    return int(code)
        return None

    def append_event(self, event: EventRecord) -> None:
        """Add a line to `events.jsonl`."""
        self._append(self.events_path, msgspec.json.encode(event) + b"\n", EVENTS_BYTES_MAX)

    def events(self, newest: int | None = None) -> tuple[EventRecord, ...]:
        """All events, or so many of the newest; damaged lines are passed over."""
        return tuple(deque(_read_lines(self.events_path, EventRecord), maxlen=newest))

    def append_samples(self, samples: Sequence[Sample]) -> None:
        """Add samples to the store in `samples/`, all of them or none; only the supervisor of the run does that.

        Raises:
            OSError: they could not be written.
        """
        self._store.append(samples)

    def samples(
        self,
        *,
        since_s: float | None = None,
        until_s: float | None = None,
        points_max: int | None = None,
        only: Sequence[str] | None = None,
    ) -> tuple[Sample, ...]:
        """Samples, oldest first: each second of the newest hours, then merged ones (see `console.io.samplestore`).

        Args:
            since_s: wall-clock time from which on.
            until_s: and until when.
            points_max: at most so many, merged evenly over the time; gaps and changes of state stay.
            only: dotted paths, or beginnings of them, of the figures that are wanted: `engine.generation_tokens`.
        """
        return read_samples(self.samples_path, since_s=since_s, until_s=until_s, points_max=points_max, only=only)

    def sampled(self) -> tuple[float, float] | None:
        """Wall-clock time of the first and the last sample; `None` without any."""
        return time_range(self.samples_path)

    @contextlib.contextmanager
    def claim(self) -> Iterator[bool]:
        """Hold the run for one supervisor; gives `False` where another one holds it. Ends with the process."""
        with self.lock_path.open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True

    @contextlib.contextmanager
    def reachable_socket(self) -> Iterator[str]:
        """A path to the socket that is short enough for the 108 bytes of a Unix address.

        A deep state directory would not fit, so the directory is opened and the path goes through `/proc/self/fd`.
        """
        plain = str(self.socket_path)
        if len(os.fsencode(plain)) < SOCKET_PATH_BYTES_MAX or not Path("/proc/self/fd").exists():
            yield plain
            return
        handle = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            yield f"/proc/self/fd/{handle}/{self.socket_path.name}"
        finally:
            os.close(handle)

    def socket_alias(self) -> str:
        """A path to the socket that another program can open: itself, or where it is too long a link that stays."""
        if len(os.fsencode(self.socket_path)) < SOCKET_PATH_BYTES_MAX:
            return str(self.socket_path)
        folder = paths.make_private_dir(Path(tempfile.gettempdir()) / f"dsv4-console-{os.getuid()}")
        if folder.stat().st_uid != os.getuid():
            raise StateError("Cannot make a link to the socket", f"{folder} belongs to somebody else", "Set TMPDIR.")
        for old in folder.iterdir():
            if old.is_symlink() and not old.exists():
                old.unlink(missing_ok=True)
        link = folder / hashlib.sha256(os.fsencode(self.socket_path)).hexdigest()[:16]
        with contextlib.suppress(FileExistsError):
            link.symlink_to(self.socket_path)
        return str(link)

    @staticmethod
    def _append(path: Path, data: bytes, bytes_max: int) -> None:
        """Add whole lines; at its limit the file starts anew."""
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_size > bytes_max:
                path.replace(path.with_name(f"{path.stem}.1{path.suffix}"))
        append_whole(path, data)

    def _read(self, path: Path, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(path.read_bytes(), type=kind)
        except FileNotFoundError as error:
            raise StateError("The run is incomplete", f"{path} is missing", DAMAGED_FIX) from error
        except msgspec.ValidationError as error:
            newer = f"{path}: {error}; it may have been written by another version of dsv4-console"
            raise StateError("The run cannot be understood", newer, DAMAGED_FIX) from error
        except (OSError, msgspec.DecodeError) as error:
            raise StateError("The run is damaged", f"{path}: {error}", DAMAGED_FIX) from error


def _read_lines(path: Path, kind: type[T]) -> Iterator[T]:
    decoder = msgspec.json.Decoder(kind)
    try:
        with path.open("rb") as file:
            for line in file:
                with contextlib.suppress(msgspec.DecodeError):
                    yield decoder.decode(line)
    except FileNotFoundError:
        return


def is_supervised(info: RunInfo) -> bool:
    """Its supervisor runs."""
    return is_same_process(info.supervisor_pid, info.supervisor_start_s)


def is_serving(info: RunInfo) -> bool:
    """Its server runs, supervised or not."""
    return is_same_process(info.server_pid, info.server_start_s)


def is_live(info: RunInfo) -> bool:
    """Its supervisor or its server runs, or processes of the server are left."""
    return is_supervised(info) or is_serving(info) or _left(info) is not None


def is_guarded(info: RunInfo) -> bool:
    """Its guardian runs, which starts a lost supervisor again in a moment; in between nothing else of it may run."""
    return info.guardian_pid is not None and is_command_of(info.guardian_pid, "console.supervisor", info.id)


def orphaned_session(info: RunInfo) -> int | None:
    """The server's session id, if processes of it run and no supervisor does; `None` if not."""
    if is_supervised(info):
        return None
    return info.server_pid if is_serving(info) else _left(info)


def _left(info: RunInfo) -> int | None:
    """The session of a run whose server's first process does not run, if other processes of it do."""
    log_path = paths.runs_dir() / info.id / "server.log"
    if info.server_pid is not None:
        return info.server_pid if owned_session(info.server_pid, info.server_start_s, log_path) else None
    if info.state not in LIVE_STATES or is_supervised(info):
        return None
    # The supervisor may have died between starting the server and noting its pid.
    return next(iter(sessions_writing_to(log_path)), None)


def settle(run: RunDir) -> RunInfo | None:
    """Write down the end of a run that nobody was there to see; `None` if there is nothing to write.

    That is the case if the record says that it lives, and of supervisor and server nothing is left.
    """
    try:
        if not run.lock_path.exists() or run.read_info().state not in LIVE_STATES:
            return None
        with run.claim() as mine:
            info = run.read_info()
            if not mine or info.state not in LIVE_STATES or is_guarded(info) or is_live(info):
                return None
            reason = f"was {info.state} when server and supervisor ended without a word (both killed, or a reboot)"
            saved = run.read_state()
            served = saved is not None and saved.machine.status.ready_s is not None
            stopping = saved is not None and saved.machine.stop is not None and not saved.machine.stop.restart
            state = ServerState.STOPPED if stopping else ServerState.CRASHED if served else ServerState.FAILED
            info = msgspec.structs.replace(
                info,
                state=str(state),
                reason=reason,
                supervisor_pid=None,
                supervisor_start_s=None,
                guardian_pid=None,
                server_pid=None,
                server_start_s=None,
            )
            run.write_info(info)
            run.append_event(EventRecord(time_s=time.time(), kind="state", text=f"{state}: {reason}", level=Level.BAD))
            return info
    except (OSError, StateError):
        return None  # a record that cannot be written now is written at the next start


def create_run(profile_name: str) -> RunDir:
    """Make a new run directory.

    Raises:
        StateError: the state directory is not writable.
    """
    return RunDir(paths.make_new_dir(paths.runs_dir(), "run", profile_name))


def list_runs() -> tuple[tuple[RunDir, RunInfo], ...]:
    """All readable runs, newest first."""
    found = []
    try:
        entries = list(paths.runs_dir().iterdir())
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise StateError(
            "Cannot read the runs", f"{paths.runs_dir()}: {error.strerror}", "Check who owns that directory."
        ) from error
    for path in entries:
        run = RunDir(path)
        with contextlib.suppress(StateError):
            found.append((run, run.read_info()))
    found.sort(key=lambda pair: (pair[1].created_s, pair[1].id), reverse=True)
    return tuple(found)


def damaged_runs() -> tuple[tuple[Path, str], ...]:
    """Directories among the runs whose `run.json` cannot be read, and why."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for path in sorted(paths.runs_dir().iterdir()):
            try:
                RunDir(path).read_info()
            except StateError as error:
                found.append((path, error.message))
    return tuple(found)


def find_run(name: str | None) -> tuple[RunDir, RunInfo]:
    """The run of this id or profile (`None`: any), a live one before others, then the newest.

    Raises:
        NotRunningError: there is none.
    """
    runs = list_runs()
    if name is not None:
        runs = tuple(pair for pair in runs if name in (pair[1].id, pair[1].profile_name))
    for pair in runs:
        if is_live(pair[1]):
            return pair
    if not runs or name is not None:
        for path, why in damaged_runs():
            if name in (None, path.name):
                raise StateError("The run is damaged", why, DAMAGED_FIX)
    if runs:
        return runs[0]
    raise NotRunningError(
        "There is no such run" if name else "Nothing has been launched yet",
        f"no run or profile named {name!r} in {paths.runs_dir()}" if name else "",
        "Start one: dsv4-console --profile NAME",
    )
