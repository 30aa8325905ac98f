"""A line for a file's path: what to attach, or where to write."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input

from console.core.chat_conversation import Conversation
from console.core.errors import ConsoleError
from console.io import conversations
from console.tui.paint import BLANK, Line, wrapped
from console.tui.screens.dialogs import Sheet
from console.tui.widgets.panel import Panel

__all__ = ["PathScreen", "Refusal", "export_screen"]


class Refusal(Panel):
    """What is wrong with what was typed; an empty line while nothing is."""

    text = ""

    def say(self, text: str) -> None:
        """Say this."""
        self.text = text
        self.repaint()

    def paint(self, width: int, height: int) -> list[Line]:
        return wrapped(self.text, width, "bad", (("✖ ", "bad"),)) if self.text else [BLANK]


class PathScreen(ModalScreen[None]):
    """Stays open, with the reason, until `act` takes the path or it is left.

    Args:
        title: the question.
        text: what will become of the file.
        path: to begin with.
        act: does it; returns what is wrong, or nothing.
    """

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "cancel", show=False)]
    DEFAULT_CSS = "PathScreen Input { margin: 1 0 0 0; }"

    def __init__(self, title: str, text: str, path: str, act: Callable[[str], str]) -> None:
        super().__init__()
        self._title, self._text, self._path, self._act = title, text, path, act

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog"):
            yield Sheet([("strong", (), self._title), ("muted", (), self._text)])
            yield Input(placeholder="path of a file; ~ is your home", compact=True, id="path")
            yield Refusal(id="refusal")
            yield Sheet([("muted", (), "enter takes it · esc leaves")])

    def on_mount(self) -> None:
        """Type at once."""
        line = self.query_one(Input)
        line.focus()
        line.value = self._path
        # A line that does not know its width yet scrolls its text out of sight.
        self.call_after_refresh(self._show_end)

    def _show_end(self) -> None:
        line = self.query_one(Input)
        line.scroll_to(x=0, animate=False, force=True, immediate=True)
        line.action_home()
        line.action_end()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Try it."""
        event.stop()
        if not event.value.strip():
            return
        wrong = self._act(event.value)
        if wrong:
            self.query_one(Refusal).say(wrong)
        else:
            self.dismiss()

    def action_cancel(self) -> None:
        """Nothing happens."""
        self.dismiss()


def export_screen(conversation: Conversation, tell: Callable[[str], None]) -> PathScreen:
    """Where to write a conversation as Markdown, then that it was written."""

    def write(typed: str) -> str:
        try:
            path = conversations.export(conversation, Path(typed.strip()).expanduser())
        except FileExistsError:
            return "That file exists: choose another name."
        except OSError as error:
            return error.strerror or str(error)
        except (ConsoleError, ValueError) as error:
            return str(error)
        tell(f"Exported to {path}")
        return ""

    text = "Written as Markdown, readable by you alone. Nothing is overwritten."
    return PathScreen("Export this conversation", text, str(conversations.export_path(conversation)), write)
