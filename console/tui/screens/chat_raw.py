"""A request and its response as they went over the line, to scroll through."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.geometry import Size
from textual.screen import ModalScreen
from textual.scroll_view import ScrollView
from textual.strip import Strip

from console.core.text import LINE_CHARS_MAX, clean, truncate_line
from console.tui.glyphs import safe
from console.tui.keymap import key_for
from console.tui.paint import BLANK, Line
from console.tui.screens.dialogs import Sheet
from console.tui.widgets.chat_text import wrap_spans
from console.tui.widgets.panel import to_strip

__all__ = ["RawScreen"]

ROWS_MAX = 20_000
"""Rows that are shown; a request with large files is cut here, and says so."""


class RawText(ScrollView, can_focus=True):
    """Lines, wrapped."""

    DEFAULT_CSS = "RawText { height: 1fr; overflow-y: scroll; overflow-x: hidden; }"

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__(id="raw")
        self._source = [clean(text) for text in lines]
        self._rows: list[Line] = []
        self._width = 0

    def on_resize(self) -> None:
        """Wrap for this width."""
        width = self.scrollable_content_region.width
        if width <= 0 or width == self._width:
            return
        self._width = width
        self._rows = []
        for text in self._source:
            shown = safe(truncate_line(text, LINE_CHARS_MAX))
            self._rows += wrap_spans(((shown, "text"),), width, False)
            if len(self._rows) > ROWS_MAX:
                self._rows[ROWS_MAX:] = [((f"… cut at {ROWS_MAX:,} rows", "warn"),)]
                break
        self.virtual_size = Size(width, len(self._rows))
        self.refresh()

    def render_line(self, y: int) -> Strip:
        index = self.scroll_offset.y + y
        return to_strip(self, self._rows[index] if index < len(self._rows) else BLANK, self.size.width)


class RawScreen(ModalScreen[None]):
    """Arrows and page keys scroll, escape or q close."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,enter,w", "close", show=False)]

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__()
        self._lines = lines

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog"):
            yield RawText(self._lines)
            curl = f"{key_for('chat.curl')} in the chat copies it as curl"
            yield Sheet([("muted", (), f"↑ ↓ PgUp PgDn scroll · {curl} · esc closes")])

    def on_mount(self) -> None:
        """Scroll at once. Long lines want all the width there is."""
        dialog = self.query_one("#dialog")
        dialog.styles.width, dialog.styles.height = "96%", "92%"
        self.query_one(RawText).focus()

    def action_close(self) -> None:
        """Back."""
        self.dismiss()
