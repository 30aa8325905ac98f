"""Something that takes a while and can be cancelled, over the screen below: begun, watched, ended in one place.

Separate, so that an installation and a download differ in what they do and show, and in nothing else.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import ClassVar, Generic, TypeVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen

from console.client.api import Backend, LaunchPlan
from console.core.errors import ConsoleError
from console.tui.widgets.panel import Panel

__all__ = ["Board", "WorkScreen"]

Result = TypeVar("Result")
Progress = TypeVar("Progress")

REPAINT_S = 1.0
"""The elapsed time goes on while nothing else changes."""


class Board(Panel):
    """What is shown of the work; `ending` once it is being cancelled."""

    def __init__(self, *, id: str) -> None:  # noqa: A002
        super().__init__(id=id)
        self.begin_s = time.monotonic()
        self.ending = ""


class WorkScreen(ModalScreen[Result | ConsoleError | None], Generic[Result, Progress]):
    """Gives the result, the error, or `None` when it was cancelled."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,x,q", "cancel", "cancel", show=True, priority=True)]
    GROUP: ClassVar[str]
    """Name of its worker, by which it is cancelled."""
    FAILED: ClassVar[str]
    """Title of an error that nobody foresaw."""
    CANCELLING: ClassVar[str]

    def __init__(self, backend: Backend, plan: LaunchPlan) -> None:
        super().__init__()
        self.backend = backend
        self.plan = plan

    def board(self) -> Board:
        """A new board for this work."""
        raise NotImplementedError

    async def work(self, progress: Callable[[Progress], None]) -> Result:
        """Do it. `progress` may be called from any thread."""
        raise NotImplementedError

    def advance(self, update: Progress) -> None:
        """Show how far it is."""
        raise NotImplementedError

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog"):
            yield self.board()

    def on_mount(self) -> None:
        """Begin at once: the question was asked before."""
        self.app.run_worker(self._run(), group=self.GROUP, exclusive=True, exit_on_error=False)
        self.set_interval(REPAINT_S, self.query_one(Board).repaint)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()

        def progress(update: Progress) -> None:
            loop.call_soon_threadsafe(self._advance, update)

        try:
            result = await self.work(progress)
        except asyncio.CancelledError:
            self.dismiss(None)
        except ConsoleError as error:
            self.dismiss(error)
        except Exception as error:
            self.dismiss(ConsoleError(self.FAILED, f"{type(error).__name__}: {error}"))
        else:
            self.dismiss(result)

    def _advance(self, update: Progress) -> None:
        # A message of another thread may come when the screen is gone already.
        if self.is_attached:
            self.advance(update)

    def action_cancel(self) -> None:
        """End it; the backend sees to what it made."""
        board = self.query_one(Board)
        board.ending = self.CANCELLING
        board.repaint()
        self.app.workers.cancel_group(self.app, self.GROUP)
