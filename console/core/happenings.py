"""What happened in a run, for eyes: kinds of events in groups, filters, and the marks of a chart's time axis.

Pure, so that which event a column shows is decided, and tested, in one place.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from console.core.columns import column_of
from console.core.models import EventRecord, Level

__all__ = ["ALL", "GROUPS", "Group", "counted", "group_of", "marks", "of_group"]

ALL: Final = "all"
"""The filter that leaves nothing out."""


class Group(NamedTuple):
    """Kinds of events that an operator looks for together."""

    id: str
    label: str
    kinds: frozenset[str]
    marked: bool
    """Whether charts mark it: what explains a figure that changed."""


GROUPS: Final[tuple[Group, ...]] = (
    Group("xid", "Xid", frozenset({"xid"}), True),
    Group("restart", "restarts", frozenset({"restart"}), True),
    Group("state", "state", frozenset({"state", "drain", "stop"}), True),
    Group("hint", "hints", frozenset({"hint"}), True),
    Group("settings", "settings", frozenset({"settings", "trial"}), True),
    Group("phase", "phases", frozenset({"phase"}), False),
    Group("other", "other", frozenset(), False),
)
"""Of events in one column that matter alike, the one of the group that stands first is shown."""

_BY_KIND: Final = {kind: group for group in GROUPS for kind in group.kinds}
_WEIGHT: Final = {level: place for place, level in enumerate(Level)}
_PLACE: Final = {group.id: place for place, group in enumerate(GROUPS)}


def group_of(event: EventRecord) -> Group:
    """The group of an event; kinds that are not known are `other`."""
    return _BY_KIND.get(event.kind, GROUPS[-1])


def counted(events: Iterable[EventRecord]) -> dict[str, int]:
    """How many events each group has, in the order of the groups, those without any left out."""
    found = dict.fromkeys((group.id for group in GROUPS), 0)
    for event in events:
        found[group_of(event).id] += 1
    return {name: count for name, count in found.items() if count}


def of_group(events: Iterable[EventRecord], wanted: str) -> list[EventRecord]:
    """The events of one group, or `ALL` of them."""
    return [event for event in events if wanted in (ALL, group_of(event).id)]


def marks(events: Sequence[EventRecord], now_s: float, span_s: float, count: int) -> list[EventRecord | None]:
    """For each of `count` columns over the last `span_s` seconds the event that its mark stands for, if any.

    Of several the gravest, then the one of the earlier group, then the newest.
    """
    out: list[EventRecord | None] = [None] * count
    for event in events:
        index = column_of(event.time_s, now_s, span_s, count) if group_of(event).marked else None
        if index is None:
            continue
        before = out[index]
        if before is None or _rank(event) >= _rank(before):
            out[index] = event
    return out


def _rank(event: EventRecord) -> tuple[int, int]:
    return _WEIGHT[event.level], -_PLACE[group_of(event).id]
