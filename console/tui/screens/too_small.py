"""What stands on a terminal that is too small for the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from textual.app import ComposeResult
from textual.screen import Screen

from console.tui.keymap import key_for
from console.tui.paint import Line, wrapped
from console.tui.widgets.panel import Panel

if TYPE_CHECKING:
    from console.tui.app import ConsoleApp

__all__ = ["HEIGHT_MIN", "WIDTH_MIN", "TooSmallScreen"]

WIDTH_MIN = 60
HEIGHT_MIN = 20


class Sentence(Panel):
    """Says how large the terminal has to be."""

    def paint(self, width: int, height: int) -> list[Line]:
        size = self.app.size
        need = f"the console needs {WIDTH_MIN}×{HEIGHT_MIN}"
        leave = f"or press {key_for('app.quit')}. A server goes on."
        text = f"This terminal is {size.width}×{size.height}; {need}. Make it larger, {leave}"
        return wrapped(text, width, "text")


class TooSmallScreen(Screen[None]):
    """Comes and goes with the size."""

    def compose(self) -> ComposeResult:
        yield Sentence()

    def on_screen_resume(self) -> None:
        """One that other screens had covered leaves if it is not needed any more."""
        cast("ConsoleApp", self.app).mind_size()

    def on_resize(self) -> None:
        """Say the new size."""
        self.query_one(Sentence).repaint()
