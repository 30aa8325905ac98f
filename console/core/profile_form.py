"""A profile as a form: a row for every key it may have, made from the types, and edits that can be taken back.

A form works on the table that the file holds, not on a `Profile`: a file with mistakes has no `Profile` and is the one
that most needs editing. What is written goes through the reader of files, so the form admits nothing that they do not.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any

import msgspec
from msgspec import inspect

from console.core.command import FLAGS
from console.core.errors import ProfileError
from console.core.models import ProfileChange
from console.core.overrides import parse_value
from console.core.profile_checks import DTYPES
from console.core.profile_docs import about_text, help_text
from console.core.profile_read import FIELDS, SECTIONS, ProfileReading, allowed, check_profile, profile_from
from console.core.text import HIDDEN, is_secret_name

__all__ = [
    "ENV",
    "EXTRA",
    "Draft",
    "FormRow",
    "differences",
    "edit_text",
    "flat",
    "form_rows",
    "found_in",
    "literal",
    "open_draft",
    "path_of",
    "read_text",
    "section_about",
    "value_text",
]

EXTRA, ENV = "serve.extra", "env"
"""The tables whose rows are the user's own."""
STEPS_MAX = 1000
"""Edits that can be taken back."""

Table = Mapping[str, Any]

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_CHOICES: dict[str, tuple[Any, ...]] = {"serve.dtype": DTYPES}
"""Keys that are text by type, but of which vLLM takes only these."""


class FormRow(msgspec.Struct, frozen=True, kw_only=True):
    """One key of a profile, and what may be written there."""

    key: str
    """Dotted, as in messages: `serve.max_num_seqs`, `serve.extra.max-log-len`, `env.NAME`."""
    section: str
    """A table of the profile, or `serve.extra`."""
    help: str = ""
    allowed: str = ""
    """In words, bounds included; empty where anything goes."""
    default: Any = None
    required: bool = False
    flag: str = ""
    """Of vLLM."""
    choices: tuple[Any, ...] = ()
    """All that may be chosen; empty where it is written."""
    known: bool = True

    @property
    def name(self) -> str:
        """The key without its table."""
        return self.key.removeprefix(f"{self.section}.")

    @property
    def own(self) -> bool:
        """Whether the row is there only because the user wrote it."""
        return self.section in (EXTRA, ENV) or not self.known


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One edit, and the table before it."""

    change: ProfileChange
    before: Table


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """A table under edit. Every edit gives another draft; no table is ever changed."""

    base: Table
    """As the file has it."""
    data: Table
    done: tuple[Step, ...] = ()
    undone: tuple[Step, ...] = ()

    def put(self, key: str, value: Any) -> Draft:
        """With `value` at `key`; `None` takes the key out."""
        before = flat(self.data).get(key)
        if _same(before, value):
            return self
        step = Step(change=ProfileChange(key=key, before=before, after=value), before=self.data)
        done = (*self.done, step)[-STEPS_MAX:]
        return Draft(base=self.base, data=_put(self.data, path_of(key), value), done=done)

    def undo(self) -> Draft:
        """Without the last edit."""
        if not self.done:
            return self
        step = self.done[-1]
        undone = (*self.undone, msgspec.structs.replace(step, before=self.data))
        return Draft(base=self.base, data=step.before, done=self.done[:-1], undone=undone)

    def redo(self) -> Draft:
        """With the edit that was taken back last."""
        if not self.undone:
            return self
        step = self.undone[-1]
        done = (*self.done, msgspec.structs.replace(step, before=self.data))
        return Draft(base=self.base, data=step.before, done=done, undone=self.undone[:-1])

    @property
    def changes(self) -> tuple[ProfileChange, ...]:
        """What differs from the file; edits that cancel out do not."""
        return differences(self.base, self.data)

    def read(self, label: str) -> ProfileReading:
        """The profile, or all its mistakes, by the reader that files go through."""
        return profile_from(self.data, label)


def open_draft(text: str, label: str) -> Draft:
    """Begin to edit what a file holds, mistakes in its keys and values included.

    Raises:
        ProfileError: it is no TOML, so there are no keys to edit.
    """
    try:
        data = tomllib.loads(text)
    except (ValueError, RecursionError):
        errors = check_profile(text, label).errors
        raise ProfileError(
            "This file cannot be edited as a form", "\n".join(errors), "Correct that line with a text editor first."
        ) from None
    return Draft(base=data, data=data)


def form_rows(data: Table) -> tuple[FormRow, ...]:
    """Every key that a profile may have and every key that this one has, by section in the order of the types."""
    present = flat(data)
    rows: list[FormRow] = []
    for section in SECTIONS:
        rows += _FORM.get(section, ())
        for key in present:
            if key not in _BY_KEY and (key == section or path_of(key)[:-1] == (section,)):
                rows.append(_own_row(key, section))
        if section == "serve":
            rows += [_own_row(key, EXTRA) for key in present if path_of(key)[:-1] == ("serve", "extra")]
    strangers = [key for key in present if path_of(key)[0] not in SECTIONS]
    return (*rows, *(FormRow(key=key, section="", known=False) for key in strangers))


def section_about(section: str) -> str:
    """What a table is for, in a sentence."""
    if section == EXTRA:
        return "Any other flag of vllm serve, by its own name"
    if not section:
        return "Not part of a profile"
    kind = SECTIONS[section]
    return (about_text(kind) if section in FIELDS else help_text(kind)).rstrip(".")


def flat(data: Table) -> dict[str, Any]:
    """Every key that is there, dotted, with its value; tables within values stay whole."""
    out: dict[str, Any] = {}
    for name, table in data.items():
        if name not in SECTIONS or not isinstance(table, Mapping):
            out[name] = table
            continue
        for key, value in table.items():
            if f"{name}.{key}" == EXTRA and isinstance(value, Mapping):
                out.update({f"{EXTRA}.{flag}": item for flag, item in value.items()})
            else:
                out[f"{name}.{key}"] = value
    return out


def path_of(key: str) -> tuple[str, ...]:
    """The tables that lead to a row's key, and its name in the last of them. Names may have dots themselves."""
    section, dot, name = key.partition(".")
    if not dot or section not in SECTIONS:
        return (key,)
    if key.startswith(f"{EXTRA}."):
        return ("serve", "extra", key.removeprefix(f"{EXTRA}."))
    return (section, name)


