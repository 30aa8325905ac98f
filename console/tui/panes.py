"""The panes of the dashboard in one table: tab, help and what each needs. Their keys are those of `actions.py`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from textual.widget import Widget

from console.tui.actions import action_for
from console.tui.widgets.bench_pane import BenchPane
from console.tui.widgets.chat import ChatPane
from console.tui.widgets.events_pane import EventsPane
from console.tui.widgets.gpu_pane import GpuPane
from console.tui.widgets.log_pane import LogPane
from console.tui.widgets.overview import Overview

if TYPE_CHECKING:
    from console.tui.screens.dashboard import DashboardScreen

__all__ = ["PANES", "Pane"]

Act = Callable[[Any, "DashboardScreen"], object]


def _nothing(_widget: Any, _screen: DashboardScreen) -> None:
    """Nothing to do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pane:
    """One tab."""

    id: str
    """Of its widget, of the action that shows it (`pane('…')`), and of that action's row (`dashboard.…`)."""
    title: str
    make: Callable[[], Widget]
    scopes: tuple[str, ...]
    """Whose keys the help tells of, in this order; those that work everywhere come last."""
    show: Act
    """Called at every tick while it is in sight."""
    log: Act = _nothing
    """Called when the log has grown, while it is in sight."""
    enter: Act
    """Called when it comes into sight: what takes the keys."""

    @property
    def digit(self) -> str:
        """The key on its tab."""
        return action_for(f"dashboard.{self.id}").keys.partition(",")[0]


def _enter_chat(pane: ChatPane, screen: DashboardScreen) -> None:
    pane.show(screen.model)
    (pane.transcript if screen.console.readonly else pane.prompt).focus()


def _enter_bench(pane: BenchPane, screen: DashboardScreen) -> None:
    pane.show(screen.model)
    pane.load(screen.console.backend)
    pane.focus()


PANES: tuple[Pane, ...] = (
    Pane(
        id="overview",
        title="Overview",
        make=lambda: Overview(id="overview"),
        scopes=("dashboard", "hints", "list"),
        show=lambda pane, screen: pane.show(screen.model),
        log=lambda pane, screen: pane.show_log(screen.model.log),
        enter=lambda pane, screen: screen.set_focus(None),
    ),
    Pane(
        id="logs",
        title="Logs",
        make=lambda: LogPane(id="logs"),
        scopes=("logs", "processes", "dashboard"),
        show=_nothing,
        log=lambda pane, screen: pane.show(screen.model.log),
        enter=lambda pane, screen: pane.view.focus(),
    ),
    Pane(
        id="chat",
        title="Chat",
        make=lambda: ChatPane(id="chat"),
        scopes=("prompt", "chat", "dashboard"),
        show=lambda pane, screen: pane.show(screen.model),
        enter=_enter_chat,
    ),
    Pane(
        id="bench",
        title="Bench",
        make=lambda: BenchPane(id="bench"),
        scopes=("bench", "dashboard"),
        show=lambda pane, screen: pane.show(screen.model),
        enter=_enter_bench,
    ),
    Pane(
        id="events",
        title="Events",
        make=lambda: EventsPane(id="events"),
        scopes=("events", "list", "dashboard"),
        show=lambda pane, screen: pane.show(screen.model),
        enter=lambda pane, screen: pane.enter(screen.model),
    ),
    Pane(
        id="gpu",
        title="GPUs",
        make=lambda: GpuPane(id="gpu"),
        scopes=("gpus", "list", "dashboard"),
        show=lambda pane, screen: pane.show(screen.model),
        enter=lambda pane, screen: pane.enter(screen.model),
    ),
)
