"""One run: its figures, its log, its chat. Shows what the model holds; asks the app for everything that acts."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, ClassVar, cast

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.events import Resize
from textual.screen import Screen
from textual.widgets import ContentSwitcher

from console.client.api import Player
from console.core.models import ServerState
from console.tui import fmt
from console.tui.actions import bindings_for
from console.tui.glyphs import safe
from console.tui.keymap import key_for
from console.tui.messages import LogGrew, SnapshotArrived
from console.tui.model import RunModel
from console.tui.panes import PANES, Pane
from console.tui.screens.dialogs import hint_dialog
from console.tui.screens.fleet import FleetScreen
from console.tui.snoozing import toggle_snooze
from console.tui.widgets.bench_pane import BenchFailed, BenchPane, BenchWanted
from console.tui.widgets.events_pane import EventChart, EventOpen
from console.tui.widgets.header import Banner, Header, TabBar
from console.tui.widgets.hints import Hints, HintsApply, HintsExplain, HintsSnooze
from console.tui.widgets.key_bar import KeyBar
from console.tui.widgets.log_pane import LogPane
from console.tui.widgets.overview import STAGES
from console.tui.widgets.replay_bar import ReplayBar

if TYPE_CHECKING:
    from console.tui.app import ConsoleApp

__all__ = ["DashboardScreen"]

LOG_PERIOD_S = 0.35
PAGE_S, PAGES_MAX, BETWEEN_PAGES_S = 0.001, 8, 0.01
"""Of one look at the log: a page of 64 KiB a time, some milliseconds of work, and the rest at the next look."""
LAYOUT_WAIT_S = 0.02
"""After so long a pane that was just shown is looked at again: has it its size?"""
MISSING_SHOWN_S = 10.0
"""For so long it is said what a recording does not hold."""
PLAYING = frozenset({"pause", "seek", "seek_event", "faster", "begin"})
NEED_A_SERVER = frozenset({"stop", "restart", "fix", "reattach", "profiles", "keep", "measure"})
"""In a recording their keys say why they do nothing."""
NOT_OURS = frozenset({"stop", "restart", "fix", "keep", "measure"})
"""On an endpoint that the console did not start."""
CHAT_PANE = "pane('chat')"


class DashboardScreen(Screen[None]):
    """Attached to one run."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings_for("dashboard"), *bindings_for("replay")]
    AUTO_FOCUS = ""

    def __init__(self, model: RunModel) -> None:
        super().__init__(classes=STAGES[model.state])
        self.model: RunModel = model
        self.active = "overview"
        self._hinted = False
        self._idling = False
        self._owed_run = False
        self._owed_log = False
        self._grew = False

    def compose(self) -> ComposeResult:
        yield Header(id="header")
        yield TabBar([(pane.id, pane.digit, pane.title) for pane in PANES], id="tabs")
        yield Banner(id="banner")
        with ContentSwitcher(id="panes", initial=self.active):
            for pane in PANES:
                yield pane.make()
        yield ReplayBar(id="replay")
        yield KeyBar()

    def on_mount(self) -> None:
        """Show what is known, and read the log from its start."""
        self.set_interval(LOG_PERIOD_S, self._pump)
        self.set_focus(None)
        self.refresh_run()
        self._pump()
        if self.model.player is not None and self.model.player.missing:
            text = "\n".join(map(safe, self.model.player.missing))
            self.notify(text, title="Not all of it is here", timeout=MISSING_SHOWN_S, markup=False)

    @property
    def console(self) -> ConsoleApp:
        """The app, typed."""
        return cast("ConsoleApp", self.app)

    @property
    def help_scopes(self) -> tuple[str, ...]:
        """Which keys the help tells of."""
        scopes = (*self.pane.scopes, "app")
        return ("replay", *(scope for scope in scopes if scope != "prompt")) if self.model.player else scopes

    @property
    def pane(self) -> Pane:
        """The one in sight."""
        return next(pane for pane in PANES if pane.id == self.active)

    def on_snapshot_arrived(self, event: SnapshotArrived) -> None:
        """A tick."""
        self._owed_run = True
        self._show_owed()

    def on_log_grew(self, event: LogGrew) -> None:
        """New lines."""
        self._owed_log = True
        self._show_owed()

    def _show_owed(self) -> None:
        """Show what came, once the terminal has taken what came before, and a key has shown."""
        if self.console.pace.behind or self.console.typing:
            return
        if self._owed_run:
            self._owed_run = False
            self.refresh_run()
            self.call_after_refresh(self.console.ask_pace)
        if self._owed_log:
            self._owed_log = False
            self._show_log()
            self.call_after_refresh(self.console.ask_pace)

    def on_resize(self, event: Resize) -> None:
        """Panels choose their height by that of the screen."""
        self.call_after_refresh(self.refresh_run)

    def _pump(self, pages: int = 1) -> None:
        """Take in the log page by page: a key waits for one of them, not for all that came since the last look."""
        log, snapshot = self.model.log, self.model.snapshot
        self._grew |= log.pump(snapshot.log_bytes if snapshot else 0, PAGE_S)
        if log.behind and pages < PAGES_MAX:
            self.set_timer(BETWEEN_PAGES_S, partial(self._pump, pages + 1))
            return
        if self._grew:
            self._grew = False
            self.post_message(LogGrew())
        self._show_owed()

    def _show_log(self) -> None:
        self.pane.log(self.query_one(f"#{self.active}"), self)

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
            idling = bool(model.idle_stop)
            if hinted is not self._hinted or idling is not self._idling:
                self._hinted, self._idling = hinted, idling
                self.refresh_bindings()
            self.query_one("#header", Header).show(model)
            self.query_one("#tabs", TabBar).show(model, self.active)
            self.query_one("#banner", Banner).show(self._banner_text())
            self.query_one("#replay", ReplayBar).show(model)
            self.pane.show(self.query_one(f"#{self.active}"), self)

    def _banner_text(self) -> str:
        model = self.model
        if model.away is not None:
            away = model.away
            texts = (f"No connection to {self.console.host}: {away.reason}", away.remedy, "The server goes on.")
            return " ".join(f"{safe(text).rstrip('.')}." for text in texts if text)
        if model.lost is not None:
            again = f"{key_for('dashboard.reattach')} attaches again."
            reason = model.lost.rstrip(".")
            return f"Lost the supervisor: {reason}. These figures are old; the server may go on. {again}"
        if model.refusal and model.snapshot is not None:
            reason = model.snapshot.status.reason.rstrip(".")
            return f"{reason}." if reason else ""
        if model.state is ServerState.UNHEALTHY and model.snapshot is not None:
            reason = model.snapshot.status.reason or "the server does not answer /health"
            restarts = "" if model.player is not None else f", {key_for('dashboard.restart')} restarts"
            return f"Unhealthy: {reason.rstrip('.')}. {key_for('dashboard.logs')} shows the log{restarts}."
        silent = [node for node in (model.snapshot.nodes if model.snapshot else ()) if node.silent_s is not None]
        if silent:
            cut = ", ".join(f"{node.host} for {fmt.duration(node.silent_s)}" for node in silent)
            return safe(f"Cut off from here: {cut}. What runs there goes on.")
        disk = model.stale("disk")
        return f"{disk.error}." if disk is not None and disk.error else ""

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys that make no sense now are off, and off the key bar."""
        model = self.model
        status = model.snapshot.status if model.snapshot else None
        recorded = model.player is not None
        if action in PLAYING:
            return recorded
        if recorded and (action in NEED_A_SERVER or (action == "pane" and parameters[:1] == ("chat",))):
            return False
        if model.refusal and action in NOT_OURS:
            return False
        works: dict[str, Callable[[], bool]] = {
            "jump": lambda: bool(status and status.diagnosis and status.diagnosis.line),
            "fix": lambda: model.fix != (),
            "reattach": lambda: model.lost is not None,
            "back": lambda: self._from_fleet,
            "stop": lambda: bool(model.planned) or (model.live and model.state is not ServerState.STOPPING),
            "restart": lambda: model.state is not ServerState.STOPPING,
            "keep": lambda: bool(model.idle_stop),
            "hints": lambda: STAGES[model.state] == "-serving" and bool(model.snapshot and model.snapshot.hints),
            "range": lambda: self._charted,
            "charts": lambda: STAGES[model.state] == "-serving" and self.active == "overview",
            "pane": lambda: parameters[:1] != (self.active,),
        }
        return works[action]() if action in works else True

    def action_pane(self, name: str) -> None:
        """Show this pane."""
        if self.active == "overview" and name != "overview":
            self.model.chosen = None
        self.active = name
        self.query_one("#panes", ContentSwitcher).current = name
        self.pane.enter(self.query_one(f"#{name}"), self)
        self.call_after_refresh(self._show_log)
        self.call_after_refresh(self.refresh_run)
        self.refresh_bindings()

    def action_range(self) -> None:
        """Let the charts look further back, or near again."""
        self.model.next_range()
        self.refresh_run()

    def action_charts(self) -> None:
        """Show the next pair of charts."""
        self.model.charts += 1
        self.refresh_run()

    @property
    def _charted(self) -> bool:
        """Charts are in sight."""
        return self.active == "gpu" or (self.active == "overview" and STAGES[self.model.state] == "-serving")

    def action_hints(self) -> None:
        """Go to the hints."""
        if self.active != "overview":
            self.action_pane("overview")
        self.query_one("#hints", Hints).focus()

    def on_hints_explain(self, event: HintsExplain) -> None:
        """All of one hint."""
        self.app.push_screen(hint_dialog(event.hint))

    def on_hints_snooze(self, event: HintsSnooze) -> None:
        """Ask for how long, and put it aside; or show it again."""
        self.run_worker(self._snooze(event), group="snooze", exclusive=True, exit_on_error=False)

    async def _snooze(self, event: HintsSnooze) -> None:
        await toggle_snooze(self.console, self.model, event.hint)
        self.refresh_run()
        self.refresh_bindings()

    def on_event_open(self, event: EventOpen) -> None:
        """The log at the time of an event."""
        self.show_log_at(event.event.time_s)

    def on_event_chart(self, event: EventChart) -> None:
        """An event in the charts."""
        self.model.choose(event.event)
        self.action_pane("overview")

    def show_log_at(self, time_s: float) -> None:
        """Show the log at this moment (Unix seconds)."""
        self.action_pane("logs")
        self._in_log(lambda pane: pane.open_at(time_s))

    def _in_log(self, act: Callable[[LogPane], None]) -> None:
        """Do this in the log as soon as the pane has its size: before, nothing can be scrolled."""
        pane = self.query_one("#logs", LogPane)
        if pane.view.size.height:
            act(pane)
        elif self.active == "logs":
            self.set_timer(LAYOUT_WAIT_S, partial(self._in_log, act))

    def on_bench_wanted(self, event: BenchWanted) -> None:
        """Ask, then measure."""
        if self._refusal:
            self._refuse()
        else:
            self.console.start_bench(self.query_one("#bench", BenchPane), event.plan)

    def on_bench_failed(self, event: BenchFailed) -> None:
        """Why it could not be measured."""
        self.console.show_problem(event.error)

    def on_hints_apply(self, event: HintsApply) -> None:
        """Show the change, ask, then try and measure it."""
        if self._refusal:
            self._refuse()
        else:
            self.console.start_apply(event.hint)

    def action_jump(self) -> None:
        """Show the line of the log that explains the failure."""
        snapshot = self.model.snapshot
        line = snapshot.status.diagnosis.line if snapshot and snapshot.status.diagnosis else None
        if line is not None:
            self.action_pane("logs")
            self._in_log(lambda pane: pane.jump_to(line))

    def _play(self, act: Callable[[Player], None]) -> None:
        if self.model.player is not None:
            act(self.model.player)
            self.refresh_run()

    def action_pause(self) -> None:
        """Hold the recording, or go on."""
        self._play(lambda player: player.pause())

    def action_seek(self, step_s: float) -> None:
        """Move in the recording."""
        self._play(lambda player: player.seek(step_s))

    def action_seek_event(self, step: int) -> None:
        """To the next or the last event."""
        self._play(lambda player: player.seek_event(step))

    def action_faster(self, step: int) -> None:
        """Faster or slower."""
        self._play(lambda player: player.faster(step))

    def action_begin(self) -> None:
        """To the beginning of the recording."""
        self._play(lambda player: player.restart_play())

    @property
    def _refusal(self) -> str:
        """Why nothing can be done to this server; empty where it can."""
        return self.model.player.refusal if self.model.player is not None else self.model.refusal

    def _refuse(self) -> None:
        title = "Not in a recording" if self.model.player is not None else "Only watched"
        self.notify(self._refusal, title=title, severity="warning", markup=False)

    def refused(self, action: str) -> bool:
        """Where there is no server of this console's, say why a key that needs one does nothing."""
        name = action.partition("(")[0]
        recorded = self.model.player is not None
        needs = (name in NEED_A_SERVER or action == CHAT_PANE) if recorded else name in NOT_OURS
        if not (self._refusal and needs):
            return False
        self._refuse()
        return True

    @property
    def _from_fleet(self) -> bool:
        """Below this screen is the fleet."""
        return any(isinstance(screen, FleetScreen) for screen in self.app.screen_stack)

    def action_back(self) -> None:
        """Detach and go back to the fleet; the server goes on."""
        self.console.go_back()

    def action_stop(self) -> None:
        """Ask, then stop."""
        self.console.start_stop()

    def action_fix(self) -> None:
        """Show the change, ask, then start with it."""
        self.console.start_fix()

    def action_restart(self) -> None:
        """Ask, then restart."""
        self.console.start_restart()

    def action_keep(self) -> None:
        """Postpone the idle deadline."""
        self.console.start_keep()

    def action_reattach(self) -> None:
        """Try to attach again."""
        self.console.start_reattach()

    def action_profiles(self) -> None:
        """Detach and go home; the server goes on."""
        self.console.go_home()
