"""The pane that measures a server: what to measure, how far it is, the table, the curve, and an earlier result beside.

It measures by the backend, in a worker of its own that ends with the screen.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import ClassVar

from textual.binding import BindingType
from textual.message import Message
from textual.worker import get_current_worker

from console.client.api import Backend
from console.core.bench import BenchPlan, BenchPoint, BenchProgress, BenchResult, Shape
from console.core.bench_compare import compare
from console.core.bench_shapes import LOADS, requests_for
from console.core.bench_table import COLUMNS, heading, ratio_text, row_line
from console.core.errors import ConsoleError
from console.tui import fmt
from console.tui.actions import bindings_for
from console.tui.keymap import key_for
from console.tui.model import RunModel
from console.tui.paint import BLANK, Line, Span, cut, line, rule, spread, wrapped
from console.tui.widgets.curve import Dot, curve
from console.tui.widgets.panel import Panel

__all__ = ["GROUP", "BenchFailed", "BenchPane", "BenchWanted", "load_sentences"]

GROUP = "bench"
"""Of the worker that measures."""
CLIENTS: tuple[tuple[int, ...], ...] = ((1, 8, 32, 128), (1, 4, 16), (8,), (32,), (1, 4, 16, 64, 256))
REPEATS = (1, 3, 5)
LATENCIES: tuple[tuple[str, str], ...] = (("TTFT p50", "ttft_p50_s"), ("TPOT p50", "tpot_p50_s"))
EARLIER_ROWS = 3
TABLE_ROWS = 5
NOTE_ROWS = 2
"""Of what a reader must know; all of it is in the file and in the command's output."""
RESULTS_MAX = 100


class BenchWanted(Message):
    """The operator wants to measure."""

    def __init__(self, plan: BenchPlan) -> None:
        self.plan = plan
        super().__init__()


class BenchFailed(Message):
    """A benchmark ended with an error."""

    def __init__(self, error: ConsoleError) -> None:
        self.error = error
        super().__init__()


