"""Puts a hint aside for a while, after a question of how long, and brings it back without one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from console.core.errors import ConsoleError
from console.core.models import Hint
from console.core.snooze import SNOOZE_TIMES, made
from console.tui.keymap import key_for
from console.tui.model import RunModel
from console.tui.screens.dialogs import Option, Question

if TYPE_CHECKING:
    from console.tui.app import ConsoleApp

__all__ = ["toggle_snooze"]

SENTENCES = (
    "It leaves the list of this run, on every console; {} lists it. It comes back by itself, and at once if it gets "
    "worse.",
    "Its rule goes on judging: events and `dsv4-console status` still tell of it.",
)


async def toggle_snooze(app: ConsoleApp, model: RunModel, hint: Hint) -> None:
    """Put this hint aside, or show it again if it is aside."""
    try:
        if model.snoozed(hint) is not None:
            model.snoozes = await model.session.wake(hint.id)
            app.notify(hint.title, title="Shown again", markup=False)
            return
        options = [Option(time.key, time.key, time.label) for time in SNOOZE_TIMES]
        sentences = [text.format(key_for("hints.snoozed")) for text in SENTENCES]
        question = Question(f"Snooze “{hint.title}”?", sentences, (*options, Option("no", "c", "cancel")))
        answer = await app.push_screen_wait(question)
        chosen = next((time for time in SNOOZE_TIMES if time.key == answer), None)
        if chosen is None:
            return
        started_s = model.snapshot.status.started_s if model.snapshot else None
        model.snoozes = await model.session.snooze(made(hint, chosen.seconds, model.now, started_s))
    except ConsoleError as error:
        app.show_problem(error)
