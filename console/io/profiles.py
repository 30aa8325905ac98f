"""The profile files: find them, read them, write the user's own. The one importer of tomlkit.

A user's profile takes the place of a shipped one of the same name. A file that cannot be read, or has mistakes,
becomes a problem beside the good ones and never hides them.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import stat
import tempfile
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from console.core.errors import ProfileError, StateError
from console.core.models import ProfileChange
from console.core.overrides import split_key
from console.core.profile import Profile
from console.core.profile_docs import SCHEMA_FILE, SCHEMA_LINE, profile_schema
from console.core.profile_read import ProfileReading, check_profile
from console.core.profile_source import name_problem
from console.io.paths import make_private_dir, shipped_profiles_dir, user_profiles_dir

if TYPE_CHECKING:
    from tomlkit import TOMLDocument

__all__ = [
    "BrokenProfile",
    "Catalogue",
    "Origin",
    "StoredProfile",
    "changed_text",
    "check_file",
    "create_user",
    "discover",
    "load",
    "put_profile",
    "read_file",
    "replace_file",
    "save_user",
]

PROFILE_BYTES_MAX = 256 * 1024
"""A longer file is no profile."""
PROFILES_MAX = 1000
"""Files read from one directory."""
SUFFIX = ".toml"


class Origin(StrEnum):
    """Where a profile comes from."""

    SHIPPED = "shipped"
    USER = "user"
    REPLACES = "user (replaces shipped)"


class StoredProfile(msgspec.Struct, frozen=True, kw_only=True):
    """A profile and its file."""

    name: str
    path: Path
    origin: Origin
    profile: Profile
    warnings: tuple[str, ...] = ()


class BrokenProfile(msgspec.Struct, frozen=True, kw_only=True):
    """A file that holds no usable profile."""

    name: str
    path: Path
    origin: Origin
    errors: tuple[str, ...]


class Catalogue(msgspec.Struct, frozen=True, kw_only=True):
    """Everything found, by name."""

    profiles: tuple[StoredProfile, ...] = ()
    problems: tuple[BrokenProfile, ...] = ()


def discover(shipped: Path | None = None, user: Path | None = None) -> Catalogue:
    """Read all profiles. Never raises for what a file holds.

    Args:
        shipped: directory of the shipped profiles, by default this program's.
        user: directory of the user's profiles, by default in the configuration directory.
    """
    good: dict[str, StoredProfile] = {}
    problems: list[BrokenProfile] = []
    directories = ((shipped or shipped_profiles_dir(), Origin.SHIPPED), (user or user_profiles_dir(), Origin.USER))
    for directory, origin in directories:
        files, trouble = _files(directory, origin)
        problems += trouble
        for path in files:
            name = path.name.removesuffix(SUFFIX)
            reading = check_file(path)
            if reading.profile is None:
                problems.append(BrokenProfile(name=name, path=path, origin=origin, errors=reading.errors))
                continue
            good[name] = StoredProfile(
                name=name,
                path=path,
                origin=Origin.REPLACES if name in good else origin,
                profile=reading.profile,
                warnings=reading.warnings,
            )
    return Catalogue(
        profiles=tuple(good[name] for name in sorted(good)),
        problems=tuple(sorted(problems, key=lambda problem: (problem.name, problem.origin))),
    )


def load(name: str, shipped: Path | None = None, user: Path | None = None) -> StoredProfile:
    """The profile called `name`, or the one in the file `name` if that is a path.

    Raises:
        ProfileError: there is none, with the nearest names; or it has mistakes, all of them listed.
    """
    if "/" in name or name.endswith(SUFFIX):
        return _load_file(Path(name).expanduser())
    catalogue = discover(shipped, user)
    broken = next((p for p in catalogue.problems if p.name == name and p.origin is not Origin.SHIPPED), None)
    found = next((p for p in catalogue.profiles if p.name == name), None)
    broken = broken or (None if found else next((p for p in catalogue.problems if p.name == name), None))
    if broken is not None:
        # A launch must not silently use the shipped profile where the user's own of that name has a mistake.
        raise _broken(broken.path, broken.errors)
    if found is None:
        names = [p.name for p in catalogue.profiles]
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        raise ProfileError(
            f"No profile is called {name!r}",
            f"Nearest: {', '.join(near)}" if near else f"There are: {', '.join(names) or 'none'}",
            "`dsv4-console profiles list` shows all.",
        )
    return found


def check_file(path: Path) -> ProfileReading:
    """Read one file and collect what is wrong with it, unreadable files included."""
    try:
        text = read_file(path)
    except OSError as error:
        return ProfileReading(errors=(f"{path}: cannot be read: {error.strerror or error}",))
    except UnicodeDecodeError as error:
        return ProfileReading(
            errors=(f"{path}: not UTF-8 text: byte {error.start} is {error.object[error.start]:#04x}",)
        )
    except ValueError as error:
        return ProfileReading(errors=(f"{path}: {error}",))
    return check_profile(text, str(path))


def save_user(
    name: str,
    changes: Iterable[ProfileChange],
    shipped: Path | None = None,
    user: Path | None = None,
    *,
    comments: Mapping[str, str] | None = None,
) -> Path:
    """Write changes into the user's profile `name`, made from the shipped one if the user has none yet.

    Comments and order stay. The result is checked before it takes the old file's place, which happens at once.

    Args:
        changes: each sets the dotted `key` to `after`, or takes it out where `after` is `None`.
        comments: dotted key to what is to stand beside a changed setting, in place of a comment there.

    Raises:
        ProfileError: no such profile, or the result would have mistakes.
        StateError: the file cannot be written.
    """
    _check_name(name)
    directory = user or user_profiles_dir()
    target = directory / f"{name}{SUFFIX}"
    source = target if target.exists() else load(name, shipped, user).path
    return _write_changed(source, target, changes, comments=comments or {})


def create_user(
    name: str, source: str, changes: Iterable[ProfileChange] = (), shipped: Path | None = None, user: Path | None = None
) -> Path:
    """Make the user's profile `name` from the profile or file `source`, with changes. Comments and order stay.

    Raises:
        ProfileError: there is no such source, it has mistakes, the result would have, or the name is taken.
        StateError: the file cannot be written.
    """
    _check_name(name)
    stored = load(source, shipped, user)
    target = (user or user_profiles_dir()) / f"{name}{SUFFIX}"
    taken = next((entry.path for entry in discover(shipped, user).profiles if entry.name == name), None)
    if target.exists() or taken is not None:
        raise ProfileError(f"A profile is called {name} already", f"It is {taken or target}", "Take another name.")
    return _write_changed(stored.path, target, changes, name_schema=True)


def _check_name(name: str) -> None:
    if problem := name_problem(name):
        raise ProfileError(f"{name!r} cannot be the name of a profile", problem)


def _write_changed(
    source: Path,
    target: Path,
    changes: Iterable[ProfileChange],
    *,
    name_schema: bool = False,
    comments: Mapping[str, str] | None = None,
) -> Path:
    """Write `source` with changes to `target`, after checking what comes out."""
    try:
        text = read_file(source)
    except (OSError, ValueError) as error:
        raise _broken(source, (f"{source}: {error}",)) from error
    paths = [(change, split_key(change.key)) for change in changes]
    text = changed_text(text, source, paths, comments or {})
    if name_schema and not text.startswith("#:schema"):
        text = f"{SCHEMA_LINE}\n{text}"
    reading = check_profile(text, str(target))
    if reading.profile is None:
        raise _broken(target, reading.errors)
    return put_profile(target, text)


def changed_text(
    text: str,
    source: Path,
    changes: Iterable[tuple[ProfileChange, tuple[str, ...]]],
    comments: Mapping[str, str] | None = None,
) -> str:
    """A profile's text with changes made; comments and order stay.

    Args:
        source: what to name in messages.
        changes: each with the tables that lead to its key, and the key's name in the last of them.
        comments: as `save_user`.

    Raises:
        ProfileError: it is not TOML, or a change goes below something that is no table.
    """
    # Imported where it is needed: nothing that only reads has to wait for it.
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    try:
        document = tomlkit.parse(text)
        for change, path in changes:
            _apply(document, path, change.after, (comments or {}).get(change.key, ""))
        return tomlkit.dumps(document)
    except TOMLKitError as error:
        raise _broken(source, (f"{source}: {error}",)) from error


def put_profile(target: Path, text: str) -> Path:
    """Put a profile's text in place of its file at once, and beside it the schema that it names.

    Raises:
        StateError: it cannot be written.
    """
    directory = make_private_dir(target.parent)
    # A link, as into a directory of configuration files under version control, stays one.
    replace_file(target.resolve() if target.is_symlink() else target, text)
    if text.startswith(SCHEMA_LINE):
        # What that line names, as this version of the program has it.
        schema = msgspec.json.format(msgspec.json.encode(profile_schema()), indent=2).decode()
        replace_file(directory / SCHEMA_FILE, schema + "\n")
    return target


def _load_file(path: Path) -> StoredProfile:
    reading = check_file(path)
    if reading.profile is None:
        raise _broken(path, reading.errors)
    return StoredProfile(
        name=path.name.removesuffix(SUFFIX),
        path=path,
        origin=Origin.USER,
        profile=reading.profile,
        warnings=reading.warnings,
    )


def _broken(path: Path, errors: Iterable[str]) -> ProfileError:
    return ProfileError(f"Cannot use the profile {path.name}", "\n".join(errors), "Correct it and try again.")


def _files(directory: Path, origin: Origin) -> tuple[list[Path], list[BrokenProfile]]:
    try:
        paths = sorted(p for p in directory.iterdir() if p.suffix == SUFFIX and not p.name.startswith("."))
    except FileNotFoundError:
        return [], []
    except OSError as error:
        text = f"{directory}: cannot be read: {error.strerror}"
        return [], [BrokenProfile(name=directory.name, path=directory, origin=origin, errors=(text,))]
    if len(paths) <= PROFILES_MAX:
        return paths, []
    text = f"{directory}: has {len(paths)} profiles; only the first {PROFILES_MAX} are read"
    return paths[:PROFILES_MAX], [BrokenProfile(name=directory.name, path=directory, origin=origin, errors=(text,))]


def read_file(path: Path) -> str:
    """Text of a regular file of bounded size; a pipe or device is never opened.

    Raises:
        OSError: it cannot be read.
        ValueError: it is too long, no regular file, or not UTF-8.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("not a regular file")
    with path.open("rb") as file:
        data = file.read(PROFILE_BYTES_MAX + 1)
    if len(data) > PROFILE_BYTES_MAX:
        raise ValueError(f"longer than {PROFILE_BYTES_MAX // 1024} KiB: no profile is")
    return data.decode("utf-8-sig").replace("\r\n", "\n")


def _apply(document: TOMLDocument, path: tuple[str, ...], value: Any, comment: str = "") -> None:
    import tomlkit
    from tomlkit.container import OutOfOrderTableProxy
    from tomlkit.items import AbstractTable, InlineTable

    *tables, last = path
    table: Any = document
    for part in tables:
        if part not in table:
            if value is None:
                return
            table[part] = tomlkit.table()
        table = table[part]
        # A table whose parts stand in several places of the file comes as a proxy.
        if not isinstance(table, AbstractTable | InlineTable | OutOfOrderTableProxy):
            raise ProfileError(f"{'.'.join(path)} cannot be set", f"{part} is not a table")
    if value is None:
        table.pop(last, None)
    else:
        item = tomlkit.item(list(value) if isinstance(value, tuple) else value)
        if comment and isinstance(table, AbstractTable):
            item.comment(" ".join(comment.split()))
        table[last] = item


def replace_file(path: Path, text: str) -> None:
    """Put `text` in place of the file at once: a reader sees the old or the new one, whole.

    Raises:
        StateError: it cannot be written; the old one stays.
    """
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except OSError as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()
        raise StateError(
            "Cannot write the profile", f"{path}: {error.strerror}", "Check the disk and the file's permissions."
        ) from error
