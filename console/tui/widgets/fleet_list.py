"""How a fleet is painted: title, one row per server, totals, and all that is known of the selected one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.cells import cell_len

from console.core.fleet import FleetRow, FleetState, gpus_text, totals_of
from console.core.fleet_words import COLUMNS, Column, name_words, place_words, totals_words
from console.tui.glyphs import LEVEL_GLYPHS, LEVEL_ROLES, UNKNOWN, safe
from console.tui.paint import Line, Span, clip, cut, labelled, line, pad, rule, wrapped
from console.tui.widgets.profile_list import short_name

__all__ = ["FLEET_GLYPHS", "detail_lines", "fleet_row", "head_line", "name_cells", "totals_line"]

FLEET_GLYPHS: dict[FleetState, tuple[str, str]] = {
    FleetState.CRASHED: ("✖", "bad"),
    FleetState.FAILED: ("✖", "bad"),
    FleetState.LOST: ("▲", "warn"),
    FleetState.UNREACHABLE: ("✖", "bad"),
    FleetState.UNHEALTHY: ("▲", "warn"),
    FleetState.KEY: ("▲", "warn"),
    FleetState.FOREIGN: ("▲", "warn"),
    FleetState.STALE: ("▲", "warn"),
    FleetState.STOPPING: ("◐", "warn"),
    FleetState.LOADING: ("◐", "accent"),
    FleetState.STARTING: ("◐", "accent"),
    FleetState.ASKING: ("◌", "muted"),
    FleetState.READY: ("●", "ok"),
    FleetState.STOPPED: ("■", "muted"),
}
STATE_WIDTH = max(map(len, FleetState)) + 2
NAME_MIN, NAME_OF_TWO, NAME_MAX = 14, 26, 34
MARK = 2
HINTS_WIDTH = 4
WIDE = 110
"""From here on there is room for addresses and for the names of hints."""
ADDRESS_WIDTH = 24


def name_cells(rows: Iterable[FleetRow]) -> int:
    """So much of a name must be seen: with a machine before it, both."""
    longest = max((cell_len(safe(name_words(row))) for row in rows if row.host), default=0)
    return max(NAME_MIN, min(longest, NAME_OF_TWO))


def _layout(width: int, least: int) -> tuple[int, tuple[Column, ...]]:
    """Width of the name, and the columns that have room beside it."""
    fixed = MARK + STATE_WIDTH + 1 + 1 + HINTS_WIDTH + (ADDRESS_WIDTH + 1 if width >= WIDE else 0)
    columns = COLUMNS
    while columns:
        room = width - fixed - sum(column.width + 1 for column in columns)
        if room >= least:
            return min(room, NAME_MAX), columns
        columns = columns[:-1]
    return least, columns


def head_line(width: int, least: int = NAME_MIN) -> Line:
    """The names of the columns; `least` as `name_cells` gives it."""
    name, columns = _layout(width, least)
    spans: list[Span] = [(" " * MARK + f"{'server':<{name}} {'state':<{STATE_WIDTH}}", "muted")]
    spans += [(f" {column.title:>{column.width}}", "muted") for column in columns]
    spans.append((" hint", "muted"))
    if width >= WIDE:
        spans.append((f" {'where':<{ADDRESS_WIDTH}}", "muted"))
    return cut(line(*spans), width)


def fleet_row(row: FleetRow, width: int, chosen: bool, least: int = NAME_MIN) -> Line:
    """One server; figures that are not known are `–`. `least` as `name_cells` gives it."""
    name, columns = _layout(width, least)
    glyph, role = FLEET_GLYPHS[row.state]
    spans: list[Span] = [
        ("▸ " if chosen else "  ", "accent"),
        *pad(line((short_name(safe(name_words(row)), name), "strong")), name),
        (" ", "text"),
        (f"{f'{glyph} {row.state}':<{STATE_WIDTH}}", role),
    ]
    for column in columns:
        text = column.text(row)
        spans.append((f" {text:>{column.width}}", "muted" if text == UNKNOWN else "text"))
    spans.append(_hints(row))
    if width >= WIDE:
        spans.append((f" {clip(safe(where(row)), ADDRESS_WIDTH):<{ADDRESS_WIDTH}}", "muted"))
    return line(*spans)


def _hints(row: FleetRow) -> Span:
    if row.hints is None:
        return f" {UNKNOWN:>{HINTS_WIDTH}}", "muted"
    if row.hints_level is None:
        return f" {'0':>{HINTS_WIDTH}}", "muted"
    text = f"{LEVEL_GLYPHS[row.hints_level]} {len(row.hints)}"
    return f" {text:>{HINTS_WIDTH}}", LEVEL_ROLES[row.hints_level]


def where(row: FleetRow) -> str:
    """Its address without the scheme that nearly all have; of another machine, as that machine reaches it."""
    return row.url.removeprefix("http://")


def totals_line(rows: Sequence[FleetRow], width: int) -> list[Line]:
    """What all of them come to."""
    return wrapped(totals_words(totals_of(rows)), width, "strong") if rows else []


def detail_lines(row: FleetRow | None, width: int) -> list[Line]:
    """Everything about the selected row that has no room in it."""
    if row is None:
        return []
    kind = "watched over HTTP, read-only" if row.watched else "a run of its console" if row.host else "a run here"
    facts = [
        ("why", row.why, FLEET_GLYPHS[row.state][1]),
        ("at", place_words(row) + ("" if row.is_machine else f"  ({kind})"), "text"),
        ("model", row.model, "text"),
        ("GPUs", gpus_text(row.gpus), "text"),
        ("hints", ", ".join(row.hints or ()), "warn"),
    ]
    return [rule(name_words(row), width), *labelled(facts, width, 7)]
