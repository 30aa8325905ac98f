"""When each line of a recorded log was written: by its own stamp, else by the events of its run.

vLLM stamps a line with `MM-DD HH:MM:SS` of the local time, without year or zone, and many lines (tracebacks, banners,
uvicorn's) have no stamp at all. Separate, because where the zone comes from and what an unstamped line gets are
decisions that need tests of their own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

from console.core.logparse import parse_line
from console.core.models import EventRecord
from console.core.phases import PhaseTracker

__all__ = ["line_times", "stamp_s", "utc_offset_s"]

STAMP_CHARS_MAX: Final = 320
"""A stamp stands at the start of a line; what comes later is text of the line."""
SLACK_S: Final = 60.0
"""A stamp may lie so far outside the run, for clocks that are read one after another."""
ZONE_STEP_S: Final = 900
"""Zones lie whole quarters of an hour from UTC (IANA time zone database, since 1972)."""
ZONE_MAX_S: Final = 15 * 3600
CREATED_LATE_MAX_S: Final = 300.0
"""A run's id is named so long before its record, at most."""

_STAMP = re.compile(
    r"(?:\([^()]{1,64}? pid=\d{1,10}[^()]{0,70}\) ?)?"
    r'(?:\{.{0,200}?"asctime": ?")?'
    r"(?:(?:DEBUG|INFO|WARNING|ERROR|CRITICAL) )?"
    r"(?:(?P<year>\d{4})-)?(?P<month>\d\d)-(?P<day>\d\d)[ T](?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"
)
_ID = re.compile(r"(?:group-)?(\d{4})(\d\d)(\d\d)-(\d\d)(\d\d)(\d\d)-")


def _unix(year: int, month: int, day: int, hour: int, minute: int, second: int) -> float | None:
    """Seconds since 1970 of a moment that is taken as UTC; `None` if there is no such moment."""
    try:
        return datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp()
    except ValueError:
        return None


def stamp_s(text: str, near_s: float) -> float | None:
    """The stamp of a line in seconds, as if it were UTC; `None` if it has none.

    Args:
        text: the line.
        near_s: a moment of the run; of the years that a stamp may mean, the nearest to it counts.
    """
    found = _STAMP.match(text[:STAMP_CHARS_MAX])
    if found is None:
        return None
    named, *parts = (None if part is None else int(part) for part in found.groups())
    month, day, hour, minute, second = (part or 0 for part in parts)
    about = datetime.fromtimestamp(near_s, tz=UTC).year
    years = (named,) if named is not None else (about - 1, about, about + 1)
    moments = [at for year in years if (at := _unix(year, month, day, hour, minute, second)) is not None]
    return min(moments, key=lambda at: abs(at - near_s), default=None)


def utc_offset_s(run_id: str, created_s: float, first_stamp_s: float | None) -> float:
    """How far the local time of the recorded machine was ahead of UTC, in seconds.

    A run's id holds the local time of its launch. Without such an id the log's first stamp stands for it: it comes
    after the launch, so the offset is the last whole quarter of an hour that allows for that.
    """
    found = _ID.match(run_id)
    local = _unix(*map(int, found.groups())) if found else None
    if local is not None:
        offset = round((local - created_s) / ZONE_STEP_S) * ZONE_STEP_S
        if abs(offset) <= ZONE_MAX_S and abs(local - created_s - offset) <= CREATED_LATE_MAX_S:
            return float(offset)
    if first_stamp_s is not None:
        offset = int((first_stamp_s - created_s + SLACK_S) // ZONE_STEP_S) * ZONE_STEP_S
        if abs(offset) <= ZONE_MAX_S:
            return float(offset)
    return 0.0


def line_times(
    lines: Sequence[str],
    *,
    begin_s: float,
    end_s: float,
    offset_s: float,
    events: Iterable[EventRecord] = (),
) -> list[float]:
    """When each line was written, in Unix seconds; never falling.

    A line without a stamp came with the one before it. In a log without any, the lines that begin a phase came with
    that phase's event, and the others with the one before.

    Args:
        lines: of the log, in order.
        begin_s: launch of the run; lines before the first stamp came then.
        end_s: end of the run; a stamp that lies outside the run is no stamp.
        offset_s: from `utc_offset_s`.
        events: of the run.
    """
    times: list[float] = []
    last, stamped, known = begin_s, False, ""
    for text in lines:
        # Lines of one second begin alike up to the seconds, and reading a stamp costs more than comparing it.
        found = _STAMP.match(text[:STAMP_CHARS_MAX])
        if found is not None and found[0] != known:
            known = found[0]
            at = stamp_s(text, begin_s + offset_s)
            if at is not None and begin_s - SLACK_S <= at - offset_s <= end_s + SLACK_S:
                last, stamped = max(last, min(at - offset_s, end_s)), True
        times.append(last)
    return times if stamped or not lines else _by_events(lines, begin_s, events)


def _by_events(lines: Sequence[str], begin_s: float, events: Iterable[EventRecord]) -> list[float]:
    begun: dict[str, float] = {}
    for event in events:
        if event.kind == "phase":
            begun.setdefault(event.text.partition(":")[0], event.time_s)
    tracker, last = PhaseTracker(), begin_s
    times: list[float] = []
    for text in lines:
        update = tracker.feed(parse_line(text))
        if update is not None:
            last = max(last, begun.get(str(update.phase), last))
        times.append(last)
    return times
