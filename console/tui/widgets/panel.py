"""A widget that shows painted lines and, when they change, repaints only the rows that differ.

The one place where roles become colours and where text is made fit for the terminal at hand.
"""

from __future__ import annotations

from collections.abc import Mapping

from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region, Size
from textual.strip import Strip
from textual.widget import Widget

from console.tui.glyphs import ASCII_TABLE, safe
from console.tui.paint import Line

__all__ = ["Panel", "to_strip"]


def to_strip(widget: Widget, spans: Line, width: int) -> Strip:
    """A line as Textual draws it, in exactly `width` cells. A role with `+` before it stands in a selected row."""
    app = widget.app
    styles: Mapping[str, Style] = getattr(app, "role_styles", {})
    ascii_only = bool(getattr(app, "ascii_glyphs", False))
    base = widget.visual_style.rich_style
    segments = []
    for text, role in spans:
        shown = safe(text)
        if ascii_only:
            shown = shown.translate(ASCII_TABLE)
        segments.append(Segment(shown, base + styles[role] if role in styles else base))
    return Strip(segments).adjust_cell_length(width, base)


class Panel(Widget):
    """Subclasses say what to show in `paint`; callers say when in `repaint`."""

    DEFAULT_CSS = "Panel { height: auto; }"

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id, classes=classes)
        self._lines: list[Line] = []
        self._painted_size = Size(0, 0)

    def paint(self, width: int, height: int) -> list[Line]:
        """The lines to show. `height` is 0 while the panel may choose its own."""
        raise NotImplementedError

    def repaint(self) -> None:
        """Paint again and draw the rows that changed."""
        if not self.is_attached:
            return
        old, old_size = self._lines, self._painted_size
        size = self.content_size
        lines = self._paint_now(size)
        if self._own_height and len(lines) != len(old):
            self.refresh(layout=True)
        elif size != old_size:
            self.refresh()
        else:
            for y in range(max(len(lines), len(old))):
                if y >= len(lines) or y >= len(old) or lines[y] != old[y]:
                    self.refresh(Region(0, y, size.width, 1))

    @property
    def _own_height(self) -> bool:
        height = self.styles.height
        return height is None or height.is_auto

    def _paint_now(self, size: Size) -> list[Line]:
        self._painted_size = size
        self._lines = self.paint(size.width, 0 if self._own_height else size.height) if size.width > 0 else []
        return self._lines

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return len(self.paint(width, 0)) if width > 0 else 0

    def render_line(self, y: int) -> Strip:
        size = self.content_size
        if size != self._painted_size:
            self._paint_now(size)
        return to_strip(self, self._lines[y] if y < len(self._lines) else (), size.width)
