"""What to do next: the selected hint like an engineer's sentence, and how many others there are."""

from __future__ import annotations

from textual.binding import BindingType
from textual.message import Message

from console.core.models import Hint, HintState
from console.tui import fmt
from console.tui.actions import bindings_for
from console.tui.glyphs import LEVEL_GLYPHS, LEVEL_ROLES
from console.tui.model import RunModel
from console.tui.paint import Line, Span, clip, line, pad, rule, spread, wrapped
from console.tui.paint import selected as select_row
from console.tui.widgets.failure import change_text
from console.tui.widgets.panel import Panel

__all__ = ["Hints", "HintsExplain", "hint_lines", "ordered"]


class HintsExplain(Message):
    """The operator wants all of this hint."""

    def __init__(self, hint: Hint) -> None:
        self.hint = hint
        super().__init__()


def ordered(hints: tuple[Hint, ...]) -> list[Hint]:
    """Those that fire first, in the order that the rules give."""
    return sorted(hints, key=lambda h: h.state is not HintState.FIRING)


def _title(hint: Hint, selected: bool, width: int) -> Line:
    if hint.state is HintState.UNJUDGED:
        text = f"{hint.title}: needs {hint.missing or 'more figures'}"
        return line(("○ ", "muted"), (clip(text, width - 2), "text" if selected else "muted"))
    head: list[Span] = [
        (f"{LEVEL_GLYPHS[hint.level]} ", LEVEL_ROLES[hint.level]),
        (hint.title, "strong" if selected else "text"),
    ]
    held = ((fmt.duration(hint.held_s), "muted"),) if hint.held_s else ()
    return spread(line(*head), held, width)


def _detail(hint: Hint, width: int) -> list[Line]:
    indent: Line = (("  ", "text"),)
    if hint.state is HintState.UNJUDGED:
        return []
    out: list[Line] = []
    change = change_text(hint.change)
    if change:
        out += wrapped(change, width, "accent", indent)
    for sentence in hint.evidence:
        out += wrapped(sentence, width, "text", indent)
    if hint.gain:
        out += wrapped(f"Gain: {hint.gain}", width, "text", indent)
    if hint.risk:
        out += wrapped(f"Risk: {hint.risk}", width, "muted", indent)
    return out


def hint_lines(hints: list[Hint], selected: int, width: int, rows: int, focused: bool) -> list[Line]:
    """At most `rows` lines: the selected hint with its details first of all, the titles of others as they fit."""
    if not hints:
        return [line(("● ", "ok"), ("Nothing to change: no rule has anything to say.", "muted"))]
    selected = min(max(selected, 0), len(hints) - 1)
    detail = _detail(hints[selected], width)
    titles = max(min(len(hints), rows - min(len(detail), max(rows - 1, 0))), 1)
    first = min(max(selected - titles // 2, 0), len(hints) - titles)
    out: list[Line] = []
    for i in range(first, first + titles):
        chosen = i == selected
        row = _title(hints[i], chosen, width)
        if chosen and focused:
            row = select_row(pad(row, width))
        out.append(row)
        if chosen:
            out += detail[: max(rows - titles, 0)]
    return out[:rows]


class Hints(Panel, can_focus=True):
    """The hints of the newest snapshot; arrows choose one."""

    BINDINGS: list[BindingType] = [*bindings_for("list"), *bindings_for("hints")]
    model: RunModel | None = None
    _selected_id = ""

    def show(self, model: RunModel) -> None:
        """Show this run's hints; the selected one stays selected while others come and go."""
        self.model = model
        self.repaint()

    @property
    def hints(self) -> list[Hint]:
        """What is listed."""
        return ordered(self.model.snapshot.hints) if self.model and self.model.snapshot else []

    @property
    def selected(self) -> int:
        """Index of the selected hint."""
        return next((i for i, h in enumerate(self.hints) if h.id == self._selected_id), 0)

    def paint(self, width: int, height: int) -> list[Line]:
        hints = self.hints
        firing = sum(h.state is HintState.FIRING for h in hints)
        note: list[Span] = []
        if len(hints) > 1:
            note = [(f"{self.selected + 1} of {len(hints)}", "muted")]
        title = f"Hints {firing}" if firing else "Hints"
        screen = self.app.size.height
        rows = (height - 1) if height else (2 if screen < 24 else 3 if screen < 30 else 5 if screen < 40 else 8)
        if not hints or not firing:
            rows = min(rows, max(len(hints), 1)) if height else 1
        body = hint_lines(hints, self.selected, width, rows, self.has_focus)
        return [rule(title, width, line(*note)), *(pad(row, width) for row in body)]

    def action_move(self, step: int) -> None:
        """Select the next or previous hint."""
        hints = self.hints
        if hints:
            self._selected_id = hints[min(max(self.selected + step, 0), len(hints) - 1)].id
            self.repaint()

    def action_edge(self, side: int) -> None:
        """Select the first or the last hint."""
        self.action_move(side * len(self.hints))

    def action_explain(self) -> None:
        """Ask for all of the selected hint."""
        if self.hints:
            self.post_message(HintsExplain(self.hints[self.selected]))

    def on_focus(self) -> None:
        """Show which one is selected."""
        self.repaint()

    def on_blur(self) -> None:
        """Show that keys go elsewhere."""
        self.repaint()
