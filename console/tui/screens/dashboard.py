"""One run: its figures, its log, its chat. Shows what the model holds; asks the app for everything that acts."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, cast

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container, Horizontal, Vertical
from textual.events import Resize
from textual.screen import Screen
from textual.widgets import ContentSwitcher

from console.core.models import ServerState
from console.tui import fmt
from console.tui.actions import bindings_for
from console.tui.messages import LogGrew, SnapshotArrived
from console.tui.model import RunModel
from console.tui.screens.dialogs import hint_dialog
from console.tui.widgets.chart import Chart
from console.tui.widgets.chat import ChatPane
from console.tui.widgets.failure import Failure
from console.tui.widgets.figures import Figures
from console.tui.widgets.gpu_table import GpuTable
from console.tui.widgets.header import Banner, Header, TabBar
from console.tui.widgets.hints import Hints, HintsExplain
from console.tui.widgets.key_bar import KeyBar
from console.tui.widgets.log_pane import LogPane
from console.tui.widgets.log_view import LogTail
from console.tui.widgets.phases import Phases

if TYPE_CHECKING:
    from console.tui.app import ConsoleApp

__all__ = ["KV_WARN_PERCENT", "DashboardScreen"]

LOG_PERIOD_S = 0.2
BESIDE_FAILURE_ROWS = 8
"""Header, tabs, margins, keys and the least of the log that stay in sight around the card of a failure."""
KV_WARN_PERCENT = 90.0
"""From here on vLLM soon has to make requests wait or preempt them."""
STAGES: dict[ServerState, str] = {
    ServerState.STARTING: "-starting",
    ServerState.LOADING: "-starting",
    ServerState.STOPPING: "-stopping",
    ServerState.READY: "-serving",
    ServerState.UNHEALTHY: "-serving",
    ServerState.STOPPED: "-over",
    ServerState.FAILED: "-over",
    ServerState.CRASHED: "-over",
}
"""CSS classes: what the overview shows in each state."""
HELP: dict[str, tuple[str, ...]] = {
    "overview": ("dashboard", "hints", "list", "app"),
    "logs": ("logs", "dashboard", "app"),
    "chat": ("prompt", "chat", "dashboard", "app"),
}


class DashboardScreen(Screen[None]):
    """Attached to one run."""

    BINDINGS: ClassVar[list[BindingType]] = bindings_for("dashboard")
    AUTO_FOCUS = ""

    def __init__(self, model: RunModel) -> None:
        super().__init__()
        self.model = model
        self.active = "overview"
        self._hinted = False

    def compose(self) -> ComposeResult:
        yield Header(id="header")
        yield TabBar(id="tabs")
        yield Banner(id="banner")
        with ContentSwitcher(id="panes", initial="overview"):
            with Vertical(id="overview"):
                with Horizontal(id="charts"):
                    yield Chart(id="chart-util", role="fill")
                    yield Chart(id="chart-kv", role="kv", warn=KV_WARN_PERCENT)
                yield Figures(id="figures")
                yield Phases(id="phases")
                with Container(id="middle"):
                    yield GpuTable(id="gpus")
                    yield Hints(id="hints")
                yield Failure(id="failure")
                yield LogTail(id="tail")
            yield LogPane(id="logs")
            yield ChatPane(id="chat")
        yield KeyBar()

    def on_mount(self) -> None:
        """Show what is known, and read the log from its start."""
        self.set_interval(LOG_PERIOD_S, self._pump)
        self.set_focus(None)
        self.refresh_run()
        self._pump()

    @property
    def console(self) -> ConsoleApp:
        """The app, typed."""
        return cast("ConsoleApp", self.app)

    @property
    def help_scopes(self) -> tuple[str, ...]:
        """Which keys the help tells of."""
        return HELP[self.active]

    def on_snapshot_arrived(self, event: SnapshotArrived) -> None:
        """A tick."""
        self.refresh_run()

    def on_log_grew(self, event: LogGrew) -> None:
        """New lines."""
        self._show_log()

    def on_resize(self, event: Resize) -> None:
        """Panels choose their height by that of the screen."""
        self.call_after_refresh(self.refresh_run)

    def _pump(self) -> None:
        if self.model.log.pump(self.model.snapshot.log_bytes if self.model.snapshot else 0):
            self.post_message(LogGrew())

    def _show_log(self) -> None:
        if self.active == "overview":
            self.query_one("#tail", LogTail).show(self.model.log)
        elif self.active == "logs":
            self.query_one("#logs", LogPane).show(self.model.log)

    def refresh_run(self) -> None:
        """Paint what changed, in the pane that is in sight."""
        if not self.is_mounted:
            return
        model = self.model
        with self.app.batch_update():
            stage = STAGES[model.state]
            if not self.has_class(stage):
                for other in set(STAGES.values()):
                    self.set_class(other == stage, other)
                self.refresh_bindings()
            self.set_class(not (model.snapshot and model.snapshot.gpus), "-gpuless")
            hinted = bool(model.snapshot and model.snapshot.hints)
            if hinted is not self._hinted:
                self._hinted = hinted
                self.refresh_bindings()
            self.query_one("#header", Header).show(model)
            self.query_one("#tabs", TabBar).show(model, self.active)
            self.query_one("#banner", Banner).show(self._banner_text())
            if self.active == "overview":
                self._show_overview(stage)
            elif self.active == "chat":
                self.query_one("#chat", ChatPane).show(model)

    def _show_overview(self, stage: str) -> None:
        model = self.model
        if stage == "-serving":
            self._show_charts()
            self.query_one("#figures", Figures).show(model)
            self.query_one("#hints", Hints).show(model)
        elif stage == "-over":
            self.query_one("#failure", Failure).show(model, self.size.height - BESIDE_FAILURE_ROWS)
        else:
            self.query_one("#phases", Phases).show(model)
        self.query_one("#gpus", GpuTable).show(model)
        self.query_one("#tail", LogTail).show(model.log)

    def _stale(self, name: str) -> str:
        source = self.model.stale(name)
        if source is None:
            return ""
        return f"{fmt.duration(source.age_s)} old" if source.age_s is not None else "no answer yet"

    def _show_charts(self) -> None:
        model = self.model
        snapshot = model.snapshot
        util, kv = self.query_one("#chart-util", Chart), self.query_one("#chart-kv", Chart)
        gpus = snapshot.gpus if snapshot else None
        if gpus:
            name = next((g.name for g in gpus if g.name), "GPU")
            util.show(
                model,
                "gpu",
                "GPU util",
                f"mean of {len(gpus)} × {name}" if len(gpus) > 1 else name,
                self._stale("gpu"),
            )
        else:
            util.show(model, "cpu", "Host CPU", "no GPU", self._stale("host"))
        engine = snapshot.engine if snapshot else None
        tokens = f"{fmt.count(engine.kv_cache_tokens)} tokens" if engine and engine.kv_cache_tokens else ""
        kv.show(model, "kv", "KV cache", tokens, self._stale("metrics"))

    def _banner_text(self) -> str:
        model = self.model
        if model.lost is not None:
            reason = model.lost.rstrip(".")
            return f"Lost the supervisor: {reason}. These figures are old; the server may go on. a attaches again."
        if model.state is ServerState.UNHEALTHY and model.snapshot is not None:
            reason = model.snapshot.status.reason or "the server does not answer /health"
            return f"Unhealthy: {reason.rstrip('.')}. l shows the log, r restarts."
        disk = model.stale("disk")
        return f"{disk.error}." if disk is not None and disk.error else ""

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys that make no sense now are off, and off the key bar."""
        model = self.model
        status = model.snapshot.status if model.snapshot else None
        works: dict[str, Callable[[], bool]] = {
            "jump": lambda: bool(status and status.diagnosis and status.diagnosis.line),
            "fix": lambda: model.fix != (),
            "reattach": lambda: model.lost is not None,
            "stop": lambda: bool(model.planned) or (model.live and model.state is not ServerState.STOPPING),
            "restart": lambda: model.state is not ServerState.STOPPING,
            "hints": lambda: STAGES[model.state] == "-serving" and bool(model.snapshot and model.snapshot.hints),
            "pane": lambda: parameters[:1] != (self.active,),
        }
        return works[action]() if action in works else True

    def action_pane(self, name: str) -> None:
        """Show this pane."""
        self.active = name
        self.query_one("#panes", ContentSwitcher).current = name
        if name == "logs":
            self.query_one("#log-view").focus()
            self.call_after_refresh(self._show_log)
        elif name == "chat":
            chat = self.query_one("#chat", ChatPane)
            chat.show(self.model)
            chat.prompt.focus()
        else:
            self.set_focus(None)
        self.call_after_refresh(self.refresh_run)
        self.refresh_bindings()

    def action_hints(self) -> None:
        """Go to the hints."""
        if self.active != "overview":
            self.action_pane("overview")
        self.query_one("#hints", Hints).focus()

    def on_hints_explain(self, event: HintsExplain) -> None:
        """All of one hint."""
        self.app.push_screen(hint_dialog(event.hint))

    def action_jump(self) -> None:
        """Show the line of the log that explains the failure."""
        snapshot = self.model.snapshot
        line = snapshot.status.diagnosis.line if snapshot and snapshot.status.diagnosis else None
        if line is not None:
            self.action_pane("logs")
            pane = self.query_one("#logs", LogPane)
            self.call_after_refresh(pane.jump_to, line)

    def action_stop(self) -> None:
        """Ask, then stop."""
        self.console.start_stop()

    def action_fix(self) -> None:
        """Show the change, ask, then start with it."""
        self.console.start_fix()

    def action_restart(self) -> None:
        """Ask, then restart."""
        self.console.start_restart()

    def action_reattach(self) -> None:
        """Try to attach again."""
        self.console.start_reattach()

    def action_profiles(self) -> None:
        """Detach and go home; the server goes on."""
        self.console.go_home()
