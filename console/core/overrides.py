"""Settings given on the command line over a profile (`--set serve.max_num_seqs=64`), and how two profiles differ.

An override goes through the same checks as a file does, so that neither can say what the other may not.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from console.core.errors import ProfileError
from console.core.models import ProfileChange
from console.core.profile import Profile
from console.core.profile_read import FIELDS, profile_from

__all__ = ["apply_changes", "apply_overrides", "diff", "parse_value", "split_key"]

LABEL = "--set"
"""Stands in messages where a file would."""


def apply_overrides(profile: Profile, overrides: Mapping[str, Any]) -> Profile:
    """The profile with settings changed.

    Args:
        overrides: dotted key to value. Text is read as a TOML literal where the key takes one (`64`, `true`,
            `{method = "mtp"}`, `[1, 2]`) and as itself otherwise. `None` or empty text takes the setting out, which
            leaves the choice to vLLM.

    Raises:
        ProfileError: a key is unknown or a value not allowed; all mistakes are in the message.
    """
    if not overrides:
        return profile
    data: dict[str, Any] = msgspec.to_builtins(profile)
    wrong = [line for key, value in overrides.items() if (line := _put(data, key, value))]
    reading = profile_from(data, LABEL)
    wrong += reading.errors
    if wrong or reading.profile is None:
        raise ProfileError("The settings cannot be used", "\n".join(wrong), "Correct the --set options.")
    return reading.profile


def apply_changes(profile: Profile, changes: tuple[ProfileChange, ...]) -> Profile:
    """The profile with proposed changes made, as a hint or a diagnosis gives them.

    Raises:
        ProfileError: as `apply_overrides`.
    """
    return apply_overrides(profile, {change.key: change.after for change in changes})


def split_key(key: str) -> tuple[str, ...]:
    """The tables that lead to a dotted key, and its name in the last of them."""
    parts = key.split(".")
    # A flag under `[serve.extra]` may have a dotted name itself.
    if parts[:2] == ["serve", "extra"] and len(parts) > 3:
        return "serve", "extra", ".".join(parts[2:])
    return tuple(parts)


def parse_value(key: str, text: str) -> Any:
    """What the text after `=` means for `key`."""
    section, _, field = key.partition(".")
    kind = str if section == "env" else FIELDS.get(section, {}).get(field)
    try:
        table = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    if set(table) != {"value"}:
        return text
    value = table["value"]
    if kind is None or isinstance(value, str) or _fits(value, kind) or not _fits(text, kind):
        return value
    return text


def diff(before: Profile, after: Profile) -> tuple[ProfileChange, ...]:
    """What changed, by dotted key; `None` stands for a setting that is not there."""
    old, new = dict(_flat("", before)), dict(_flat("", after))
    return tuple(
        ProfileChange(key=key, before=old.get(key), after=new.get(key))
        for key in dict.fromkeys((*old, *new))
        if old.get(key) != new.get(key)
    )


def _put(data: dict[str, Any], key: str, value: Any) -> str:
    """Set one key; what is wrong with it, empty if nothing is."""
    *path, last = split_key(key)
    if not path or not all((*path, last)):
        return f"{LABEL}: {key or '(empty)'}: allowed: TABLE.KEY=VALUE, for example serve.max_num_seqs=64"
    table = data
    for part in path:
        inner = table.setdefault(part, {})
        if inner is None:
            inner = table[part] = {}
        if not isinstance(inner, dict):
            return f"{LABEL}: {key}: {part} is not a table"
        table = inner
    if tuple(path) == ("serve", "extra"):
        # vLLM reads `_` and `-` in a flag's name alike: the spelling that is there counts.
        last = next((name for name in table if name.replace("-", "_") == last.replace("-", "_")), last)
    if value is None or value == "":
        table.pop(last, None)
    else:
        table[last] = parse_value(key, value) if isinstance(value, str) else value
    return ""


def _fits(value: Any, kind: Any) -> bool:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            yield from _flat(f"{prefix}{name}.", getattr(value, name))
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _flat(f"{prefix}{name}.", item)
    else:
        yield prefix.removesuffix("."), value
