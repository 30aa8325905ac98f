"""Conversations on disk: open, search, export, delete."""

from __future__ import annotations

import asyncio
import time
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input

from console.core.chat_conversation import Conversation, found_in
from console.io import conversations
from console.tui.actions import bindings_for
from console.tui.glyphs import safe
from console.tui.keymap import keys_for
from console.tui.paint import Line, clip, line
from console.tui.screens.chat_menu import FittedList
from console.tui.screens.chat_path import export_screen
from console.tui.screens.dialogs import Confirm, Sheet

__all__ = ["ConversationsScreen"]

BESIDE_ROWS = 5
KEYS = tuple(
    (f"conversations.{name}", word)
    for name, word in {
        "open": "open",
        "find": "search",
        "new": "new",
        "export": "export",
        "delete": "delete",
        "leave": "leaves",
    }.items()
)
"""Told of under the list."""
WIDTH_MAX = 110
SEARCH_REST_S = 0.15
"""Nothing is searched while somebody types on."""


class ConversationsScreen(ModalScreen[str | None]):
    """Gives the id of a conversation, or `new`.

    Args:
        current: id of the one that is open.
        search: begin in the search line.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        *bindings_for("conversations"),
        *bindings_for("list"),
    ]

    def __init__(self, current: str, search: bool) -> None:
        super().__init__()
        self._current = current
        self._search_first = search
        self._all: dict[str, Conversation] = {}
        self._found: dict[str, str] = {}
        """What the search found, by id: the text around it."""
        self._names: dict[str, str] = {}

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog"):
            yield Sheet([("strong", (), "Conversations")])
            yield Input(placeholder="search in all of them", compact=True, id="chat-search")
            yield FittedList(self._row, "Reading…", id="conversations", beside=BESIDE_ROWS)
            yield Sheet([("muted", (), keys_for(*KEYS))])

    @property
    def _list(self) -> FittedList:
        return self.query_one(FittedList)

    def on_mount(self) -> None:
        """Read them without holding up the screen."""
        dialog = self.query_one("#dialog")
        dialog.styles.width, dialog.styles.max_width = "96%", WIDTH_MAX
        self._list.fit(1)
        self.set_focus(self.query_one(Input) if self._search_first else self._list)
        self.run_worker(self._read(), exclusive=True, group="read", exit_on_error=False)

    def on_resize(self) -> None:
        """As many rows as there is room for."""
        self._list.fit(max(len(self._found), 1))

    async def _read(self) -> None:
        self._all = {each.id: each for each in await asyncio.to_thread(conversations.listed)}
        self._names = {key: each.title or "(no message)" for key, each in self._all.items()}
        await self._search(self.query_one(Input).value)

    async def _search(self, words: str) -> None:
        def look() -> dict[str, str]:
            found = ((key, found_in(each, words)) for key, each in self._all.items())
            return {key: text for key, text in found if text is not None}

        self._found = await asyncio.to_thread(look)
        self._list.empty_text = "Nothing has these words." if self._all else "There are no conversations yet."
        self._list.fit(max(len(self._found), 1))
        self._list.show(list(self._found), None if self._list.selected_key else self._current)

    def on_input_changed(self, event: Input.Changed) -> None:
        """Search once the typing rests."""
        event.stop()
        self.run_worker(self._later(event.value), exclusive=True, group="search", exit_on_error=False)

    async def _later(self, words: str) -> None:
        await asyncio.sleep(SEARCH_REST_S)
        await self._search(words)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """To what was found."""
        event.stop()
        self.set_focus(self._list)

    def _row(self, key: str, width: int, chosen: bool) -> Line:
        each = self._all[key]
        day = time.strftime("%m-%d %H:%M", time.localtime(each.changed_s)) if each.changed_s else "–"
        around = self._found.get(key, "")
        text = clip(safe(self._names[key]), max(width - 24, 10)) if not around else clip(safe(around), width - 24)
        open_now = "●" if key == self._current else " "
        return line(
            ("▸ " if chosen else "  ", "accent"),
            (f"{open_now} {day}  ", "muted"),
            (text, "text" if not around else "code"),
            (f"  {len(each.turns)}", "muted"),
        )

    def action_take(self) -> None:
        """Open this one."""
        if isinstance(self.focused, Input):
            self.set_focus(self._list)
        elif self._list.selected_key:
            self.dismiss(self._list.selected_key)

    def action_find(self) -> None:
        """To the search line."""
        self.set_focus(self.query_one(Input))

    def action_begin_new(self) -> None:
        """A new one."""
        self.dismiss("new")

    def action_cancel(self) -> None:
        """Out of the search, or of the list."""
        if isinstance(self.focused, Input) and self._found:
            self.set_focus(self._list)
        else:
            self.dismiss(None)

    def action_export(self) -> None:
        """Write this one as Markdown."""
        chosen = self._list.selected_key
        if chosen:
            tell = lambda text: self.app.notify(safe(text), markup=False)  # noqa: E731
            self.app.push_screen(export_screen(self._all[chosen], tell))

    def action_delete(self) -> None:
        """Ask, then delete this one."""
        chosen = self._list.selected_key
        if not chosen:
            return

        def go(answer: str | None) -> None:
            if answer != "yes":
                return
            try:
                conversations.remove(chosen)
            except OSError as error:
                self.app.notify(safe(f"Not deleted: {error}"), severity="error", markup=False)
                return
            self._all.pop(chosen, None)
            self._found.pop(chosen, None)
            self._list.show(list(self._found))

        title = clip(safe(self._names[chosen]), 50)
        text = [f"“{title}”, {len(self._all[chosen].turns)} messages.", "Its file is removed; this cannot be undone."]
        self.app.push_screen(Confirm("Delete this conversation?", text, "delete it", "keep it"), go)
