"""The file behind an edited profile: read with what it was made from, and written only over what was read.

An edit may take an hour. A file that somebody else changed meanwhile is not overwritten unasked, and what is written
is read back first: it must say what the form said.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from console.core.errors import ConflictError, ProfileError, StateError
from console.core.models import ProfileChange
from console.core.profile_form import flat, literal, path_of
from console.core.profile_read import check_profile
from console.core.profile_source import ProfileSource, name_problem
from console.core.text import is_secret_name
from console.io.paths import make_private_dir, shipped_profiles_dir, state_dir, user_profiles_dir
from console.io.profiles import changed_text, put_profile, read_file, replace_file

__all__ = ["keep_command", "keep_edit", "kept_edit", "read_source", "write_edited"]

SUFFIX = ".toml"


def read_source(name: str, shipped: Path | None = None, user: Path | None = None) -> ProfileSource:
    """The user's file of this name, with mistakes or without, else the shipped one.

    Raises:
        ProfileError: there is none, or it cannot be read.
    """
    own = (user or user_profiles_dir()) / f"{name}{SUFFIX}"
    original = (shipped or shipped_profiles_dir()) / f"{name}{SUFFIX}"
    first = own if own.exists() else original
    text = _text(first)
    return ProfileSource(
        name=name,
        path=str(first),
        own=first == own,
        text=text,
        shipped=(_text(original) if original.exists() else "") if first == own else text,
    )


def write_edited(
    name: str,
    base: str,
    changes: Iterable[ProfileChange],
    *,
    expected: str | None,
    mistakes: bool = False,
    user: Path | None = None,
) -> Path:
    """Write `base` with changes as the user's profile `name`. Comments and order of `base` stay.

    Args:
        base: the text that was edited.
        changes: keys as rows of a form have them.
        expected: what the user's file of this name held when the edit began; `None` if there was none.
        mistakes: write it although it has mistakes, which keeps it from being launched.

    Raises:
        ConflictError: the user's file is not what was expected.
        ProfileError: it has mistakes, or cannot have this name.
        StateError: it cannot be written.
    """
    if problem := name_problem(name):
        raise ProfileError(f"{name!r} cannot be the name of a profile", problem)
    changes = tuple(changes)
    target = (user or user_profiles_dir()) / f"{name}{SUFFIX}"
    text = changed_text(base, target, [(change, path_of(change.key)) for change in changes])
    wanted = flat(tomllib.loads(base)) | {change.key: change.after for change in changes}
    if _said(flat(tomllib.loads(text))) != _said({key: value for key, value in wanted.items() if value is not None}):
        raise StateError(
            "This edit cannot be written into the file",
            f"{target}: its comments and order would not survive",
            "Nothing was written. Make the change with a text editor.",
        )
    reading = check_profile(text, str(target))
    if reading.profile is None and not mistakes:
        raise ProfileError(f"Cannot use the profile {target.name}", "\n".join(reading.errors), "Correct it first.")
    now = _text(target) if target.exists() else None
    if now != expected:
        happened = "is gone" if now is None else "is there now" if expected is None else "was changed"
        raise ConflictError(
            f"The file of {name} {happened}", f"{target}: not as it was when this edit began", "Nothing was written."
        )
    return put_profile(target, text)


def keep_edit(name: str, changes: Iterable[ProfileChange]) -> None:
    """Keep changes that are not saved yet, so that a line that breaks costs none; without changes, forget them.

    Values under names of secrets are left out.

    Raises:
        StateError: they cannot be written.
    """
    path = _edit_path(name)
    kept = {
        change.key: None if change.after is None else literal(change.after)
        for change in changes
        if not is_secret_name(path_of(change.key)[-1])
    }
    try:
        if kept:
            make_private_dir(path.parent)
            replace_file(path, msgspec.json.encode(kept).decode())
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise StateError("Cannot keep the edit", f"{path}: {error.strerror}", "Check the disk.") from error


def kept_edit(name: str) -> tuple[ProfileChange, ...]:
    """Changes that were made and never saved; what cannot be read is none."""
    try:
        kept = msgspec.json.decode(read_file(_edit_path(name)), type=dict[str, str | None])
        return tuple(
            ProfileChange(key=key, after=None if text is None else tomllib.loads(f"value = {text}")["value"])
            for key, text in kept.items()
        )
    except (OSError, ValueError, KeyError, RecursionError):
        return ()


def _edit_path(name: str) -> Path:
    return state_dir() / "edits" / f"{name if not name_problem(name) else 'profile'}.json"


def keep_command(name: str, line: str) -> Path:
    """Write a command where it can be read whatever the terminal did with its clipboard; one file per profile.

    Raises:
        StateError: it cannot be written.
    """
    path = make_private_dir(state_dir() / "commands") / f"{name if not name_problem(name) else 'profile'}.sh"
    try:
        path.write_text(f"{line}\n", encoding="utf-8")
        path.chmod(0o600)
    except OSError as error:
        raise StateError("Cannot write the command", f"{path}: {error.strerror}", "Check the disk.") from error
    return path


def _said(data: Mapping[str, Any]) -> dict[str, str]:
    return {key: literal(value) for key, value in data.items()}


def _text(path: Path) -> str:
    try:
        return read_file(path)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise ProfileError("The profile cannot be read", f"{path}: {why}", "Correct the file first.") from error
