"""YAML as it is written here, read back by PyYAML."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from console.core.deploy.yaml import dump

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=30)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(TEXT, VALUES, max_size=5))
def test_any_data_comes_back(data: dict[str, Any]) -> None:
    assert (yaml.safe_load(dump([((), data)])) or {}) == data


@pytest.mark.parametrize(
    "text",
    [
        *("yes", "No", "on", "y", "null", "~", "1", "1e3", "0x1f", "1_000", "12:30", "2026-11-30", "-", "--port", "="),
        *("a: b", "a #b", "*a", "&a", "!a", "{a}", "[a]", "", " a", "a ", "%a", "@a", "`a`", "a\nb"),
        *("\u2028", "\x7f", "\x85", "\U0001f600"),
    ],
)
def test_text_stays_text(text: str) -> None:
    assert yaml.safe_load(dump([((), {"k": text, text: [text]})])) == {"k": text, text: [text]}


def test_documents_and_comments() -> None:
    text = dump([(("one\ntwo: x",), {"a": 1}), ((), {"b": [{"c": {}}, [1, [2]]]})])
    assert text.startswith("# one two: x\na: 1\n---\n")
    assert list(yaml.safe_load_all(text)) == [{"a": 1}, {"b": [{"c": {}}, [1, [2]]]}]


def test_what_is_no_data_is_refused() -> None:
    with pytest.raises(TypeError, match="no YAML for object"):
        dump([((), {"a": object()})])
