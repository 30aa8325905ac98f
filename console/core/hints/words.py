"""Figures as words for evidence sentences, so that every rule writes them alike."""

from __future__ import annotations

__all__ = ["duration", "latency", "percent", "plural", "tokens"]


def duration(seconds: float) -> str:
    """Seconds, rounded down to what one would say: `24 s`, `12 min`, `3 h 05 min`."""
    whole = int(max(0.0, seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def latency(seconds: float) -> str:
    """A latency in the unit it is read in: `64 ms`, `1.04 s`."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"


def percent(ratio: float) -> str:
    """A ratio of 0 to 1: `41%`; small ones keep a decimal, and little is never called nothing."""
    value = ratio * 100
    if 0 < value < 0.1:
        return "under 0.1%"
    return f"{value:.1f}%" if 0 < value < 10 else f"{value:.0f}%"


def tokens(count: float) -> str:
    """A count with thousands separators, as vLLM's log writes it."""
    return f"{count:,.0f}"


def plural(count: float, noun: str) -> str:
    """`1 request`, `14 requests`; means keep a decimal below ten."""
    text = f"{count:.0f}" if count >= 10 or float(count).is_integer() else f"{count:.1f}"
    return f"{text} {noun}" if text == "1" else f"{text} {noun}s"
