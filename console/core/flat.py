"""Samples as flat rows, for spreadsheets and data frames: the names of their columns, and what stands in them.

`gpus.#0.util_percent` is `gpu0_util_percent`, `engine.ttft.p50_s` is `engine_ttft_p50_s`. Separate from the writers of
`console.io.export`, which differ in format only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from console.core.sampling import Columns
from console.core.text import clean

__all__ = ["FIRST", "LISTS", "LIST_SEPARATOR", "Kind", "column_name", "columns_of", "flat_rows"]

LISTS: Final[Mapping[str, str]] = {"gpus": "gpu", "processes": "process", "by_engine": "share"}
"""What one of several is called in a column's name, with its index behind it."""
FIRST: Final = ("time_s", "state", "count", "span_s")
"""Columns that stand first, and are there in any case."""
DEFAULTS: Final[Mapping[str, Any]] = {"count": 1, "span_s": 0.0}
"""What is not written where it is so."""
LIST_SEPARATOR: Final = "|"

Kind = type[bool] | type[int] | type[float] | type[str]


def column_name(path: str) -> str:
    """The flat name of a dotted path."""
    parts: list[str] = []
    for part in path.split("."):
        if part.startswith("#"):
            parts[-1] = LISTS.get(parts[-1], parts[-1]) + part[1:]
        else:
            parts.append(part)
    return "_".join(parts)


def columns_of(blocks: Iterable[Columns]) -> dict[str, Kind]:
    """Every path that has a value, with its type: the first four, then by source, GPUs by their index."""
    kinds: dict[str, set[type]] = {"time_s": {float}, "state": {str}, "count": {int}, "span_s": {float}}
    for block in blocks:
        for path, column in block.data.items():
            kinds.setdefault(path, set()).update(map(type, column))
    order = sorted(kinds, key=_order)
    return {path: kind for path in order if (kind := _kind(kinds[path])) is not None}


def _order(path: str) -> tuple[int, list[tuple[str, int]]]:
    place = FIRST.index(path) if path in FIRST else len(FIRST)
    parts = path.split(".")
    return place, [("#", int(part[1:])) if part[:1] == "#" and part[1:].isdigit() else (part, 0) for part in parts[:-1]]


def _kind(found: set[type]) -> Kind | None:
    known = found - {type(None), dict}
    if not known:
        return None
    for kind in (bool, int):
        if known == {kind}:
            return kind
    return float if known <= {int, float} else str


def flat_rows(block: Columns, wanted: Mapping[str, Kind]) -> Iterator[list[Any]]:
    """The values of each sample in the order of `wanted`; `None` where one has none; text is cleaned."""
    columns = [
        [_value(value, kind, DEFAULTS.get(path)) for value in block.data.get(path) or [None] * block.rows]
        for path, kind in wanted.items()
    ]
    for row in zip(*columns, strict=True):
        yield list(row)


def _value(value: Any, kind: Kind, default: Any) -> Any:
    if value is None:
        return default
    if kind is float:
        return float(value)
    if kind is not str:
        return value
    return clean(LIST_SEPARATOR.join(map(str, value)) if isinstance(value, list) else str(value))
