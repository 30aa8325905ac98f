"""Questions, messages and help over the screen below. Every choice has a letter; enter takes the marked one.

A question about something that cannot be undone is a `Confirm`: text that was meant for somewhere else never says yes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.events import Key
from textual.screen import ModalScreen
from textual.timer import Timer

from console.core.errors import ConsoleError
from console.core.hints import explain_rules
from console.core.hints.page import times_text
from console.core.models import Hint, HintState, ProfileChange
from console.protocol import RunInfo
from console.tui import fmt
from console.tui.actions import bindings_for, help_rows
from console.tui.glyphs import LEVEL_GLYPHS, LEVEL_ROLES
from console.tui.keymap import key_for
from console.tui.paint import BLANK, Line, clip, line, wrapped
from console.tui.widgets.failure import change_text, value_text
from console.tui.widgets.panel import Panel
from console.tui.widgets.select_list import SelectList

__all__ = [
    "CONFIRM_REST_S",
    "KEEP",
    "ChooseRun",
    "Confirm",
    "Dialog",
    "Option",
    "Question",
    "change_dialog",
    "help_dialog",
    "hint_dialog",
    "problem_dialog",
    "trial_dialog",
]


CONFIRM_REST_S = 0.3
"""Longer than the gap between two letters of somebody who types, shorter than a wait."""


KEEP = "keep"
"""The answer that also writes a change to the profile."""
BOX_WIDTH, BOX_SHARE = 76, 0.96
"""As in `dialogs.tcss`: columns of a dialog, and the most that it takes of the screen."""
FRAME_COLUMNS, FRAME_ROWS = 6, 4
"""Border and padding; border and the margins of the text."""
BODY_ROWS_MIN, BODY_ROWS_MAX = 3, 30


@dataclass(frozen=True, slots=True)
class Option:
    """One answer to a question."""

    value: str
    key: str
    label: str


class Sheet(Panel):
    """Lines that were painted by somebody else for a width."""

    def __init__(self, lines: Sequence[tuple[str, Line, str]]) -> None:
        super().__init__()
        self._rows = lines

    def paint(self, width: int, height: int) -> list[Line]:
        return [
            row
            for role, first, text in self._rows
            for row in (wrapped(text, width, role, first) if text or first else [BLANK])
        ]


class Choices(Panel):
    """The answers, the selected one marked."""

    def __init__(self, options: Sequence[Option]) -> None:
        super().__init__(id="choices")
        self.options = options
        self.index = 0

    def paint(self, width: int, height: int) -> list[Line]:
        out = []
        for i, option in enumerate(self.options):
            chosen = i == self.index
            mark = ("▸ ", "accent") if chosen else ("  ", "text")
            hint = ("   enter" if chosen else "", "muted")
            out.append(line(mark, (option.key, "key"), (f"  {option.label}", "strong" if chosen else "text"), hint))
        return out


class Dialog(ModalScreen[str]):
    """A title, a text and answers. Gives the value of the answer; escape gives that of the last one."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "take", show=False),
        Binding("escape", "cancel", show=False),
        Binding("up,left,shift+tab", "move(-1)", show=False),
        Binding("down,right,tab", "move(1)", show=False),
        Binding("pagedown", "page(1)", show=False),
        Binding("pageup", "page(-1)", show=False),
    ]

    def __init__(
        self, title: str, rows: Sequence[tuple[str, Line, str]], options: Sequence[Option], role: str = "strong"
    ) -> None:
        super().__init__()
        self._title = title
        self._role = role
        self._rows = rows
        self._options = options

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog"):
            yield Sheet([(self._role, (), self._title)])
            with VerticalScroll(id="dialog-body", can_focus=False):
                yield Sheet(self._rows)
            yield Choices(self._options)

    def on_resize(self) -> None:
        """The answers stay in sight: a text that is too long for the screen scrolls above them."""
        width = int(min(BOX_WIDTH, self.size.width * BOX_SHARE)) - FRAME_COLUMNS
        title = len(wrapped(self._title, max(width, 1)))
        room = int(self.size.height * BOX_SHARE) - FRAME_ROWS - title - len(self._options)
        self.query_one("#dialog-body").styles.max_height = min(BODY_ROWS_MAX, max(BODY_ROWS_MIN, room))

    def on_key(self, event: Key) -> None:
        """A letter is an answer."""
        for option in self._options:
            if event.character is not None and event.character == option.key:
                event.stop()
                self.dismiss(option.value)
                return

    def action_take(self) -> None:
        """The marked answer."""
        self.dismiss(self._options[self.query_one(Choices).index].value)

    def action_cancel(self) -> None:
        """The last answer is always the harmless one."""
        self.dismiss(self._options[-1].value)

    def action_move(self, step: int) -> None:
        """Mark another answer, or scroll where there is only one."""
        choices = self.query_one(Choices)
        if len(self._options) == 1:
            body = self.query_one("#dialog-body")
            body.scroll_relative(y=step, animate=False)
            return
        choices.index = (choices.index + step) % len(self._options)
        choices.repaint()

    def action_page(self, step: int) -> None:
        """Scroll the text."""
        body = self.query_one("#dialog-body")
        body.scroll_relative(y=step * max(body.size.height - 1, 1), animate=False)


