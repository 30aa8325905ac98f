"""`status --reference`: every field of `status --json` in Markdown, made from the types and what is written at them.

Separate from the types since it reads their source for the words below each field, which no running program needs.
"""

from __future__ import annotations

import ast
import inspect
import types
import typing
from collections.abc import Iterator
from enum import Enum
from typing import Any, Final

import msgspec

from console.core import flat, models, sampling, statusdoc
from console.core.models import Sample
from console.core.statusdoc import StatusDocument

__all__ = ["UNITS", "documented", "status_page", "structs"]

UNITS: Final[tuple[tuple[str, str], ...]] = (
    ("_bytes_per_s", "bytes per second"),
    ("_tokens_per_s", "tokens per second"),
    ("_per_s", "per second"),
    ("per_s_min", "per second"),
    ("per_s_max", "per second"),
    ("_usd_per_hour", "dollars per hour"),
    ("usd_per_hour", "dollars per hour"),
    ("_usd", "dollars"),
    ("_bytes", "bytes"),
    ("_percent", "percent, 0 to 100"),
    ("_tokens", "tokens"),
    ("_s", "seconds"),
    ("seconds", "seconds"),
    ("_w", "watts"),
    ("_c", "°C"),
    ("_mhz", "MHz"),
    ("_usage", "ratio, 0 to 1"),
    ("_rate", "ratio, 0 to 1"),
    ("_share", "ratio, 0 to 1"),
    ("share_min", "ratio, 0 to 1"),
    ("share_max", "ratio, 0 to 1"),
    ("progress", "ratio, 0 to 1"),
    ("_total", "count"),
)
"""By how a field's name ends; the first that fits."""

SPELLED: Final = {
    "cpu": "CPU",
    "ecc": "ECC",
    "nvlink": "NVLink",
    "pcie": "PCIe",
    "pid": "process",
    "rx": "in",
    "sm": "SM",
    "tx": "out",
    "uuid": "UUID",
}
"""Words of names as people write them."""

MEANINGS: Final = {
    "RunInfo.profile_name": "The profile that was launched.",
    "RunInfo.profile_title": "Its title.",
    "RunInfo.url": "Where the server answers on this machine.",
    "RunInfo.argv": "The command, without secrets.",
    "RunInfo.engine_name": "The installed engine.",
    "RunInfo.engine_version": "Its vLLM version.",
    "RunInfo.supervisor_pid": "Process of the supervisor.",
    "RunInfo.server_pid": "First process of the server.",
    "RunInfo.server_start_s": "Start time of that process since boot, against reuse of its pid.",
    "RunInfo.usd_per_hour": "Price of the machine.",
    "RunInfo.max_num_seqs": "Requests that may run at the same time.",
    "RunInfo.max_model_len": "Longest context in tokens.",
    "RunInfo.reason": "Why it is in that state.",
    "Diagnosis.title": "What is wrong, in a sentence.",
    "Diagnosis.remedy": "What to do about it.",
    "PhaseTime.seconds": "How long it took.",
    "ServerStatus.state": "Where the server is in its life.",
    "ServerStatus.phase": "Part of the start that goes on.",
    "ServerStatus.pid": "First process of the server.",
    "ServerStatus.diagnosis": "Why it failed, if it did.",
    "Hint.id": "Of the rule.",
    "Hint.title": "What is so, in a sentence.",
    "Hint.level": "How much it matters.",
    "Hint.state": "Whether it has something to say.",
    "Hint.change": "What to change in the profile.",
    "Hint.gain": "What that should bring.",
    "Hint.risk": "What it may cost.",
    "Hint.held_s": "For how long it has been so.",
    "Hint.missing": "What the rule would need.",
    "ProfileChange.before": "Value in the profile now.",
    "ProfileChange.after": "Value that is proposed.",
    "GpuReading.index": "As the driver counts.",
    "GpuReading.util_percent": "Share of the time in which a kernel ran.",
    "GpuReading.power_w": "Power drawn.",
    "GpuReading.power_limit_w": "Power cap.",
    "GpuReading.temperature_c": "Of the chip.",
    "GpuReading.throttle": "What holds its clocks down.",
    "GpuReading.processes": "Those that compute on it.",
    "GpuReading.mig": "Whether it is split into instances.",
    "EngineReading.ttft": "Time to the first token.",
    "EngineReading.itl": "Time between tokens.",
    "EngineReading.running": "Requests in the batch.",
    "EngineReading.waiting": "Requests in the queue.",
    "EngineReading.by_engine": "Each of several engines.",
    "EngineReading.engines": "How many there are (data parallel).",
    "EngineReading.queue": "Time in the queue.",
    "EngineReading.prefill": "Time in prefill.",
    "EngineReading.decode": "Time in decode.",
    "Snapshot.seq": "Counts ticks; starts anew with the supervisor.",
    "Snapshot.status": "The server's state and how it came to it.",
    "Snapshot.host": "The machine; absent before its first reading.",
    "Snapshot.engine": "vLLM's figures; absent while it gives none.",
    "Snapshot.sources": "Where figures come from, and how old they are.",
    "Snapshot.hints": "What the rules say now.",
    "SourceStatus.ok": "Whether it answers.",
    "SourceStatus.error": "Why it does not.",
    "Percentiles.p50_s": "Half were below it.",
    "Percentiles.p95_s": "95 % were below it.",
    "Percentiles.p99_s": "99 % were below it.",
    "Lengths.p50": "Half were below it.",
    "Lengths.p95": "95 % were below it.",
    "Lengths.p99": "99 % were below it.",
    "Sample.state": "The server's, and the worst where samples had to be merged across states.",
}
"""Where the types say nothing and the name not enough."""