def differences(before: Table, after: Table) -> tuple[ProfileChange, ...]:
    """What differs, by dotted key; what is taken out comes first, so that a table can take a value's place."""
    old, new = flat(before), flat(after)
    found = [
        ProfileChange(key=key, before=old.get(key), after=new.get(key))
        for key in dict.fromkeys((*old, *new))
        if not _same(old.get(key), new.get(key))
    ]
    return tuple(sorted(found, key=lambda change: change.after is not None))


def found_in(row: FormRow, words: str) -> bool:
    """Whether each of the words stands in a row's key, help or flag."""
    text = f"{row.key} {row.help} {row.flag}".casefold()
    return all(word in text for word in words.casefold().split())


def edit_text(key: str, value: Any) -> str:
    """A value as one line to edit; `read_text` makes the same value of it. Secrets are never shown, not even here."""
    if value is None or is_secret_name(path_of(key)[-1]):
        return ""
    if isinstance(value, str) and value.isprintable() and _same(read_text(key, value), value):
        return value
    return literal(value)


def read_text(key: str, text: str) -> Any:
    """What is meant by a line that somebody wrote; `None`, which takes the key out, for an empty one.

    Text needs no quotes, a list of texts no brackets: `a b` is two of them.
    """
    text = text.strip()
    if not text:
        return None
    value = parse_value(key, text)
    if isinstance(value, str) and value == text and _is_list(key):
        return text.split()
    return value


def value_text(key: str, value: Any) -> str:
    """A value as TOML, on one line, secrets hidden."""
    return HIDDEN if is_secret_name(path_of(key)[-1]) else literal(value)


