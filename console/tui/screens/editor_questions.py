"""What the editor asks: under which name, what becomes of unsaved edits, and whose version of a file counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input

from console.core.errors import ConflictError
from console.core.profile_form import Draft, differences
from console.core.profile_source import name_problem
from console.tui.paint import Line, Span, wrapped
from console.tui.screens.dialogs import CLOSE, Dialog, Option, Question
from console.tui.widgets.form_facts import count_text, difference_rows
from console.tui.widgets.panel import Panel
from console.tui.widgets.profile_form import FormState

__all__ = [
    "MERGE",
    "MINE",
    "NameScreen",
    "conflict_question",
    "differences_dialog",
    "leave_question",
    "mistakes_question",
    "name_verdict",
]

MERGE, MINE = "merge", "mine"
"""Answers to a conflict: the changes go into the file as it is now; the edited text takes its place."""
NAME_CHARS_MAX = 100


def name_verdict(name: str, origins: Mapping[str, str]) -> tuple[bool, str]:
    """Whether a profile can be saved under this name, and what that would mean.

    Args:
        origins: of every profile there is: `shipped`, `user`, or `user (replaces shipped)`.
    """
    if problem := name_problem(name):
        return False, problem
    origin = origins.get(name)
    if origin is None:
        return True, f"A new profile of yours, beside those there are: {name}.toml"
    if origin == "shipped":
        return True, (
            f"Yours takes the place of the shipped {name}, also for `run {name}`. "
            "The shipped file stays as it is and is back once yours is removed."
        )
    return False, f"You have a profile called {name} already. Take another name, or edit that one."


class NameNote(Panel):
    """What the name that is written would mean."""

    def __init__(self, text: Line) -> None:
        super().__init__(classes="name-note")
        self.text: Span = text[0]

    def paint(self, width: int, height: int) -> list[Line]:
        return wrapped(self.text[0], width, self.text[1])


class NameInput(Input):
    """Enter is the screen's."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "screen.take", show=False)]


class NameScreen(ModalScreen[str | None]):
    """Under which name to save. Gives none if it is left."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,tab", "cancel", show=False)]

    def __init__(self, name: str, origins: Mapping[str, str]) -> None:
        super().__init__()
        self._proposed = name
        self._origins = origins

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog"):
            yield NameNote((("Save as a profile of your own, called", "strong"),))
            yield NameInput(self._proposed, id="name", compact=True, max_length=NAME_CHARS_MAX, select_on_focus=False)
            yield NameNote((("", "text"),))
            yield NameNote((("enter saves · esc goes on editing", "muted"),))

    def on_input_changed(self, event: Input.Changed) -> None:
        """Say at once what the name would mean."""
        allowed, text = name_verdict(event.value.strip(), self._origins)
        note = self.query(NameNote)[1]
        note.text = (text, "text" if allowed else "bad")
        note.repaint()

    def action_take(self) -> None:
        """This name, if it can be."""
        name = self.query_one("#name", Input).value.strip()
        if name_verdict(name, self._origins)[0]:
            self.dismiss(name)

    def action_cancel(self) -> None:
        """No name."""
        self.dismiss(None)


def mistakes_question(name: str, form: FormState) -> Question:
    """Whether to save what cannot be launched. Work is never lost for want of a last correction."""
    sentences = [
        *(mistake.text for mistake in form.reading.mistakes),
        "",
        f"Saved like this, {name} cannot be launched until they are corrected; the list of profiles shows them.",
    ]
    options = (Option("no", "n", "go on editing"), Option("yes", "s", "save it with its mistakes"))
    return Question(f"Save {name} with {count_text(len(form.reading.mistakes), 'mistake')}?", sentences, options)


def conflict_question(error: ConflictError) -> Question:
    """The file is not what it was when the edit began."""
    options = (
        Option(MERGE, "m", "make my changes in the file as it is now"),
        Option(MINE, "o", "overwrite it: what changed there is lost"),
        Option("no", "n", "go on editing, write nothing"),
    )
    return Question(error.title, [error.message, "Somebody or something wrote it meanwhile."], options)


def leave_question(name: str, count: int) -> Question:
    """Edits that are not saved yet."""
    options = (
        Option("save", "w", "save, then leave"),
        Option("drop", "d", "leave and lose them"),
        Option("no", "n", "go on editing"),
    )
    return Question(f"Leave {name}?", [f"{count_text(count, 'change')} not saved."], options)


def differences_dialog(form: FormState) -> Dialog:
    """What differs from the file, and from the shipped profile where that is another text."""
    rows: list[tuple[str, Line, str]] = []
    sides: list[tuple[str, Draft]] = [("the file", form.draft)]
    if form.shipped is not None and form.source.own:
        sides.append(("the shipped profile", form.shipped))
    for words, side in sides:
        changes = differences(side.base, form.draft.data)
        rows.append(("strong", (), f"Against {words}: {count_text(len(changes), 'difference') if changes else 'none'}"))
        rows += [(role, first, text) for first, role, text in difference_rows(changes)]
        rows.append(("text", (), ""))
    return Dialog(f"{form.source.name}: what differs", rows, CLOSE)
