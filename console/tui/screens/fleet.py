"""All servers on one screen: the runs of this machine and the watched endpoints, worst first."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, cast

import msgspec
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container
from textual.screen import Screen

from console.client.fleet import Fleet
from console.core.fleet import FleetRow
from console.tui.actions import bindings_for
from console.tui.glyphs import safe
from console.tui.keymap import key_for
from console.tui.paint import Line, line, spread, wrapped
from console.tui.widgets.fleet_list import detail_lines, fleet_row, head_line, totals_line
from console.tui.widgets.header import READONLY_MARK
from console.tui.widgets.key_bar import KeyBar
from console.tui.widgets.panel import Panel
from console.tui.widgets.select_list import Highlighted, SelectList

if TYPE_CHECKING:
    from console.tui.app import ConsoleApp

__all__ = ["FleetScreen"]

PERIOD_S = 0.25
ASKING = "Asking which servers there are …"
NOTHING = (
    "Nothing runs here and nothing is watched. {} goes to the profiles, where a server is launched; "
    "dsv4-console --watch http://HOST:PORT, or [watch.NAME] in config.toml, watches one that runs elsewhere."
)


class FleetHead(Panel):
    """Title and, below it, what went wrong and the names of the columns."""

    def __init__(self) -> None:
        super().__init__(id="fleet-head")
        self.count = 0
        self.problem = ""

    def paint(self, width: int, height: int) -> list[Line]:
        console = cast("ConsoleApp", self.app)
        title = line(*(READONLY_MARK if console.readonly else ()), ("Fleet", "strong"))
        servers = f"{self.count} server{'' if self.count == 1 else 's'}" if self.count else ""
        rows = [spread(title, line((servers, "muted"), (f"  {key_for('app.help')} help", "muted")), width), ()]
        if self.problem:
            rows += wrapped(safe(self.problem), width, "warn", (("▲ ", "warn"),))
        return [*rows, head_line(width)] if self.count else rows


class FleetFoot(Panel):
    """Totals, and the selected row in full."""

    def __init__(self) -> None:
        super().__init__(id="fleet-foot")
        self.rows: tuple[FleetRow, ...] = ()
        self.selected: FleetRow | None = None

    def paint(self, width: int, height: int) -> list[Line]:
        return [*totals_line(self.rows, width), (), *detail_lines(self.selected, width)] if self.rows else []


class FleetList(SelectList):
    """Says in full what to do where there is nothing."""

    def paint(self, width: int, height: int) -> list[Line]:
        return super().paint(width, height) if self._keys else wrapped(self.empty_text, width, "muted")


class FleetScreen(Screen[None]):
    """Follows every server of the backend while it is open, also below a dashboard."""

    BINDINGS: ClassVar[list[BindingType]] = bindings_for("fleet")
    AUTO_FOCUS = "#fleet-list"
    help_scopes = ("fleet", "list", "app")

    def __init__(self) -> None:
        super().__init__()
        self._fleet: Fleet | None = None
        self._rows: dict[str, FleetRow] = {}
        self._shown: tuple[object, ...] = ()
        """What was painted last; the ages of figures are not part of it."""

    def compose(self) -> ComposeResult:
        yield FleetHead()
        with Container(id="fleet"):
            yield FleetList(self._row, ASKING, id="fleet-list")
            yield FleetFoot()
        yield KeyBar()

    def on_mount(self) -> None:
        """Begin to follow."""
        self._fleet = Fleet(self.console.backend)
        self.run_worker(self._fleet.run(), group="fleet", exit_on_error=False)
        self.set_interval(PERIOD_S, self._show)

    @property
    def console(self) -> ConsoleApp:
        """The app, typed."""
        return cast("ConsoleApp", self.app)

    @property
    def _list(self) -> FleetList:
        return self.query_one(FleetList)

    def _show(self) -> None:
        fleet = self._fleet
        if fleet is None or not self.is_current or self.console.pace.behind:
            return
        rows = {row.id: msgspec.structs.replace(row, age_s=None) for row in fleet.rows()}
        now = (tuple(rows.values()), fleet.problem, fleet.looked)
        if now == self._shown:
            return
        self._shown, self._rows = now, rows
        self._list.empty_text = NOTHING.format(key_for("fleet.leave")) if fleet.looked else ASKING
        head = self.query_one(FleetHead)
        head.count, head.problem = len(rows), fleet.problem
        head.repaint()
        self._list.show(list(rows))
        self._show_foot()

    def _show_foot(self) -> None:
        foot = self.query_one(FleetFoot)
        foot.rows = tuple(self._rows.values())
        foot.selected = self._rows.get(self._list.selected_key or "")
        foot.repaint()

    def _row(self, key: str, width: int, chosen: bool) -> Line:
        return fleet_row(self._rows[key], width, chosen)

    def on_highlighted(self, event: Highlighted) -> None:
        """Another row: tell all of it."""
        event.stop()
        self._show_foot()

    def action_open_server(self) -> None:
        """The dashboard of the selected row."""
        if self._list.selected_key is not None:
            self.console.start_attach_to(self._list.selected_key)

    def action_leave_fleet(self) -> None:
        """To the profiles."""
        self.dismiss(None)
