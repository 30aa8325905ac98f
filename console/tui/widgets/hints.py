"""What to do next: the selected hint like an engineer's sentence, others as there is room, and how many there are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

from textual.binding import BindingType
from textual.message import Message

from console.core.models import Hint, HintState
from console.core.snooze import put_aside
from console.tui import fmt
from console.tui.actions import bindings_for
from console.tui.glyphs import LEVEL_GLYPHS, LEVEL_ROLES
from console.tui.keymap import key_for
from console.tui.model import RunModel
from console.tui.paint import Line, Span, clip, line, pad, rule, spread, wrapped
from console.tui.paint import selected as select_row
from console.tui.widgets.failure import change_text
from console.tui.widgets.panel import Panel

__all__ = ["Hints", "HintsApply", "HintsExplain", "HintsSnooze", "hint_lines", "ordered"]

NONE_ASIDE: Mapping[str, str] = {}
ROWS_WITHOUT_GPUS = 2
"""The table of GPUs leaves its room."""


class HintsExplain(Message):
    """The operator wants all of this hint."""

    def __init__(self, hint: Hint) -> None:
        self.hint = hint
        super().__init__()


class HintsApply(Message):
    """The operator wants the change of this hint tried."""

    def __init__(self, hint: Hint) -> None:
        self.hint = hint
        super().__init__()


class HintsSnooze(Message):
    """The operator wants this hint put aside, or shown again."""

    def __init__(self, hint: Hint) -> None:
        self.hint = hint
        super().__init__()


def ordered(hints: Iterable[Hint]) -> list[Hint]:
    """Those that fire first, in the order that the rules give."""
    return sorted(hints, key=lambda h: h.state is not HintState.FIRING)


def _title(hint: Hint, selected: bool, width: int, aside: str = "") -> Line:
    if aside:
        return spread(
            line(("◌ ", "muted"), (hint.title, "text" if selected else "muted")), line((aside, "muted")), width
        )
    if hint.state is HintState.UNJUDGED:
        text = f"{hint.title}: needs {hint.missing or 'more figures'}"
        return line(("○ ", "muted"), (clip(text, width - 2), "text" if selected else "muted"))
    head: list[Span] = [
        (f"{LEVEL_GLYPHS[hint.level]} ", LEVEL_ROLES[hint.level]),
        (hint.title, "strong" if selected else "text"),
    ]
    held = ((fmt.duration(hint.held_s), "muted"),) if hint.held_s else ()
    return spread(line(*head), held, width)


def _detail(hint: Hint, width: int, rows: int) -> list[Line]:
    """Evidence, change, gain and risk; with little room a line of evidence and one of what to do."""
    if hint.state is HintState.UNJUDGED:
        return []
    indent: Line = (("  ", "text"),)
    change = change_text(hint.change)
    seen = " ".join(hint.evidence)
    act = ": ".join(part for part in (change, hint.gain) if part)
    full = [row for text in hint.evidence for row in wrapped(text, width, "text", indent)]
    full += wrapped(act, width, "accent", indent) if act else []
    full += wrapped(f"Risk: {hint.risk}", width, "muted", indent) if hint.risk else []
    if len(full) <= rows or rows < 1:
        return full[: max(rows, 0)]
    least = 1 if act and rows > 1 else 0
    evidence = wrapped(seen, width, "text", indent)
    if len(evidence) > rows - least:
        evidence = evidence[: rows - least]
        shown = "".join(text for text, _ in evidence[-1]).rstrip()
        evidence[-1] = ((clip(shown + " …" if len(shown) < width - 2 else shown + "…", width), "text"),)
    rest = rows - len(evidence)
    doing = wrapped(act, width, "accent", indent) if act else []
    if len(doing) > rest:
        doing = [line((clip("  " + act, width), "accent"))][:rest]
    return [*evidence, *doing]


def hint_lines(
    hints: list[Hint], selected: int, width: int, rows: int, focused: bool, aside: Mapping[str, str] = NONE_ASIDE
) -> list[Line]:
    """At most `rows` lines: the selected hint with its details, then the titles of others, then their details too.

    `aside` says of a hint that is snoozed for how long, by its id.
    """
    if not hints:
        return [line(("● ", "ok"), ("Nothing to change: no rule has anything to say.", "muted"))]
    selected = min(max(selected, 0), len(hints) - 1)
    others = len(hints) - 1
    wanted = len(_detail(hints[selected], width, 1000))
    titles = 1 + max(min(others, rows - 1 - wanted), 0)
    details = {selected: _detail(hints[selected], width, rows - titles)}
    spare = rows - titles - len(details[selected])
    for i in range(len(hints) if titles == len(hints) else 0):
        detail = _detail(hints[i], width, 1000)
        if i != selected and len(detail) <= spare:
            details[i] = detail
            spare -= len(detail)
    first = min(max(selected - titles // 2, 0), len(hints) - titles)
    out: list[Line] = []
    for i in range(first, first + titles):
        chosen = i == selected
        row = _title(hints[i], chosen, width, aside.get(hints[i].id, ""))
        if chosen and focused:
            row = select_row(pad(row, width))
        out.append(row)
        out += details.get(i, [])
    return out[:rows]


class Hints(Panel, can_focus=True):
    """The hints of the newest snapshot; arrows choose one."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings_for("list"), *bindings_for("hints")]
    model: RunModel | None = None
    all = False
    """Whether those that are put aside are listed too."""
    _selected_id = ""

    def show(self, model: RunModel) -> None:
        """Show this run's hints; the selected one stays selected while others come and go."""
        self.model = model
        self.repaint()

    @property
    def hints(self) -> list[Hint]:
        """What is listed: what is put aside comes last, and only if it was asked for."""
        hints = ordered(self.model.snapshot.hints) if self.model and self.model.snapshot else []
        aside = self.aside
        return [h for h in hints if h.id not in aside] + [h for h in hints if self.all and h.id in aside]

    @property
    def aside(self) -> dict[str, str]:
        """Of each hint that is snoozed, by its id, for how long."""
        model = self.model
        if model is None or model.snapshot is None:
            return {}
        found = ((hint.id, model.snoozed(hint)) for hint in model.snapshot.hints)
        return {name: put_aside(snooze, model.now) for name, snooze in found if snooze is not None}

    @property
    def selected(self) -> int:
        """Index of the selected hint."""
        return next((i for i, h in enumerate(self.hints) if h.id == self._selected_id), 0)

    def paint(self, width: int, height: int) -> list[Line]:
        if self.model is None:
            return []
        hints, aside = self.hints, self.aside
        firing = sum(h.state is HintState.FIRING and h.id not in aside for h in hints)
        note: list[Span] = [(f"{len(aside)} snoozed", "muted")] if aside else []
        if len(hints) > 1:
            note.append((("  " if note else "") + f"{self.selected + 1} of {len(hints)}", "muted"))
        title = f"Hints {firing}" if firing else "Hints"
        screen = self.app.size.height
        rows = (height - 1) if height else (2 if screen < 24 else 3 if screen < 30 else 4 if screen < 40 else 14)
        if not (self.model.snapshot and self.model.snapshot.gpus):
            rows += 0 if height else ROWS_WITHOUT_GPUS
        if not hints or not firing:
            rows = min(rows, max(len(hints), 1)) if height or self.all else 1
        if self.model.snapshot is not None and self.model.snapshot.engine is None:
            return [rule("Hints", width), line(("○ ", "muted"), ("no figures of the engine to judge", "muted"))]
        if aside and not hints:
            lists = f"{key_for('dashboard.hints')}, then {key_for('hints.snoozed')} lists"
            body = [line(("◌ ", "muted"), (f"{len(aside)} snoozed, nothing else to say: {lists}", "muted"))]
        else:
            body = hint_lines(hints, self.selected, width, rows, self.has_focus, aside)
        return [rule(title, width, line(*note)), *(pad(row, width) for row in body)]

    def action_move(self, step: int) -> None:
        """Select the next or previous hint."""
        hints = self.hints
        if hints:
            self._selected_id = hints[min(max(self.selected + step, 0), len(hints) - 1)].id
            self.repaint()
            self.refresh_bindings()

    def action_edge(self, side: int) -> None:
        """Select the first or the last hint."""
        self.action_move(side * len(self.hints))

    def action_explain(self) -> None:
        """Ask for all of the selected hint."""
        if self.hints:
            self.post_message(HintsExplain(self.hints[self.selected]))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only what proposes a change can be applied, and only what is listed put aside."""
        hints = self.hints
        hint = hints[self.selected] if hints else None
        if action == "apply":
            return hint is not None and hint.state is HintState.FIRING and bool(hint.change)
        if action == "snoozed":
            return bool(self.aside) or self.all
        return hint is not None if action in ("snooze", "explain") else True

    def action_snooze(self) -> None:
        """Put the selected hint aside, or show it again."""
        if self.hints:
            self.post_message(HintsSnooze(self.hints[self.selected]))

    def action_snoozed(self) -> None:
        """List those that are put aside too, or not."""
        self.all = not self.all
        if self.all:
            self._selected_id = next(iter(self.aside), self._selected_id)  # they come last, out of sight of few rows
        self.repaint()
        self.refresh_bindings()

    def action_apply(self) -> None:
        """Ask for a trial of the selected hint's change."""
        self.post_message(HintsApply(self.hints[self.selected]))

    def on_focus(self) -> None:
        """Show which one is selected."""
        self.repaint()

    def on_blur(self) -> None:
        """Show that keys go elsewhere."""
        self.repaint()
