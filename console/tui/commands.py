"""The command palette: every action that works here, every profile, every hint."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from rich.text import Text
from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.markup import escape
from textual.types import IgnoreReturnCallbackType

from console.tui.actions import ACTIONS
from console.tui.glyphs import safe
from console.tui.screens.dashboard import DashboardScreen
from console.tui.screens.dialogs import hint_dialog
from console.tui.screens.picker import PickerScreen
from console.tui.theme import THEMES

if TYPE_CHECKING:
    from console.tui.app import ConsoleApp

__all__ = ["Commands"]


class Commands(Provider):
    """Built from the table of actions and what the screen shows."""

    def _rows(self) -> Iterator[tuple[str, str, IgnoreReturnCallbackType]]:
        app = cast("ConsoleApp", self.app)
        screen = self.screen
        active = {b.binding.id: b for b in screen.active_bindings.values()}
        for action in ACTIONS:
            found = active.get(action.id)
            if action.palette and found is not None and found.enabled and not (app.readonly and action.changes):
                yield action.help, f"key {app.keymap.shown(action)}", partial(_run, found.node, action.action)
        for name in THEMES:
            yield f"Theme: {name}", "colours of this console", partial(app.use_theme, name)
        if isinstance(screen, PickerScreen) and not app.readonly:
            for name, entry in screen.catalogue.entries.items():
                yield f"Launch {name}", entry.suitability.text, partial(app.start_launch, name)
        if isinstance(screen, DashboardScreen) and screen.model.snapshot:
            for hint in screen.model.snapshot.hints:
                yield f"Hint: {hint.title}", "; ".join(hint.evidence), partial(_explain, app, hint)

    def _safe_rows(self) -> Iterator[tuple[str, str, IgnoreReturnCallbackType]]:
        """Names and hints come from outside, and the palette shows what it is given."""
        for title, text, run in self._rows():
            yield safe(title), safe(text), run

    async def discover(self) -> Hits:
        """Everything, before a letter is typed."""
        for title, text, run in self._safe_rows():
            yield DiscoveryHit(Text(title), run, text=title, help=escape(text))

    async def search(self, query: str) -> Hits:
        """What matches."""
        matcher = self.matcher(query)
        for title, text, run in self._safe_rows():
            score = matcher.match(title)
            if score > 0:
                yield Hit(score, Text(title), run, text=title, help=escape(text))


async def _run(node: Any, action: str) -> None:
    await node.run_action(action)


def _explain(app: ConsoleApp, hint: Any) -> None:
    app.push_screen(hint_dialog(hint))
