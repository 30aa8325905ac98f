"""How a conversation asks: system prompt, sampling, length, thinking mode and effort. Empty leaves it to the server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.events import Key
from textual.screen import ModalScreen
from textual.widgets import Input, TextArea

from console.core.chat import EFFORT_MAX_CONTEXT, EFFORTS, THINKING, ChatSettings, parse_settings
from console.tui.paint import Line, Span, line
from console.tui.screens.chat_path import Refusal
from console.tui.screens.dialogs import Sheet
from console.tui.widgets.panel import Panel

__all__ = ["SettingsScreen"]

FIGURES = (
    ("temperature", "Temperature", "server's own; DeepSeek advises 1.0"),
    ("top_p", "top_p", "server's own; DeepSeek advises 1.0, for agents 0.95"),
    ("max_tokens", "Max tokens", "server's own: what the context has left"),
)
NOBODY = "server's own"


class SystemPrompt(TextArea):
    """Enter and tab belong to the dialog; ctrl+j is a new line."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("ctrl+j", "newline", show=False)]

    async def _on_key(self, event: Key) -> None:
        if event.key in ("enter", "escape", "tab", "shift+tab", "ctrl+j"):
            event.prevent_default()

    def action_newline(self) -> None:
        """Start a new line."""
        self.insert("\n")


class Choice(Panel, can_focus=True):
    """One of a few words; left and right, or space, choose."""

    DEFAULT_CSS = "Choice { height: 1; width: 1fr; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right,space", "step(1)", show=False),
        Binding("left", "step(-1)", show=False),
    ]

    def __init__(self, options: Sequence[str], value: str, *, id: str) -> None:  # noqa: A002
        super().__init__(id=id)
        self._options = options
        self.value = value if value in options else options[0]

    def paint(self, width: int, height: int) -> list[Line]:
        spans: list[Span] = []
        for option in self._options:
            chosen = option == self.value
            role = ("select" if self.has_focus else "strong") if chosen else "muted"
            spans.append((f"{'▸' if chosen else ' '}{option or NOBODY} ", role))
        return [line(*spans)]

    def action_step(self, step: int) -> None:
        """The next one."""
        self.value = self._options[(list(self._options).index(self.value) + step) % len(self._options)]
        self.repaint()

    def on_focus(self) -> None:
        """Show where the keys go."""
        self.repaint()

    def on_blur(self) -> None:
        """And where they do not."""
        self.repaint()


class SettingsScreen(ModalScreen[ChatSettings | None]):
    """Gives the settings, or nothing if it was left.

    Args:
        settings: as they are.
        limit: `max_model_len`, where known.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "take", show=False),
        Binding("escape", "cancel", show=False),
        Binding("down,tab", "app.focus_next", show=False),
        Binding("up,shift+tab", "app.focus_previous", show=False),
    ]
    DEFAULT_CSS = """
    SettingsScreen Horizontal { height: 1; }
    SettingsScreen Horizontal Sheet { width: 14; }
    SettingsScreen Input { width: 1fr; }
    SettingsScreen SystemPrompt { height: 4; margin: 0 0 1 0; }
    """

    def __init__(self, settings: ChatSettings, limit: int | None) -> None:
        super().__init__()
        self._settings = settings
        self._limit = limit
        self._warned = False

    def compose(self) -> ComposeResult:
        settings = self._settings
        with Vertical(id="dialog"):
            yield Sheet([("strong", (), "How this conversation asks"), ("muted", (), "System prompt")])
            yield SystemPrompt(
                settings.system, id="system", compact=True, tab_behavior="focus", show_line_numbers=False
            )
            for name, label, hint in FIGURES:
                value = getattr(settings, name)
                with Horizontal():
                    yield Sheet([("muted", (), label)])
                    yield Input(f"{value:g}" if isinstance(value, float) else str(value or ""), placeholder=hint,
                                compact=True, id=name)  # fmt: skip
            with Horizontal():
                yield Sheet([("muted", (), "Thinking")])
                yield Choice(THINKING, settings.thinking, id="thinking")
            with Horizontal():
                yield Sheet([("muted", (), "Effort")])
                yield Choice(EFFORTS, settings.effort, id="effort")
            yield Refusal(id="refusal")
            yield Sheet([("muted", (), "enter takes them · tab next · ← → choose · ^j newline · esc leaves")])

    def on_mount(self) -> None:
        """A cursor that blinks costs a repaint each time."""
        self.query_one(SystemPrompt).cursor_blink = False
        self.query_one("#temperature").focus()

    def _typed(self) -> dict[str, str]:
        typed = {name: self.query_one(f"#{name}", Input).value for name, _, _ in FIGURES}
        typed["system"] = self.query_one(SystemPrompt).text
        return typed | {name: self.query_one(f"#{name}", Choice).value for name in ("thinking", "effort")}

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Enter in a line takes all of them."""
        event.stop()
        self.action_take()

    def action_take(self) -> None:
        """Take them, unless one is wrong."""
        settings, wrong = parse_settings(self._typed())
        if settings is None:
            self.query_one(Refusal).say(wrong)
            return
        short = self._limit is not None and self._limit < EFFORT_MAX_CONTEXT
        if settings.effort == "max" and settings.thinking != "off" and short and not self._warned:
            self._warned = True
            text = f"effort max wants a context of {EFFORT_MAX_CONTEXT:,} tokens; this server has {self._limit:,}. "
            self.query_one(Refusal).say(text + "Enter takes it nevertheless.")
            return
        self.dismiss(settings)

    def action_cancel(self) -> None:
        """Leave them as they were; what was changed is dropped only at the second press."""
        settings, _ = parse_settings(self._typed())
        if settings == self._settings or self._warned:
            self.dismiss(None)
            return
        self._warned = True
        self.query_one(Refusal).say("Changed, and not taken: enter takes it, esc again drops it.")
