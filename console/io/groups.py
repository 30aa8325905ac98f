"""Group directories: one per group, on the machine from which it was started, readable by their owner alone.

`group.json` what is to run, how it stands and who holds it together · `wish.json` what somebody wants of it ·
`events.jsonl` what happened · `coordinator.log` the coordinator's own trouble.
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from console.core.errors import NotRunningError, StateError
from console.core.group import Group
from console.core.models import EventRecord
from console.io import paths
from console.io.process import is_same_process
from console.io.runs import write_atomic
from console.io.samplestore import append_whole

__all__ = [
    "GroupDir",
    "GroupRecord",
    "GroupSpec",
    "Wish",
    "create_group",
    "find_group",
    "groups_dir",
    "is_held",
    "list_groups",
]


class GroupSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a group is to be; it does not change."""

    id: str
    profile_name: str
    overrides: dict[str, Any]
    engine: str | None
    allow_public: bool
    force: bool
    hosts: tuple[str, ...]
    addresses: tuple[str, ...]
    port: int | None
    meets: bool
    ssh_config: str | None
    """As for `ssh -F`."""
    ssh_commands: tuple[str, ...]
    """The console on each host."""
    url: str
    """Where clients reach the head's server."""
    model: str
    created_s: float


class GroupRecord(msgspec.Struct, frozen=True, kw_only=True):
    """`group.json`."""

    spec: GroupSpec
    group: Group
    coordinator_pid: int | None = None
    coordinator_start_s: float | None = None
    obeyed: int = 0
    """Number of the last wish that was taken in."""


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """`wish.json`: the last one counts."""

    number: int
    verb: str
    """`stop` or `restart`."""
    drain_s: float | None = None


class GroupDir:
    """Paths and records of one group."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.record_path = path / "group.json"
        self.wish_path = path / "wish.json"
        self.events_path = path / "events.jsonl"
        self.log_path = path / "coordinator.log"
        self.exits_path = path / "exits"

    @property
    def id(self) -> str:
        """The directory's name."""
        return self.path.name

    def read(self) -> GroupRecord:
        """Read `group.json`.

        Raises:
            StateError: it is missing or damaged.
        """
        try:
            return msgspec.json.decode(self.record_path.read_bytes(), type=GroupRecord)
        except (OSError, msgspec.DecodeError) as error:
            raise StateError(
                "The group cannot be read", f"{self.record_path}: {error}", "On each host: dsv4-console status"
            ) from error

    def write(self, record: GroupRecord) -> None:
        """Replace `group.json`."""
        write_atomic(self.record_path, msgspec.json.format(msgspec.json.encode(record)) + b"\n")

    def wish(self, verb: str, drain_s: float | None) -> None:
        """Say what is wanted; whoever holds the group together reads it within a moment, or when it starts."""
        before = self.read_wish()
        number = before.number + 1 if before is not None else 1
        write_atomic(self.wish_path, msgspec.json.encode(Wish(number=number, verb=verb, drain_s=drain_s)))

    def read_wish(self) -> Wish | None:
        """What was wanted last."""
        try:
            return msgspec.json.decode(self.wish_path.read_bytes(), type=Wish)
        except (OSError, msgspec.DecodeError):
            return None

    def append_event(self, event: EventRecord) -> None:
        """Add a line to `events.jsonl`; a full disk loses it."""
        with contextlib.suppress(OSError):
            append_whole(self.events_path, msgspec.json.encode(event) + b"\n")

    def events(self, offset: int = 0) -> tuple[tuple[EventRecord, ...], int]:
        """Events from this byte on, and the byte after the last of them."""
        try:
            with self.events_path.open("rb") as file:
                file.seek(offset)
                data = file.read()
        except OSError:
            return (), offset
        whole = data[: data.rfind(b"\n") + 1]
        found = []
        for line in whole.splitlines():
            with contextlib.suppress(msgspec.DecodeError):
                found.append(msgspec.json.decode(line, type=EventRecord))
        return tuple(found), offset + len(whole)

    @contextlib.contextmanager
    def claim(self) -> Iterator[bool]:
        """Hold the group for one coordinator; gives `False` where another one holds it."""
        with (self.path / "coordinator.lock").open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True


def groups_dir() -> Path:
    """One directory per group."""
    return paths.state_dir() / "groups"


def is_held(record: GroupRecord) -> bool:
    """Its coordinator runs."""
    return is_same_process(record.coordinator_pid, record.coordinator_start_s)


def create_group(profile_name: str) -> GroupDir:
    """Make a new group directory.

    Raises:
        StateError: the state directory is not writable.
    """
    return GroupDir(paths.make_new_dir(groups_dir(), "group", profile_name, "group-"))


def list_groups() -> tuple[tuple[GroupDir, GroupRecord], ...]:
    """All readable groups, newest first."""
    found = []
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for path in sorted(groups_dir().iterdir(), reverse=True):
            with contextlib.suppress(StateError):
                found.append((GroupDir(path), GroupDir(path).read()))
    found.sort(key=lambda pair: pair[1].spec.created_s, reverse=True)
    return tuple(found)


def find_group(name: str | None) -> tuple[GroupDir, GroupRecord]:
    """The group of this id or profile (`None`: any), one that is not over before others, then the newest.

    Raises:
        NotRunningError: there is none.
    """
    found = [pair for pair in list_groups() if name in (None, pair[1].spec.id, pair[1].spec.profile_name)]
    found.sort(key=lambda pair: pair[1].group.over)
    if found:
        return found[0]
    raise NotRunningError(
        "There is no such group", f"no group or profile named {name!r} in {groups_dir()}", "See: dsv4-console status"
    )
