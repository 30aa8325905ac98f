"""The scrolling part beside or below a list, moved by keys of the screen."""

from __future__ import annotations

from typing import ClassVar

from textual.containers import VerticalScroll
from textual.scrollbar import ScrollBarRender

__all__ = ["DetailScroll"]


class WholeCells(ScrollBarRender):
    """A scrollbar without parts of cells: their glyphs are no ASCII, and half of the fonts draw them with gaps."""

    VERTICAL_BARS: ClassVar[list[str]] = [" "]


class DetailScroll(VerticalScroll, can_focus=False):
    """Never has the focus, so that the list keeps its keys."""

    def on_mount(self) -> None:
        """Draw the scrollbar in whole cells."""
        self.vertical_scrollbar.renderer = WholeCells  # type: ignore[misc]

    def page(self, step: int) -> None:
        """Scroll by so many pages, less a line that stays in sight."""
        self.scroll_relative(y=step * max(self.size.height - 1, 1), animate=False)