def literal(value: Any) -> str:
    """A value as TOML writes it, on one line."""
    match value:
        case bool():
            return "true" if value else "false"
        case Enum():
            return literal(value.value)
        case str():
            return "".join(map(_visible, json.dumps(value, ensure_ascii=False)))
        case list() | tuple():
            return f"[{', '.join(map(literal, value))}]"
        case Mapping():
            pairs = ", ".join(f"{_key_text(key)} = {literal(item)}" for key, item in value.items())
            return f"{{ {pairs} }}" if pairs else "{}"
        case _:
            return str(value)


def _visible(character: str) -> str:
    """What no terminal shows is written as its number, so that it is seen when it is edited."""
    return character if character.isprintable() else f"\\U{ord(character):08X}"


def _key_text(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else literal(key)


def _same(one: Any, other: Any) -> bool:
    """Whether two values are written alike: `1`, `1.0` and `true` are equal in Python and three things in TOML."""
    return bool(one == other) and repr(one) == repr(other)


def _put(table: Table, path: tuple[str, ...], value: Any) -> dict[str, Any]:
    head, *rest = path
    out = dict(table)
    if rest:
        inner = out.get(head)
        out[head] = _put(inner if isinstance(inner, Mapping) else {}, tuple(rest), value)
    elif value is None:
        out.pop(head, None)
    else:
        out[head] = value
    return out


def _is_list(key: str) -> bool:
    section, name = (*path_of(key), "")[:2]
    hint = FIELDS.get(section, {}).get(name)
    return hint is not None and any(isinstance(part, inspect.VarTupleType) for part in _parts(inspect.type_info(hint)))


def _parts(kind: inspect.Type) -> Iterator[inspect.Type]:
    """The types that a type is made of, without what is said about them."""
    if isinstance(kind, inspect.Metadata):
        yield from _parts(kind.type)
    elif isinstance(kind, inspect.UnionType):
        for part in kind.types:
            yield from _parts(part)
    else:
        yield kind


def _choices(key: str, kind: inspect.Type) -> tuple[Any, ...]:
    out: list[Any] = []
    for part in _parts(kind):
        if isinstance(part, inspect.BoolType):
            out += [True, False]
        elif isinstance(part, inspect.EnumType):
            out += [member.value for member in part.cls]
        elif not isinstance(part, inspect.NoneType):
            return _CHOICES.get(key, ())
    return tuple(out)


def _section_rows(section: str) -> tuple[FormRow, ...]:
    fields = {field.encode_name: field for field in msgspec.structs.fields(SECTIONS[section])}
    rows = []
    for name, hint in FIELDS[section].items():
        key, kind = f"{section}.{name}", inspect.type_info(hint)
        if key == EXTRA:
            continue
        default = fields[name].default
        words = allowed(kind).replace(" in quotes", "").replace("a table", "a table: { key = value }")
        if key in _CHOICES:
            words = f"one of {', '.join(_CHOICES[key])}"
        rows.append(
            FormRow(
                key=key,
                section=section,
                help=help_text(hint),
                allowed=words,
                default=None if default in (msgspec.NODEFAULT, "", ()) else default,
                required=fields[name].required,
                flag=FLAGS.get(name, "") if section == "serve" else "",
                choices=_choices(key, kind),
            )
        )
    return tuple(rows)


def _own_row(key: str, section: str) -> FormRow:
    if section == EXTRA:
        name, dot, rest = path_of(key)[-1].partition(".")
        flag = f"--{name.replace('_', '-')}{dot}{rest}"
        words = "text, a number, true or false, a list or a table, as vLLM takes it"
        return FormRow(key=key, section=EXTRA, help="a flag that the form has no row for", allowed=words, flag=flag)
    if section == ENV:
        return FormRow(key=key, section=ENV, help="a variable of the server's environment", allowed="text")
    return FormRow(key=key, section=section, help="no such key: take it out", known=False)


_FORM: dict[str, tuple[FormRow, ...]] = {section: _section_rows(section) for section in FIELDS}
_BY_KEY: frozenset[str] = frozenset(row.key for rows in _FORM.values() for row in rows)
