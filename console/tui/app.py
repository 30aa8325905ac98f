"""The application: attaches to runs, takes in updates, and starts the flows. It decides nothing about servers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar

from rich.style import Style
from textual.binding import BindingType
from textual.events import Resize
from textual.worker import Worker, WorkerState

from console.client.api import Backend, Lost, Session
from console.client.readonly import REMEDY, read_only
from console.core.errors import ConsoleError
from console.core.models import Hint
from console.core.preferences import Preferences
from console.tui.actions import CHANGING, bindings_for
from console.tui.glyphs import safe
from console.tui.keymap import Keymap, read_keymap
from console.tui.messages import SnapshotArrived
from console.tui.model import HISTORY_S, RunModel
from console.tui.screens.picker import PickerScreen
from console.tui.screens.too_small import HEIGHT_MIN, WIDTH_MIN, TooSmallScreen
from console.tui.terminal_app import TerminalApp
from console.tui.theme import THEMES, role_styles

if TYPE_CHECKING:
    from textual.actions import ActionParseResult
    from textual.dom import DOMNode

    from console.core.bench import BenchPlan
    from console.tui.commands import Commands
    from console.tui.screens.dashboard import DashboardScreen
    from console.tui.widgets.bench_pane import BenchPane

__all__ = ["ConsoleApp"]

DEFAULTS = Preferences()
MISTAKES_SHOWN_S = 20.0
"""For so long it is said what of `config.toml` is not used."""
FLOW_WAIT_S, FLOW_LOOK_S = 2.0, 0.02


def _commands() -> type[Commands]:
    from console.tui.commands import Commands

    return Commands


def _flows() -> Any:
    """What comes after the first paint is loaded after it."""
    from console.tui import flows

    return flows


def _load_dashboard() -> ModuleType:
    from console.tui.screens import dashboard

    return dashboard


class ConsoleApp(TerminalApp):
    """The console on one backend.

    Args:
        backend: profiles, engines and runs.
        initial_profile: profile to select in the picker.
        attach_run: run to attach to at once.
        ascii_glyphs: draw with ASCII only.
        replay: the backend plays a recording: there are no profiles to choose from.
        preferences: theme, keys, and whether anything may be changed from here.
        clock: wall-clock time in Unix seconds, for ages in the list of runs.
        host: the machine that the backend is of, if not this one.
        hosts: machines whose runs it has too; with them the fleet is opened first.
        at_end: what has to be done before the event loop ends.
    """

    TITLE = "dsv4-console"
    CSS_PATH: ClassVar = [
        "styles/base.tcss",
        "styles/picker.tcss",
        "styles/fleet.tcss",
        "styles/editor.tcss",
        "styles/dashboard.tcss",
        "styles/dialogs.tcss",
    ]
    BINDINGS: ClassVar[list[BindingType]] = bindings_for("app")
    COMMANDS: ClassVar = {_commands}
    ENABLE_COMMAND_PALETTE = True
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide"), (140, "-xwide")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS = [(0, "-short"), (23, "-medium"), (30, "-tall"), (44, "-xtall")]  # noqa: RUF012

    def __init__(
        self,
        backend: Backend,
        *,
        initial_profile: str | None = None,
        attach_run: str | None = None,
        ascii_glyphs: bool = False,
        replay: bool = False,
        preferences: Preferences = DEFAULTS,
        clock: Callable[[], float] = time.time,
        host: str = "",
        hosts: Sequence[str] = (),
        at_end: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        super().__init__()
        self._small = False
        self._styles_theme = ""
        self._role_styles: dict[str, Style] = {}
        for theme in THEMES.values():
            self.register_theme(theme)
        self.theme = preferences.theme
        self.keymap = read_keymap(preferences.keys, preferences.path) if preferences.keys else Keymap()
        self.set_keymap(dict(self.keymap.own))
        self.readonly = preferences.readonly
        self.backend = read_only(backend) if preferences.readonly else backend
        self._mistakes = (*preferences.mistakes, *self.keymap.problems)
        self.ascii_glyphs = ascii_glyphs
        self.clock = clock
        self.home = safe(host)
        """The machine of the profiles, if not this one."""
        self.hosts = tuple(map(safe, hosts))
        self._at_end = at_end
        self.model: RunModel | None = None
        self.leave_when_over = False
        self._initial_profile = initial_profile
        self._attach_run = attach_run
        self._replay = replay
        self._dashboard: DashboardScreen | None = None

    @property
    def host(self) -> str:
        """The machine of the run on the screen, else of the profiles; empty for this one."""
        of_run = str(getattr(self.model.session, "host", "")) if self.model is not None else ""
        return safe(of_run) or self.home

    @property
    def role_styles(self) -> dict[str, Style]:
        """How painted text looks in the theme of the moment."""
        if self._styles_theme != self.theme:
            self._styles_theme = self.theme
            self._role_styles = role_styles(self.theme_variables)
        return self._role_styles

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """Roles have a colour in every theme."""
        return THEMES[DEFAULTS.theme].variables

    def on_mount(self) -> None:
        """Show the profiles, or what is running already."""
        self.set_class(self.ascii_glyphs, "-ascii")
        self.mind_terminal()
        if not self._replay:
            self.push_screen(PickerScreen(self._initial_profile))
        self.mind_size()
        if self._mistakes:
            text = "\n".join(map(safe, self._mistakes))
            self.notify(text, title="Not used", severity="warning", timeout=MISTAKES_SHOWN_S, markup=False)
        self.call_after_refresh(self._begin)

    async def on_unmount(self) -> None:
        """Detach, and let go of what the backend holds."""
        model, self.model = self.model, None
        if self._at_end is not None:
            if model is not None:
                await model.close()
            await self._at_end()

    def _begin(self) -> None:
        if self.hosts:
            self.action_fleet()
        else:
            self._flow(_flows().attach(self, self._attach_run))

    def _flow(self, flow: Coroutine[Any, Any, None]) -> None:
        """Run a flow with its questions; one at a time, so that no second press of a key asks twice.

        One that comes while another neither asks nor is the same waits a moment for it: `q` right after `esc`.
        """
        name = getattr(flow, "__qualname__", "")
        running = [worker for worker in self.workers if worker.group == "flow" and worker.is_running]
        if running and (self.screen.is_modal or any(worker.name == name for worker in running)):
            flow.close()
            return
        self.run_worker(self._in_turn(running, flow), name=name, group="flow", exit_on_error=False)

    async def _in_turn(self, running: Sequence[Worker[Any]], flow: Coroutine[Any, Any, None]) -> None:
        """Once those before it are done; not at all if that takes longer than a key may mean."""
        until_s = time.monotonic() + FLOW_WAIT_S
        try:
            while any(worker.is_running for worker in running):
                if time.monotonic() > until_s:
                    return
                await asyncio.sleep(FLOW_LOOK_S)
            await flow
        finally:
            flow.close()

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        """A worker that broke is told, and costs neither the screen nor the server."""
        if event.state is WorkerState.ERROR and event.worker.error is not None:
            error = event.worker.error
            self.log.error(repr(error))
            self.notify(
                safe(f"{type(error).__name__}: {error}"), title="This did not work", severity="error", markup=False
            )

    def show_problem(self, error: ConsoleError) -> None:
        """Show an error with its remedy."""
        from console.tui.screens.dialogs import problem_dialog

        self.push_screen(problem_dialog(error))
        self.mind_size()

    async def open_session(self, session: Session) -> None:
        """Show this run in place of the one before."""
        await self.close_session()
        dashboard = await asyncio.to_thread(_load_dashboard)
        self.model = RunModel(session)
        self._dashboard = dashboard.DashboardScreen(self.model)
        await self.push_screen(self._dashboard)
        self.mind_size()
        self.run_worker(self._updates(self.model), group="updates", exclusive=True, exit_on_error=False)

    async def close_session(self) -> None:
        """Detach from the run on the screen. The server goes on."""
        self.workers.cancel_group(self, "updates")
        model, self.model = self.model, None
        dashboard, self._dashboard = self._dashboard, None
        if dashboard is not None and dashboard in self.screen_stack:
            while self.screen is not dashboard:
                await self.pop_screen()
            await self.pop_screen()
            self.mind_size()
        if model is not None:
            await model.close()

    async def _updates(self, model: RunModel) -> None:
        """Take in updates; the screen repaints once however many came."""
        async for update in model.session.updates(HISTORY_S):
            model.take(update)
            if isinstance(update, Lost):
                break
            self._tell(model)
        else:
            if model.live:
                model.take(Lost(reason="the connection closed"))
        self._tell(model)

    def _tell(self, model: RunModel) -> None:
        if self._dashboard is not None and self._dashboard.model is model:
            self._dashboard.post_message(SnapshotArrived())
        if self.leave_when_over and not model.live:
            self.exit(0)

    def start_launch(self, name: str) -> None:
        """Launch this profile, after a question."""
        self._flow(_flows().launch(self, name))

    def start_download(self, name: str) -> None:
        """Download the weights of this profile, after a question."""
        self._flow(_flows().download(self, name))

    def start_attach(self) -> None:
        """Attach to what runs."""
        self._flow(_flows().attach(self, None))

    def start_attach_to(self, run_id: str) -> None:
        """Attach to this run or watched endpoint."""
        self._flow(_flows().attach(self, run_id))

    def start_reattach(self) -> None:
        """Attach to the same run again."""
        if self.model is not None:
            self._flow(_flows().attach(self, self.model.run.id))

    def start_stop(self) -> None:
        """Stop the server on the screen, after a question."""
        if self.model is not None:
            self._flow(_flows().stop(self, self.model))

    def start_restart(self) -> None:
        """Restart the server on the screen, after a question."""
        if self.model is not None:
            self._flow(_flows().restart(self, self.model))

    def start_keep(self) -> None:
        """Postpone the idle deadline of the server on the screen."""
        if self.model is not None:
            self._flow(_flows().keep(self, self.model))

    def start_fix(self) -> None:
        """Start again with the change that the failure calls for, after a question."""
        if self.model is not None:
            self._flow(_flows().fix(self, self.model))

    def start_bench(self, pane: BenchPane, plan: BenchPlan) -> None:
        """Measure the server on the screen, after a question."""
        self._flow(_flows().bench(self, pane, plan))

    def start_apply(self, hint: Hint) -> None:
        """Try the change of a hint and measure it, after a question."""
        if self.model is not None:
            self._flow(_flows().apply(self, self.model, hint))

    def go_home(self) -> None:
        """Back to the profiles, past the fleet."""
        self._flow(_flows().profiles(self))

    def go_back(self) -> None:
        """Back to what is below the run: the fleet, where it was opened from there."""
        self._flow(self.close_session())

    def action_fleet(self) -> None:
        """All servers."""
        if self._replay:
            self.notify("A recording is played: there is no server here.", title="Not in a recording", markup=False)
        else:
            # No flow: it asks nothing, and a backend that is slow to tell what runs must not keep it away.
            self.run_worker(_flows().fleet(self), group="open-fleet", exclusive=True, exit_on_error=False)

    async def action_quit(self) -> None:
        """Leave; asks what becomes of a live server."""
        self._flow(_flows().quit_app(self))

    async def run_action(
        self,
        action: str | ActionParseResult,
        default_namespace: DOMNode | None = None,
        namespaces: Mapping[str, DOMNode] | None = None,
    ) -> bool:
        """What is not possible here is not done, and says why: in a recording, and where nothing may be changed."""
        if isinstance(action, str):
            refused = getattr(self.screen, "refused", None)
            if refused is not None and refused(action):
                return True
            if self.readonly and action in CHANGING:
                self.refuse(CHANGING[action].changes)
                return True
        return await super().run_action(action, default_namespace, namespaces)

    def refuse(self, effect: str) -> None:
        """Say that something is not done because nothing may be changed from here."""
        self.notify(f"Not done: it {effect}. {REMEDY}", title="Read-only", severity="warning", markup=False)

    def action_theme(self) -> None:
        """The next theme."""
        names = list(THEMES)
        self.use_theme(names[(names.index(self.theme) + 1) % len(names)])

    def use_theme(self, name: str) -> None:
        """Show everything in this theme."""
        self.theme = name
        self.notify(f'Kept by theme = "{name}" in config.toml.', title=f"Theme: {name}", markup=False)

    def action_help(self) -> None:
        """The keys that work here."""
        scopes = getattr(self.screen, "help_scopes", None)
        if scopes is not None:
            from console.tui.screens.dialogs import help_dialog

            self.push_screen(help_dialog(scopes, self.keymap.own))

    def on_resize(self, event: Resize) -> None:
        """Below the smallest size a sentence takes the place of a broken screen."""
        self.forget_shown()
        self._small = event.size.width < WIDTH_MIN or event.size.height < HEIGHT_MIN
        self.mind_size()

    def mind_size(self) -> None:
        """Put the sentence on top, or take it away. To be called when another screen has come up."""
        shown = isinstance(self.screen, TooSmallScreen)
        if self._small and not shown:
            self.push_screen(TooSmallScreen())
        elif shown and not self._small:
            self.pop_screen()
