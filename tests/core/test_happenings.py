"""Events in groups, filtered, and as marks of a time axis."""

from __future__ import annotations

import pytest

from console.core.columns import column_of
from console.core.happenings import ALL, GROUPS, counted, group_of, marks, of_group
from console.core.models import EventRecord, Level

NOW_S = 1_795_000_000.0


def event(kind: str, ago_s: float, level: Level = Level.INFO, text: str = "") -> EventRecord:
    return EventRecord(time_s=NOW_S - ago_s, kind=kind, text=text or kind, level=level)


def test_every_kind_has_one_group_and_an_unknown_one_is_other() -> None:
    kinds = [kind for group in GROUPS for kind in group.kinds]
    assert len(kinds) == len(set(kinds))
    assert group_of(event("drain", 0)).id == "state"
    assert group_of(event("something new", 0)).id == "other"


def test_counts_and_filters() -> None:
    events = [event("state", 9), event("xid", 8), event("drain", 7), event("odd", 6)]
    assert counted(events) == {"xid": 1, "state": 2, "other": 1}
    assert of_group(events, ALL) == events
    assert [each.kind for each in of_group(events, "state")] == ["state", "drain"]
    assert of_group(events, "restart") == []


@pytest.mark.parametrize("span_s", [300.0, 3_600.0, 86_400.0])
def test_marks_stand_in_the_column_of_their_time(span_s: float) -> None:
    events = [event("state", span_s * 1.5), event("restart", span_s * 0.6), event("xid", span_s * 0.1)]
    found = marks(events, NOW_S, span_s, 40)
    assert len(found) == 40
    assert {i: each.kind for i, each in enumerate(found) if each is not None} == {
        column_of(NOW_S - span_s * 0.6, NOW_S, span_s, 40): "restart",
        column_of(NOW_S - span_s * 0.1, NOW_S, span_s, 40): "xid",
    }


def test_of_several_in_one_column_the_gravest_then_the_first_group_then_the_newest_shows() -> None:
    bad = event("state", 3, Level.BAD)
    assert marks([event("hint", 2, Level.WARN), bad, event("xid", 1)], NOW_S, 300.0, 1) == [bad]
    xid = event("xid", 3, Level.BAD)
    assert marks([xid, bad], NOW_S, 300.0, 1) == marks([bad, xid], NOW_S, 300.0, 1) == [xid]
    newer = event("state", 1, Level.BAD, "newer")
    assert marks([bad, newer], NOW_S, 300.0, 1) == [newer]


def test_noise_is_not_marked() -> None:
    assert marks([event("phase", 1), event("source", 1), event("note", 1)], NOW_S, 300.0, 3) == [None] * 3
