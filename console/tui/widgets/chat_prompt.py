"""Below the conversation: why a message cannot go now, how it is asked and what the context has left, and the input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.binding import BindingType
from textual.events import Key
from textual.message import Message
from textual.widgets import TextArea

from console.core.chat import ChatSettings, settings_words
from console.core.models import OVER_STATES, ServerState
from console.core.units import UNKNOWN
from console.tui.actions import bindings_for
from console.tui.keymap import key_for
from console.tui.model import RunModel
from console.tui.paint import Line, line, spread, wrapped
from console.tui.widgets.header import since_text, state_words
from console.tui.widgets.panel import Panel

__all__ = ["ChatNotice", "ChatStatus", "Prompt", "cannot_send", "context_spans"]

ANSWERING_STATES = frozenset({ServerState.READY, ServerState.UNHEALTHY})
CONTEXT_WARN = 0.9
"""From this share of the context on, the next answer may not fit."""


class Prompt(TextArea):
    """Enter sends, ctrl+j starts a new line, escape or tab leave."""

    BINDINGS: ClassVar[list[BindingType]] = bindings_for("prompt")

    class Sent(Message):
        """The operator has sent this."""

        def __init__(self, text: str) -> None:
            self.text = text
            super().__init__()

    class Left(Message):
        """The operator wants out of the input."""

    class MenuWanted(Message):
        """The operator wants the chat's menu."""

    async def _on_key(self, event: Key) -> None:
        if event.key in ("enter", "escape", "tab", "ctrl+j", "ctrl+c", "ctrl+o"):
            event.prevent_default()

    def action_send(self) -> None:
        """Send what is written."""
        self.post_message(self.Sent(self.text.strip()))

    def action_newline(self) -> None:
        """Start a new line."""
        self.insert("\n")

    def action_leave(self) -> None:
        """Out of the input."""
        self.post_message(self.Left())

    def action_menu(self) -> None:
        """Everything that the chat can do."""
        self.post_message(self.MenuWanted())


def cannot_send(model: RunModel) -> str:
    """Why no message can be sent now; empty if one can."""
    if model.away is not None:
        return "There is no connection to the server's machine; it is tried again."
    if model.lost is not None:
        return f"The line to the supervisor is lost; {key_for('dashboard.reattach')} on the overview attaches again."
    if model.state in ANSWERING_STATES:
        return ""
    if model.state in OVER_STATES:
        return f"The server is {model.state}: nobody answers."
    words = state_words(model.state, model.snapshot.status if model.snapshot else None)
    return f"{' '.join(part for part in (words, since_text(model)) if part)}: you can write; it can be sent once READY."


class ChatNotice(Panel):
    """Above the input: why a message cannot be sent now, and what goes along with it. Takes no room without either."""

    text = ""
    sent = False
    more: tuple[str, ...] = ()

    def show(self, text: str, sent: bool, more: Sequence[str] = ()) -> None:
        """Show this; `sent` says that a message was meant to go now, `more` are lines of their own."""
        sent = bool(text) and (sent or self.sent)
        if (text, sent, tuple(more)) != (self.text, self.sent, self.more):
            self.text, self.sent, self.more = text, sent, tuple(more)
            self.display = bool(text or more)
            self.repaint()

    def paint(self, width: int, height: int) -> list[Line]:
        rows: list[Line] = []
        if self.text:
            text = f"Not sent, and kept. {self.text}" if self.sent else self.text
            rows += wrapped(text, width, "warn" if self.sent else "muted", (("○ ", "warn"),))
        for text in self.more:
            rows += wrapped(text, width, "accent", (("• ", "accent"),))
        return rows


def context_spans(used: int | None, limit: int | None) -> Line:
    """Tokens of the conversation against `max_model_len`: `context 1,234 / 131,072 (1%)`."""
    share = used / limit if used is not None and limit else None
    role = "warn" if share is not None and share >= CONTEXT_WARN else "muted"
    left = f"{used:,}" if used is not None else UNKNOWN
    right = f"{limit:,}" if limit else UNKNOWN
    percent = f" ({share:.0%})" if share is not None else ""
    return line((f"{'▲ ' * (role == 'warn')}context {left} / {right}{percent}", role))


class ChatStatus(Panel):
    """One line: how the next message is asked, and the context."""

    DEFAULT_CSS = "ChatStatus { height: 1; padding: 0 1; }"
    settings = ChatSettings()
    used: int | None = None
    limit: int | None = None

    def show(self, settings: ChatSettings, used: int | None, limit: int | None) -> None:
        """Show these."""
        if (settings, used, limit) != (self.settings, self.used, self.limit):
            self.settings, self.used, self.limit = settings, used, limit
            self.repaint()

    def paint(self, width: int, height: int) -> list[Line]:
        words = settings_words(self.settings)
        left = line((" · ".join(words) or "the server's own settings", "muted" if not words else "text"))
        return [spread(left, context_spans(self.used, self.limit), width)]
