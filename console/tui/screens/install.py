"""The installation of an engine: the steps so far, how far it is, and a way out."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import ClassVar

from console.client.api import InstallProgress, LaunchPlan
from console.tui import fmt
from console.tui.paint import BLANK, Line, line, rule, spread, wrapped
from console.tui.screens.work import Board, WorkScreen
from console.tui.widgets.gpu_table import meter

__all__ = ["STEPS_MAX", "InstallScreen"]

STEPS_MAX = 200
"""Steps kept."""


class Steps(Board):
    """What was done, what is being done."""

    def __init__(self, title: str) -> None:
        super().__init__(id="steps")
        self._title = title
        self.steps: list[str] = []
        self.fraction: float | None = None

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


class InstallScreen(WorkScreen[LaunchPlan, InstallProgress]):
    """Gives the new plan."""

    GROUP: ClassVar[str] = "install"
    FAILED: ClassVar[str] = "The installation failed"
    CANCELLING: ClassVar[str] = "cancelling: removing what was made"

    def board(self) -> Steps:
        """The list of steps."""
        return Steps(f"Installing the engine for {self.plan.profile_name}")

    async def work(self, progress: Callable[[InstallProgress], None]) -> LaunchPlan:
        """Install it and plan again."""
        return await self.backend.install_engine(self.plan, progress)

    def advance(self, update: InstallProgress) -> None:
        """Add a step, or bring the last one up to date."""
        steps = self.query_one(Steps)
        # A download tells its progress in words that change many times; it stays one step.
        same = steps.steps and steps.steps[-1].partition(" ")[0] == update.step.partition(" ")[0]
        steps.steps = [*(steps.steps[:-1] if same else steps.steps), update.step][-STEPS_MAX:]
        steps.fraction = update.fraction
        steps.repaint()
