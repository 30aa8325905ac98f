"""A list of painted rows with one selected, for profiles and runs: short, and never in need of a table widget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from textual.binding import BindingType
from textual.events import Click, MouseScrollDown, MouseScrollUp
from textual.geometry import Size
from textual.message import Message

from console.tui.actions import bindings_for
from console.tui.paint import Line, line, pad, selected
from console.tui.widgets.panel import Panel

__all__ = ["Highlighted", "SelectList"]


class Highlighted(Message):
    """Another row is selected."""


class SelectList(Panel, can_focus=True):
    """Rows by key; painting a row is the caller's."""

    BINDINGS: ClassVar[list[BindingType]] = bindings_for("list")

    def __init__(self, row: Callable[[str, int, bool], Line], empty: str, *, id: str) -> None:  # noqa: A002
        super().__init__(id=id)
        self._row = row
        self.empty_text = empty
        self._keys: list[str] = []
        self._first = 0
        self.selected_key: str | None = None

    def show(self, keys: Sequence[str], selected: str | None = None) -> None:
        """List these; keep what was selected if it is still there."""
        self._keys = list(keys)
        wanted = selected if selected in self._keys else self.selected_key
        self.selected_key = wanted if wanted in self._keys else (self._keys[0] if self._keys else None)
        if self.is_attached and len(self._keys) != len(self._lines):
            self.refresh(layout=True)
        self.repaint()
        self.post_message(Highlighted())

    @property
    def index(self) -> int:
        """Where the selected row stands."""
        return self._keys.index(self.selected_key) if self.selected_key in self._keys else 0

    def paint(self, width: int, height: int) -> list[Line]:
        if not self._keys:
            return [line((self.empty_text, "muted"))]
        rows = height or len(self._keys)
        index = self.index
        self._first = min(max(self._first, index - rows + 1), index)
        self._first = max(min(self._first, len(self._keys) - rows), 0)
        out = []
        for key in self._keys[self._first : self._first + rows]:
            row = pad(self._row(key, width, key == self.selected_key), width)
            if key == self.selected_key:
                row = selected(row)
            out.append(row)
        return out

    def _paint_now(self, size: Size) -> list[Line]:
        """A list as high as its rows is still cut off by what it stands in; the selected row must be in sight."""
        self._painted_size = size
        self._lines = self.paint(size.width, size.height) if size.width > 0 else []
        return self._lines

    def action_move(self, step: int) -> None:
        """Select the row `step` further on."""
        if self._keys:
            self.select(self._keys[min(max(self.index + step, 0), len(self._keys) - 1)])

    def action_edge(self, side: int) -> None:
        """Select the first or last row."""
        self.action_move(side * len(self._keys))

    def select(self, key: str) -> None:
        """Select this row."""
        if key != self.selected_key:
            self.selected_key = key
            self.repaint()
            self.post_message(Highlighted())

    def on_click(self, event: Click) -> None:
        """A click selects; a double click is enter."""
        at = self._first + event.y - self.styles.padding.top
        if 0 <= at < len(self._keys):
            self.select(self._keys[at])
            if event.chain > 1:
                self.app.simulate_key("enter")

    def on_mouse_scroll_down(self, event: MouseScrollDown) -> None:
        """The wheel moves the selection."""
        self.action_move(1)

    def on_mouse_scroll_up(self, event: MouseScrollUp) -> None:
        """The wheel moves the selection."""
        self.action_move(-1)
