"""The card over the log once a server is gone: what happened, why, what to do, and where it stands in the log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from console.core.diagnosis import quoted
from console.core.models import OVER_STATES, Diagnosis, ProfileChange, ServerState
from console.io.paths import runs_dir
from console.tui.fmt import home_short
from console.tui.glyphs import STATE_GLYPHS, STATE_ROLES, safe
from console.tui.keymap import key_for, keys_for
from console.tui.model import RunModel
from console.tui.paint import Line, labelled, line, rule, wrap
from console.tui.widgets.panel import Panel

__all__ = ["CAUSE_LINES_MAX", "Failure", "change_text", "value_text"]

CAUSE_LINES_MAX = 4
QUIT = ("app.quit", "quit")
"""Of the text that the diagnosis rests on; the log has the rest."""
_FORMS = ((CAUSE_LINES_MAX, True), (CAUSE_LINES_MAX, False), (2, False), (1, False))
"""Lines of the cause, and whether to say why: what gives way on a small screen, step by step."""


def value_text(value: Any) -> str:
    """A profile value as TOML would show it; unset is `unset`."""
    if value is None:
        return "unset"
    return str(value).lower() if isinstance(value, bool) else str(value)


def change_text(change: Sequence[ProfileChange]) -> str:
    """`serve.max_num_seqs 32 → 64`, several separated by commas."""
    return ", ".join(f"{c.key} {value_text(c.before)} → {value_text(c.after)}" for c in change)


def _exit_text(code: int | None) -> str:
    if code is None:
        return ""
    return f"signal {-code}" if code < 0 else f"exit code {code}"


class Failure(Panel):
    """Shown in the states stopped, failed and crashed."""

    model: RunModel | None = None
    rows_max: int | None = None

    def show(self, model: RunModel, rows_max: int) -> None:
        """Show how this run ended, in at most so many rows as far as that can be."""
        self.model = model
        self.rows_max = rows_max
        self.repaint()

    def paint(self, width: int, height: int) -> list[Line]:
        model = self.model
        if model is None or model.snapshot is None or model.state not in OVER_STATES:
            return []
        status = model.snapshot.status
        state = status.state
        there = getattr(model.session, "log_there", None)
        log = safe(there) if there else home_short(runs_dir() / model.run.id / "server.log")
        if model.player is not None:
            log = ""
        exit_text = _exit_text(status.exit_code)
        after = (
            "Next",
            keys_for(("dashboard.restart", "start again"), ("dashboard.profiles", "profiles"), QUIT),
            "text",
        )
        if model.planned:
            retry = keys_for(("dashboard.restart", "retry now"), ("dashboard.stop", "give up"))
            after = ("Next", f"{model.planned} · {retry}", "warn")
        if model.player is not None:
            planned = f"{model.planned} · " if model.planned else ""
            back = keys_for(("replay.back", "30 seconds back"), ("replay.begin", "from the start"), QUIT)
            after = ("Next", f"{planned}{back}", "text")
        if state is ServerState.STOPPED:
            head = status.reason or "The server was stopped."
            out = [rule("Stopped", width, line((exit_text, "muted"))), line(("■ ", "muted"), (head, "strong"))]
            return [*out, *labelled((after, ("File", log, "muted")), width, 8)]
        found = status.diagnosis
        title = found.title if found else status.reason or "The server ended without saying why"
        where = "while starting" if state is ServerState.FAILED else "after it was ready"
        out = [rule(f"{state.capitalize()} {where}", width, line((exit_text, "muted")))]
        out.append(line((f"{STATE_GLYPHS[state]} ", STATE_ROLES[state]), (wrap(title, width - 2)[0], "strong")))
        end = (after, ("File", log, "muted"))
        for cause_lines, why in _FORMS:
            rows = [] if found is None else _found_rows(found, width, cause_lines, why=why, fixable=bool(model.fix))
            card = [*out, *labelled((*rows, *end), width, 8)]
            if self.rows_max is None or len(card) <= self.rows_max:
                break
        return card


def _found_rows(
    found: Diagnosis, width: int, cause_lines: int, *, why: bool, fixable: bool
) -> list[tuple[str, str, str]]:
    """Rows of label, value and role."""
    cause = [part for text in quoted(found) for part in wrap(text, max(width - 8, 20))]
    if len(cause) > cause_lines:
        # A block ends in its exception; a known line begins with what matters.
        known = found.cause is not None
        cause = [*cause[:cause_lines], "…"] if known else ["…", *cause[-cause_lines:]]
    change = change_text(found.change)
    return [
        ("Cause", "\n".join(cause), "text"),
        ("Why", found.why if why else "", "text"),
        ("Remedy", found.remedy, "ok"),
        ("Change", f"{change}; {key_for('dashboard.fix')} starts with it" if change and fixable else change, "accent"),
        ("Log", f"line {found.line:,}; {key_for('dashboard.jump')} shows it" if found.line else "", "text"),
    ]
