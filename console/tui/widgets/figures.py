"""What the engine does right now: rates, requests, latencies beside their targets.

Three lines at 80 columns and one more for what asks for attention; groups with all figures where there is room.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from console.core.models import EngineReading, Percentiles, RunInfo
from console.tui import fmt
from console.tui.glyphs import UNKNOWN
from console.tui.model import RunModel
from console.tui.paint import Line, Span, beside, line, line_width, pad
from console.tui.widgets.chart import bars, spark
from console.tui.widgets.figure_facts import Group, Shown, engine_lines, flow, shown_facts
from console.tui.widgets.figure_texts import Facts, goodput_text, percentile_text
from console.tui.widgets.panel import Panel

__all__ = ["Figures", "figure_lines"]

NOTHING = Percentiles()
GROUPS_WIDTH = 130
"""From here on three groups fit beside one another."""
FACT_ROWS: tuple[tuple[int, int], ...] = ((40, 18), (30, 2))
"""Height of the screen → lines of facts below the three of a narrow one."""
GROUP_ROWS = 13
"""Lines of a group on a tall screen."""
GPUS_MANY = 8
"""More than these take lines that facts would have: each is there for a log in sight."""
GROUP_ROWS_BESIDE_MANY = 10
OVERFLOW_ROWS = 4
"""Lines below all groups, for facts that found no room in their own."""
MISSED_WIDTH = 9
"""Cells of ` ▲ missed`."""
TABLE_WIDTH = 56
"""Cells of the table of latencies with a target that is missed."""
GROUP_WIDTH_MIN = 40
"""The two other groups get no narrower for it."""
MEAN_WIDTH = 50
"""A table of latencies this wide has room for their mean beside percentiles and targets."""
LATENCIES: tuple[tuple[str, str], ...] = (
    ("TTFT", "ttft"),
    ("TPOT", "tpot"),
    ("ITL", "itl"),
    ("e2e", "e2e"),
    ("queue", "queue"),
    ("prefill", "prefill"),
    ("decode", "decode"),
)
"""Label and field of `EngineReading`; the first two may have a target."""


@dataclass(frozen=True, slots=True)
class View:
    """What the figures need, with the roles that staleness decides."""

    facts: Facts
    running_max: int | None
    output: Sequence[float | None]
    running: Sequence[float | None]
    role: str

    @property
    def engine(self) -> EngineReading:
        """The newest reading."""
        return self.facts.engine

    def target_s(self, field: str) -> float | None:
        """The profile's target for that latency."""
        run: RunInfo = self.facts.run
        return {"ttft": run.ttft_target_s, "tpot": run.tpot_target_s}.get(field)

    @property
    def running_text(self) -> str:
        """`12/32`, or `12` where the maximum is unknown."""
        return fmt.whole(self.engine.running) + (f"/{self.running_max}" if self.running_max else "")

    @property
    def crowded(self) -> bool:
        """The table of GPUs needs the room."""
        return len(self.facts.gpus) > GPUS_MANY

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


def target_mark(value: Percentiles | None, target_s: float | None, role: str, width: int) -> Line:
    """Whether the 95th percentile is within its target, with the target where there is room for it.

    No word is said where target and percentile both lie in the lowest bucket.
    """
    if target_s is None:
        return ()
    p95_s, lowest_s = (value or NOTHING).p95_s, (value or NOTHING).lowest_bound_s
    if p95_s is None or (lowest_s is not None and target_s < lowest_s and p95_s <= lowest_s):
        words, word_role = "target", "muted"
    else:
        words, word_role = ("● met", "ok") if p95_s <= target_s else ("▲ missed", "warn")
    full = f"{words} {fmt.latency(target_s)}"
    return line((full if len(full) <= width else words, "muted" if role == "muted" else word_role))


def _latency(label: str, value: Percentiles | None, target_s: float | None, width: int, role: str) -> Line:
    room = width - (MISSED_WIDTH if target_s is not None else 0)
    names = ("p50", "p95", "p99") if room >= 41 else ("p50", "p95") if room >= 29 else ("p50",)
    spans: list[Span] = [(f"{label:<5}", "muted")]
    for name in names:
        text = percentile_text(value or NOTHING, getattr(value or NOTHING, f"{name}_s"))
        spans += [(f" {name} ", "muted"), (f"{text:<7}", role)]
    return (*line(*spans), *target_mark(value, target_s, role, width - line_width(tuple(spans))))


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


def figure_lines(view: View, width: int, height: int) -> list[Line]:
    """The figures for this width, on a screen of this height."""
    tall = height >= FACT_ROWS[0][0]
    out = _groups(view, width, height, tall) if width >= GROUPS_WIDTH else _compact(view, width, height)
    return [*out, *engine_lines(view.engine.by_engine, width, view.role)] if tall and not view.crowded else out


