"""A profile as a form: choose a field, write its value, and see at once what is wrong, whether it fits, what runs.

Nothing is written before it is saved; a shipped profile is never written at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container
from textual.widgets import Input

from console.client.api import ProfileSource
from console.core.errors import ConsoleError
from console.core.models import ProfileChange
from console.core.profile_form import ENV, EXTRA, Draft, path_of, read_text
from console.core.text import is_secret_name
from console.tui.actions import bindings_for
from console.tui.background import in_background
from console.tui.clipboard import copy_command
from console.tui.keymap import key_for
from console.tui.paint import Line
from console.tui.screens.editor_questions import differences_dialog
from console.tui.screens.editor_saving import SavingScreen
from console.tui.widgets.detail_scroll import DetailScroll
from console.tui.widgets.field_input import ChoiceList, Done, Field, FieldInput
from console.tui.widgets.filter_input import FilterInput
from console.tui.widgets.form_facts import FormFacts, FormTitle, count_text
from console.tui.widgets.key_bar import KeyBar
from console.tui.widgets.profile_form import FormList, field_row
from console.tui.widgets.select_list import Highlighted

__all__ = ["EditorScreen"]

JUDGE_DELAY_S = 0.15
"""Memory and command are asked for once the typing rests."""
NEW_FIELDS: dict[str, tuple[str, str]] = {
    "flag": (EXTRA, "flag=value, or a switch alone"),
    "variable": (ENV, "NAME=value"),
}
"""What can be added: the table it goes into, and how it is written."""


class EditorScreen(SavingScreen):
    """The form above or at the left, what is known of it below or at the right. Gives the row of what was saved.

    Args:
        source: the file.
        origins: of all profiles there are, to tell what a name would mean.
        kept: changes that were made before and never saved.

    Raises:
        ProfileError: the file is no TOML.
    """

    BINDINGS: ClassVar[list[BindingType]] = bindings_for("editor")
    AUTO_FOCUS = "#fields"
    help_scopes = ("editor", "field", "list", "app")

    def __init__(self, source: ProfileSource, origins: Mapping[str, str], kept: Sequence[ProfileChange] = ()) -> None:
        super().__init__(source, origins)
        self._kept = kept
        self._field = ""
        """What is being edited: a key, or the word of `NEW_FIELDS`."""

    def compose(self) -> ComposeResult:
        yield FormTitle(self.form)
        with Container(id="editor"):
            with Container(id="editor-list"):
                yield FilterInput("#fields", "search fields, their help and flags", id="field-search")
                yield FormList(self._row, "No field matches.", id="fields")
                yield Field(id="field")
            with DetailScroll(id="editor-facts"):
                yield FormFacts(self.form)
        yield KeyBar()

    def on_mount(self) -> None:
        """Show the form."""
        self._show(self.form.first_key())
        self.fields.lift()
        self._take_up()

    def _take_up(self) -> None:
        """Go on where an edit was cut off: its changes are edits like others, so `u` takes them back."""
        draft = self.form.draft
        for change in self._kept:
            draft = draft.put(change.key, change.after)
        if draft.changes:
            self._put(draft, draft.done[-1].change.key)
            words = count_text(len(draft.changes), "change")
            self.notify(
                f"{key_for('editor.undo')} takes them back; leaving without saving forgets them.",
                title=f"{words} from an edit that was cut off",
                markup=False,
            )

    @property
    def fields(self) -> FormList:
        """The form."""
        return self.query_one("#fields", FormList)

    def _row(self, key: str, width: int, chosen: bool) -> Line:
        return field_row(self.form, key, width, chosen)

    def _show(self, key: str | None = None) -> None:
        """Paint everything that a change of the draft, the selection or the view can change."""
        self.form.refresh()
        self.fields.show(self.form.keys(), key)
        self._tell()
        in_background(self, self._judge, "judge")

    def _tell(self) -> None:
        self.query_one("#form-title", FormTitle).repaint()
        facts = self.query_one("#form-facts", FormFacts)
        key = self._edited_key() or self.fields.selected_key or ""
        if facts.selected != key:
            facts.selected = key
            self.query_one("#editor-facts").scroll_home(animate=False)
        facts.repaint()

    async def _judge(self) -> None:
        """Memory and command of the draft; what was known stays until then."""
        await asyncio.sleep(JUDGE_DELAY_S)
        if self.form.reading.profile is None:
            return
        try:
            self.form.attempt = await self.console.backend.attempt(self.form.source.name, self.form.reading.profile)
        except ConsoleError as error:
            self.console.show_problem(error)
        if self.is_attached:
            self._tell()

    def on_highlighted(self, event: Highlighted) -> None:
        """Another field, or another choice."""
        choice = self.query_one("#field-choice", ChoiceList)
        if self._field and choice.display:
            self._try(choice.value)
        elif self._field in self.form.rows and self.fields.selected_key != self._field:
            self._settle()
        self._tell()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Search while typing; judge a value while it is written."""
        if event.input.id == "field-search":
            self.form.words = event.value
            self.form.arrange()
            self.fields.show(self.form.keys())
            event.input.display = bool(event.value) or event.input.has_focus
        elif self._field:
            self._try(self._written()[1])

    def action_search(self) -> None:
        """Open the search."""
        self._settle()
        search = self.query_one("#field-search", Input)
        search.display = True
        search.focus()

    def action_only_set(self) -> None:
        """Only what is set, or all; what is set comes first either way."""
        self._settle()
        self.form.only_set = not self.form.only_set
        self.form.arrange()
        self._show()

    def action_section(self, step: int) -> None:
        """To another section."""
        self.fields.section(step)

    def action_detail(self, step: int) -> None:
        """Scroll the details."""
        self.query_one("#editor-facts", DetailScroll).page(step)

    def action_edit(self) -> None:
        """Open the selected field."""
        if self._field:
            self._focus_field()
            return
        row = self.form.rows.get(self.fields.selected_key or "")
        if row is None:
            return
        if not row.known:
            self.notify(f"No such key; {key_for('editor.unset')} takes it out.", severity="warning", markup=False)
            return
        self._field = row.key
        self.query_one("#field", Field).open_row(row, self.form.values.get(row.key), self.fields)

    def action_add(self, what: str) -> None:
        """Write a flag or a variable that the form has no row for."""
        self._settle()
        self._field = what
        table, note = NEW_FIELDS[what]
        note = f"{note}; {key_for('field.drop')} leaves it"
        self.query_one("#field", Field).open_new(f"[{table}]", note, self.fields)

    def _focus_field(self) -> None:
        self.query_one("#field-choice" if self.query_one("#field-choice").display else "#field-text").focus()

    def on_resize(self) -> None:
        """The open field stays at its row."""
        if self._field:
            self.call_after_refresh(lambda: self.query_one("#field", Field).place(self.fields))

    def _written(self) -> tuple[str, Any]:
        """The key and value of the open field, as far as they are written."""
        text = self.query_one("#field-text", FieldInput).value
        if self._field not in NEW_FIELDS:
            chosen = self.query_one("#field-choice", ChoiceList)
            return self._field, chosen.value if chosen.display else read_text(self._field, text)
        name, equals, value = text.partition("=")
        name = name.strip().lstrip("-")
        if not name:
            return "", None
        key = f"{NEW_FIELDS[self._field][0]}.{name}"
        if self._field == "variable":
            return key, value.strip()
        return key, read_text(key, value) if equals else True

    def _edited_key(self) -> str:
        return self._written()[0] if self._field else ""

    def _try(self, value: Any) -> None:
        """Judge the form with this value in it, without taking it."""
        key = self._edited_key()
        self.form.trial = self.form.draft.put(key, value) if key else None
        self.form.refresh()
        self.fields.repaint()
        self._tell()
        in_background(self, self._judge, "judge")

    def on_done(self, event: Done) -> None:
        """The field is left."""
        self._settle(taken=event.taken)

    def _settle(self, *, taken: bool = True) -> None:
        """Close the open field; what is written in it counts unless it was dropped."""
        if not self._field:
            return
        key, value = self._written()
        secret = bool(key) and is_secret_name(path_of(key)[-1]) and value is None
        self._field = ""
        self.form.trial = None
        self.query_one("#field").display = False
        self.query_one("#field-choice").display = False
        # A hidden value that nothing was written over stays.
        self._put(self.form.draft.put(key, value) if taken and key and not secret else self.form.draft, key)
        self.fields.focus()

    def _put(self, draft: Draft, key: str | None = None) -> None:
        self.form.draft = draft
        self._show(key)
        self.refresh_bindings()
        in_background(self, self.keep, "keep", newest_only=False)

    def action_unset(self) -> None:
        """Take the selected field out."""
        self._settle()
        key = self.fields.selected_key or ""
        if key in self.form.values:
            self._put(self.form.draft.put(key, None))

    def action_undo(self) -> None:
        """Take the last edit back, and show where that was."""
        self._settle()
        if self.form.draft.done:
            self._put(self.form.draft.undo(), self.form.draft.done[-1].change.key)

    def action_redo(self) -> None:
        """Make it again."""
        self._settle()
        if self.form.draft.undone:
            self._put(self.form.draft.redo(), self.form.draft.undone[-1].change.key)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Nothing to take back, nothing to make again."""
        draft = self.form.draft
        return bool({"undo": draft.done, "redo": draft.undone}.get(action, True))

    def action_differ(self) -> None:
        """What differs from the file and from the shipped profile."""
        self._settle()
        self.app.push_screen(differences_dialog(self.form))
        self.console.mind_size()

    def action_copy(self) -> None:
        """Copy the command that comes of the form."""
        self._settle()
        self.ask(self._copy())

    async def _copy(self) -> None:
        profile = self.form.reading.profile
        if profile is None:
            self.notify("There is no command before the mistakes are corrected.", severity="warning", markup=False)
            return
        try:
            attempt = await self.console.backend.attempt(self.form.source.name, profile)
            if attempt.plan is None:
                raise ConsoleError("There is no command", attempt.problem)
            await copy_command(self.console, self.form.source.name, attempt.plan.command_line)
        except ConsoleError as error:
            self.console.show_problem(error)

    def action_save(self, other: bool) -> None:
        """Write the profile, under another name if wanted, and leave."""
        self._settle()
        self.ask(self.save(other))

    def action_clear(self) -> None:
        """Show all fields again; where nothing is searched for, leave."""
        search = self.query_one("#field-search", Input)
        if search.value:
            search.value = ""
        else:
            self.action_leave()

    def action_leave(self) -> None:
        """Back to the profiles."""
        self._settle()
        self.ask(self.leave())
