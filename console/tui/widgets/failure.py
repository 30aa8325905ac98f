"""The card over the log once a server is gone: what happened, why, what to do, and where it stands in the log."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from console.core.diagnosis import quoted
from console.core.models import OVER_STATES, ProfileChange, ServerState
from console.io.paths import runs_dir
from console.tui.glyphs import STATE_GLYPHS, STATE_ROLES
from console.tui.model import RunModel
from console.tui.paint import Line, labelled, line, rule, wrap
from console.tui.widgets.panel import Panel

__all__ = ["CAUSE_LINES_MAX", "Failure", "change_text", "value_text"]

CAUSE_LINES_MAX = 4
"""Of an unknown failure's block; the log has the rest."""


def value_text(value: Any) -> str:
    """A profile value as TOML would show it; unset is `unset`."""
    if value is None:
        return "unset"
    return str(value).lower() if isinstance(value, bool) else str(value)


def change_text(change: Sequence[ProfileChange]) -> str:
    """`serve.max_num_seqs 32 → 64`, several separated by commas."""
    return ", ".join(f"{c.key} {value_text(c.before)} → {value_text(c.after)}" for c in change)


def home_short(path: Path) -> str:
    """The path with `~` for the home directory."""
    home = Path.home()
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)


def _exit_text(code: int | None) -> str:
    if code is None:
        return ""
    return f"signal {-code}" if code < 0 else f"exit code {code}"


class Failure(Panel):
    """Shown in the states stopped, failed and crashed."""

    model: RunModel | None = None

    def show(self, model: RunModel) -> None:
        """Show how this run ended."""
        self.model = model
        self.repaint()

    def paint(self, width: int, height: int) -> list[Line]:
        model = self.model
        if model is None or model.snapshot is None or model.state not in OVER_STATES:
            return []
        status = model.snapshot.status
        state = status.state
        log = home_short(runs_dir() / model.run.id / "server.log")
        exit_text = _exit_text(status.exit_code)
        after = ("Next", "r start again · p profiles · q quit", "text")
        if model.planned:
            after = ("Next", f"{model.planned} · r retry now · s give up", "warn")
        if state is ServerState.STOPPED:
            head = status.reason or "The server was stopped."
            out = [rule("Stopped", width, line((exit_text, "muted"))), line(("■ ", "muted"), (head, "strong"))]
            return [*out, *labelled((after, ("File", log, "muted")), width, 8)]
        found = status.diagnosis
        title = found.title if found else status.reason or "The server ended without saying why"
        where = "while starting" if state is ServerState.FAILED else "after it was ready"
        out = [rule(f"{state.capitalize()} {where}", width, line((exit_text, "muted")))]
        out.append(line((f"{STATE_GLYPHS[state]} ", STATE_ROLES[state]), (wrap(title, width - 2)[0], "strong")))
        rows: list[tuple[str, str, str]] = []
        if found is not None:
            cause = [part for text in quoted(found) for part in wrap(text, max(width - 8, 20))]
            if len(cause) > CAUSE_LINES_MAX:
                # A block ends in its exception; a known line begins with what matters.
                known = found.cause is not None
                cause = [*cause[:CAUSE_LINES_MAX], "…"] if known else ["…", *cause[-CAUSE_LINES_MAX:]]
            rows.append(("Cause", "\n".join(cause), "text"))
            rows.append(("Why", found.why, "text"))
            rows.append(("Remedy", found.remedy, "ok"))
            fixes = "; f starts with it" if model.fix else ""
            rows.append(("Change", f"{change_text(found.change)}{fixes}" if found.change else "", "accent"))
            rows.append(("Log", f"line {found.line:,}; e shows it" if found.line else "", "text"))
        rows += [after, ("File", log, "muted")]
        return [*out, *labelled(rows, width, 8)]
