"""What the engine does right now: rates, requests, latencies. Three lines at 80 columns, groups with more room."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from console.core.models import EngineReading, Percentiles
from console.tui import fmt
from console.tui.glyphs import UNKNOWN
from console.tui.model import RunModel, bucketed
from console.tui.paint import BLANK, Line, Span, beside, line, pad
from console.tui.widgets.chart import SPAN_S, bars, spark
from console.tui.widgets.panel import Panel

__all__ = ["Figures", "figure_lines"]

NOTHING = Percentiles()


@dataclass(frozen=True, slots=True)
class View:
    """What the figures need, with the roles that staleness decides."""

    engine: EngineReading
    running_max: int | None
    output: Sequence[float | None]
    running: Sequence[float | None]
    role: str

    @property
    def running_text(self) -> str:
        """`12/32`, or `12` where the maximum is unknown."""
        return fmt.whole(self.engine.running) + (f"/{self.running_max}" if self.running_max else "")

    @property
    def full(self) -> bool:
        """Every slot is taken."""
        return self.running_max is not None and (self.engine.running or 0) >= self.running_max

    @property
    def output_top(self) -> float:
        """Top of the output axis."""
        return fmt.axis_top(max((v for v in self.output if v is not None), default=1.0))

    @property
    def running_top(self) -> float:
        """Top of the axis of running requests: the slots, where known."""
        seen = max((v for v in self.running if v is not None), default=1.0)
        return float(max(self.running_max or 0, 0) or fmt.axis_top(seen))


def _latency(label: str, value: Percentiles | None, names: tuple[str, ...], role: str) -> Line:
    value = value or NOTHING
    spans: list[Span] = [(f"{label:<5}", "muted")]
    for name in names:
        text = fmt.latency(getattr(value, f"{name}_s"))
        spans += [(f" {name} ", "muted"), (f"{text:<7}", role)]
    return line(*spans)


def _waiting(view: View) -> Span:
    waiting = view.engine.waiting
    return (fmt.whole(waiting), "warn" if waiting and view.role != "muted" else view.role)


def _preempted(view: View) -> list[Span]:
    total, per_s = view.engine.preemptions_total, view.engine.preemptions_per_s
    busy = bool(per_s) and view.role != "muted"
    spans: list[Span] = [(fmt.whole(total), "warn" if busy else view.role)]
    if per_s:
        spans.append((f" ({fmt.count(per_s)}/s)", "warn" if busy else view.role))
    return spans


def _hit(engine: EngineReading) -> str:
    return UNKNOWN if engine.prefix_cache_hit_rate is None else fmt.percent(engine.prefix_cache_hit_rate * 100)


def figure_lines(view: View, width: int, tall: bool) -> list[Line]:
    """The figures for this width; `tall` allows charts of several rows."""
    if width >= 130:
        return _groups(view, width, 3 if tall else 1)
    return _compact(view, width)


def _compact(view: View, width: int) -> list[Line]:
    engine, role = view.engine, view.role
    left_width = max(min(width // 2 - 2, 48), 26)
    right_width = width - left_width - 3
    chart = left_width - 19 - 5
    names = ("p50", "p95", "p99") if right_width >= 41 else ("p50", "p95") if right_width >= 29 else ("p50",)

    def charted(label: str, text: str, text_role: str, values: Sequence[float | None], top: float) -> Line:
        head: list[Span] = [(f"{label:<8}", "muted"), (f"{text:<11}", text_role)]
        if chart < 4:
            return line(*head)
        return (*line(*head), *spark(values[-chart:], top, f"{fmt.axis(top):>4}"))

    left = [
        charted("output", fmt.rate(engine.generation_tokens_per_s), role, view.output, view.output_top),
        line(("prompt  ", "muted"), (fmt.rate(engine.prompt_tokens_per_s), role)),
        charted(
            "running",
            view.running_text,
            "warn" if view.full and engine.waiting else role,
            view.running,
            view.running_top,
        ),
    ]
    last: list[Span] = [("waiting ", "muted"), _waiting(view), ("  ", "text")]
    last += [("preempted ", "muted"), *_preempted(view)]
    if right_width >= 38:
        last += [("  ", "text"), ("prefix ", "muted"), (_hit(engine), role)]
    right = [_latency("TTFT", engine.ttft, names, role), _latency("ITL", engine.itl, names, role), line(*last)]
    return beside([left, right], [left_width, right_width], 3)


def _groups(view: View, width: int, rows: int) -> list[Line]:
    engine, role = view.engine, view.role
    gap = 4
    third = min((width - 2 * gap) // 3, 70)
    widths = [third, third, width - 2 * gap - 2 * third]

    def charted(values: Sequence[float | None], top: float) -> list[Line]:
        room = third - 6
        drawn = bars(values[-room:], rows, top)
        return [
            ((f"{fmt.axis(top) if y == 0 else '0' if y == rows - 1 else '':>4}", "muted"), ("┤", "faint"), *row)
            for y, row in enumerate(drawn)
        ]

    strong = "strong" if role == "text" else role
    full = "warn" if view.full and engine.waiting else strong
    throughput = line(
        ("output ", "muted"),
        (fmt.rate(engine.generation_tokens_per_s), strong),
        ("   prompt ", "muted"),
        (fmt.rate(engine.prompt_tokens_per_s), role),
    )
    requests = line(
        ("running ", "muted"),
        (view.running_text, full),
        ("   waiting ", "muted"),
        _waiting(view),
        ("   finished ", "muted"),
        (fmt.whole(engine.requests_finished_total), role),
    )
    head = line(("latency", "muted"), *((f"{name:>10}", "muted") for name in ("p50", "p95", "p99")))
    table = [head]
    for label, value in (("TTFT", engine.ttft), ("ITL", engine.itl)):
        v = value or NOTHING
        cells = ((f"{fmt.latency(x):>10}", role) for x in (v.p50_s, v.p95_s, v.p99_s))
        table.append(line((f"{label:<7}", "muted"), *cells))
    shape: Line = BLANK
    if engine.mean_prompt_tokens is not None or engine.mean_generation_tokens is not None:
        shape = line(
            ("   mean ", "muted"),
            (f"{fmt.count(engine.mean_prompt_tokens)} in {fmt.count(engine.mean_generation_tokens)} out", role),
        )
    table.append(
        line(("preempted ", "muted"), *_preempted(view), ("   prefix ", "muted"), (_hit(engine), role), *shape)
    )
    left = [throughput, *charted(view.output, view.output_top)]
    middle = [requests, *charted(view.running, view.running_top)]
    return beside([left, middle, table], widths, gap)


class Figures(Panel):
    """The engine's figures of the newest snapshot."""

    model: RunModel | None = None

    def show(self, model: RunModel) -> None:
        """Show this run's engine."""
        self.model = model
        self.repaint()

    def paint(self, width: int, height: int) -> list[Line]:
        model = self.model
        if model is None:
            return []
        snapshot = model.snapshot
        engine = snapshot.engine if snapshot and snapshot.engine else EngineReading()
        columns = max(width // 3, 20)
        view = View(
            engine=engine,
            running_max=model.run.max_num_seqs,
            output=bucketed(model.series["output"], model.now, SPAN_S, columns),
            running=bucketed(model.series["running"], model.now, SPAN_S, columns),
            role="muted" if model.stale("metrics") or snapshot is None or snapshot.engine is None else "text",
        )
        out = figure_lines(view, width, self.app.size.height >= 40)
        return [pad(row, width) for row in out]
