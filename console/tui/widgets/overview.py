"""The first pane: is it up, how busy, what is the limit, what should I do. What it shows follows the server's state."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Container, Horizontal, Vertical

from console.core.models import ServerState
from console.tui.log_buffer import LogBuffer
from console.tui.model import RunModel
from console.tui.widgets.chart import Chart
from console.tui.widgets.charts import PAIRS
from console.tui.widgets.failure import Failure
from console.tui.widgets.figures import Figures
from console.tui.widgets.gpu_table import GpuTable
from console.tui.widgets.hints import Hints
from console.tui.widgets.log_view import LogTail
from console.tui.widgets.phases import Phases

__all__ = ["STAGES", "Overview"]

BESIDE_FAILURE_ROWS = 8
"""Header, tabs, margins, keys and the least of the log that stay in sight around the card of a failure."""
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
"""CSS classes: what is in sight in each state."""


class Overview(Vertical):
    """The tab `Overview`."""

    def compose(self) -> ComposeResult:
        with Horizontal(id="charts"):
            yield Chart(id="chart-left")
            yield Chart(id="chart-right")
        yield Figures(id="figures")
        yield Phases(id="phases")
        with Container(id="middle"):
            yield GpuTable(id="gpus")
            yield Hints(id="hints")
        yield Failure(id="failure")
        yield LogTail(id="tail")

    def show(self, model: RunModel) -> None:
        """Show this run."""
        stage = STAGES[model.state]
        if stage == "-serving":
            for name, make in zip(("left", "right"), PAIRS[model.charts % len(PAIRS)], strict=True):
                self.query_one(f"#chart-{name}", Chart).show(make(model))
            self.query_one("#figures", Figures).show(model)
            self.query_one("#hints", Hints).show(model)
        elif stage == "-over":
            self.query_one("#failure", Failure).show(model, self.app.size.height - BESIDE_FAILURE_ROWS)
        else:
            self.query_one("#phases", Phases).show(model)
        self.query_one("#gpus", GpuTable).show(model)
        self.show_log(model.log)

    def show_log(self, buffer: LogBuffer) -> None:
        """Show the end of the log."""
        self.query_one("#tail", LogTail).show(buffer)
