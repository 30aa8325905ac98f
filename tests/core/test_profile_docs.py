"""The JSON Schema and the reference page are what the types say, and the schema judges as the program does."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from console.core.command import FLAGS
from console.core.profile import Evidence
from console.core.profile_docs import EVIDENCE_MEANS, SCHEMA_FILE, SCHEMA_LINE, profile_schema, reference_page
from console.core.profile_read import KNOWN_KEYS

ROOT = Path(__file__).parents[2]
SCHEMA = profile_schema()
PROFILES = sorted((ROOT / "profiles").glob("*.toml"))
MADE = {
    ROOT / "profiles" / SCHEMA_FILE: json.dumps(SCHEMA, indent=2, ensure_ascii=False) + "\n",
    ROOT / "docs" / "profile-reference.md": reference_page(),
}


@pytest.mark.parametrize("path", MADE, ids=lambda path: path.name)
def test_the_file_is_current(path: Path) -> None:
    """Run with UPDATE_GOLDEN=1 to write it anew, on purpose."""
    if os.environ.get("UPDATE_GOLDEN") == "1":
        path.write_text(MADE[path], encoding="utf-8")
    assert path.read_text(encoding="utf-8") == MADE[path]


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_each_profile_names_the_schema_and_keeps_it(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.splitlines()[0] == SCHEMA_LINE
    assert list(problems(tomllib.loads(text))) == []


def test_every_key_is_explained() -> None:
    page = reference_page()
    for key in KNOWN_KEYS:
        section, _, name = key.partition(".")
        assert f"## `[{section}]`" in page
        assert not name or f"| `{name}` |" in page
    assert all(f"(`{flag}`)" in page for flag in FLAGS.values())
    assert "|  |" not in page, "no key is without a meaning"
    assert set(EVIDENCE_MEANS) == set(Evidence)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"serve": {"max_num_seq": 3}}, "serve.max_num_seq"),
        ({"serve": {"port": 70000}}, "serve.port"),
        ({"serve": {"enforce_eager": "yes"}}, "serve.enforce_eager"),
        ({"serve": {"max_model_len": []}}, "serve.max_model_len"),
        ({"profile": {"title": "a", "evidence": "rumour"}}, "profile.evidence"),
        ({"profile": {}}, "profile"),
        ({"env": {"A": 1}}, "env.A"),
        ({"servr": {}}, "servr"),
    ],
)
def test_the_schema_refuses_what_the_program_refuses(change: dict[str, Any], place: str) -> None:
    data = {"profile": {"title": "a"}, "model": {"id": "a/b"}} | change
    assert list(problems(data)) == [place]


def problems(value: Any, schema: Mapping[str, Any] | None = None, place: str = "") -> Any:
    """The places where `value` breaks the schema: as much of JSON Schema as is used here."""
    schema = SCHEMA if schema is None else schema
    if "$ref" in schema:
        schema = SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]]
    kinds = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "boolean": bool}
    unknown = set(schema) - {
        "$schema", "$defs", "title", "description", "default", "type", "properties", "required", "enum", "anyOf",
        "additionalProperties", "items", "minimum", "maximum", "exclusiveMinimum", "minLength",
    }  # fmt: skip
    assert not unknown
    if "anyOf" in schema:
        if all(list(problems(value, choice, place)) for choice in schema["anyOf"]):
            yield place
        return
    wrong_type = "type" in schema and (
        not isinstance(value, kinds[schema["type"]]) or (isinstance(value, bool) and schema["type"] != "boolean")
    )
    if (
        wrong_type
        or ("enum" in schema and value not in schema["enum"])
        or ("minimum" in schema and value < schema["minimum"])
        or ("maximum" in schema and value > schema["maximum"])
        or ("exclusiveMinimum" in schema and value <= schema["exclusiveMinimum"])
        or ("minLength" in schema and len(value) < schema["minLength"])
        or not set(schema.get("required", ())) <= set(value if isinstance(value, dict) else ())
    ):
        yield place
        return
    for item in value if isinstance(value, list) else ():
        yield from problems(item, schema.get("items", {}), place)
    for key, item in value.items() if isinstance(value, dict) else ():
        more = schema.get("additionalProperties", True)
        if key in schema.get("properties", {}):
            yield from problems(item, schema["properties"][key], f"{place}.{key}".lstrip("."))
        elif more is False:
            yield f"{place}.{key}".lstrip(".")
        elif isinstance(more, dict):
            yield from problems(item, more, f"{place}.{key}".lstrip("."))