INTRO: Final = """\
# `status --json` and `watch --json`

`dsv4-console status --json` prints one document, `dsv4-console watch --json` one per tick and line: a
[`StatusDocument`](#statusdocument). Made from the program's own types by `dsv4-console status --reference`.

A field that is not there has the value in the column *absent*; `null` there means unknown, which is never zero. New
fields may come; those here keep their names and units. Times named *Unix* are seconds since 1970 (UTC).

    dsv4-console status --json | jq '.snapshot.engine.kv_cache_usage'
    dsv4-console watch --json --period 10 | jq -c '[.state, .snapshot.engine.running, .snapshot.engine.waiting]'
"""

EXPORT: Final = """\
## Columns of `export`

`dsv4-console export RUN` writes one row per [`Sample`](#sample): seconds for the newest six hours, then ten seconds,
after two days minutes, for a month. A column is named by the way to the field, joined by `_`; an element of a list by
{lists} and its index:

| field | column |
|---|---|
{rows}

`{first}` come first and are always there; of the others those that had a value.
Unknown is an empty field in CSV, left out in JSON lines and null in Parquet. A list of words is joined by
`{separator}`. Figures keep six significant digits.

Where seconds were merged, `count` says how many and `span_s` from when to when. Of each figure stays

{rules}

Seconds of different states, around a gap of more than {gap:g} s, or around the coming and going of a source are not
merged.
"""
EXAMPLES: Final = (
    "gpus.#0.util_percent",
    "gpus.#3.processes.#0.memory_bytes",
    "engine.running",
    "engine.ttft.p95_s",
    "engine.finished_by_reason.stop",
    "engine.by_engine.#1.kv_cache_usage",
    "host.cpu_percent",
)
RULE_WORDS: Final = {
    sampling.Reduce.MEAN: "the mean",
    sampling.Reduce.MAX: "the highest value",
    sampling.Reduce.MIN: "the lowest value",
    sampling.Reduce.UNION: "all that occurred",
}


def status_page() -> str:
    """The whole page."""
    words = {**_words(models), **_words(statusdoc)}
    parts = [INTRO]
    for kind in documented():
        lines = [f"## {kind.__name__}", "", _joined(kind.__doc__ or ""), ""]
        lines += ["| field | value | unit | absent | meaning |", "|---|---|---|---|---|", *_rows(kind, words)]
        parts.append("\n".join(lines) + "\n")
    parts.append(_enums(words))
    parts.append(_export())
    return "\n".join(parts)


def documented() -> list[type[msgspec.Struct]]:
    """Every struct that has a table."""
    return [*structs(StatusDocument), Sample]


def structs(root: type[msgspec.Struct]) -> list[type[msgspec.Struct]]:
    """Every struct that a document of this type may hold, in the order in which they are met."""
    found: dict[type[msgspec.Struct], None] = {root: None}
    waiting = [root]
    while waiting:
        for hint in typing.get_type_hints(waiting.pop(0)).values():
            for kind in _kinds(hint):
                if issubclass(kind, msgspec.Struct) and kind not in found:
                    found[kind] = None
                    waiting.append(kind)
    return list(found)


