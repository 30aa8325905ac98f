"""Writes to the terminal only the cells that differ from what it shows.

Textual paints whole rows, and on a change of pane the same rows several times. This knows what stands where, so a tick
of figures is some hundreds of bytes, not some thousands, and a pane is sent once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.color import ColorSystem
from rich.style import Style
from textual._compositor import ChopsUpdate, CompositorUpdate, LayoutUpdate
from textual.strip import Strip

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Changed", "Shown"]

GAP_MAX = 4
"""Cells that are right already are sent again up to here: moving over them takes as many bytes."""
RESET = "\x1b[0m"
UNKNOWN = ""
"""Stands for a cell that may show anything, and for the rest of a character that is more than one cell wide."""


class Row:
    """What is known of a row: a character and its style for each cell."""

    __slots__ = ("chars", "styles")

    def __init__(self) -> None:
        self.chars: list[str] = []
        self.styles: list[Style | None] = []

    def widen(self, width: int) -> None:
        """Have at least so many cells."""
        if (more := width - len(self.chars)) > 0:
            self.chars += [UNKNOWN] * more
            self.styles += [None] * more


class Shown:
    """What the terminal shows, as far as it is known, and how styles are written for it."""

    def __init__(self) -> None:
        self.rows: dict[int, Row] = {}
        self._codes: dict[Style, str] = {}

    def forget(self) -> None:
        """The terminal may show anything: another size, or somebody else has written to it."""
        self.rows.clear()

    def row(self, y: int) -> Row:
        """The row with this number."""
        found = self.rows.get(y)
        if found is None:
            found = self.rows[y] = Row()
        return found

    def codes(self, style: Style | None, colors: ColorSystem) -> str:
        """The sequence that turns this style on after a reset."""
        if style is None:
            return ""
        found = self._codes.get(style)
        if found is None:
            found = Strip.render_style(style.update_link(None), "x", color_system=colors).partition("x")[0]
            self._codes[style] = found
        return found


class Changed(CompositorUpdate):
    """An update of Textual's, of which only what differs is written."""

    def __init__(self, update: CompositorUpdate, shown: Shown) -> None:
        self._update = update
        self._shown = shown

    def render_segments(self, console: Console) -> str:
        """The sequences for the cells that differ; these count as shown from now on."""
        colors = console._color_system or ColorSystem.TRUECOLOR
        writer = _Writer(self._shown, colors)
        for y, x, strip in pieces(self._update):
            writer.strip(y, x, strip)
        return writer.text()


def pieces(update: CompositorUpdate) -> Iterator[tuple[int, int, Strip]]:
    """Row, column and content of each piece, as Textual itself would write them."""
    if isinstance(update, LayoutUpdate):
        for y, strips in enumerate(update.strips, update.region.y):
            x = update.region.x
            for strip in strips:
                yield y, x, strip
                x += strip.cell_length
    elif isinstance(update, ChopsUpdate):
        for y, left, right in update.spans:
            for end, (x, chop) in zip(update.chop_ends[y], update.chops[y].items(), strict=False):
                if chop is not None and x <= right and end > left:
                    whole = left <= x < right and end <= right
                    yield y, x, chop if whole else chop.crop(0, min(end, right) - x)


class _Writer:
    """Puts together one update."""

    def __init__(self, shown: Shown, colors: ColorSystem) -> None:
        self._shown = shown
        self._colors = colors
        self._out: list[str] = []
        self._at = (-1, -1)
        self._style: Style | None = None
        self._row = Row()

    def text(self) -> str:
        """All of it, with no style left on."""
        return "".join([*self._out, RESET] if self._out else [])

    def strip(self, y: int, x: int, strip: Strip) -> None:
        """One piece of a row."""
        self._row = row = self._shown.row(y)
        for text, style, control in strip:
            if control or not text:
                continue
            width = cell_len(text)
            row.widen(x + width)
            if width == len(text) and text.isprintable() and (text.isascii() or all(cell_len(c) == 1 for c in text)):
                # Most of what is painted is right already: a comparison of slices knows without a look at each cell.
                letters, end = list(text), x + width
                if row.chars[x:end] != letters or row.styles[x:end] != [style] * width:
                    self._cells(y, x, letters, style)
            else:
                self._unit(y, x, text, style, width)
            x += width

    def _cells(self, y: int, x: int, letters: list[str], style: Style | None) -> None:
        """Characters of one cell each, of which those are written that differ."""
        chars, styles = self._row.chars, self._row.styles
        for char in letters:
            if chars[x] != char or styles[x] != style:
                if self._at != (y, x):
                    self._go(y, x)
                if self._style is not style:
                    self._wear(style)
                self._out.append(char)
                chars[x], styles[x] = char, style
                self._at = (y, x + 1)
            x += 1

    def _unit(self, y: int, x: int, text: str, style: Style | None, width: int) -> None:
        """Text whose characters are not one cell each is written whole, and nothing relies on where it ends."""
        chars, styles, end = self._row.chars, self._row.styles, x + width
        whole = [text, *[UNKNOWN] * (width - 1)][:width]
        if width and chars[x:end] == whole and styles[x:end] == [style] * width:
            return
        self._go(y, x)
        self._wear(style)
        self._out.append(text)
        chars[x:end], styles[x:end] = whole, [style] * width
        self._at = (-1, -1)

    def _go(self, y: int, x: int) -> None:
        row, column = self._at
        if (row, column) == (y, x):
            return
        ahead = row == y and column < x
        if ahead and x - column <= GAP_MAX:
            chars, styles = self._row.chars[column:x], self._row.styles[column:x]
            if all(len(char) == 1 for char in chars) and all(style == self._style for style in styles):
                self._out += chars
                return
        self._out.append(f"\x1b[{x - column}C" if ahead else f"\x1b[{y + 1};{x + 1}H")

    def _wear(self, style: Style | None) -> None:
        if style != self._style:
            codes = self._shown.codes
            self._out.append(turned(codes(self._style, self._colors), codes(style, self._colors)))
            self._style = style


PLAIN = re.compile(r"\x1b\[(38;[25];[\d;]+?);(48;[25];[\d;]+)m")
"""A colour on a colour, and no bold or the like that only a reset turns off."""


@lru_cache(maxsize=4096)
def turned(before: str, after: str) -> str:
    """The shortest sequence from one style to another."""
    old, new = PLAIN.fullmatch(before), PLAIN.fullmatch(after)
    if old is None or new is None:
        return RESET + after
    parts = [part for part, other in zip(new.groups(), old.groups(), strict=True) if part != other]
    return f"\x1b[{';'.join(parts)}m" if parts else ""
