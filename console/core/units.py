"""Values as short text: the one place where a figure becomes characters.

Every front end formats through this, so that `–` always means unknown, units never differ between two screens, and
a column can rely on a width. A kind of figure is one row of `FORMATS`: its text and the widest text that it gives.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple

__all__ = [
    "FORMATS",
    "UNKNOWN",
    "Format",
    "Unit",
    "bytes_text",
    "celsius_text",
    "count_text",
    "elapsed_text",
    "latency_text",
    "padded",
    "percent_text",
    "rate_text",
    "ratio_text",
    "short_count_text",
    "text",
    "usd_text",
    "watts_text",
]

UNKNOWN = "–"
KIBI = 1024.0
BYTE_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
COUNT_UNITS = ("", "k", "M", "G", "T")
MINUTE_S = 60
HOUR_S = 3600
DAY_S = 86_400
DAYS_ALONE = 100
"""From here on hours are left out."""


class Unit(StrEnum):
    """What a figure is measured in."""

    BYTES = "bytes"
    RATE = "rate"
    LATENCY = "latency"
    ELAPSED = "elapsed"
    PERCENT = "percent"
    RATIO = "ratio"
    COUNT = "count"
    SHORT_COUNT = "short_count"
    WATTS = "watts"
    CELSIUS = "celsius"
    USD = "usd"


def known(value: float | None) -> bool:
    """Whether there is a figure to write: not `None`, not a NaN, not infinite."""
    return value is not None and math.isfinite(value)


def three_digits(value: float) -> str:
    """`9.99`-like precision without an exponent: one decimal below 100, none from there on."""
    return f"{value:.1f}" if round(value, 1) < 100 else f"{value:.0f}"


def scaled(value: float, step: float, units: tuple[str, ...]) -> tuple[float, str]:
    """The value in the largest unit in which it is at least 1 as written, and that unit."""
    index = 0
    # 999.6 would be written as 1000: it belongs to the next unit already.
    while index + 1 < len(units) and abs(value) >= step - 0.5:
        value /= step
        index += 1
    return value, units[index]


def bytes_text(value: float | None) -> str:
    """Bytes in binary units: `512 B`, `78.4 GiB`, `1.5 TiB`."""
    if value is None or not known(value):
        return UNKNOWN
    number, unit = scaled(value, KIBI, BYTE_UNITS)
    return f"{number:.0f} B" if unit == "B" else f"{three_digits(number)} {unit}"


def short_count_text(value: float | None) -> str:
    """A count in at most six characters: `0.4`, `7`, `950`, `2.1k`, `131k`, `2.1M`."""
    if value is None or not known(value):
        return UNKNOWN
    number, unit = scaled(value, 1000.0, COUNT_UNITS)
    if unit or (number != round(number) and abs(number) < 10):
        return three_digits(number) + unit
    return f"{number:.0f}"


def rate_text(value: float | None) -> str:
    """Something per second: `0/s`, `0.3/s`, `42/s`, `2.1k/s`."""
    return UNKNOWN if value is None or not known(value) else f"{short_count_text(value)}/s"


def latency_text(value: float | None) -> str:
    """Seconds that a request waits: `0.4 ms`, `18 ms`, `1.8 s`, `75 s`, `2m05s`. Below zero counts as zero."""
    if value is None or not known(value):
        return UNKNOWN
    seconds = max(0.0, value)
    millis = seconds * 1000
    if millis < 9.95:
        return f"{millis:.1f} ms"
    if millis < 999.5:
        return f"{millis:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    return f"{seconds:.0f} s" if seconds < 99.5 else elapsed_text(seconds)


def elapsed_text(value: float | None) -> str:
    """How long something has lasted, in whole seconds: `42s`, `1m05s`, `1h42m`, `3d04h`, `120d`."""
    if value is None or not known(value):
        return UNKNOWN
    seconds = max(0, int(value))
    if seconds < MINUTE_S:
        return f"{seconds}s"
    if seconds < HOUR_S:
        return f"{seconds // MINUTE_S}m{seconds % MINUTE_S:02d}s"
    if seconds < DAY_S:
        return f"{seconds // HOUR_S}h{seconds % HOUR_S // MINUTE_S:02d}m"
    days = seconds // DAY_S
    return f"{days}d{seconds % DAY_S // HOUR_S:02d}h" if days < DAYS_ALONE else f"{days}d"


def percent_text(value: float | None) -> str:
    """Percent that are percent already: 42.3 → `42%`."""
    return UNKNOWN if value is None or not known(value) else f"{value:.0f}%"


def ratio_text(value: float | None) -> str:
    """A share from 0 to 1 as percent: 0.423 → `42%`."""
    return percent_text(None if value is None else value * 100)


def count_text(value: float | None) -> str:
    """A whole count with thousands: `2,097,152`."""
    return UNKNOWN if value is None or not known(value) else f"{value:,.0f}"


def watts_text(value: float | None) -> str:
    """Power: `412 W`."""
    return UNKNOWN if value is None or not known(value) else f"{value:.0f} W"


def celsius_text(value: float | None) -> str:
    """Temperature: `63 °C`."""
    return UNKNOWN if value is None or not known(value) else f"{value:.0f} °C"


def usd_text(value: float | None) -> str:
    """Money: `$0.42`, `$1,204`."""
    if value is None or not known(value):
        return UNKNOWN
    return f"${value:,.2f}" if abs(value) < 999.995 else f"${value:,.0f}"


class Format(NamedTuple):
    """How one kind of figure is written."""

    text: Callable[[float | None], str]
    width: int
    """Characters of the widest text for `0 <= value <= value_max`."""
    value_max: float


FORMATS: dict[Unit, Format] = {
    Unit.BYTES: Format(bytes_text, 8, 1000 * 1024.0**4),
    Unit.RATE: Format(rate_text, 7, 9.9e13),
    Unit.LATENCY: Format(latency_text, 6, 99 * DAY_S),
    Unit.ELAPSED: Format(elapsed_text, 6, 9999 * DAY_S),
    Unit.PERCENT: Format(percent_text, 5, 9999),
    Unit.RATIO: Format(ratio_text, 4, 9.99),
    Unit.COUNT: Format(count_text, 11, 999_999_999),
    Unit.SHORT_COUNT: Format(short_count_text, 5, 9.9e13),
    Unit.WATTS: Format(watts_text, 6, 9999),
    Unit.CELSIUS: Format(celsius_text, 6, 999),
    Unit.USD: Format(usd_text, 8, 999_999),
}


def text(value: float | None, unit: Unit) -> str:
    """The value as short text."""
    return FORMATS[unit].text(value)


def padded(value: float | None, unit: Unit) -> str:
    """The value as text of this unit's width, to the right, so that a column of them stands still."""
    row = FORMATS[unit]
    return row.text(value).rjust(row.width)