def _kinds(hint: Any) -> Iterator[type]:
    for inner in typing.get_args(hint):
        yield from _kinds(inner)
    if isinstance(hint, type) and not typing.get_args(hint):
        yield hint


def _rows(kind: type[msgspec.Struct], words: dict[str, str]) -> Iterator[str]:
    hints = typing.get_type_hints(kind)
    for field in msgspec.structs.fields(kind):
        name = f"{kind.__name__}.{field.name}"
        said = words.get(name) or MEANINGS.get(name) or _plain(field.name)
        absent = _absent(field) if kind.__struct_config__.omit_defaults else "never"
        yield f"| `{field.name}` | {_value(hints[field.name])} | {_unit(field.name, said)} | {absent} | {said} |"


def _plain(name: str) -> str:
    """The name in words, without its unit."""
    for suffix, _ in UNITS:
        if suffix.startswith("_") and suffix not in {"_tokens_per_s", "_tokens"} and name.endswith(suffix):
            name = name.removesuffix(suffix)
            break
    text = " ".join(SPELLED.get(word, word) for word in name.split("_"))
    return f"{text[:1].upper()}{text[1:]}."


def _unit(name: str, said: str) -> str:
    unit = next((unit for suffix, unit in UNITS if name.endswith(suffix)), "")
    if unit == "seconds" and ("Wall-clock" in said or "(Unix)" in said):
        return "seconds, Unix"
    return unit


def _absent(field: msgspec.structs.FieldInfo) -> str:
    if field.required or (field.default is msgspec.NODEFAULT and field.default_factory is msgspec.NODEFAULT):
        return "never"
    default = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    return f"`{msgspec.json.encode(default).decode()}`"


def _value(hint: Any) -> str:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return " or ".join("null" if part is type(None) else _value(part) for part in inner)
    if origin is tuple:
        return f"list of {_value(inner[0])}"
    if origin is dict:
        return f"object of {_value(inner[1])}"
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct | Enum):
        return f"[`{hint.__name__}`](#{hint.__name__.lower()})"
    plain = {str: "text", int: "whole number", float: "number", bool: "true or false"}
    return plain.get(hint, "any value")


def _enums(words: dict[str, str]) -> str:
    found = dict.fromkeys(
        kind
        for each in documented()
        for hint in typing.get_type_hints(each).values()
        for kind in _kinds(hint)
        if issubclass(kind, Enum)
    )
    parts = []
    for kind in found:
        lines = [f"## {kind.__name__}", "", _joined(kind.__doc__ or ""), ""]
        for member in kind:
            said = words.get(f"{kind.__name__}.{member.name}", "")
            lines.append(f"* `{member.value}`" + (f": {said}" if said else ""))
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _export() -> str:
    def fields(how: sampling.Reduce) -> str:
        named = [f"`{name}`" for name, each in sampling.REDUCE.items() if each is how]
        named += [f"`…{suffix}`" for suffix, each in sampling.REDUCE_SUFFIX.items() if each is how]
        return ", ".join(named)

    rules = [f"* {text}: {fields(how)}" for how, text in RULE_WORDS.items()]
    return EXPORT.format(
        lists=", ".join(f"`{word}`" for word in flat.LISTS.values()),
        rows="\n".join(f"| `{path.replace('.#', '.')}` | `{flat.column_name(path)}` |" for path in EXAMPLES),
        first="`, `".join(flat.FIRST),
        separator=flat.LIST_SEPARATOR,
        rules="\n".join([*rules, "* the last value: everything else, counters among them"]),
        gap=sampling.GAP_S,
    )


def _words(module: types.ModuleType) -> dict[str, str]:
    """What is written below each field: `Struct.field` to its text."""
    found: dict[str, str] = {}
    for node in ast.parse(inspect.getsource(module)).body:
        if not isinstance(node, ast.ClassDef):
            continue
        field = ""
        for part in node.body:
            match part:
                case ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]):
                    field = name
                case ast.Expr(value=ast.Constant(value=str(text))) if field:
                    found[f"{node.name}.{field}"] = _joined(text)
                    field = ""
                case _:
                    field = ""
    return found


def _joined(text: str) -> str:
    """One line, fit for a table."""
    return " ".join(text.split()).replace("|", "\\|")
