"""The fields of a profile as a list by section: what is set, what holds otherwise, what is wrong."""

from __future__ import annotations

from collections.abc import Sequence

from console.client.api import Attempt, ProfileSource
from console.core.profile_form import Draft, FormRow, flat, form_rows, found_in, literal, section_about, value_text
from console.core.profile_read import Mistake, ProfileReading
from console.tui.paint import Line, Span, clip, line, rule
from console.tui.widgets.select_list import SelectList

__all__ = ["TITLE", "FormList", "FormState", "default_text", "field_row", "value_column"]

TITLE = "#"
"""Before the key of a row that only opens a section."""
NAME_WIDTH = 27
HELP_WIDTH_MIN = 96
"""From this width on a row has room for what its field means."""
VALUE_WIDTH = 30
VLLM_DECIDES = ("serve", "serve.extra")
"""Sections in which what is not set is left to vLLM."""


class FormState:
    """A profile under edit: the draft, what the reader of files says of it, and which rows are shown."""

    def __init__(self, source: ProfileSource, draft: Draft, shipped: Draft | None) -> None:
        self.source = source
        self.shipped = shipped
        self.draft = draft
        self.trial: Draft | None = None
        """With the value that is being written, before it is taken."""
        self.attempt: Attempt | None = None
        """Of the last draft without mistakes."""
        self.words = ""
        self.only_set = False
        self._first: frozenset[str] = frozenset()
        self.refresh()
        self.arrange()

    @property
    def shown(self) -> Draft:
        """What the screen shows."""
        return self.trial or self.draft

    def refresh(self) -> None:
        """Read the draft again."""
        self.reading: ProfileReading = self.shown.read(self.source.name)
        self.values = flat(self.shown.data)
        self.rows = {row.key: row for row in form_rows(self.shown.data)}
        self.changes = self.shown.changes
        self.changed = frozenset(change.key for change in self.changes)

    def arrange(self) -> None:
        """Put what is set at the head of its section. Rows move only when this is asked for, not at every edit."""
        self._first = frozenset(self.values)

    def keys(self) -> list[str]:
        """The rows to show, a title before each section."""
        out: list[str] = []
        found = [row for row in self.rows.values() if found_in(row, self.words) and self._wanted(row)]
        for section in dict.fromkeys(row.section for row in found):
            here = [row for row in found if row.section == section]
            here.sort(key=lambda row: row.key not in self._first)
            out += [f"{TITLE}{section}", *(row.key for row in here)]
        return out

    def first_key(self) -> str | None:
        """Where to begin: at the first mistake, else at the settings of vLLM."""
        wrong = [key for key in self.rows if self.mistakes(key)]
        settings = [key for key in self.keys() if key.startswith("serve.")]
        return next(iter((*wrong, *settings)), None)

    def _wanted(self, row: FormRow) -> bool:
        return not self.only_set or row.required or row.key in self.values or row.key in self._first

    def mistakes(self, key: str) -> tuple[Mistake, ...]:
        """Those of this field."""
        return tuple(each for each in self.reading.mistakes if each.key == key or each.key.startswith(f"{key}."))


class FormList(SelectList):
    """A list in which titles stand between the rows and are never selected."""

    _before_none: str | None = None
    """What was selected before no row was left."""

    def show(self, keys: Sequence[str], selected: str | None = None) -> None:
        """List these; where the selected row is gone, the one that has come to its place is selected."""
        if selected not in keys and self.selected_key is None and self._before_none in keys:
            selected = self._before_none
        elif selected not in keys and self.selected_key not in keys:
            self._before_none = self.selected_key or self._before_none
            at = self._keys.index(self.selected_key) if self.selected_key in self._keys else 0
            near = [*keys[at:], *reversed(keys[:at])]
            selected = next((key for key in near if not key.startswith(TITLE)), None)
        super().show(keys, selected)

    def paint(self, width: int, height: int) -> list[Line]:
        # The title above the first row stays in sight.
        if self.index == 1:
            self._first = 0
        return super().paint(width, height)

    def action_move(self, step: int) -> None:
        """Select the row `step` further on that is no title."""
        at = min(max(self.index + step, 0), len(self._keys) - 1)
        onward = range(at, len(self._keys)) if step > 0 else range(at, -1, -1)
        back = range(at, -1, -1) if step > 0 else range(at, len(self._keys))
        for place in (*onward, *back):
            if not self._keys[place].startswith(TITLE):
                self.select(self._keys[place])
                return

    def select(self, key: str) -> None:
        """Select this row; a title is none."""
        if not key.startswith(TITLE):
            super().select(key)

    @property
    def row(self) -> int:
        """Where the selected row stands among those in sight."""
        return self.index - self._first

    def section(self, step: int) -> None:
        """Select the first row of the next section, or of the one before."""
        titles = [place for place, key in enumerate(self._keys) if key.startswith(TITLE)]
        now = sum(place < self.index for place in titles) - 1
        if titles:
            self.select(self._keys[titles[min(max(now + step, 0), len(titles) - 1)] + 1])
            self.lift()

    def lift(self) -> None:
        """Show the section of the selected row from its title on, as far as the row stays in sight."""
        titles = [place for place, key in enumerate(self._keys[: self.index]) if key.startswith(TITLE)]
        self._first = titles[-1] if titles else 0
        self.repaint()


def default_text(row: FormRow) -> str:
    """What holds where a field is not set."""
    if row.default is not None:
        return literal(row.default)
    if row.required:
        return "required"
    return "vLLM decides" if row.section in VLLM_DECIDES else "–"


def value_column(width: int) -> int:
    """Where the values of a form begin that is so wide."""
    return min(NAME_WIDTH, max(width // 2 - 4, 12)) + 4


def field_row(form: FormState, key: str, width: int, chosen: bool) -> Line:
    """One row of the form, or the title of a section."""
    if key.startswith(TITLE):
        section = key.removeprefix(TITLE)
        return rule(f"[{section}] {section_about(section)}" if section else section_about(section), width)
    row = form.rows.get(key)
    if row is None:
        return line((f"  {key}", "muted"))
    mark: Span = ("▸ " if chosen else "  ", "accent")
    glyph: Span = ("  ", "text")
    if form.mistakes(key):
        glyph = ("✖ ", "bad")
    elif key in form.changed:
        glyph = ("• ", "accent")
    name_width = value_column(width) - 4
    wide = width >= HELP_WIDTH_MIN
    room = VALUE_WIDTH if wide else width - name_width - 5
    if key in form.values:
        value: Span = (value_text(key, form.values[key]), "strong")
    else:
        value = (default_text(row), "bad" if row.required else "muted")
    spans: list[Span] = [mark, glyph, (f"{clip(row.name, name_width):<{name_width}}", "text" if row.known else "bad")]
    spans.append((f" {clip(value[0], room):<{room}}", value[1]))
    if wide:
        spans.append((f"  {row.help}", "muted"))
    return line(*spans)
