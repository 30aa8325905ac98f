"""A chart on a fixed, labelled axis: one column per stretch of time, a gap where nothing is known.

Not Textual's Sparkline: that one scales to its data, so 97–99 % looks like 0–100 %. A limit is a dotted line, what is
above it ends in `▲`, and events stand under the columns of their time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from console.core.columns import column_of
from console.core.happenings import group_of
from console.core.models import EventRecord
from console.tui import fmt
from console.tui.glyphs import BLOCKS, EVENT_GLYPHS, LEVEL_ROLES
from console.tui.model import RANGES, Range
from console.tui.paint import Line, Span, clip, cut, line, line_width, spread
from console.tui.widgets.panel import Panel

__all__ = ["Chart", "ChartData", "bars", "chart_lines", "mark_line", "spark"]

MARKS_FROM_ROWS = 4
"""A chart of so many lines gives one of them to the marks of events."""
TIMES_FROM_ROWS = 7
"""And one of so many another one to the times of its axis."""
TEXT_BESIDE_MARK_MIN = 6


def bars(
    values: Sequence[float | None], height: int, top: float, role: str = "fill", warn: float | None = None
) -> list[Line]:
    """Columns of `values` on an axis from 0 to `top`, highest row first.

    Zero draws a thin base line and unknown draws nothing. `warn` is a dotted line; columns that reach it have the role
    `fill-warn` and end in `▲`.
    """
    rows: list[list[Span]] = [[] for _ in range(height)]
    limit_row = None if warn is None else height - 1 - min(int(warn / top * height), height - 1)
    for value in values:
        eighths = 0 if value is None else round(min(max(value / top, 0.0), 1.0) * height * 8)
        if value is not None and value > 0:
            eighths = max(eighths, 1)
        hot = warn is not None and value is not None and value >= warn
        peak = height - 1 - (eighths - 1) // 8
        for y in range(height):
            filled = min(max(eighths - (height - 1 - y) * 8, 0), 8)
            glyph, style = BLOCKS[filled], "fill-warn" if hot else role
            if hot and y == peak:
                glyph = "▲"
            elif not filled:
                glyph, style = " ", "faint"
                if value is not None and y == height - 1:
                    glyph = "▁"
                elif value is not None and y == limit_row:
                    glyph, style = "┈", "muted"
            if rows[y] and rows[y][-1][1] == style:
                rows[y][-1] = (rows[y][-1][0] + glyph, style)
            else:
                rows[y].append((glyph, style))
    return [tuple(row) for row in rows]


def spark(values: Sequence[float | None], top: float, label: str, role: str = "fill") -> Line:
    """One row of `bars` behind the label of its top."""
    return ((label, "muted"), ("┤", "faint"), *bars(values, 1, top, role)[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class ChartData:
    """What one chart shows."""

    title: str
    figure: str
    """The newest value, as text."""
    hot: bool = False
    """The newest value is above the limit."""
    values: Callable[[int], Sequence[float | None]]
    """Figures for so many columns, oldest first."""
    zoom: Range
    top: float | None = 100.0
    """Top of the axis; `None` for the next round number above all values and the limit."""
    role: str = "fill"
    warn: float | None = None
    """From here on a value is too high."""
    limit: str = ""
    """The same as text, for the legend."""
    note: str = ""
    stale: str = ""
    """How old the figures are, if they are."""
    marks: Callable[[int], Sequence[EventRecord | None]] | None = None
    """What happened, for so many columns."""
    chosen: EventRecord | None = None
    """The event that somebody looks for."""
    now_s: float = 0.0


def mark_line(
    marks: Sequence[EventRecord | None], chosen: EventRecord | None = None, chosen_at: int | None = None
) -> Line:
    """A glyph for each event in the column of its time; beside the one that is looked for, what it was."""
    cells: list[Span] = []
    for event in marks:
        if event is None:
            cells.append((" ", "faint"))
        else:
            cells.append((EVENT_GLYPHS[group_of(event).id], LEVEL_ROLES[event.level]))
    if chosen is None or chosen_at is None:
        return tuple(cells)
    taken = [at for at, event in enumerate(marks) if event is not None and at != chosen_at]
    before = max((at + 1 for at in taken if at < chosen_at), default=0)
    after = min((at for at in taken if at > chosen_at), default=len(cells))
    cells[chosen_at] = (EVENT_GLYPHS[group_of(chosen).id], "match")
    right, left = after - chosen_at - 1, chosen_at - before - 1
    if max(right, left) < TEXT_BESIDE_MARK_MIN:
        return tuple(cells)
    if right >= left:
        text = line((clip(f" {chosen.text}", right), "text"))[0][0]
        return (*cells[: chosen_at + 1], (text, "text"), *cells[chosen_at + 1 + line_width(((text, ""),)) :])
    text = line((clip(chosen.text, left - 1) + " ", "text"))[0][0]
    return (*cells[: chosen_at - line_width(((text, ""),))], (text, "text"), *cells[chosen_at:])


def chart_lines(data: ChartData, width: int, height: int) -> list[Line]:
    """Figure and legend, the columns with their axis, the marks of events and the times, as there is room."""
    role = "muted" if data.stale else "warn" if data.hot else "strong"
    figure: Line = ((data.title, "muted"), (" ", "text"), (data.figure + (" ▲" if data.hot else ""), role))
    legend: list[Span] = [(f"┈ {data.limit}", "muted")] if data.warn is not None and data.limit else []
    if data.note:
        legend.append((("  " if legend else "") + data.note, "muted"))
    note: Line = ((data.stale, "warn"),) if data.stale else tuple(legend)
    head = spread(figure, cut(note, max(width - line_width(figure) - 2, 0)), width)
    if height < 2:
        return [head]
    marked, timed = height >= MARKS_FROM_ROWS, height >= TIMES_FROM_ROWS
    rows = height - 1 - marked - timed
    top = data.top
    axis = 4
    values = data.values(max(width - axis, 1))
    if top is None:
        top = fmt.axis_top(max([*(v for v in values if v is not None), data.warn or 0.0], default=1.0))
        if len(fmt.axis(top)) >= axis:
            axis = len(fmt.axis(top)) + 1
            values = data.values(max(width - axis, 1))
    label = axis - 1
    labels = {0: fmt.axis(top), rows - 1: "0"}
    if rows >= 5 and rows % 2:
        labels[rows // 2] = fmt.axis(top / 2)
    if not marked and data.zoom is not RANGES[0] and rows > 2:
        labels[rows // 2] = data.zoom.name
    out = [head]
    for y, row in enumerate(bars(values, rows, top, data.role, data.warn)):
        out.append(((f"{labels.get(y, ''):>{label}}", "muted" if y in labels else "faint"), ("┤", "faint"), *row))
    if marked:
        count = max(width - axis, 1)
        marks = data.marks(count) if data.marks is not None else ()
        chosen = data.chosen
        at = None if chosen is None else column_of(chosen.time_s, data.now_s, data.zoom.span_s, count)
        scale: Line = ((" " * axis, "text"),) if timed else ((f"{data.zoom.name:>{label}}", "muted"), ("┤", "faint"))
        out.append((*scale, *mark_line(marks, data.chosen, at)))
    if timed:
        out.append(_times(data.zoom, width, axis))
    return out


class Chart(Panel):
    """`chart_lines` as a widget."""

    def __init__(self, *, id: str) -> None:  # noqa: A002
        super().__init__(id=id)
        self._data: ChartData | None = None

    def show(self, data: ChartData) -> None:
        """Chart this from now on."""
        self._data = data
        self.repaint()

    def paint(self, width: int, height: int) -> list[Line]:
        return chart_lines(self._data, width, height) if self._data is not None else []


def _times(zoom: Range, width: int, axis: int) -> Line:
    left, middle, right = zoom.ago, zoom.middle, "now"
    room = width - axis - len(left) - len(middle) - len(right)
    if room < 4:
        return ((" " * axis, "text"), *spread(((left, "muted"),), ((right, "muted"),), width - axis))
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
