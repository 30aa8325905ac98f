"""What preflight found, before a launch: warnings above the question, and a launch that is held back until forced."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from console.core.preflight import Check, Override, Preflight, Verdict
from console.core.preflight.report import MARKS
from console.tui.paint import Line
from console.tui.screens.dialogs import Confirm, Dialog, Option

__all__ = ["Held", "LaunchQuestion", "check_rows", "force_question"]

ROLES: dict[Verdict, str] = {
    Verdict.OK: "ok",
    Verdict.INFO: "accent",
    Verdict.UNKNOWN: "muted",
    Verdict.WARN: "warn",
    Verdict.BLOCKED: "bad",
}
NOT_HERE: dict[Override, str] = {
    Override.PUBLIC: "allowed only on the command line",
    Override.NONE: "refused by the launch itself",
}
FIGURES_MAX = 4
"""Of one check; `dsv4-console doctor` shows all."""

Row = tuple[str, Line, str]


def check_rows(checks: Iterable[Check]) -> list[Row]:
    """Checks as lines of a dialog: mark, title and finding, a few figures, the remedy."""
    rows: list[Row] = []
    for check in checks:
        role = ROLES[check.verdict]
        rows.append(("text", ((f"{MARKS[check.verdict]} ", role), (f"{check.title}  ", "strong")), check.text))
        rows += [("muted", (("    ", "text"),), figure) for figure in check.figures[:FIGURES_MAX]]
        if check.remedy:
            rows.append(("ok", (("  → ", "muted"),), check.remedy))
    return rows


class LaunchQuestion(Dialog):
    """Whether to launch: what preflight warns of comes first, then plain sentences.

    Gives `yes` or `no`; with `download` also `download`, which then is the first answer.
    """

    def __init__(
        self, title: str, checks: Sequence[Check], sentences: Sequence[str], yes: str, download: str = ""
    ) -> None:
        rows = check_rows(checks)
        if rows:
            rows.append(("text", (), ""))
        rows += [("text", (), sentence) for sentence in sentences]
        options = [Option("download", "d", download)] if download else []
        super().__init__(title, rows, (*options, Option("yes", "y", yes), Option("no", "n", "not now")))


class Held(Dialog):
    """A launch that is blocked. Gives `no`, or `force` where the operator may insist; enter and escape mean no."""

    def __init__(self, name: str, report: Preflight) -> None:
        options = [Option("no", "n", "not now")]
        last = report.held_by(force=True)
        if not last:
            options.append(Option("force", "f", "launch it all the same …"))
        rows = check_rows(sorted(report.notable, key=lambda check: check.verdict is not Verdict.BLOCKED))
        if last:
            reasons = {
                Override.PUBLIC: "allowed only on the command line",
                Override.NONE: "refused by the launch itself",
            }
            names = ", ".join(f"{check.title} ({reasons.get(check.override, '')})" for check in last)
            rows = [("muted", (), f"It cannot be forced here: {names}."), *rows]
        super().__init__(f"✖ {name} cannot be launched as it is", rows, options, role="bad")

    def action_cancel(self) -> None:
        """Escape never launches."""
        self.dismiss("no")


def force_question(name: str, report: Preflight) -> Confirm:
    """The last question before a forced launch: what it will lead to."""
    sentences = [f"{check.title}: {check.consequence}" for check in report.blocked]
    return Confirm(f"Launch {name} all the same?", sentences, f"launch {name}", "not now")
