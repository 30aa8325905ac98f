"""The last line: the keys that work here and now, from the bindings that are active."""

from __future__ import annotations

from textual.events import Click, Mount
from textual.screen import Screen

from console.tui.paint import Line, Span, line, line_width
from console.tui.widgets.panel import Panel

__all__ = ["KeyBar"]


class KeyBar(Panel):
    """One row per key would be a menu; this is the reminder."""

    def __init__(self) -> None:
        super().__init__(id="keys")
        self._spots: list[tuple[int, int, str]] = []

    def on_mount(self, event: Mount) -> None:
        """Follow focus and screen: other keys may be active."""
        self.screen.bindings_updated_signal.subscribe(self, self._changed)

    def _changed(self, screen: Screen[object]) -> None:
        if screen is self.screen:
            self.repaint()

    def paint(self, width: int, height: int) -> list[Line]:
        shown: dict[str, tuple[str, str, str]] = {}
        for active in self.screen.active_bindings.values():
            binding = active.binding
            if binding.show and active.enabled and binding.action not in shown:
                shown[binding.action] = (binding.key_display or binding.key, binding.description, binding.key)
        spans: list[Span] = []
        self._spots = []
        items = sorted(shown.items(), key=lambda item: item[0] in ("quit", "help"))
        at = 0
        for _action, (key, label, press) in items:
            part: list[Span] = [(key, "key"), (f" {label}", "muted"), ("  ", "text")]
            size = line_width(line(*part))
            if at + size - 2 > width:
                continue
            spans += part
            self._spots.append((at, at + size - 2, press))
            at += size
        return [line(*spans)]

    def on_click(self, event: Click) -> None:
        """A click is the key."""
        x = event.x - self.styles.padding.left
        for start, end, key in self._spots:
            if start <= x < end:
                self.app.simulate_key(key)
