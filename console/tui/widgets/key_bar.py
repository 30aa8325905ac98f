"""The last line: the keys that work here and now, from the bindings that are active."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from textual.events import Click, Mount
from textual.screen import Screen

from console.tui.actions import ACTIONS, CHANGING, short_word
from console.tui.paint import Line, Span, line, line_width
from console.tui.widgets.panel import Panel

if TYPE_CHECKING:
    from textual.binding import ActiveBinding

    from console.tui.app import ConsoleApp

__all__ = ["KeyBar"]

ALWAYS = ("stop", "quit", "help")
"""Shown however narrow it gets."""
PLACES = {action.id: place for place, action in enumerate(ACTIONS)}
UNTYPED = ("ctrl+", "f1")
"""Keys that are no text: the only ones of the outer scopes that work while one writes."""


class KeyBar(Panel):
    """A reminder of keys; a click on one presses it."""

    def __init__(self) -> None:
        super().__init__(id="keys")
        self._spots: list[tuple[int, int, str]] = []

    @property
    def console(self) -> ConsoleApp:
        """The app, typed."""
        return cast("ConsoleApp", self.app)

    def on_mount(self, event: Mount) -> None:
        """Follow focus and screen: other keys may be active."""
        self.screen.bindings_updated_signal.subscribe(self, self._changed)

    def _changed(self, screen: Screen[object]) -> None:
        if screen is self.screen:
            self.repaint()

    def paint(self, width: int, height: int) -> list[Line]:
        focused = self.screen.focused
        typing = focused is not None and focused.check_consume_key("a", "a")
        shown: dict[str, tuple[str, str, str]] = {}
        for key, active in self._in_order():
            binding = active.binding
            if not binding.show or not active.enabled or binding.action in shown:
                continue
            if self.console.readonly and binding.action in CHANGING:
                continue
            if typing and active.node is not focused:
                if not key.startswith(UNTYPED):
                    continue
                label = key.replace("ctrl+", "^") if key.startswith("ctrl+") else key.upper()
            else:
                label = binding.key_display or short_word(key)
            shown[binding.action] = (label, binding.description, key)
        spans: list[Span] = []
        self._spots = []
        parts = {action: line((key, "key"), (f" {label}  ", "muted")) for action, (key, label, _) in shown.items()}
        room = width + 2 - sum(line_width(parts[action]) for action in ALWAYS if action in parts)
        at = 0
        for action in [*(a for a in shown if a not in ALWAYS), *(a for a in ALWAYS if a in shown)]:
            size = line_width(parts[action])
            if action not in ALWAYS:
                if size > room:
                    continue
                room -= size
            spans += parts[action]
            self._spots.append((at, at + size - 2, shown[action][2]))
            at += size
        return [line(*spans)]

    def _in_order(self) -> list[tuple[str, ActiveBinding]]:
        """From the focused widget outwards, and in the order of the table whatever keys the operator has chosen."""
        found = list(self.screen.active_bindings.items())
        nodes = list(dict.fromkeys(active.node for _, active in found))
        return sorted(found, key=lambda each: (nodes.index(each[1].node), PLACES.get(each[1].binding.id or "", 0)))

    def on_click(self, event: Click) -> None:
        """A click is the key."""
        x = event.x - self.styles.padding.left
        for start, end, key in self._spots:
            if start <= x < end:
                self.app.simulate_key(key)
