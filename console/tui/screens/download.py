"""The download of a model: how much, how fast, how long, and a way out."""

from __future__ import annotations

import asyncio
import time
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen

from console.client.api import Backend, DownloadProgress, LaunchPlan
from console.core.download import QUIET_S
from console.core.errors import ConsoleError
from console.core.units import UNKNOWN, bytes_text
from console.tui import fmt
from console.tui.paint import BLANK, Line, line, rule, spread, wrapped
from console.tui.widgets.gpu_table import meter
from console.tui.widgets.panel import Panel

__all__ = ["DownloadScreen"]


class Figures(Panel):
    """The figures of a download under way."""

    def __init__(self, model: str) -> None:
        super().__init__(id="download")
        self._model = model
        self.progress: DownloadProgress | None = None
        self.begin_s = time.monotonic()
        self.ending = ""

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


class DownloadScreen(ModalScreen[bool | ConsoleError]):
    """Gives `True` when all is here, `False` when it was cancelled, or the error."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,x,q", "cancel", "cancel", show=True, priority=True)]

    def __init__(self, backend: Backend, plan: LaunchPlan) -> None:
        super().__init__()
        self._backend = backend
        self._plan = plan

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog"):
            yield Figures(self._plan.profile.model.id)

    @property
    def figures(self) -> Figures:
        """What is shown."""
        return self.query_one(Figures)

    def on_mount(self) -> None:
        """Begin at once: the question was asked before."""
        self.app.run_worker(self._download(), group="download", exclusive=True, exit_on_error=False)
        self.set_interval(1.0, self.figures.repaint)

    async def _download(self) -> None:
        loop = asyncio.get_running_loop()

        def progress(update: DownloadProgress) -> None:
            loop.call_soon_threadsafe(self._progress, update)

        try:
            await self._backend.download(self._plan, progress)
        except asyncio.CancelledError:
            self.dismiss(False)
            return
        except ConsoleError as error:
            self.dismiss(error)
            return
        except Exception as error:
            self.dismiss(ConsoleError("The download failed", f"{type(error).__name__}: {error}"))
            return
        self.dismiss(True)

    def _progress(self, update: DownloadProgress) -> None:
        if self.is_attached:
            self.figures.progress = update
            self.figures.repaint()

    def action_cancel(self) -> None:
        """End it; whole files stay."""
        self.figures.ending = "cancelling"
        self.figures.repaint()
        self.app.workers.cancel_group(self.app, "download")