class Question(Dialog):
    """A question with plain sentences under it."""

    def __init__(self, title: str, sentences: Sequence[str], options: Sequence[Option]) -> None:
        super().__init__(title, [("text", (), sentence) for sentence in sentences], options)


class Confirm(Dialog):
    """A question before something that destroys. Gives `yes` or `no`; enter, escape and any other key mean no.

    `y` counts once no other key follows it: the `y` of a word that was typed into the wrong pane does not.
    """

    def __init__(self, title: str, sentences: Sequence[str], yes: str, no: str) -> None:
        options = (Option("no", "n", no), Option("yes", "y", yes))
        super().__init__(title, [("text", (), sentence) for sentence in sentences], options)
        self._resting: Timer | None = None

    def on_key(self, event: Key) -> None:
        """Only `y` alone, or enter on the marked yes, is a yes."""
        event.prevent_default()
        if self._resting is not None or (event.is_printable and event.character != "y"):
            event.stop()
            self.action_cancel()
        elif event.character == "y":
            event.stop()
            self._resting = self.set_timer(CONFIRM_REST_S, self._agree)

    def _agree(self) -> None:
        self.dismiss("yes")

    def action_cancel(self) -> None:
        """Nothing happens."""
        if self._resting is not None:
            self._resting.stop()
        self.dismiss("no")


CLOSE = (Option("close", "q", "close"),)


def problem_dialog(error: ConsoleError) -> Dialog:
    """What happened, where, and what to do."""
    rows: list[tuple[str, Line, str]] = [("text", (), error.message)] if error.message else []
    if error.fix:
        rows += [("text", (), ""), ("ok", (("Remedy  ", "muted"),), error.fix)]
    return Dialog(f"✖ {error.title}", rows, CLOSE, role="bad")


def hint_dialog(hint: Hint) -> Dialog:
    """All of one hint."""
    rows: list[tuple[str, Line, str]] = []
    if hint.state is HintState.UNJUDGED:
        rows.append(("text", (("Missing  ", "muted"),), hint.missing or "figures that this rule needs"))
        rows += rule_rows(hint)
        return Dialog(f"○ {hint.title}", rows, CLOSE)
    rows += [("text", ((f"{'Seen' if i == 0 else '':<9}", "muted"),), text) for i, text in enumerate(hint.evidence)]
    if hint.held_s:
        rows.append(("text", (("For      ", "muted"),), fmt.duration(hint.held_s)))
    for change in hint.change:
        rows.append(("accent", (("Change   ", "muted"),), change_text((change,))))
    rows += [("ok", (("Gain     ", "muted"),), hint.gain)] if hint.gain else []
    rows += [("warn", (("Risk     ", "muted"),), hint.risk)] if hint.risk else []
    if hint.change:
        settings = " ".join(f"--set {c.key}={value_text(c.after)}" for c in hint.change if c.after is not None)
        if settings:
            applies = f"{key_for('hints.apply')} on the hint applies and measures it;"
            rows += [("text", (), ""), ("muted", (("Try it   ", "muted"),), applies)]
            rows.append(("muted", (("         ", "muted"),), f"or launch with {settings}"))
    rows += rule_rows(hint)
    return Dialog(f"{LEVEL_GLYPHS[hint.level]} {hint.title}", rows, CLOSE, role=LEVEL_ROLES[hint.level])


