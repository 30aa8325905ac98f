"""One GPU in full: what its driver tells, who holds its memory, and its own charts. Arrows go to another one."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import BindingType

from console.core.gpufacts import Fact, gpu_facts, process_facts
from console.core.gpuhealth import gpu_troubles
from console.core.groupview import gpu_name, place_of
from console.core.happenings import marks
from console.core.models import GpuReading, Level
from console.core.xid import meaning
from console.tui import fmt
from console.tui.actions import bindings_for
from console.tui.glyphs import LEVEL_GLYPHS, UNKNOWN
from console.tui.model import RunModel
from console.tui.paint import BLANK, Line, beside, labelled, line, pad, rule
from console.tui.widgets.chart import ChartData, chart_lines
from console.tui.widgets.charts import stale_text
from console.tui.widgets.gpu_table import columns_of, gpu_lines, host_line, node_lines, troubles_of
from console.tui.widgets.panel import Panel

__all__ = ["GpuPane"]

LABEL_WIDTH = 10
CHART_ROWS_MIN, CHART_ROWS_MAX = 3, 14
CHARTS_BESIDE_WIDTH = 140
CHARTS_BESIDE_ROWS = 16
"""All four charts stand beside one another where it is so wide, unless two rows of them have so much room."""
FACTS_BESIDE_WIDTH = 76
GAP = 2
ROLES = {Level.OK: "text", Level.INFO: "text", Level.WARN: "warn", Level.BAD: "bad"}


def fact_lines(facts: tuple[Fact, ...], width: int) -> list[Line]:
    """Label and wrapped text; what matters has a glyph, not only a colour."""
    rows = []
    for fact in facts:
        mark = f"{LEVEL_GLYPHS[fact.level]} " if fact.level in (Level.WARN, Level.BAD) else ""
        rows.append((fact.label, mark + fact.text, ROLES[fact.level]))
    out: list[Line] = []
    for label, text, role in rows:
        out += labelled([(label, text, role)], width, LABEL_WIDTH)
    return out


class GpuPane(Panel, can_focus=True):
    """The tab `GPUs`."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings_for("list"), *bindings_for("gpus")]
    model: RunModel | None = None
    chosen = 0
    """Index as the driver counts, not a place in the list: a GPU may vanish."""
    _selector_rows = 1
    _hidden = 0
    _page = 0
    _page_rows = 1

    def show(self, model: RunModel) -> None:
        """Show this run's GPUs; the chosen one stays chosen."""
        self.model = model
        self.repaint()

    def enter(self, model: RunModel) -> None:
        """It came into sight: keys are its. The first GPU with which something is wrong is chosen, if any is."""
        worst = troubles_of(model.snapshot.gpus or ()) if model.snapshot else []
        if worst and self.model is None:
            self.chosen = worst[0][1]
        self.show(model)
        self.focus()

    @property
    def gpus(self) -> tuple[GpuReading, ...]:
        """Those of the newest snapshot; of a machine that is cut off the last ones."""
        snapshot = self.model.snapshot if self.model else None
        if snapshot is None:
            return ()
        if snapshot.nodes:
            return tuple(gpu for node in snapshot.nodes for gpu in node.gpus or ())
        return snapshot.gpus or ()

    @property
    def place(self) -> int:
        """Where the chosen one stands among them."""
        return next((i for i, gpu in enumerate(self.gpus) if gpu.index == self.chosen), 0)

    def paint(self, width: int, height: int) -> list[Line]:
        model, gpus = self.model, self.gpus
        if model is None:
            return []
        if not gpus:
            source = model.stale("gpu")
            why = (source.error if source else "") or "No GPU is known here."
            host = model.snapshot.host if model.snapshot else None
            return [rule("GPUs", width), line((f"{UNKNOWN} {why}", "muted")), host_line(host, False)]
        gpu = gpus[self.place]
        stale = stale_text(model, "gpu")
        note = line((f"▲ figures {stale}", "warn")) if stale else line((f"{self.place + 1} of {len(gpus)}", "muted"))
        snapshot = model.snapshot
        nodes = snapshot.nodes if snapshot else ()
        silent_s = place_of(nodes, gpu.index).silent_s if nodes else None
        if silent_s is not None:
            note = line((f"▲ figures {fmt.duration(silent_s)} old", "warn"))
        out = [rule(f"GPU {gpu_name(snapshot, gpu.index)}  {gpu.name or ''}".rstrip(), width, note)]
        rows_max = 2 if height < 19 else 4 if height < 40 else 8
        if nodes:
            rows_max = max(rows_max, 2 * len(nodes))
            count = max(len(node.gpus or ()) for node in nodes)
            self._selector_rows = columns_of(count, width, rows_max // len(nodes))[1]
            out += node_lines()(nodes, width, rows_max, gpu.index)
        elif len(gpus) > 1:
            self._selector_rows = columns_of(len(gpus), width, rows_max)[1]
            out += gpu_lines(gpus, width, rows_max, "muted" if stale else "text", chosen=self.place)
        facts = self._facts(gpu, width, model.now)
        charts = self._charts(model, gpu, width, max(height - len(out) - len(facts), 0))
        facts = self._window(facts, max(height - len(out) - len(charts), 1))
        return [pad(row, width) for row in (*out, *facts, *charts)]

    def _window(self, facts: list[Line], rows: int) -> list[Line]:
        """As many of the facts as there is room for, from where one has paged to."""
        self._hidden = max(len(facts) - rows, 0)
        if not self._hidden:
            self._page = 0
            return facts
        self._page_rows = max(rows - 1, 1)
        pages = -(-len(facts) // self._page_rows)
        self._page %= pages
        part = facts[self._page * self._page_rows :][: self._page_rows]
        part += [BLANK] * (self._page_rows - len(part))
        return [*part, line((f"PgDn: page {self._page + 1} of {pages}", "accent"))]

    def _facts(self, gpu: GpuReading, width: int, now_s: float) -> list[Line]:
        wrong = tuple(
            Fact("wrong" if i == 0 else "", trouble.text, trouble.level)
            for i, trouble in enumerate(t for t in gpu_troubles(gpu, self.gpus) if t.level in (Level.WARN, Level.BAD))
        )
        facts = gpu_facts(gpu, now_s)
        if gpu.xid is not None:
            wrong = (*wrong, Fact("remedy", f"Xid {gpu.xid}: {meaning(gpu.xid).remedy}"))
        out = fact_lines(wrong, width)
        if width >= FACTS_BESIDE_WIDTH:
            half = (width - GAP) // 2
            middle = (len(facts) + 1) // 2
            out += beside([fact_lines(facts[:middle], half), fact_lines(facts[middle:], half)], [half, half], GAP)
        else:
            out += fact_lines(facts, width)
        return [*out, *fact_lines(process_facts(gpu), width)]

    def _charts(self, model: RunModel, gpu: GpuReading, width: int, room: int) -> list[Line]:
        """Four side by side, or two rows of two; what has no room is left out, utilization and memory last."""
        beside_count = 4 if width >= CHARTS_BESIDE_WIDTH and room < CHARTS_BESIDE_ROWS else 2
        rows = -(-4 // beside_count)
        while rows > 1 and room // rows < CHART_ROWS_MIN:
            rows -= 1
        each = min(room // rows, CHART_ROWS_MAX)
        if each < CHART_ROWS_MIN:
            each, rows = CHART_ROWS_MIN, 1
        cell = (width - GAP * (beside_count - 1)) // beside_count
        made = [chart_lines(data, cell, each) for data in self._data(model, gpu)[: rows * beside_count]]
        out: list[Line] = []
        for at in range(0, len(made), beside_count):
            part = made[at : at + beside_count]
            out += beside(part, [cell] * len(part), GAP)
        return [BLANK, *out] if room - each * rows > 2 else out

    def _data(self, model: RunModel, gpu: GpuReading) -> list[ChartData]:
        used, total = gpu.memory_used_bytes, gpu.memory_total_bytes
        share = used / total * 100 if used is not None and total else None
        watts = UNKNOWN if gpu.power_w is None else f"{gpu.power_w:.0f} W"
        heat = UNKNOWN if gpu.temperature_c is None else f"{gpu.temperature_c:.0f} °C"
        cap, limit = gpu.power_limit_w, gpu.temperature_limit_c
        return [
            self._chart(model, "util", gpu, "util", fmt.percent(gpu.util_percent)),
            self._chart(model, "memory", gpu, "memory", fmt.percent(share), role="kv"),
            self._chart(
                model,
                "power",
                gpu,
                "power",
                watts,
                top=cap,
                limit_of=(cap, " W"),
            ),
            self._chart(model, "temperature", gpu, "temperature", heat, role="kv", limit_of=(limit, " °C")),
        ]

    @staticmethod
    def _chart(
        model: RunModel,
        figure: str,
        gpu: GpuReading,
        title: str,
        text: str,
        *,
        top: float | None = 100.0,
        role: str = "fill",
        limit_of: tuple[float | None, str] = (None, ""),
    ) -> ChartData:
        limit, unit = limit_of
        return ChartData(
            title=title,
            figure=text,
            values=lambda count: model.gpu_series.columns(figure, gpu.index, model.zoom.span_s, model.now, count),
            zoom=model.zoom,
            top=top,
            role=role,
            warn=limit,
            limit="" if limit is None else f"{limit:.0f}{unit}",
            marks=lambda count: marks(tuple(model.events), model.now, model.zoom.span_s, count),
            chosen=model.chosen,
            now_s=model.now,
        )

    def action_move(self, step: int) -> None:
        """Choose the next or previous GPU."""
        if self.gpus:
            self._page = 0
            self.chosen = self.gpus[min(max(self.place + step, 0), len(self.gpus) - 1)].index
            self.repaint()

    def action_edge(self, side: int) -> None:
        """Choose the first or the last."""
        self.action_move(side * len(self.gpus))

    def action_page(self, step: int) -> None:
        """The next of the facts that have no room."""
        self._page = max(self._page + step, 0)
        self.repaint()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """There are pages only where not all has room."""
        return bool(self._hidden) if action == "page" else True

    def action_across(self, side: int) -> None:
        """Choose the one beside it."""
        self.action_move(side * self._selector_rows)
