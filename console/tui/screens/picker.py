"""The home screen: which profile, how well it suits this machine, and what a launch of it would do."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, ClassVar, cast

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container
from textual.screen import Screen
from textual.widgets import Input

from console.client.api import LaunchPlan
from console.core.errors import ConsoleError
from console.core.profile_orders import ORDERS
from console.tui.actions import bindings_for
from console.tui.background import in_background
from console.tui.clipboard import copy_command
from console.tui.keymap import key_for
from console.tui.paint import Line
from console.tui.widgets.detail_scroll import DetailScroll
from console.tui.widgets.filter_input import FilterInput
from console.tui.widgets.key_bar import KeyBar
from console.tui.widgets.profile_detail import Detail
from console.tui.widgets.profile_list import BROKEN, Catalogue, Title, profile_row
from console.tui.widgets.select_list import Highlighted, SelectList

if TYPE_CHECKING:
    from console.tui.app import ConsoleApp

__all__ = ["PickerScreen"]

PLAN_DELAY_S = 0.15
"""A plan is asked for once the selection rests."""


class PickerScreen(Screen[None]):
    """Profiles at the left or above, the selected one beside or below."""

    BINDINGS: ClassVar[list[BindingType]] = bindings_for("picker")
    AUTO_FOCUS = "#profiles"
    help_scopes = ("picker", "list", "app")

    def __init__(self, initial: str | None = None) -> None:
        super().__init__()
        self.catalogue = Catalogue()
        self._initial = initial

    def compose(self) -> ComposeResult:
        yield Title(self.catalogue)
        with Container(id="picker"):
            with Container(id="picker-list"):
                yield FilterInput("#profiles", "search name, hardware, model, precision", id="filter")
                yield SelectList(self._row, "Reading the profiles …", id="profiles")
            with DetailScroll(id="picker-detail"):
                yield Detail(self.catalogue)
        yield KeyBar()

    def on_mount(self) -> None:
        """Read the profiles."""
        self.call_after_refresh(self.action_reload)

    def on_screen_resume(self) -> None:
        """Another server may be running by now."""
        if self.catalogue.loaded:
            in_background(self, self._read_runs, "runs")

    @property
    def console(self) -> ConsoleApp:
        """The app, typed."""
        return cast("ConsoleApp", self.app)

    @property
    def rows(self) -> SelectList:
        """The profiles."""
        return self.query_one("#profiles", SelectList)

    async def _read(self) -> None:
        backend = self.console.backend
        try:
            entries, problems = await backend.profiles()
        except ConsoleError as error:
            self.console.show_problem(error)
            entries, problems = (), ()
        catalogue = self.catalogue
        catalogue.entries = {entry.name: entry for entry in entries}
        catalogue.problems = {problem.name: problem for problem in problems}
        catalogue.plans.clear()
        catalogue.loaded = True
        self._list()
        catalogue.machine = await backend.machine()
        await self._read_runs()

    async def _read_runs(self) -> None:
        for sentence in await self.console.backend.recover():
            self.console.notify(sentence, severity="warning", markup=False)
        self.catalogue.runs = await self.console.backend.runs()
        self.query_one("#title", Title).repaint()
        self.refresh_bindings()

    def _list(self) -> None:
        catalogue, view = self.catalogue, self.rows
        view.empty_text = "There are no profiles."
        if catalogue.words:
            view.empty_text = f"No profile matches “{catalogue.words}”."
        elif catalogue.here_only:
            view.empty_text = f"No profile can run on this machine; {key_for('picker.here')} shows all."
        keys = catalogue.listed()
        view.show(keys, self._initial)
        if self._initial in keys:
            self._initial = None
        self.query_one("#title", Title).repaint()

    def _row(self, key: str, width: int, chosen: bool) -> Line:
        return profile_row(self.catalogue, key, width, chosen)

    def on_highlighted(self, event: Highlighted) -> None:
        """Show the selected profile, and soon what its launch would do."""
        detail = self.query_one("#detail", Detail)
        key = self.rows.selected_key or ""
        if detail.selected != key:
            detail.selected = key
            self.query_one("#picker-detail").scroll_home(animate=False)
        detail.repaint()
        if key in self.catalogue.entries and key not in self.catalogue.plans:
            in_background(self, partial(self._plan, key), "plan")

    async def _plan(self, name: str) -> None:
        await asyncio.sleep(PLAN_DELAY_S)
        try:
            self.catalogue.plans[name] = await self.console.backend.plan(name)
        except ConsoleError as error:
            self.catalogue.plans[name] = error
        self.query_one("#detail", Detail).repaint()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Narrow the list while typing."""
        self.catalogue.words = " ".join(event.value.split())
        self._list()
        event.input.display = bool(event.value) or event.input.has_focus

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """No attaching when nothing runs."""
        return bool(self.catalogue.runs) if action == "attach" else True

    def action_filter(self) -> None:
        """Open the search."""
        field = self.query_one("#filter", Input)
        field.display = True
        field.focus()

    def action_order(self) -> None:
        """The next order; what is selected stays selected."""
        orders = list(ORDERS)
        self.catalogue.order = orders[(orders.index(self.catalogue.order) + 1) % len(orders)]
        self._list()

    def action_here(self) -> None:
        """Only what can run here, or all."""
        self.catalogue.here_only = not self.catalogue.here_only
        self._list()

    def action_reload(self) -> None:
        """Read the profiles again."""
        in_background(self, self._read, "read")

    def action_detail(self, step: int) -> None:
        """Scroll the details."""
        self.query_one("#picker-detail", DetailScroll).page(step)

    def action_launch(self) -> None:
        """Ask, then launch."""
        key = self.rows.selected_key
        if key in self.catalogue.entries:
            self.console.start_launch(str(key))
        elif key is not None and key.startswith(BROKEN):
            self.notify(
                f"This profile has mistakes; they are listed beside it. {key_for('picker.edit')} opens it as a form.",
                severity="warning",
                markup=False,
            )

    def action_download(self) -> None:
        """Ask, then download the weights."""
        key = self.rows.selected_key
        if key in self.catalogue.entries:
            self.console.start_download(str(key))

    def action_attach(self) -> None:
        """Attach to what runs."""
        self.console.start_attach()

    def action_copy(self) -> None:
        """Send the command to the terminal's clipboard, and into a file for terminals that take none."""
        key = self.rows.selected_key or ""
        if key in self.catalogue.entries:
            in_background(self, partial(self._copy, key), "copy")

    async def _copy(self, name: str) -> None:
        try:
            plan = self.catalogue.plans.get(name)
            if not isinstance(plan, LaunchPlan):
                plan = await self.console.backend.plan(name)
            await copy_command(self.console, name, plan.command_line)
        except ConsoleError as error:
            self.console.show_problem(error)

    def action_edit_profile(self) -> None:
        """Open the selected profile, or the file with mistakes, as a form."""
        key = self.rows.selected_key
        if key is not None:
            in_background(self, partial(self._edit, key.removeprefix(BROKEN)), "edit")

    async def _edit(self, name: str) -> None:
        from console.tui.screens.editor import EditorScreen

        try:
            source = await self.console.backend.profile_source(name)
            kept = await self.console.backend.kept_edit(name)
            editor = EditorScreen(source, self.catalogue.origins(), kept)
        except ConsoleError as error:
            self.console.show_problem(error)
            return
        self.app.push_screen(editor, self._edited)
        self.console.mind_size()

    def _edited(self, key: str | None) -> None:
        """Something was saved: read the profiles again, and select its row."""
        if key is not None:
            self._initial = key
            self.query_one("#filter", Input).value = ""
            self.catalogue.here_only = False
            self.action_reload()
