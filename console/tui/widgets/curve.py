"""A curve of throughput against latency: labelled axes from zero, one mark per load with its number of clients.

Pure: from points to painted lines. Another curve can lie behind it, for comparison.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

from console.tui import fmt
from console.tui.paint import BLANK, Line, line

__all__ = ["Dot", "curve"]

HEIGHT_MIN = 5
WIDTH_MIN = 30
MIDDLE_ROWS = 7
"""From so many rows on the middle of the axis is labelled."""
TOPS = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)
AXIS = 6
"""Columns of the labels at the left, with the axis."""
STEPS = 200
"""Points of a stretch between two marks; more than a wide terminal has columns."""


class Dot(NamedTuple):
    """One load."""

    latency_s: float
    tokens_per_s: float
    label: str


def curve(dots: Sequence[Dot], behind: Sequence[Dot], name: str, width: int, height: int) -> list[Line]:
    """`dots` over `behind` in `height` lines; says so where there is nothing to draw or no room.

    Args:
        dots: in the order in which they are joined.
        behind: the other curve, drawn fainter and without labels.
        name: of the latency, for the axis.
        width: in cells.
        height: in lines.
    """
    if height < HEIGHT_MIN or width < WIDTH_MIN:
        return []
    if not dots and not behind:
        return [line(("The curve comes with the first row.", "muted"))]
    top = _top(max(dot.tokens_per_s for dot in (*dots, *behind)))
    # In milliseconds, so that the axis ends at a round number of them.
    right = _top(max(dot.latency_s for dot in (*dots, *behind)) * 1000) / 1000
    rows, columns = height - 3, width - AXIS
    rows -= rows >= MIDDLE_ROWS and not rows % 2  # so that there is a middle to label
    cells: dict[tuple[int, int], tuple[str, str]] = {}

    def at(latency_s: float, rate: float) -> tuple[int, int]:
        x = round(latency_s / right * (columns - 1))
        return min(x, columns - 1), rows - 1 - round(rate / top * (rows - 1))

    for series, mark, role in ((behind, "○", "muted"), (dots, "●", "accent")):
        for old, new in itertools.pairwise(series):
            for step in range(STEPS + 1):
                part = step / STEPS
                spot = at(
                    old.latency_s + (new.latency_s - old.latency_s) * part,
                    old.tokens_per_s + (new.tokens_per_s - old.tokens_per_s) * part,
                )
                cells.setdefault(spot, ("·", "faint" if role == "muted" else "muted"))
        for dot in series:
            cells[at(dot.latency_s, dot.tokens_per_s)] = (mark, role)
    for dot in dots:
        _label(cells, at(dot.latency_s, dot.tokens_per_s), dot.label, columns)
    out = [line((f"{'output tok/s':<{AXIS}}", "muted"))]
    labels = {0: fmt.axis(top), rows - 1: "0"}
    if rows >= MIDDLE_ROWS:
        labels[rows // 2] = fmt.axis(top / 2)
    for y in range(rows):
        spans = [(f"{labels.get(y, ''):>{AXIS - 1}}", "muted"), ("┤", "faint")]
        spans += [cells.get((x, y), (" ", "text")) for x in range(columns)]
        out.append(line(*spans))
    out.append(line((" " * AXIS, "text"), ("─" * columns, "faint")))
    end = fmt.latency(right)
    middle = max(columns - 1 - len(end) - 2, 0)
    out.append(
        line((" " * AXIS, "text"), ("0", "muted"), (f"{f' {name} ':^{middle}}"[:middle], "muted"), (end, "muted"))
    )
    return out[:height] if out else [BLANK]


def _top(value: float) -> float:
    """The next round figure at or above `value`."""
    scale = 10.0 ** math.floor(math.log10(value)) if value > 0 else 1.0
    return next((scale * top for top in TOPS if value <= scale * top), scale * TOPS[-1])


def _label(cells: dict[tuple[int, int], tuple[str, str]], spot: tuple[int, int], text: str, columns: int) -> None:
    """Beside the mark, at the right where there is room, else at the left; not over another mark."""
    x, y = spot
    for start in (x + 1, x - len(text)):
        places = [(start + index, y) for index in range(len(text))]
        free = all(0 <= column < columns and cells.get((column, row), ("·", ""))[0] == "·" for column, row in places)
        if free:
            for place, letter in zip(places, text, strict=True):
                cells[place] = (letter, "text")
            return
