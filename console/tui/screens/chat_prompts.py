"""The prompt library: a list of titles, the text of the marked one below."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen

from console.core.chat_prompts import Prompt
from console.core.text import clean
from console.io import chatfiles
from console.tui.actions import bindings_for
from console.tui.paint import Line, clip, line, wrapped
from console.tui.screens.chat_menu import FittedList
from console.tui.screens.dialogs import Sheet
from console.tui.widgets.panel import Panel
from console.tui.widgets.select_list import Highlighted

__all__ = ["PromptsScreen"]

PREVIEW_ROWS = 5
BESIDE_ROWS = PREVIEW_ROWS + 5


class Preview(Panel):
    """The beginning of a prompt."""

    DEFAULT_CSS = f"Preview {{ height: {PREVIEW_ROWS}; margin: 1 0; }}"
    text = ""

    def say(self, text: str) -> None:
        """Show this one."""
        self.text = text
        self.repaint()

    def paint(self, width: int, height: int) -> list[Line]:
        return wrapped(clean(self.text[:2_000], keep_newlines=True), width, "muted")[:PREVIEW_ROWS]


class PromptsScreen(ModalScreen[str | None]):
    """Gives the text of the prompt that was chosen."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "take", show=False),
        Binding("escape,q", "cancel", show=False),
        *bindings_for("list"),
    ]

    def __init__(self, prompts: Sequence[Prompt]) -> None:
        super().__init__()
        self._prompts = {str(i): prompt for i, prompt in enumerate(prompts)}

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog"):
            yield Sheet([("strong", (), "Prompts")])
            yield FittedList(self._row, "No prompts.", id="prompts", beside=BESIDE_ROWS)
            yield Preview(id="preview")
            yield Sheet([("muted", (), f"enter inserts · esc leaves · yours: {chatfiles.prompts_path()}")])

    def on_mount(self) -> None:
        """The first one is marked."""
        prompts = self.query_one(FittedList)
        prompts.fit(len(self._prompts))
        prompts.show(list(self._prompts))
        prompts.focus()

    def on_resize(self) -> None:
        """As many rows as there is room for."""
        self.query_one(FittedList).fit(len(self._prompts))

    def on_highlighted(self, event: Highlighted) -> None:
        """Show its text."""
        chosen = self.query_one(FittedList).selected_key
        self.query_one(Preview).say(self._prompts[chosen].text if chosen else "")

    def _row(self, key: str, width: int, chosen: bool) -> Line:
        prompt = self._prompts[key]
        mine = ("yours  ", "ok") if prompt.own else ("", "text")
        return line(("▸ " if chosen else "  ", "accent"), mine, (clip(clean(prompt.title), width - 9), "text"))

    def action_take(self) -> None:
        """This one."""
        chosen = self.query_one(FittedList).selected_key
        self.dismiss(self._prompts[chosen].text if chosen else None)

    def action_cancel(self) -> None:
        """None."""
        self.dismiss(None)
