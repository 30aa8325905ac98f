"""Figures as this screen writes them. Unknown is `–`, never zero."""

from __future__ import annotations

from console.tui.glyphs import UNKNOWN

__all__ = ["axis_top", "count", "duration", "gib", "latency", "money", "percent", "rate", "whole"]

GIB = 1024**3


def percent(value: float | None) -> str:
    """`62 %` from 62.3."""
    return UNKNOWN if value is None else f"{value:.0f} %"


def whole(value: int | None) -> str:
    """`1,234`."""
    return UNKNOWN if value is None else f"{value:,}"


def count(value: float | None) -> str:
    """At most four figures and a letter: `950`, `2.1k`, `1.9M`."""
    if value is None:
        return UNKNOWN
    for limit, divisor, letter in ((999.5, 1, ""), (999_500, 1e3, "k"), (999_500_000, 1e6, "M")):
        if abs(value) < limit:
            return _short(value / divisor) + letter
    return _short(value / 1e9) + "G"


def _short(value: float) -> str:
    if value == int(value) or abs(value) >= 99.5:
        return f"{value:.0f}"
    return f"{value:.1f}"


def rate(value: float | None) -> str:
    """Tokens per second: `2.1k tok/s`."""
    return UNKNOWN if value is None else f"{count(value)} tok/s"


def latency(value_s: float | None) -> str:
    """`18 ms`, `1.8 s`, `42 s`."""
    if value_s is None:
        return UNKNOWN
    if value_s < 0.9995:
        return f"{value_s * 1000:.0f} ms" if value_s >= 0.01 else f"{value_s * 1000:.1f} ms"
    return f"{value_s:.1f} s" if value_s < 99.5 else f"{value_s:.0f} s"


def duration(value_s: float | None) -> str:
    """`7s`, `1m05s`, `1h42m`, `3d04h`."""
    if value_s is None:
        return UNKNOWN
    seconds = max(int(value_s), 0)
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m{seconds % 60:02d}s"
    if seconds < 86_400:
        return f"{seconds // 3600}h{seconds % 3600 // 60:02d}m"
    return f"{seconds // 86_400}d{seconds % 86_400 // 3600:02d}h"


def gib(value_bytes: float | None) -> str:
    """Bytes as whole GiB from 10 up, with one decimal below."""
    if value_bytes is None:
        return UNKNOWN
    value = value_bytes / GIB
    return f"{value:.0f}" if value >= 9.95 else f"{value:.1f}"


def money(value: float | None) -> str:
    """`$14.76`."""
    return UNKNOWN if value is None else f"${value:,.2f}"


def axis_top(value: float) -> float:
    """The next of 1, 2, 5, 10, 20, 50 … at or above `value`: an axis that does not jitter."""
    top = 1.0
    while True:
        for step in (1.0, 2.0, 5.0):
            if value <= top * step:
                return top * step
        top *= 10
