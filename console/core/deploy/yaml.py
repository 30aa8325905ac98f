"""Plain data as YAML: what manifests need and no more, so that no library is needed to write it.

Block style, mappings in their order. Text stands bare only where no YAML 1.1 or 1.2 reader could take it for anything
else; all other text is double-quoted with every unprintable character escaped. Tests read it back with PyYAML.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

__all__ = ["Document", "dump"]

Document = tuple[Sequence[str], Mapping[str, Any]]
"""Lines of comment, and what they are about."""

_BARE = re.compile(r"[A-Za-z/][A-Za-z0-9_./-]*(?:@[A-Za-z0-9_./-]+)?")
_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})
"""Words that a reader takes for something else than text."""
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def dump(documents: Sequence[Document]) -> str:
    """One YAML stream.

    Raises:
        TypeError: a value is neither text, number, truth value, nothing, list nor mapping.
    """
    texts = []
    for comments, data in documents:
        # A line break in a comment would end it.
        lines = [f"# {' '.join(line.split())}" for line in comments]
        texts.append("\n".join([*lines, *_mapping(data, "")]))
    return "\n---\n".join(texts) + "\n"


def _mapping(data: Mapping[str, Any], indent: str) -> Iterator[str]:
    for key, value in data.items():
        yield from _entry(f"{indent}{_scalar(key)}:", value, indent + "  ")


def _sequence(items: Sequence[Any], indent: str) -> Iterator[str]:
    for item in items:
        if isinstance(item, Mapping) and item:
            lines = list(_mapping(item, indent + "  "))
            yield f"{indent}- {lines[0].lstrip()}"
            yield from lines[1:]
        else:
            yield from _entry(f"{indent}-", item, indent + "  ")


def _entry(head: str, value: Any, indent: str) -> Iterator[str]:
    if isinstance(value, Mapping) and value:
        yield head
        yield from _mapping(value, indent)
    elif isinstance(value, list | tuple) and value:
        yield head
        yield from _sequence(value, indent)
    else:
        yield f"{head} {_scalar(value)}"


def _scalar(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
        case str():
            plain = _BARE.fullmatch(value) and value.lower() not in _WORDS
            return value if plain else '"' + "".join(map(_escaped, value)) + '"'
        case Mapping() if not value:
            return "{}"
        case list() | tuple() if not value:
            return "[]"
        case _:
            raise TypeError(f"no YAML for {type(value).__name__}")


def _escaped(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    code = ord(character)
    if character.isprintable():
        return character
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
