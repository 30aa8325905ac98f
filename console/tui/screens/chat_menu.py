"""The chat's menu: every key of the chat that works now, and what it does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.events import Key
from textual.screen import ModalScreen

from console.tui.actions import ACTIONS, Action, bindings_for
from console.tui.paint import Line, line
from console.tui.screens.dialogs import FRAME_ROWS, Sheet
from console.tui.widgets.select_list import SelectList

__all__ = ["ChatMenu", "FittedList", "menu_rows"]

NOT_IN_MENU = frozenset({"menu", "mark(-1)", "mark(1)", "write"})
SCREEN_SHARE = 0.96
BESIDE_ROWS = 1


def menu_rows(works: Callable[[str], bool]) -> list[Action]:
    """The actions of the chat that make sense now."""
    return [a for a in ACTIONS if a.scope == "chat" and a.action not in NOT_IN_MENU and works(a.action)]


class FittedList(SelectList):
    """A list that takes what rows the screen has left; enter belongs to the dialog."""

    def __init__(self, row: Callable[[str, int, bool], Line], empty: str, *, id: str, beside: int) -> None:  # noqa: A002
        super().__init__(row, empty, id=id)
        self._beside = beside

    def fit(self, count: int) -> None:
        """Be as high as this many rows, or as the screen allows."""
        room = int(self.screen.size.height * SCREEN_SHARE) - FRAME_ROWS - self._beside
        self.styles.height = max(min(count, room), 1)


class ChatMenu(ModalScreen[str | None]):
    """Gives the action that was chosen."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "take", show=False),
        Binding("escape,q", "cancel", show=False),
        *bindings_for("list"),
    ]

    def __init__(self, rows: Sequence[Action]) -> None:
        super().__init__()
        self._rows = {row.action: row for row in rows}

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog"):
            yield Sheet([("strong", (), "Chat")])
            yield FittedList(self._row, "Nothing.", id="chat-menu", beside=BESIDE_ROWS)

    def on_mount(self) -> None:
        """The first one is marked."""
        menu = self.query_one(FittedList)
        menu.fit(len(self._rows))
        menu.show(list(self._rows))
        menu.focus()

    def on_resize(self) -> None:
        """As many rows as there is room for."""
        self.query_one(FittedList).fit(len(self._rows))

    def _row(self, key: str, width: int, chosen: bool) -> Line:
        row = self._rows[key]
        return line(("▸ " if chosen else "  ", "accent"), (f"{row.shown:<3}", "key"), (row.help, "text"))

    def on_key(self, event: Key) -> None:
        """The key of an action is the action."""
        for row in self._rows.values():
            if event.character is not None and event.character == row.shown:
                event.stop()
                event.prevent_default()
                self.dismiss(row.action)
                return

    def action_take(self) -> None:
        """The marked one."""
        self.dismiss(self.query_one(FittedList).selected_key)

    def action_cancel(self) -> None:
        """None."""
        self.dismiss(None)
