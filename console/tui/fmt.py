"""Figures as this screen writes them: `core.units` under short names, and the few forms that only a screen needs."""

from __future__ import annotations

from pathlib import Path

from console.core import units
from console.core.units import UNKNOWN

__all__ = ["axis", "axis_top", "count", "duration", "gib", "home_short", "latency", "money", "percent", "rate", "whole"]

GIB = 1024**3

percent = units.percent_text
whole = units.count_text
count = units.short_count_text
latency = units.latency_text
duration = units.elapsed_text
money = units.usd_text


def rate(value: float | None) -> str:
    """Tokens per second: `2.1k tok/s`."""
    return UNKNOWN if value is None else f"{units.short_count_text(value)} tok/s"


def gib(value_bytes: float | None) -> str:
    """GiB without the unit, for columns and fractions that name it once."""
    if value_bytes is None:
        return UNKNOWN
    value = value_bytes / GIB
    return f"{value:.0f}" if value >= 9.95 else f"{value:.1f}"


def axis(value: float) -> str:
    """The label of an axis: `5k`, not `5.0k`."""
    return units.short_count_text(value).replace(".0", "")


def axis_top(value: float) -> float:
    """The next of 1, 2, 5, 10, 20, 50 … at or above `value`: an axis that does not jitter."""
    top = 1.0
    while True:
        for step in (1.0, 2.0, 5.0):
            if value <= top * step:
                return top * step
        top *= 10


def home_short(path: Path) -> str:
    """The path with `~` for the home directory."""
    home = Path.home()
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)
