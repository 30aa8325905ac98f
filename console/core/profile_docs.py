"""The JSON Schema of a profile and the reference page of its keys, both made from the types in `console.core.profile`.

Editors complete and check a profile by the schema (its first line names the file: `#:schema ./profile.schema.json`);
people read the page. Tests hold both files to what is made here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from console.core.command import FLAGS
from console.core.profile import Evidence, Profile
from console.core.profile_read import FIELDS, SECTIONS, allowed

__all__ = [
    "EVIDENCE_MEANS",
    "SCHEMA_FILE",
    "SCHEMA_LINE",
    "about_text",
    "help_text",
    "profile_schema",
    "reference_page",
]

SCHEMA_FILE = "profile.schema.json"
SCHEMA_LINE = f"#:schema ./{SCHEMA_FILE}"
"""First line of a profile; editors with a TOML language server (Taplo, Even Better TOML) read it."""

EVIDENCE_MEANS: dict[Evidence, str] = {
    Evidence.MEASURED: "seen on this hardware by this program",
    Evidence.RECIPE: "vLLM's own recipe for this hardware",
    Evidence.REPORTED: "somebody else's report, named in the sources",
    Evidence.DERIVED: "by arithmetic from published figures",
    Evidence.UNVERIFIED: "nobody is known to have run it",
}


def profile_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a profile file."""
    schema = msgspec.json.schema(Profile)
    tables = {name: _without_null(table) for name, table in schema["$defs"].items()}
    for name, table in tables.items():
        table.pop("title", None)
        table["description"] = table.get("description", name).partition("\n")[0]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Profile of dsv4-console",
        **tables.pop("Profile"),
        "$defs": tables,
    }


def reference_page() -> str:
    """Every key with its type, default and meaning, in Markdown."""
    lines = [
        "# Profile reference",
        "",
        "Every key of a profile, made from the program's own types by `dsv4-console profiles reference`. A key that is",
        "not here is an error, except below `[env]`, `[serve.extra]` and in the `*_config` tables. `–` as a default",
        "leaves the choice to vLLM, or says that nothing is known.",
    ]
    for section, kind in SECTIONS.items():
        lines += ["", f"## `[{section}]`", ""]
        if section not in FIELDS:
            lines += [f"{_sentence(help_text(kind))}", "", "Values: any name, text in quotes."]
            continue
        lines += [f"{about_text(kind)}", "", "| key | value | default | meaning |", "|---|---|---|---|"]
        lines += list(_rows(section, kind))
    lines += ["", "## Evidence", "", "How far a profile's claim to work goes:", ""]
    lines += [f"* `{evidence.value}`: {text}" for evidence, text in EVIDENCE_MEANS.items()]
    return "\n".join(lines) + "\n"


def _rows(section: str, kind: Any) -> Iterator[str]:
    defaults = {field.name: field for field in msgspec.structs.fields(kind)}
    for key, hint in FIELDS[section].items():
        field = defaults[key]
        if field.required:
            default = "required"
        elif field.default is msgspec.NODEFAULT or field.default in (None, "", ()):
            default = "–"
        else:
            default = f"`{msgspec.json.encode(field.default).decode()}`"
        flag = FLAGS.get(key) if section == "serve" else None
        meaning = help_text(hint) + (f" (`{flag}`)" if flag else "")
        value = "a table" if key == "extra" else allowed(msgspec.inspect.type_info(hint))
        yield f"| `{key}` | {value} | {default} | {meaning} |".replace(" or a table", ", or a table")


def help_text(hint: Any) -> str:
    """The description of one field's type, empty if it has none."""
    schema = msgspec.json.schema(hint)
    return str(schema.get("description", ""))


def about_text(kind: type) -> str:
    """What a table is for: the first sentence of its type."""
    first = (kind.__doc__ or "").partition("\n")[0]
    return _sentence(first.partition(": ")[2])


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".") + "."


def _without_null(value: Any) -> Any:
    """TOML has no null: a key that may be missing is left out, never null."""
    if isinstance(value, list):
        return [_without_null(item) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {
        key: _without_null(item)
        for key, item in value.items()
        if not (key == "default" and (item is None or item in ({}, [], (), "")))
    }
    choices = [choice for choice in kept.get("anyOf", ()) if choice != {"type": "null"}]
    if "anyOf" in kept and len(choices) == 1:
        del kept["anyOf"]
        kept = choices[0] | kept
    elif "anyOf" in kept:
        kept["anyOf"] = choices
    return kept
