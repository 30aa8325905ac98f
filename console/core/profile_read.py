"""Strict reading of a profile: TOML text or a table to a `Profile`, with all mistakes at once.

msgspec stops at the first mistake, so every field is checked on its own here; what a key means together with
others is judged in `console.core.profile_checks`.
"""

from __future__ import annotations

import difflib
import json
import math
import re
import tomllib
from collections.abc import Collection, Iterator, Mapping
from typing import Any, get_type_hints

import msgspec
from msgspec import inspect

from console.core.errors import ProfileError
from console.core.profile import Profile, Section
from console.core.profile_checks import Finding, judge
from console.core.text import HIDDEN, is_secret_name

__all__ = [
    "FIELDS",
    "KNOWN_KEYS",
    "SECTIONS",
    "Mistake",
    "ProfileReading",
    "allowed",
    "check_profile",
    "profile_from",
    "read_profile",
    "show_value",
]

SHOWN_CHARS_MAX = 60
INT_MAX = 2**63 - 1
NEAR = 0.6
"""Similarity from which a known key is offered (difflib's ratio)."""

SECTIONS: dict[str, Any] = get_type_hints(Profile, include_extras=True)
FIELDS: dict[str, dict[str, Any]] = {
    name: get_type_hints(kind, include_extras=True)
    for name, kind in SECTIONS.items()
    if isinstance(kind, type) and issubclass(kind, Section)
}
REQUIRED: tuple[tuple[str, str], ...] = tuple(
    (section, field.encode_name)
    for section in FIELDS
    for field in msgspec.structs.fields(SECTIONS[section])
    if field.required
)
"""Keys that have no default, all of them text."""
KNOWN_KEYS: tuple[str, ...] = tuple(
    f"{section}.{field}" for section, fields in FIELDS.items() for field in fields
) + tuple(name for name in SECTIONS if name not in FIELDS)
"""Every dotted key that a profile may have; below `env`, `serve.extra` and the `*_config` tables any key goes."""

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_BREAKS = re.compile(rf"{_CONTROL.pattern}|[\t\n]")
_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|(end of document))\)$")


class Mistake(msgspec.Struct, frozen=True, kw_only=True):
    """A key that is unknown, missing, not well-typed, or at odds with others."""

    key: str
    text: str


class ProfileReading(msgspec.Struct, frozen=True, kw_only=True):
    """What came of reading a profile: a profile, or the mistakes that stand in its way."""

    profile: Profile | None = None
    errors: tuple[str, ...] = ()
    """One line per mistake: file, key, what was found, what is allowed, the nearest known key."""
    warnings: tuple[str, ...] = ()
    mistakes: tuple[Mistake, ...] = ()
    """The errors again, each with its key."""


def read_profile(text: str, file: str) -> Profile:
    """Read a profile.

    Args:
        file: how to name its source in messages.

    Raises:
        ProfileError: it has mistakes; all of them are in the message, one per line.
    """
    reading = check_profile(text, file)
    if reading.profile is None:
        raise ProfileError(
            f"Cannot use the profile {file}",
            "\n".join(reading.errors),
            "Correct the profile; `dsv4-console profiles check` reads it again.",
        )
    return reading.profile


def check_profile(text: str, file: str) -> ProfileReading:
    """Read a profile and collect its mistakes."""
    try:
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        return ProfileReading(errors=(_syntax_error(error, file),))
    return profile_from(data, file)


def profile_from(data: Mapping[str, Any], file: str) -> ProfileReading:
    """Read a profile that is already a table."""
    mistakes = tuple(_mistakes(data))
    broken = {mistake.key for mistake in mistakes}
    profile = msgspec.convert(_without(data, broken), Profile)
    findings = judge(profile, broken)
    wrong = (*mistakes, *(Mistake(key=each.key, text=_finding(each)) for each in findings if not each.warning))
    return ProfileReading(
        profile=None if wrong else profile,
        errors=tuple(_line(file, mistake.text) for mistake in wrong),
        mistakes=wrong,
        warnings=tuple(_line(file, _finding(finding)) for finding in findings if finding.warning),
    )


def show_value(key: str, value: Any) -> str:
    """A value as TOML would have it, on one line, short, secrets hidden."""
    if is_secret_name(key.rpartition(".")[2]):
        return HIDDEN
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except (ValueError, RecursionError):
        text = repr(type(value))
    text = _CONTROL.sub("?", text)
    return text if len(text) <= SHOWN_CHARS_MAX else text[: SHOWN_CHARS_MAX - 1] + "…"


def _line(file: str, text: str) -> str:
    return _BREAKS.sub("?", f"{file}: {text}")


def _finding(finding: Finding) -> str:
    if finding.found is None:
        return f"{finding.key}: {finding.text}"
    return f"{finding.key}: found {show_value(finding.key, finding.found)}; {finding.text}"


def _without(data: Mapping[str, Any], broken: Collection[str]) -> dict[str, Any]:
    """The well-typed rest, with placeholders for what a profile cannot do without: enough to judge it by."""
    rest: dict[str, Any] = {}
    for name, table in data.items():
        if name not in broken:
            rest[name] = {key: value for key, value in table.items() if f"{name}.{key}" not in broken}
    for section, key in REQUIRED:
        rest.setdefault(section, {}).setdefault(key, "?")
    return rest


