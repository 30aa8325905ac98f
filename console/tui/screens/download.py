"""The download of a model: how much, how fast, how long, and a way out."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import ClassVar

from console.client.api import DownloadProgress
from console.core.download import QUIET_S
from console.core.units import UNKNOWN, bytes_text
from console.tui import fmt
from console.tui.paint import BLANK, Line, line, rule, spread, wrapped
from console.tui.screens.work import Board, WorkScreen
from console.tui.widgets.gpu_table import meter

__all__ = ["DownloadScreen"]


class Figures(Board):
    """The figures of a download under way."""

    def __init__(self, model: str) -> None:
        super().__init__(id="download")
        self._model = model
        self.progress: DownloadProgress | None = None

    def paint(self, width: int, height: int) -> list[Line]:
        elapsed = fmt.duration(time.monotonic() - self.begin_s)
        out = [rule("Downloading the weights", width, line((elapsed, "text"))), *wrapped(self._model, width, "strong")]
        now = self.progress
        if now is None:
            out += [line(("asking the hub what there is", "muted"))]
        else:
            rate = UNKNOWN if now.rate_bytes_per_s is None else f"{bytes_text(now.rate_bytes_per_s)}/s"
            done = f"{bytes_text(now.bytes_done)} of {bytes_text(now.bytes_total)}"
            files = f"{now.files_done} of {now.files_total} files"
            out += [
                spread((*meter(now.fraction, width - 8),), line((f"{now.fraction * 100:.0f}%", "text")), width),
                spread(line((done, "text")), line((files, "muted")), width),
                spread(line((rate, "text")), line((f"{fmt.duration(now.left_s)} left", "text")), width),
                BLANK,
                *wrapped(f"{bytes_text(now.free_bytes)} free in {now.path}", width, "muted"),
            ]
            if now.quiet_s >= QUIET_S:
                out += [line((f"nothing came for {fmt.duration(now.quiet_s)}", "warn"))]
        return [*out, BLANK, *wrapped(self.ending or "esc or x cancels; whole files stay", width, "muted")]


class DownloadScreen(WorkScreen[bool, DownloadProgress]):
    """Gives `True` when all is here."""

    GROUP: ClassVar[str] = "download"
    FAILED: ClassVar[str] = "The download failed"
    CANCELLING: ClassVar[str] = "cancelling"

    def board(self) -> Figures:
        """The figures."""
        return Figures(self.plan.profile.model.id)

    async def work(self, progress: Callable[[DownloadProgress], None]) -> bool:
        """Download it; whole files stay if it is cancelled."""
        await self.backend.download(self.plan, progress)
        return True

    def advance(self, update: DownloadProgress) -> None:
        """Show these figures."""
        figures = self.query_one(Figures)
        figures.progress = update
        figures.repaint()
