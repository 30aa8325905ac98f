"""A change under trial: the steps so far, how far the present one is, and the question at the end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen

from console.client.api import Backend
from console.core.errors import ConsoleError
from console.core.models import ProfileChange
from console.core.tune_report import Step, TuneReport, change_words
from console.tui import fmt
from console.tui.paint import BLANK, Line, clip, line, rule, wrapped
from console.tui.widgets.gpu_table import meter
from console.tui.widgets.panel import Panel

__all__ = ["ExperimentScreen"]

STEPS_SHOWN = 9
"""The newest ones; with frame and question they fit 24 rows."""
ROLES = {"verdict": "strong", "note": "warn", "keep": "ok", "back": "warn"}
NOT_KEPT = "Nothing is kept yet."


class Steps(Panel):
    """What happened, and what is asked."""

    def __init__(self, change: Sequence[ProfileChange]) -> None:
        super().__init__(id="experiment")
        self._change = tuple(change)
        self.steps: list[Step] = []
        self.fraction: float | None = None
        self.begin_s = time.monotonic()
        self.report: TuneReport | None = None
        """While it is asked whether to keep it."""
        self.ending = ""

    def paint(self, width: int, height: int) -> list[Line]:
        elapsed = fmt.duration(time.monotonic() - self.begin_s)
        out = [rule("Apply and measure", width, line((elapsed, "text")))]
        out += wrapped(change_words(self._change), width, "accent")
        shown = self.steps[-STEPS_SHOWN:]
        for number, step in enumerate(shown):
            newest = number == len(shown) - 1
            mark = ("▸ " if newest and self.report is None else "  ", "accent")
            out.append(line(mark, (clip(step.text, width - 2), ROLES.get(step.kind, "text" if newest else "muted"))))
        out.append(line(*meter(self.fraction, width - 2)) if self.fraction is not None else BLANK)
        return [*out, *self._foot(width)]

    def _foot(self, width: int) -> list[Line]:
        if self.ending:
            return wrapped(self.ending, width, "muted")
        if self.report is None:
            return wrapped("esc or x gives up; what served before comes back", width, "muted")
        gain = self.report.gain or (self.report.attempts[-1].gain if self.report.attempts else None)
        measured = gain.text if gain is not None else "not measured"
        role = "ok" if self.report.winner else "warn"
        keys = line(
            ("k", "key"), ("  keep it, also in my profile", "text"), ("    b", "key"), ("  take it back", "text")
        )
        return [*wrapped(f"{measured}. {NOT_KEPT}", width, role), keys]


class ExperimentScreen(ModalScreen[TuneReport | ConsoleError | None]):
    """Gives the report at its end, `None` if it was given up, or the error."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,x,q", "cancel", "give up", show=True, priority=True),
        Binding("k", "answer(True)", "keep", show=True),
        Binding("b", "answer(False)", "take back", show=True),
    ]

    def __init__(self, backend: Backend, run_id: str, change: Sequence[ProfileChange]) -> None:
        super().__init__()
        self._backend = backend
        self._run_id = run_id
        self._change = tuple(change)
        self._answer: asyncio.Future[bool] | None = None

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog"):
            yield Steps(self._change)

    @property
    def steps(self) -> Steps:
        """What is shown."""
        return self.query_one(Steps)

    def on_mount(self) -> None:
        """Begin at once: the question was asked before."""
        self.app.run_worker(self._run(), group="experiment", exclusive=True, exit_on_error=False)
        self.set_interval(1.0, self.steps.repaint)

    async def _run(self) -> None:
        try:
            found = await self._backend.experiment(self._run_id, self._change, self._tell, self._progress, self._agree)
        except asyncio.CancelledError:
            self.dismiss(None)
            return
        except ConsoleError as error:
            self.dismiss(error)
            return
        except Exception as error:
            self.dismiss(ConsoleError("The trial failed", f"{type(error).__name__}: {error}"))
            return
        self.dismiss(found)

    def _tell(self, step: Step) -> None:
        if self.is_attached:
            self.steps.steps.append(step)
            self.steps.fraction = None
            self.steps.repaint()

    def _progress(self, fraction: float) -> None:
        if self.is_attached:
            self.steps.fraction = fraction
            self.steps.repaint()

    async def _agree(self, report: TuneReport) -> bool:
        self._answer = asyncio.get_running_loop().create_future()
        self.steps.report, self.steps.fraction = report, None
        self.steps.repaint()
        self.refresh_bindings()
        try:
            return await self._answer
        finally:
            self._answer = None
            self.steps.report = None
            self.refresh_bindings()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """There is an answer only where there is a question."""
        return action != "answer" or self._answer is not None

    def action_answer(self, keep: bool) -> None:
        """Keep it, or take it back."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(keep)

    def action_cancel(self) -> None:
        """Give up; what served before comes back."""
        self.steps.ending = "giving up; what served before comes back"
        self.steps.repaint()
        self.app.workers.cancel_group(self.app, "experiment")
