"""The installation of an engine: the steps so far, how far it is, and a way out."""

from __future__ import annotations

import asyncio
import time
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen

from console.client.api import Backend, InstallProgress, LaunchPlan
from console.core.errors import ConsoleError
from console.tui import fmt
from console.tui.paint import BLANK, Line, line, rule, spread, wrapped
from console.tui.widgets.gpu_table import meter
from console.tui.widgets.panel import Panel

__all__ = ["STEPS_MAX", "InstallScreen"]

STEPS_MAX = 200
"""Steps kept."""


class Steps(Panel):
    """What was done, what is being done."""

    def __init__(self, title: str) -> None:
        super().__init__(id="steps")
        self._title = title
        self.steps: list[str] = []
        self.fraction: float | None = None
        self.begin_s = time.monotonic()
        self.ending = ""

    def paint(self, width: int, height: int) -> list[Line]:
        elapsed = fmt.duration(time.monotonic() - self.begin_s)
        out = [rule(self._title, width, line((elapsed, "text")))]
        rows = max(height - 4, 3) if height else 8
        for i, step in enumerate(self.steps[-rows:]):
            now = i == len(self.steps[-rows:]) - 1
            out += wrapped(step, width, "strong" if now else "muted", (("◐ ", "accent") if now else ("✓ ", "ok"),))[:1]
        if self.fraction is not None:
            out.append(
                spread((*meter(self.fraction, width - 8),), line((f"{self.fraction * 100:.0f}%", "text")), width)
            )
        out += [BLANK, line((self.ending or "esc or x cancels; nothing half-made is left behind", "muted"))]
        return out


class InstallScreen(ModalScreen[LaunchPlan | ConsoleError | None]):
    """Gives the new plan, the error, or `None` when it was cancelled."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,x,q", "cancel", "cancel", show=True, priority=True)]

    def __init__(self, backend: Backend, plan: LaunchPlan) -> None:
        super().__init__()
        self._backend = backend
        self._plan = plan

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog"):
            yield Steps(f"Installing the engine for {self._plan.profile_name}")

    @property
    def steps(self) -> Steps:
        """The list of steps."""
        return self.query_one(Steps)

    def on_mount(self) -> None:
        """Begin at once: the question was asked before."""
        self.app.run_worker(self._install(), group="install", exclusive=True, exit_on_error=False)
        self.set_interval(1.0, self.steps.repaint)

    async def _install(self) -> None:
        loop = asyncio.get_running_loop()

        def progress(update: InstallProgress) -> None:
            loop.call_soon_threadsafe(self._progress, update)

        try:
            plan = await self._backend.install_engine(self._plan, progress)
        except asyncio.CancelledError:
            self.dismiss(None)
            return
        except ConsoleError as error:
            self.dismiss(error)
            return
        except Exception as error:
            self.dismiss(ConsoleError("The installation failed", f"{type(error).__name__}: {error}"))
            return
        self.dismiss(plan)

    def _progress(self, update: InstallProgress) -> None:
        steps = self.steps
        # A download tells its progress in words that change many times; it stays one step.
        same = steps.steps and steps.steps[-1].partition(" ")[0] == update.step.partition(" ")[0]
        steps.steps = [*(steps.steps[:-1] if same else steps.steps), update.step][-STEPS_MAX:]
        steps.fraction = update.fraction
        steps.repaint()

    def action_cancel(self) -> None:
        """Stop it; the backend removes what it made."""
        self.steps.ending = "cancelling: removing what was made"
        self.steps.repaint()
        self.app.workers.cancel_group(self.app, "install")