def _syntax_error(error: Exception, file: str) -> str:
    text = "nested too deeply" if isinstance(error, RecursionError) else _CONTROL.sub("?", str(error))
    place = _PLACE.search(text)
    if place is None:
        return _line(file, f"not valid TOML: {text}")
    where = f"line {place[1]}, column {place[2]}" if place[1] else place[3]
    return _line(file, f"not valid TOML at {where}: {text[: place.start()]}")


def _mistakes(data: Mapping[str, Any]) -> Iterator[Mistake]:
    for name, value in data.items():
        if name not in SECTIONS:
            yield Mistake(key=name, text=_unknown(name, value))
        elif not isinstance(value, Mapping):
            yield Mistake(key=name, text=f"{name}: found {show_value(name, value)}; allowed: a table, [{name}]")
        else:
            # `[env]` has no fields of its own: any name, always text.
            fields = FIELDS.get(name)
            for key, item in value.items():
                dotted = f"{name}.{key}"
                if fields is not None and key not in fields:
                    yield Mistake(key=dotted, text=_unknown(dotted, item))
                else:
                    yield from _value_mistakes(dotted, item, str if fields is None else fields[key])
    for section, key in REQUIRED:
        table = data.get(section, {})
        if isinstance(table, Mapping) and key not in table:
            words = allowed(inspect.type_info(FIELDS[section][key]))
            yield Mistake(key=f"{section}.{key}", text=f"{section}.{key}: missing; required: {words}")


def _value_mistakes(key: str, value: Any, kind: Any) -> Iterator[Mistake]:
    unfit = _unfit(value)
    if unfit:
        yield Mistake(key=key, text=f"{key}: found {show_value(key, value)}; {unfit}")
        return
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        words = allowed(inspect.type_info(kind))
        yield Mistake(key=key, text=f"{key}: found {show_value(key, value)}; allowed: {words}")


def _unfit(value: Any) -> str:
    """Why a value can go into no command line, whatever the key; empty if it can."""
    text = ""
    match value:
        case str():
            if _CONTROL.search(value):
                text = "control characters are not allowed"
        case float():
            if not math.isfinite(value):
                text = "allowed: a finite number"
        case int():
            if not -INT_MAX <= value <= INT_MAX:
                text = "allowed: a number of at most 64 bits"
        case list() | tuple():
            text = next(filter(None, map(_unfit, value)), "")
        case Mapping():
            text = next(filter(None, (_unfit(key) or _unfit(item) for key, item in value.items())), "")
        case _:
            text = "allowed: text, numbers, true or false, lists and tables (put a date in quotes)"
    return text


def _unknown(key: str, value: Any) -> str:
    near = _nearest(key)
    shown = key[:SHOWN_CHARS_MAX]
    found = "a table" if isinstance(value, Mapping) else show_value(key, value)
    section = key.partition(".")[0]
    if near:
        advice = f"nearest known key: {near}"
    elif section in FIELDS and section != key:
        advice = f"known keys of [{section}]: {', '.join(FIELDS[section])}"
    else:
        advice = f"known tables: {', '.join(SECTIONS)}"
    if section == "serve" and section != key:
        advice += "; another vLLM flag goes under [serve.extra]"
    return f"{shown}: found {found}; no such key; {advice}"


def _nearest(key: str) -> str:
    section, dot, leaf = key.replace("-", "_").rpartition(".")
    here = [known for known in KNOWN_KEYS if known.rpartition(".")[0] == section] if dot else list(SECTIONS)
    by_leaf = {known.rpartition(".")[2]: known for known in here}
    close = difflib.get_close_matches(leaf, by_leaf, n=1, cutoff=NEAR)
    if close:
        return by_leaf[close[0]]
    # Perhaps a known key in the wrong table.
    elsewhere = {known.rpartition(".")[2]: known for known in KNOWN_KEYS}
    close = difflib.get_close_matches(leaf, elsewhere, n=1, cutoff=0.8)
    return elsewhere[close[0]] if close else ""


def allowed(kind: inspect.Type) -> str:
    """What a type admits, in words."""
    words = "a table"
    match kind:
        case inspect.Metadata():
            words = allowed(kind.type)
        case inspect.UnionType():
            parts = [allowed(part) for part in kind.types if not isinstance(part, inspect.NoneType)]
            words = " or ".join(parts)
        case inspect.BoolType():
            words = "true or false"
        case inspect.IntType() | inspect.FloatType():
            noun = "a whole number" if isinstance(kind, inspect.IntType) else "a number"
            limits = {"at least": kind.ge, "more than": kind.gt, "at most": kind.le, "less than": kind.lt}
            bounds = " and ".join(f"{word} {limit:g}" for word, limit in limits.items() if limit is not None)
            words = f"{noun}, {bounds}" if bounds else noun
        case inspect.StrType():
            words = "text in quotes that is not empty" if kind.min_length else "text in quotes"
        case inspect.EnumType():
            words = "one of " + ", ".join(f'"{member.value}"' for member in kind.cls)
        case inspect.VarTupleType():
            words = f"a list of {allowed(kind.item_type)}"
    return words
