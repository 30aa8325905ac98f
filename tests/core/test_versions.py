from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.core import versions


@pytest.mark.parametrize(
    ("version", "allowed", "fits"),
    [
        ("0.32.0+cpu", ">=0.25", True),
        ("0.32.0+cpu", "==0.32.0", True),
        ("0.32.0+cpu", "<=0.32.0", True),
        ("0.32.0+cpu", ">0.32.0", False),
        ("0.33.0", ">=0.25,<0.34", True),
        ("0.34.0", ">=0.25,<0.34", False),
        ("0.24.9", ">=0.25", False),
        ("0.33.0rc1", ">=0.25", True),
        ("0.25.0rc1", ">=0.25", False),
        ("0.34.0.dev12+gabc123", "<0.34", False),
        ("0.33.0.post1", "==0.33.*", True),
        ("0.33.0", "", True),
        ("built by hand", ">=0.25", False),
        ("built by hand", " ", True),
    ],
)
def test_satisfies(version: str, allowed: str, fits: bool) -> None:
    assert versions.satisfies(version, allowed) is fits


@pytest.mark.parametrize("text", ["0.25", ">=", "newest", ">=0.25;<0.34", "~=1"])
def test_what_is_no_range_is_said(text: str) -> None:
    error = versions.range_error(text)
    assert error is not None
    assert repr(text) in error
    with pytest.raises(ValueError, match="nvalid"):
        versions.satisfies("0.33.0", text)


@pytest.mark.parametrize("text", ["", ">=0.25", " >= 0.25 , < 0.34 ", "==0.33.*", "!=0.30.1"])
def test_ranges(text: str) -> None:
    assert versions.range_error(text) is None


def test_newest_first() -> None:
    mixed = ["0.9.2", "?", "0.33.0rc1", "0.10.0", "0.32.0+cpu", "0.33.0", "0.32.0"]
    assert versions.newest_first(mixed) == ["0.33.0", "0.33.0rc1", "0.32.0+cpu", "0.32.0", "0.10.0", "0.9.2", "?"]


@pytest.mark.parametrize(
    ("text", "expected"), [("v0.33.0", "0.33.0"), (" 0.33 ", "0.33"), ("--help", None), ("", None), ("0.33; x", None)]
)
def test_normal(text: str, expected: str | None) -> None:
    assert versions.normal(text) == expected


@pytest.mark.parametrize(
    ("version", "build"),
    [
        ("0.32.0+cpu", "cpu"),
        ("0.32.0+cpu.avx2", "cpu"),
        ("0.33.0+cu129", "cuda"),
        ("0.33.0", "cuda"),
        ("0.33.1rc1.dev20+gabc.rocm723", "rocm"),
    ],
)
def test_build(version: str, build: str) -> None:
    assert versions.build(version) == build


@pytest.mark.parametrize(
    ("allowed", "expected"),
    [
        (">=0.25", "0.33.0"),
        ("", "0.33.0"),
        (">=0.25,<0.30", "0.25.0"),
        ("==0.26.0", "0.26.0"),
        ("==0.26.*", "0.26.0"),
        (">=0.20,!=0.33.0,<=0.31", "0.31.0"),
        ("<0.30", None),
        (">=0.34.0rc1", "0.34.0rc1"),
    ],
)
def test_suggest(allowed: str, expected: str | None) -> None:
    assert versions.suggest(allowed, "0.33.0") == expected


RELEASES = st.tuples(st.integers(0, 2), st.integers(0, 60), st.integers(0, 5)).map(lambda t: ".".join(map(str, t)))


@given(RELEASES, RELEASES, st.sampled_from([">=", "<=", "==", "!=", "~="]))
def test_a_suggestion_always_fits(default: str, named: str, operator: str) -> None:
    allowed = f"{operator}{named}"
    suggested = versions.suggest(allowed, default)
    assert suggested is None or versions.satisfies(suggested, allowed)


@given(st.lists(RELEASES | st.text(max_size=8)))
def test_sorting_keeps_all_and_puts_unreadable_last(texts: list[str]) -> None:
    ordered = versions.newest_first(texts)
    assert sorted(ordered) == sorted(texts)
    readable = [versions.normal(text) is not None for text in ordered]
    assert readable == sorted(readable, reverse=True)
