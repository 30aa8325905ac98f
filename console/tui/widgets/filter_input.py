"""The line in which one writes what a list shall be narrowed to."""

from __future__ import annotations

from textual.events import Key
from textual.widgets import Input

__all__ = ["FilterInput"]


class FilterInput(Input):
    """Enter goes back to the list, escape too, and shows all of it again."""

    def __init__(self, target: str, placeholder: str, *, id: str) -> None:  # noqa: A002
        super().__init__(placeholder=placeholder, id=id, compact=True)
        self._target = target

    async def _on_key(self, event: Key) -> None:
        if event.key in ("escape", "enter", "tab", "down"):
            event.stop()
            event.prevent_default()
            if event.key == "escape":
                self.value = ""
            self.screen.query_one(self._target).focus()