def rule_rows(hint: Hint) -> list[tuple[str, Line, str]]:
    """What the rule behind a hint looks at, its times, and where to read on."""
    rule = next((rule for rule in explain_rules() if rule.id == hint.id), None)
    fields = [] if rule is None else [("Rule", rule.looks_at), ("Times", times_text(rule))]
    rows: list[tuple[str, Line, str]] = [("text", (), "")] if fields or hint.doc else []
    rows += [("muted", ((f"{label:<9}", "muted"),), text) for label, text in fields]
    if hint.doc:
        rows.append(("muted", (), hint.doc))  # on a line of its own, so that it can be copied whole
    return rows


def change_dialog(name: str, change: Sequence[ProfileChange], warnings: Sequence[str]) -> Dialog:
    """A profile change as a difference, and whether to start with it."""
    rows = _difference(change)
    rows.append(("text", (), ""))
    rows += [("warn", (), warning) for warning in warnings]
    rows.append(("text", (), "All other settings stay as they were in this run."))
    options = (
        Option("once", "y", "start with it"),
        Option(KEEP, "w", "start with it, and write it to my profile"),
        Option("no", "n", "not now"),
    )
    return Dialog(f"Start {name} again with this change?", rows, options)


def trial_dialog(name: str, change: Sequence[ProfileChange], consequence: str) -> Dialog:
    """A profile change as a difference, and whether to try it on the server that runs."""
    rows = _difference(change)
    rows += [
        ("text", (), ""),
        (
            "text",
            (),
            "Measures what serves now, restarts with the change after the requests in flight, and measures "
            "again. Then you keep it, also in your profile, or take it back. If anything ends this console meanwhile, "
            "what serves now serves again.",
        ),
        ("warn", (), consequence),
    ]
    return Dialog(
        f"Try this change on {name}?", rows, (Option("yes", "y", "try and measure it"), Option("no", "n", "not now"))
    )


def _difference(change: Sequence[ProfileChange]) -> list[tuple[str, Line, str]]:
    rows: list[tuple[str, Line, str]] = []
    for item in change:
        for mark, role, value in (("- ", "bad", item.before), ("+ ", "ok", item.after)):
            if value is not None:
                rows.append((role, ((mark, role),), f"{item.key} = {value_text(value)}"))
        if item.after is None:
            rows.append(("muted", (("  ", "muted"),), f"{item.key} is left to vLLM"))
    return rows


def help_dialog(scopes: tuple[str, ...], keys: Mapping[str, str]) -> Dialog:
    """The keys of these scopes, from the table of actions and the operator's own."""
    rows: list[tuple[str, Line, str]] = []
    for title, lines in help_rows(scopes, keys):
        rows += [("strong", (), title)]
        rows += [("text", (("  ", "text"), (f"{clip(key, 14):<15}", "key")), text) for key, text in lines]
        rows.append(("text", (), ""))
    rows.append(
        ("muted", (), "Figures that are not known are shown as –. A source that does not answer says since when.")
    )
    return Dialog("Keys", rows, CLOSE)


class RunList(SelectList):
    """Enter belongs to the dialog."""


class ChooseRun(ModalScreen[str | None]):
    """Several servers run: which one?"""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "take", show=False),
        Binding("escape,q,p", "cancel", show=False),
        *bindings_for("list"),
    ]

    def __init__(self, runs: Sequence[RunInfo], now_s: float) -> None:
        super().__init__()
        self._runs = {run.id: run for run in runs}
        self._now_s = now_s

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog"):
            yield Sheet([("strong", (), "Attach to which server?")])
            yield RunList(self._row, "Nothing is running.", id="runs")
            yield Sheet([("muted", (), "enter attach · esc or p profiles")])

    def on_mount(self) -> None:
        """Newest first, as the backend gives them."""
        runs = self.query_one(RunList)
        runs.show(list(self._runs))
        runs.focus()

    def _row(self, key: str, width: int, chosen: bool) -> Line:
        run = self._runs[key]
        age = fmt.duration(self._now_s - run.created_s) if run.created_s else ""
        return line(
            ("▸ " if chosen else "  ", "accent"),
            (f"{clip(run.profile_name, 26):<27}", "strong"),
            (f"{run.state:<10}", "text"),
            (f"{age:>7}  {run.url}", "muted"),
        )

    def action_take(self) -> None:
        """This one."""
        self.dismiss(self.query_one(RunList).selected_key)

    def action_cancel(self) -> None:
        """None of them: to the profiles."""
        self.dismiss(None)
