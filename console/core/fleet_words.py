"""The figures of a fleet as text: the columns of its table and the line of its totals, for every front end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from console.core.fleet import FleetRow, FleetTotals
from console.core.units import UNKNOWN, latency_text, ratio_text, short_count_text, usd_text

__all__ = ["COLUMNS", "Column", "hints_words", "name_words", "place_words", "totals_words"]


class Column(NamedTuple):
    """One figure of a row."""

    title: str
    width: int
    text: Callable[[FleetRow], str]


def _count(value: int | None) -> str:
    return UNKNOWN if value is None else str(value)


COLUMNS: Final[tuple[Column, ...]] = (
    Column("GPUs", 4, lambda row: _count(None if row.gpus is None else len(row.gpus))),
    Column("run", 4, lambda row: _count(row.running)),
    Column("wait", 4, lambda row: _count(row.waiting)),
    Column("KV", 4, lambda row: ratio_text(row.kv_cache_usage)),
    Column("tok/s", 6, lambda row: short_count_text(row.generation_tokens_per_s)),
    Column("TTFT95", 7, lambda row: latency_text(row.ttft_p95_s)),
    Column("$/h", 7, lambda row: usd_text(row.usd_per_hour)),
)
"""In the order in which they stand; the last go first where there is little room."""


def name_words(row: FleetRow) -> str:
    """What it is called in a list: its profile, after its machine if that is another one."""
    return f"{row.host}/{row.name}" if row.host and not row.is_machine else row.name


def place_words(row: FleetRow) -> str:
    """Where it is, in a few words."""
    if row.is_machine:
        return "not known what runs there"
    return f"{row.url} on {row.host}" if row.host else row.url


def hints_words(row: FleetRow) -> str:
    """Ids of the hints that fire; `–` where nothing was judged."""
    if row.hints is None:
        return UNKNOWN
    return f"▲ {' '.join(row.hints)}" if row.hints else "0"


def totals_words(totals: FleetTotals) -> str:
    """All of it in a line; what is not known of some rows is said."""
    parts = [f"{totals.ready} of {totals.servers} ready"]
    if totals.gpus is not None:
        parts.append(f"{totals.gpus} GPUs")
    parts += [
        f"running {_count(totals.running)}",
        f"waiting {_count(totals.waiting)}",
        f"{short_count_text(totals.generation_tokens_per_s)} tok/s",
    ]
    if totals.usd_per_hour is not None:
        more = f" and {totals.without_price} without a price" if totals.without_price else ""
        parts.append(f"{usd_text(totals.usd_per_hour)}/h{more}")
    if totals.hints:
        parts.append(f"{totals.hints} hint{'s' if totals.hints > 1 else ''}")
    if totals.machines_away:
        parts.append(f"{totals.machines_away} machine{'s' if totals.machines_away > 1 else ''} out of reach")
    if totals.without_figures:
        parts.append(f"{totals.without_figures} without figures")
    return " · ".join(parts)
