"""What stands around the form: state and memory above it; help, mistakes, command and changes below or beside it."""

from __future__ import annotations

from collections.abc import Sequence

from console.core.models import ProfileChange
from console.core.profile_form import FormRow, flat, value_text
from console.tui.keymap import key_for
from console.tui.paint import BLANK, Line, Span, cut, labelled, line, plain, rule, spread, wrapped
from console.tui.widgets.fit_bar import BAR_WIDTH, bar_line, fit_lines
from console.tui.widgets.panel import Panel
from console.tui.widgets.profile_form import FormState, default_text
from console.tui.widgets.profile_list import NOT_HERE

__all__ = ["FormFacts", "FormTitle", "count_text", "difference_rows", "ownership"]

LABEL_WIDTH = 10


def count_text(count: int, noun: str) -> str:
    """`1 change`, `2 changes`."""
    return f"{count} {noun}{'s' * (count != 1)}"


def ownership(form: FormState) -> str:
    """Whose file it is, and what saving does."""
    source = form.source
    if not source.own:
        return "shipped; saving makes one of your own"
    return "yours, in place of the shipped one" if source.shipped else "yours"


class FormTitle(Panel):
    """Three lines: what is edited and its state; whether it fits; the bar."""

    def __init__(self, form: FormState) -> None:
        super().__init__(id="form-title")
        self._form = form

    def paint(self, width: int, height: int) -> list[Line]:
        form = self._form
        wrong, changes = len(form.reading.mistakes), len(form.changes)
        state: list[Span] = [(f"{count_text(changes, 'change')}  ", "accent")] if changes else []
        state.append((f"✖ {count_text(wrong, 'mistake')}", "bad") if wrong else ("● no mistakes", "ok"))
        head = line(("Edit ", "muted"), (form.source.name, "strong"), (f"  {ownership(form)}", "muted"))
        out = [spread(head, line(*state), width)]
        if form.attempt is None:
            return [*out, line(("○ memory is judged once there are no mistakes", "muted") if wrong else ("…", "muted"))]
        entry = form.attempt.entry
        here = entry.suitability.rank < NOT_HERE
        judged = fit_lines(entry.fit, width, entry.profile.hardware.text, here)[0]
        if wrong:
            judged = line(("○ before the mistakes: ", "muted"), (plain(judged), "muted"))
        return [*out, cut(judged, width), bar_line(entry.fit, min(width, BAR_WIDTH))]


class FormFacts(Panel):
    """The selected field, then the profile as a whole."""

    def __init__(self, form: FormState) -> None:
        super().__init__(id="form-facts")
        self._form = form
        self.selected = ""

    def paint(self, width: int, height: int) -> list[Line]:
        form = self._form
        row = form.rows.get(self.selected)
        out = field_lines(form, row, width) if row is not None else []
        own = form.mistakes(self.selected)
        others = [each for each in form.reading.mistakes if each not in own]
        if others:
            out += [BLANK, rule("Mistakes elsewhere" if own else "Mistakes", width)]
            for mistake in others:
                out += wrapped(mistake.text, width, "text", (("✖ ", "bad"),))
        warnings = [text.partition(": ")[2] for text in form.reading.warnings]
        attempt = form.attempt
        if attempt is not None:
            entry = attempt.entry
            here = entry.suitability.rank < NOT_HERE
            note = line(("before the mistakes", "warn")) if form.reading.mistakes else BLANK
            out += [BLANK, rule("Memory per GPU", width, note), *wrapped(entry.suitability.text, width)]
            out += fit_lines(entry.fit, width, entry.profile.hardware.text, here)
            out += [BLANK, rule("Command", width, note or line((f"{key_for('editor.copy')} copies", "muted")))]
            if attempt.plan is not None:
                warnings += attempt.plan.warnings
                out += wrapped(attempt.plan.command_line, width, "code")
            out += wrapped(attempt.problem, width, "bad", (("✖ ", "bad"),)) if attempt.problem else []
        for warning in dict.fromkeys(warnings):
            out += wrapped(warning, width, "warn", (("▲ ", "warn"),))
        if form.changes:
            out += [BLANK, rule("Not saved yet", width)]
            for first, role, text in difference_rows(form.changes):
                out += wrapped(text, width, role, first)
        return out


def field_lines(form: FormState, row: FormRow, width: int) -> list[Line]:
    """All about one field."""
    out = [spread(line((row.key, "strong")), line((row.flag, "code")), width)]
    for mistake in form.mistakes(row.key):
        out += wrapped(mistake.text.removeprefix(f"{row.key}: "), width, "bad", (("✖ ", "bad"),))
    if row.help:
        out += wrapped(f"{row.help[:1].upper()}{row.help[1:]}.", width)
    value = form.values.get(row.key)
    before, shipped = flat(form.shown.base).get(row.key), None
    if form.shipped is not None:
        shipped = flat(form.shipped.data).get(row.key)
    rows: list[tuple[str, str, str]] = [("Allowed", row.allowed, "text")]
    if value is not None and len(value_text(row.key, value)) > width // 2:
        rows.insert(0, ("Value", value_text(row.key, value), "text"))
    if not row.own:
        rows.append(("Default", default_text(row), "text"))
    if row.key in form.changed:
        rows.append(("In file", "–" if before is None else value_text(row.key, before), "accent"))
    if form.source.own and form.shipped is not None and shipped != value:
        rows.append(("Shipped", "–" if shipped is None else value_text(row.key, shipped), "accent"))
    return out + labelled(rows, width, LABEL_WIDTH)


def difference_rows(changes: Sequence[ProfileChange]) -> list[tuple[Line, str, str]]:
    """Label, role and text of each line of a difference."""
    out: list[tuple[Line, str, str]] = []
    for change in sorted(changes, key=lambda each: each.key):
        for mark, role, value in (("- ", "bad", change.before), ("+ ", "ok", change.after)):
            if value is not None:
                out.append((((mark, role),), role, f"{change.key} = {value_text(change.key, value)}"))
    return out
