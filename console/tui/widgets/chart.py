"""A chart on a fixed, labelled axis: one column per stretch of time, a gap where nothing is known.

Not Textual's Sparkline: that one scales to its data, so 97–99 % looks like 0–100 %.
"""

from __future__ import annotations

from collections.abc import Sequence

from console.tui import fmt
from console.tui.glyphs import BLOCKS
from console.tui.model import RunModel, bucketed
from console.tui.paint import BLANK, Line, Span, cut, line_width, spread
from console.tui.widgets.panel import Panel

__all__ = ["SPAN_S", "Chart", "bars", "spark"]

SPAN_S = 300.0
"""Seconds that a chart shows."""


def bars(
    values: Sequence[float | None], height: int, top: float, role: str = "fill", warn: float | None = None
) -> list[Line]:
    """Columns of `values` on an axis from 0 to `top`, highest row first.

    Zero draws a thin base line and unknown draws nothing. Values from `warn` up have the role `fill-warn`.
    """
    rows: list[list[Span]] = [[] for _ in range(height)]
    for value in values:
        eighths = 0 if value is None else round(min(max(value / top, 0.0), 1.0) * height * 8)
        if value is not None and value > 0:
            eighths = max(eighths, 1)
        hot = role if warn is None or value is None or value < warn else "fill-warn"
        for y in range(height):
            filled = min(max(eighths - (height - 1 - y) * 8, 0), 8)
            glyph = BLOCKS[filled]
            style = hot
            if not filled:
                base = y == height - 1
                glyph, style = ("▁", "faint") if base and value is not None else (" ", "faint")
            if rows[y] and rows[y][-1][1] == style:
                rows[y][-1] = (rows[y][-1][0] + glyph, style)
            else:
                rows[y].append((glyph, style))
    return [tuple(row) for row in rows]


def spark(values: Sequence[float | None], top: float, label: str, role: str = "fill") -> Line:
    """One row of `bars` behind the label of its top."""
    return ((f"{label}┤", "faint"), *bars(values, 1, top, role)[0])


class Chart(Panel):
    """A percentage over the last minutes, with its figure, its axis and what it is made of."""

    def __init__(self, *, id: str, role: str, warn: float | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._role = role
        self._warn = warn
        self._title = ""
        self._note = ""
        self._stale = ""
        self._series = ""
        self._model: RunModel | None = None

    def show(self, model: RunModel, series: str, title: str, note: str = "", stale: str = "") -> None:
        """Chart this series of the model from now on."""
        self._model, self._series, self._title, self._note, self._stale = model, series, title, note, stale
        self.repaint()

    def paint(self, width: int, height: int) -> list[Line]:
        model = self._model
        if model is None:
            return [BLANK] * height
        points = model.series[self._series]
        latest = points[-1][1] if points else None
        hot = self._warn is not None and latest is not None and latest >= self._warn
        role = "muted" if self._stale else "warn" if hot else "strong"
        figure: Line = ((self._title, "muted"), (" ", "text"), (fmt.percent(latest) + (" ▲" if hot else ""), role))
        note: Line = ((self._stale, "warn"),) if self._stale else ((self._note, "muted"),)
        room = width - line_width(figure) - 2
        head = spread(figure, cut(note, max(room, 0)), width)
        rows = height - 1
        if rows < 1:
            return [head]
        axis = 4
        timed = rows >= 6
        rows -= timed
        values = bucketed(points, model.now, SPAN_S, max(width - axis, 1))
        drawn = bars(values, rows, 100.0, self._role, self._warn)
        labels = {0: "100", rows - 1: "  0"}
        if rows >= 5 and rows % 2:
            labels[rows // 2] = " 50"
        out = [head]
        for y, row in enumerate(drawn):
            out.append(((f"{labels.get(y, ''):>3}", "muted" if y in labels else "faint"), ("┤", "faint"), *row))
        if timed:
            out.append(_times(width, axis))
        return out


def _times(width: int, axis: int) -> Line:
    left, middle, right = "5 min ago", "2½", "now"
    room = width - axis - len(left) - len(middle) - len(right)
    if room < 4:
        return ((" " * axis, "text"), *spread(((left, "faint"),), ((right, "faint"),), width - axis))
    gap = max((width - axis) // 2 - len(left) - len(middle) // 2, 1)
    rest = width - axis - len(left) - gap - len(middle) - len(right)
    return (
        (" " * axis, "text"),
        (left, "muted"),
        (" " * gap, "text"),
        (middle, "muted"),
        (" " * rest, "text"),
        (right, "muted"),
    )
