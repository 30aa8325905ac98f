"""Where the value of one field is written or chosen. Enter takes it, escape leaves it as it was."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input

from console.core.profile_form import FormRow, edit_text, literal
from console.core.text import is_secret_name
from console.tui.actions import bindings_for
from console.tui.paint import Line, Span, line, spread
from console.tui.widgets.panel import Panel
from console.tui.widgets.profile_form import FormList, default_text, value_column
from console.tui.widgets.select_list import SelectList

__all__ = ["ChoiceList", "Done", "Field", "FieldInput", "FieldLabel"]

VALUE_CHARS_MAX = 10_000
"""Of one value; the longest shipped description has a few hundred."""
HIDDEN_NOTE = "hidden; stays unless you write another"


class Done(Message):
    """The operator is done with the field."""

    def __init__(self, *, taken: bool) -> None:
        self.taken = taken
        super().__init__()


class FieldLabel(Panel):
    """Which field, and how to write it."""

    name_text = ""
    note = ""

    def paint(self, width: int, height: int) -> list[Line]:
        return [spread(line((self.name_text, "key"), (" =", "muted")), line((self.note, "muted")), width)]


class FieldInput(Input):
    """One line of text."""

    BINDINGS: ClassVar[list[BindingType]] = bindings_for("field")

    def __init__(self, *, id: str) -> None:  # noqa: A002
        super().__init__(id=id, compact=True, max_length=VALUE_CHARS_MAX, select_on_focus=False)

    def action_take(self) -> None:
        """This is the value."""
        self.post_message(Done(taken=True))

    def action_drop(self) -> None:
        """Leave the field as it was."""
        self.post_message(Done(taken=False))


class ChoiceList(SelectList):
    """The values that a field may have; the last one takes it out."""

    BINDINGS: ClassVar[list[BindingType]] = bindings_for("field")

    def __init__(self, *, id: str) -> None:  # noqa: A002
        super().__init__(self._choice_row, "", id=id)
        self._values: list[object] = []
        self._unset = ""

    def open(self, row: FormRow, value: object) -> None:
        """Offer the values of this field, the present one marked; one that is not allowed is offered by nobody."""
        self._values = [*row.choices, None]
        self._unset = f"not set: {default_text(row)}"
        at = next((i for i, each in enumerate(self._values) if repr(each) == repr(value)), 0)
        self.show([str(i) for i in range(len(self._values))], str(at))

    @property
    def value(self) -> object:
        """What is marked; `None` for not set."""
        return self._values[int(self.selected_key or 0)]

    def _choice_row(self, key: str, width: int, chosen: bool) -> Line:
        value = self._values[int(key)]
        text: Span = (self._unset, "muted") if value is None else (literal(value), "text")
        return line(("▸ " if chosen else "  ", "accent"), text)

    def action_take(self) -> None:
        """This one."""
        self.post_message(Done(taken=True))

    def action_drop(self) -> None:
        """Leave the field as it was."""
        self.post_message(Done(taken=False))


class Field(Vertical):
    """What one writes or chooses in, laid over the form at the selected row."""

    def compose(self) -> ComposeResult:
        yield FieldLabel(id="field-label")
        yield FieldInput(id="field-text")
        yield ChoiceList(id="field-choice")

    def open_row(self, row: FormRow, value: object, form: FormList) -> None:
        """For a field of the form: over its value, or its choices below it."""
        choice = self.query_one("#field-choice", ChoiceList)
        if row.choices:
            choice.open(row, value)
        self._open(form, choices=len(row.choices) + 1 if row.choices else 0, text=edit_text(row.key, value))
        hidden = value is not None and is_secret_name(row.name)
        self.query_one("#field-text", FieldInput).placeholder = (
            "hidden; stays unless you write another" if hidden else ""
        )

    def open_new(self, name: str, note: str, form: FormList) -> None:
        """For one that the form has no row for: below the selected row."""
        label = self.query_one("#field-label", FieldLabel)
        label.name_text, label.note = name, note
        self.query_one("#field-text", FieldInput).placeholder = ""
        self._open(form, label=True)
        label.repaint()

    def _open(self, form: FormList, *, choices: int = 0, text: str = "", label: bool = False) -> None:
        entry = self.query_one("#field-text", FieldInput)
        entry.value = text
        entry.cursor_position = len(text)
        entry.display = not choices
        self.query_one("#field-label").display = label
        self.query_one("#field-choice").display = bool(choices)
        self._rows = choices or (2 if label else 1)
        self._over_value = not choices and not label
        self.display = True
        self.place(form)
        (self.query_one("#field-choice") if choices else entry).focus()

    def place(self, form: FormList) -> None:
        """At the selected row of the form: over it, below it, or above it where there is no room below."""
        row = form.row
        if not self._over_value:
            row = row + 1 if row + 1 + self._rows <= form.size.height else max(row - self._rows, 0)
        column = value_column(form.size.width) if self._rows < 2 or not self.query_one("#field-label").display else 4
        inside = self.parent.content_region if isinstance(self.parent, Widget) else form.region
        self.styles.offset = (column, form.region.y - inside.y + row)
        self.styles.width = max(form.size.width - column, 10)
