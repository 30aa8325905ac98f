"""Moments as an operator types them, beside the times of a log: `12:03`, `11-23 12:03:45`, `-10m`, `12:00..12:30`."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

__all__ = ["clock_text", "moment", "span"]

DAY_S: Final = 86_400
_UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": DAY_S}
_AGO = re.compile(r"-\s?(\d{1,6})\s?([smhd])")
_CLOCK = re.compile(r"(?:(?:(\d{4})-)?(\d{1,2})-(\d{1,2})[ T])?(\d{1,2}):(\d\d)(?::(\d\d))?")


def moment(text: str, newest_s: float) -> float | None:
    """The moment meant, in seconds as the log writes its times; `None` if it is none.

    Args:
        text: what was typed. Without a date it is the last such time up to the newest line.
        newest_s: time of the newest line.
    """
    text = text.strip()
    if (ago := _AGO.fullmatch(text)) is not None:
        return newest_s - int(ago[1]) * _UNITS[ago[2]]
    found = _CLOCK.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute, second = (None if part is None else int(part) for part in found.groups())
    newest = datetime.fromtimestamp(newest_s, tz=UTC)
    try:
        at = newest.replace(hour=hour or 0, minute=minute or 0, second=second or 0, microsecond=0)
        if month is not None and day is not None:
            at = at.replace(year=year or newest.year, month=month, day=day)
            if year is None and at > newest + timedelta(days=1):
                at = at.replace(year=newest.year - 1)
        elif at > newest:
            at -= timedelta(days=1)
    except ValueError:
        return None
    return at.timestamp()


def span(text: str, newest_s: float) -> tuple[float | None, float | None] | None:
    """From when to when, ends included; `None` if it is no such span.

    `12:00..12:30`, `12:00-12:30`, from `12:00` on, the last ten minutes `-10m`, up to `..12:30`. A minute that ends a
    span is in it to its last second.
    """
    text = text.strip()
    begin, dots, end = text.partition("..")
    if not dots and not text.startswith("-"):
        dashed = re.fullmatch(r"(.*:\d\d)\s*-\s*(\d{1,2}:\d\d.*)", text)
        begin, dots, end = (dashed[1], "-", dashed[2]) if dashed else (text, "", "")
    from_s = moment(begin, newest_s) if begin.strip() else None
    until_s = moment(end, newest_s) if end.strip() else None
    if (begin.strip() and from_s is None) or (end.strip() and until_s is None) or (from_s is None and until_s is None):
        return None
    if until_s is not None and end.count(":") == 1:
        until_s += 59
    if from_s is not None and until_s is not None and from_s > until_s:
        if from_s % DAY_S <= until_s % DAY_S:
            until_s += DAY_S  # an end that has not come yet
        else:
            from_s -= DAY_S
    return from_s, until_s


def clock_text(time_s: float, newest_s: float) -> str:
    """A moment, with its date if that is not the one of the newest line."""
    at, newest = (datetime.fromtimestamp(t, tz=UTC) for t in (time_s, newest_s))
    return at.strftime("%H:%M:%S" if at.date() == newest.date() else "%m-%d %H:%M:%S")
