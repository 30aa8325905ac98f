"""Matches in lines, and the place among them; moments as one types them."""

from __future__ import annotations

import re
from array import array
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.core.logsearch import PATTERN_CHARS_MAX, Hits, Matcher
from console.core.logwhen import clock_text, moment, span

NEWEST_S = datetime(2026, 11, 23, 12, 30, 15, tzinfo=UTC).timestamp()


def test_plain_text_is_no_pattern_and_capitals_do_not_matter() -> None:
    lines = ["a.b", "axb", "A.B [x", "STRASSE"]
    assert Matcher("a.b", regex=False).find(lines) == [(0, 0, 3), (2, 0, 3)]
    assert Matcher("[x", regex=False).find(lines) == [(2, 4, 6)]
    assert Matcher("a.b", regex=True).find(lines) == [(0, 0, 3), (1, 0, 3), (2, 0, 3)]
    assert Matcher("straße", regex=False).find(lines) == [(3, 0, 0)]


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("(", "missing ), unterminated subpattern at character 1"),
        ("a**", "multiple repeat at character 3"),
        ("x" * (PATTERN_CHARS_MAX + 1), "longer"),
    ],
)
def test_a_bad_pattern_says_why(pattern: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        Matcher(pattern, regex=True)


@given(st.lists(st.text("abß.[ ", max_size=6), max_size=20), st.text("abß.[ ", min_size=1, max_size=3))
def test_plain_search_finds_what_is_there(lines: list[str], text: str) -> None:
    found = [index for index, _, _ in Matcher(text, regex=False).find(lines)]
    assert found == [i for i, line in enumerate(lines) if text.casefold() in line.casefold()]


@given(st.sets(st.integers(1, 60)), st.integers(1, 60), st.integers(1, 10))
def test_hits_come_in_any_order_and_stand_in_line_order(wanted: set[int], here: int, step: int) -> None:
    hits = Hits()
    for begin in range(61 - step, -step, -step):
        some = [n for n in range(max(begin, 1), begin + step) if n in wanted]
        hits.add(array("I", some), array("I", [n << 16 | n + 1 for n in some]))
    assert list(hits.lines) == sorted(wanted)
    assert hits.span(here) == ((here, here + 1) if here in wanted else None)
    after = [n for n in sorted(wanted) if n > here] or sorted(wanted)
    before = [n for n in sorted(wanted) if n < here] or sorted(wanted)
    assert hits.after(here) == (after[0] if after else None)
    assert hits.before(here) == (before[-1] if before else None)
    assert hits.place(here) == (sorted(wanted).index(here) + 1 if here in wanted else None)
    hits.keep(10, 30)
    assert list(hits.lines) == [n for n in sorted(wanted) if 10 <= n < 30]


def at(*parts: int) -> float:
    return datetime(*parts, tzinfo=UTC).timestamp()  # type: ignore[arg-type, misc]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("12:03", at(2026, 11, 23, 12, 3)),
        ("12:03:45", at(2026, 11, 23, 12, 3, 45)),
        ("13:00", at(2026, 11, 22, 13, 0)),
        ("11-20 08:00", at(2026, 11, 20, 8, 0)),
        ("12-31 23:00", at(2025, 12, 31, 23, 0)),
        ("2026-11-01 00:00", at(2026, 11, 1)),
        ("-10m", NEWEST_S - 600),
        ("- 2h", NEWEST_S - 7200),
        ("25:00", None),
        ("02-30 10:00", None),
        ("soon", None),
        ("", None),
    ],
)
def test_moments(typed: str, meant: float | None) -> None:
    assert moment(typed, NEWEST_S) == meant


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("12:00..12:10", (at(2026, 11, 23, 12, 0), at(2026, 11, 23, 12, 10, 59))),
        ("12:00-12:10:05", (at(2026, 11, 23, 12, 0), at(2026, 11, 23, 12, 10, 5))),
        ("11-20 08:00 - 09:00", (at(2026, 11, 20, 8, 0), at(2026, 11, 23, 9, 0, 59))),
        ("-10m", (NEWEST_S - 600, None)),
        ("12:00", (at(2026, 11, 23, 12, 0), None)),
        ("..12:00", (None, at(2026, 11, 23, 12, 0, 59))),
        ("23:00..01:00", (at(2026, 11, 22, 23, 0), at(2026, 11, 23, 1, 0, 59))),
        ("12:10..12:45", (at(2026, 11, 23, 12, 10), at(2026, 11, 23, 12, 45, 59))),
        ("11-23 12:10 - 13:00", (at(2026, 11, 23, 12, 10), at(2026, 11, 23, 13, 0, 59))),
        ("..", None),
        ("nonsense..12:00", None),
    ],
)
def test_spans(typed: str, meant: tuple[float | None, float | None] | None) -> None:
    assert span(typed, NEWEST_S) == meant


def test_clock() -> None:
    assert clock_text(NEWEST_S, NEWEST_S) == "12:30:15"
    assert clock_text(NEWEST_S - 86_400, NEWEST_S) == "11-22 12:30:15"