class BenchPane(Panel, can_focus=True):
    """Everything of the fourth tab."""

    BINDINGS: ClassVar[list[BindingType]] = bindings_for("bench")

    def __init__(self, *, id: str) -> None:  # noqa: A002
        super().__init__(id=id)
        self.model: RunModel | None = None
        self.progress: BenchProgress | None = None
        self.result: BenchResult | None = None
        self.earlier: tuple[BenchResult, ...] = ()
        self._chosen: str | None = None
        self._shape = Shape.CHAT
        self._clients = 0
        self._repeats = 0
        self._latency = 0
        self._ending = False
        self.measuring = False

    @property
    def plan(self) -> BenchPlan:
        """What would be measured."""
        return BenchPlan(shape=self._shape, concurrency=CLIENTS[self._clients], repeats=REPEATS[self._repeats])

    def show(self, model: RunModel) -> None:
        """Show this run."""
        self.model = model
        self.repaint()

    def load(self, backend: Backend) -> None:
        """Look up what was measured before."""
        self.run_worker(self._load(backend), group="bench-results", exclusive=True, exit_on_error=False)

    async def _load(self, backend: Backend) -> None:
        found = (await backend.bench_results())[:RESULTS_MAX]
        if self.result is None and self.model is not None:
            self.result = next((each for each in found if each.run_id == self.model.run.id), None)
        self.earlier = found
        self.repaint()
        self.refresh_bindings()

    def begin(self, backend: Backend, plan: BenchPlan) -> None:
        """Measure. One at a time."""
        if self.model is not None and not self.measuring:
            self.measuring, self._ending = True, False
            self.run_worker(self._measure(backend, self.model.run.id, plan), group=GROUP, exit_on_error=False)
            self.repaint()
            self.refresh_bindings()

    async def _measure(self, backend: Backend, run_id: str, plan: BenchPlan) -> None:
        worker = get_current_worker()
        try:
            self.result = await backend.bench(run_id, plan, self._on_progress, self._on_result)
        except ConsoleError as error:
            if not worker.is_cancelled:
                self.post_message(BenchFailed(error))
        finally:
            self.progress, self.measuring, self._ending = None, False, False
            if self.is_attached:
                self.load(backend)
                self.repaint()
                self.refresh_bindings()

    def _on_progress(self, progress: BenchProgress) -> None:
        self.progress = progress
        self.repaint()

    def _on_result(self, result: BenchResult) -> None:
        self.result = result
        self.repaint()

    @property
    def _refused(self) -> bool:
        """There is no server here that could be measured."""
        return self.model is not None and bool(self.model.player or self.model.refusal)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys that make no sense now are off."""
        if action == "cancel":
            return self.measuring and not self._ending
        if action == "measure":
            return not self.measuring and not self._refused
        if action == "choose":
            return len(self.others) > 0
        return True

    def action_measure(self) -> None:
        """Ask, then measure."""
        self.post_message(BenchWanted(self.plan))

    def action_cancel(self) -> None:
        """End what runs; its rows are kept."""
        self._ending = True
        for worker in self.workers:
            if worker.group == GROUP:
                worker.cancel()
        self.repaint()
        self.refresh_bindings()

    def action_shape(self) -> None:
        """The next shape."""
        shapes = tuple(Shape)
        self._shape = shapes[(shapes.index(self._shape) + 1) % len(shapes)]
        self.repaint()

    def action_clients(self) -> None:
        """The next row of concurrencies."""
        self._clients = (self._clients + 1) % len(CLIENTS)
        self.repaint()

    def action_repeats(self) -> None:
        """More repeats, or one again."""
        self._repeats = (self._repeats + 1) % len(REPEATS)
        self.repaint()

    def action_latency(self) -> None:
        """The other latency under the curve."""
        self._latency = (self._latency + 1) % len(LATENCIES)
        self.repaint()

    def action_choose(self, step: int) -> None:
        """Put the next earlier result beside this one; past the last one, none."""
        ids = [None, *(result.id for result in self.others)]
        at = ids.index(self._chosen) if self._chosen in ids else 0
        self._chosen = ids[(at + step) % len(ids)]
        self.repaint()

    @property
    def others(self) -> tuple[BenchResult, ...]:
        """Earlier results that the one on the screen can be compared with."""
        return tuple(each for each in self.earlier if self.result is None or each.id != self.result.id)

    def paint(self, width: int, height: int) -> list[Line]:
        top = [self._settings(width), self._state(width), BLANK]
        points = self.result.points if self.result else ()
        other = next((each for each in self.others if each.id == self._chosen), None)
        compared = _compared(other, self.result, width) if other else []
        lower = [*compared, *self._list(width)]
        table = _table(points, width, TABLE_ROWS if height < 40 else 4 * TABLE_ROWS)
        if table and self.result:
            table += [cut(line((note, "muted")), width) for note in self.result.notes[:NOTE_ROWS]]
        room = height - len(top) - len(table) - len(lower) - 2
        name, field = LATENCIES[self._latency]
        drawn = curve(_dots(points, field), _dots(other.points if other else (), field), name, width, room)
        if self._refused and not points:
            drawn = []
        body = [*top, *table, BLANK, *drawn, BLANK]
        return [*body[: max(height - len(lower), 0)], *lower][:height]

    def _settings(self, width: int) -> Line:
        plan = self.plan
        load = LOADS[plan.shape]
        shared = f", {load.shared_prefix:.0%} shared" if load.shared_prefix else ""
        spans: list[Span] = [
            ("Shape ", "muted"),
            (str(plan.shape), "strong"),
            (f" {load.input_tokens:,} in, {load.output_tokens:,} out{shared}", "muted"),
            ("   Clients ", "muted"),
            (",".join(map(str, plan.concurrency)), "strong"),
            ("   Repeats ", "muted"),
            (str(plan.repeats), "strong"),
        ]
        return cut(line(*spans), width)

    def _state(self, width: int) -> Line:
        if self._ending:
            return line(("ending it; rows that are done are kept", "warn"))
        if self.progress is not None:
            row = self.progress
            share = (max(row.row - 1, 0) + (row.fraction if row.row else 0.0)) / max(row.rows, 1)
            cells = max(min(width - len(row.text) - 3, 40), 0)
            full = round(share * cells)
            return line((f"{row.text}  ", "accent"), ("█" * full, "fill"), ("░" * (cells - full), "faint"))
        if self.measuring:
            return line(("asking the server what it serves", "accent"))
        if self.result is None:
            measures = "" if self._refused else f"{key_for('bench.measure')} measures; it loads the server."
            return line((f"Nothing was measured in this run yet. {measures}", "muted"))
        ended = f"  ended early: {self.result.ended}" if self.result.ended else ""
        lengths = (
            f"  {self.result.input_tokens:,} in, {self.result.output_tokens:,} out" if self.result.input_tokens else ""
        )
        facts = f"{lengths}  {self.result.machine}"
        return cut(line((self.result.id, "text"), (facts, "muted"), (ended, "warn")), width)

    def _list(self, width: int) -> list[Line]:
        others = self.others
        if not others:
            return []
        at = next((index for index, each in enumerate(others) if each.id == self._chosen), -1)
        first = max(min(at - 1, len(others) - EARLIER_ROWS), 0)
        rows = [rule("Earlier, ↑ ↓ put one beside it", width)]
        for each in others[first : first + EARLIER_ROWS]:
            best = max((point.output_tokens_per_s for point in each.points), default=None)
            mark = "▸ " if each.id == self._chosen else "  "
            text = ((mark, "accent"), (each.id, "strong" if each.id == self._chosen else "text"))
            rows.append(spread(line(*text, (f"  {each.profile_name}", "muted")), line((fmt.rate(best), "text")), width))
        return rows


def _table(points: Sequence[BenchPoint], width: int, rows_max: int) -> list[Line]:
    """The last rows under their titles; where it is too wide, columns at the right go."""
    if not points:
        return []
    shown = points[-rows_max:]
    columns = COLUMNS
    while len(heading(columns)) > width and len(columns) > 1:
        columns = columns[:-1]
    rows = [line((heading(columns), "muted"))]
    rows += [line((row_line(point, columns), "warn" if point.failed else "text")) for point in shown]
    if len(points) > len(shown):
        rows.append(line((f"and {len(points) - len(shown)} rows before these", "muted")))
    return rows


def _dots(points: Sequence[BenchPoint], field: str) -> list[Dot]:
    """One per concurrency, the mean of its repeats, by rising concurrency."""
    groups: dict[int, list[BenchPoint]] = {}
    for point in points:
        if getattr(point, field) is not None:
            groups.setdefault(point.concurrency, []).append(point)
    return [
        Dot(
            fmean(getattr(point, field) for point in group),
            fmean(point.output_tokens_per_s for point in group),
            str(clients),
        )
        for clients, group in sorted(groups.items())
    ]


def _compared(other: BenchResult, result: BenchResult | None, width: int) -> list[Line]:
    """The throughput of the result on the screen over that of the other one."""
    comparison = compare(other.points, result.points if result else ())
    overall = comparison.overall
    if overall is None:
        return wrapped(f"{other.id} has no row of the same shape and concurrency.", width, "warn")
    if result and (other.input_tokens, other.output_tokens) != (result.input_tokens, result.output_tokens):
        return wrapped(f"{other.id} had prompts or answers of another length: not comparable.", width, "warn")
    rows = "  ".join(f"{row.concurrency}: {row.ratios[0].ratio:.2f}" for row in comparison.rows if row.ratios)
    return [
        cut(line(("Output tok/s against it ", "muted"), (ratio_text(overall), "strong")), width),
        cut(line(("By clients ", "muted"), rows), width),
    ]


def load_sentences(name: str, plan: BenchPlan) -> list[str]:
    """What a benchmark does to the server, for the question before it."""
    requests = sum(plan.requests or requests_for(clients) for clients, _, _ in plan.rows)
    return [
        f"{len(plan.rows)} rows, {requests:,} requests, up to {max(plan.concurrency)} at once.",
        f"This is load on {name}: whoever else uses it waits longer meanwhile.",
        LOADS[plan.shape].source,
    ]