def _compact(view: View, width: int, height: int) -> list[Line]:
    engine, role = view.engine, view.role
    left_width = max(min(width // 2 - 2, 48), 26)
    right_width = width - left_width - 3
    chart = left_width - 19 - 5
    second = ("TPOT", "tpot") if view.target_s("tpot") is not None else ("ITL", "itl")

    def charted(label: str, text: str, text_role: str, values: Sequence[float | None], top: float) -> Line:
        head: list[Span] = [(f"{label:<8}", "muted"), (f"{text:<11}", text_role)]
        if chart < 4:
            return line(*head)
        return (*line(*head), *spark(values[-chart:], top, f"{fmt.axis(top):>4}"))

    goodput: list[Span] = []
    if engine.goodput is not None and left_width >= 37 and (view.crowded or not facts_rows(height)):
        goodput = [("goodput ", "muted"), (goodput_text(engine.goodput).split(" ")[0], role)]
    facts = shown_facts(view.facts, role)
    if view.crowded and facts and facts[0].alarm:
        goodput = list(facts[0].spans)
    left = [
        charted("output", fmt.rate(engine.generation_tokens_per_s), role, view.output, view.output_top),
        line(("prompt  ", "muted"), (f"{fmt.rate(engine.prompt_tokens_per_s):<13}", role), *goodput),
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
    right = [
        _latency(label, getattr(engine, field), view.target_s(field), right_width, role)
        for label, field in (("TTFT", "ttft"), second)
    ]
    right.append(line(*last))
    out = beside([left, right], [left_width, right_width], 3)
    return out if view.crowded else [*out, *_facts_below(view, width, height)]


def facts_rows(height: int) -> int:
    """Lines of facts that a screen of this height has room for, beside those that ask for attention."""
    return next((rows for least, rows in FACT_ROWS if height >= least), 0)


def _facts_below(view: View, width: int, height: int) -> list[Line]:
    facts, rows = shown_facts(view.facts, view.role), 0 if view.crowded else facts_rows(height)
    return flow(facts if rows else [fact for fact in facts if fact.alarm], width, max(rows, 1))[0]


def _groups(view: View, width: int, height: int, tall: bool) -> list[Line]:
    engine, role = view.engine, view.role
    rows = 3 if tall else 1
    gap = 4
    third = max(min((width - 2 * gap) // 3, 70, (width - 2 * gap - TABLE_WIDTH) // 2), GROUP_WIDTH_MIN)
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
    facts = shown_facts(view.facts, role)
    group_rows = 0 if not tall else GROUP_ROWS_BESIDE_MANY if view.crowded else GROUP_ROWS

    overflow: list[Shown] = []

    def with_facts(above: list[Line], group: str, room: int) -> list[Line]:
        lines, left_over = flow([fact for fact in facts if fact.group == group], room, group_rows - len(above))
        overflow.extend(left_over)
        return [*above, *lines]

    last = line(("preempted ", "muted"), *_preempted(view), ("   prefix ", "muted"), (_hit(engine), role))
    if tall:
        latencies = [*_latency_table(view, widths[2], LATENCIES), line(("preempted ", "muted"), *_preempted(view))]
    else:
        latencies = [*_latency_table(view, widths[2], LATENCIES[:3:2]), last]
    left = with_facts([throughput, *charted(view.output, view.output_top)], Group.WORK, widths[0])
    middle = with_facts([requests, *charted(view.running, view.running_top)], Group.REQUESTS, widths[1])
    right = with_facts(latencies, Group.CACHE, widths[2])
    out = beside([left, middle, right], widths, gap)
    if not tall:
        return [*out, *_facts_below(view, width, height)]
    return [*out, *flow(overflow, width, 1 if view.crowded else OVERFLOW_ROWS)[0]]


def _latency_table(view: View, width: int, latencies: Sequence[tuple[str, str]]) -> list[Line]:
    """Percentiles in columns, and the targets beside them."""
    columns = ("mean", "p50", "p95", "p99")[width < MEAN_WIDTH :]
    head: list[Span] = [("latency", "muted"), *((f"{name:>8}", "muted") for name in columns)]
    if any(view.target_s(field) is not None for _, field in latencies):
        head.append(("  target", "muted"))
    out = [line(*head)]
    for label, field in latencies:
        value: Percentiles | None = getattr(view.engine, field)
        figures = value or NOTHING
        spans: list[Span] = [(f"{label:<7}", "muted")]
        for name in columns:
            seconds = getattr(figures, f"{name}_s")
            text = fmt.latency(seconds) if name == "mean" else percentile_text(figures, seconds)
            spans.append((f"{text:>8}", view.role))
        mark = target_mark(value, view.target_s(field), view.role, width - line_width(tuple(spans)) - 2)
        out.append((*line(*spans), ("  ", "text"), *mark))
    return out


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
            facts=Facts(engine, model.run, (snapshot.gpus or ()) if snapshot else ()),
            running_max=model.run.max_num_seqs,
            output=model.series["output"].columns(model.zoom, model.now, columns),
            running=model.series["running"].columns(model.zoom, model.now, columns),
            role="muted" if model.stale("metrics") or snapshot is None or snapshot.engine is None else "text",
        )
        out = figure_lines(view, width, self.app.size.height)
        return [pad(row, width) for row in out]
