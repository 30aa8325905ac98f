"""The GPUs: a row each where there is room, several to a row where there is not; and the host below.

A GPU speaks up only when something is wrong: what `console.core.gpuhealth` finds in its reading. A power cap that holds
the clocks is usual under load and said quietly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from console.core.gpufacts import pair_text
from console.core.gpuhealth import gpu_troubles
from console.core.models import GpuReading, HostReading, Level, Throttle
from console.tui import fmt
from console.tui.glyphs import UNKNOWN
from console.tui.keymap import key_for
from console.tui.model import RunModel
from console.tui.paint import Line, Span, beside, clip, line, pad, rule
from console.tui.paint import selected as select_row
from console.tui.widgets.panel import Panel

__all__ = [
    "GpuTable",
    "columns_of",
    "gpu_lines",
    "host_line",
    "meter",
    "traffic_line",
    "trouble_lines",
    "troubles_of",
]

WIDE = 76
"""From this width on there is room for a note of 15 cells: `▲ remap pending`, or the clock where nothing is wrong."""
ROLES = {Level.BAD: "bad", Level.WARN: "warn"}
GAP = 2
CELL_MIN = 12
"""Cells of a GPU where several stand beside one another: index, utilization, memory."""
TROUBLES_MAX = 3
"""Lines below the table that say in full what is wrong."""


def meter(ratio: float | None, width: int, role: str = "fill") -> Line:
    """A bar of exactly `width` cells."""
    if ratio is None:
        return ((" " * width, "faint"),)
    halves = round(min(max(ratio, 0.0), 1.0) * width * 2)
    text = "━" * (halves // 2) + "╸" * (halves % 2)
    return ((text, role), ("─" * (width - len(text)), "faint"))


def host_line(host: HostReading | None, gpu: bool) -> Line:
    """CPU and memory of the machine, and what the server takes of them."""
    if host is None:
        return line((f"host {UNKNOWN}", "muted"))
    spans: list[Span | str] = [("host  ", "muted"), ("CPU ", "muted"), fmt.percent(host.cpu_percent)]
    if host.cpu_count:
        spans.append((f" of {host.cpu_count}", "muted"))
    spans += [("   RAM ", "muted"), f"{fmt.gib(host.memory_used_bytes)}/{fmt.gib(host.memory_total_bytes)} GiB"]
    if host.tree_memory_bytes is not None or host.tree_cpu_percent is not None:
        spans += [("   server ", "muted"), f"{fmt.gib(host.tree_memory_bytes)} GiB"]
        spans += [(" CPU ", "muted"), fmt.percent(host.tree_cpu_percent)]
        if host.tree_processes and not gpu:
            spans.append((f" in {host.tree_processes} processes", "muted"))
    return line(*spans)


def _memory_ratio(gpu: GpuReading) -> float | None:
    if gpu.memory_used_bytes is None or not gpu.memory_total_bytes:
        return None
    return gpu.memory_used_bytes / gpu.memory_total_bytes


def _note(gpu: GpuReading, peers: Sequence[GpuReading], *, clock: bool) -> Span:
    """What is wrong with a GPU; where nothing is and there is room, its clock and whether the power cap holds it."""
    worst = next(iter(gpu_troubles(gpu, peers)), None)
    if worst is not None and worst.level in ROLES:
        return (f"▲ {worst.short}", ROLES[worst.level])
    if not clock or gpu.sm_clock_mhz is None:
        return ("", "muted")
    capped = " capped" if Throttle.POWER_CAP in (gpu.throttle or ()) else ""
    return (f"{gpu.sm_clock_mhz:4.0f} MHz{capped}", "muted")


def troubles_of(gpus: Sequence[GpuReading]) -> list[tuple[Level, int, str]]:
    """Level, index and text for each GPU with which something is wrong, gravest first: in full, or several in short."""
    found = []
    for gpu in gpus:
        wrong = [trouble for trouble in gpu_troubles(gpu, gpus) if trouble.level in ROLES]
        if wrong:
            text = wrong[0].text if len(wrong) == 1 else ", ".join(trouble.short for trouble in wrong)
            found.append((wrong[0].level, gpu.index, text))
    found.sort(key=lambda each: each[0] is not Level.BAD)
    return found


def trouble_lines(gpus: Sequence[GpuReading], width: int) -> list[Line]:
    """A line for each GPU with which something is wrong, gravest first."""
    found = troubles_of(gpus)
    lines = [
        line((f"▲ GPU {index}  ", ROLES[level]), clip(text, width - 10 - len(str(index))))
        for level, index, text in found[:TROUBLES_MAX]
    ]
    if len(found) > TROUBLES_MAX:
        more = len(found) - TROUBLES_MAX + 1
        lines[-1] = line((f"▲ and {more} more GPUs: {key_for('dashboard.gpu')} shows each", "warn"))
    return lines


def traffic_line(gpus: Sequence[GpuReading]) -> Line:
    """What all GPUs together move, how busy their memory is and how hot; empty where nothing of it is known."""
    links: list[Span | str] = []
    for name in ("pcie", "nvlink"):
        rates = [_total(gpus, f"{name}_{direction}_bytes_per_s") for direction in ("rx", "tx")]
        if rates != [None, None]:
            links += [
                ({"pcie": "PCIe ", "nvlink": "NVLink "}[name], "muted"),
                pair_text(rates[0], rates[1], "/s"),
                "   ",
            ]
    spans: list[Span | str] = [("in/out  ", "muted"), *links] if links else []
    busy = [gpu.memory_util_percent for gpu in gpus if gpu.memory_util_percent is not None]
    if busy:
        spans += [("memory busy ", "muted"), fmt.percent(sum(busy) / len(busy))]
    hottest = max((gpu.memory_temperature_c for gpu in gpus if gpu.memory_temperature_c is not None), default=None)
    if hottest is not None:
        spans += [("  ", "text"), f"{hottest:.0f} °C"]
    return line(*spans)


def _total(gpus: Sequence[GpuReading], field: str) -> float | None:
    known = [value for gpu in gpus if (value := getattr(gpu, field)) is not None]
    return sum(known) if known else None


def _row(gpu: GpuReading, peers: Sequence[GpuReading], width: int, role: str) -> Line:
    bar = _bar(width)
    power = f"{gpu.power_w:.0f}" if gpu.power_w is not None else UNKNOWN
    limit = f"/{gpu.power_limit_w:.0f}" if gpu.power_limit_w is not None else ""
    memory = f"{fmt.gib(gpu.memory_used_bytes)}/{fmt.gib(gpu.memory_total_bytes)}"
    temp = f"{gpu.temperature_c:.0f} °C" if gpu.temperature_c is not None else UNKNOWN
    util = gpu.util_percent
    spans: list[Span] = [
        (f"{gpu.index:>2}  ", "muted"),
        (f"{fmt.percent(util):>5} ", role),
        *meter(None if util is None else util / 100, bar),
        ("   ", "text"),
        (f"{memory:>7} ", role),
        *meter(_memory_ratio(gpu), bar, "kv"),
    ]
    if width >= 60:
        spans += [("   ", "text"), (f"{power + limit:>7} W", role)]
    if width >= 70:
        spans += [("  ", "text"), (f"{temp:>6}", role)]
    spans += [("  ", "text"), _note(gpu, peers, clock=width >= WIDE)]
    return line(*spans)


def _bar(width: int) -> int:
    """Cells of each bar: what the figures and a note beside them leave."""
    return 9 if width >= WIDE else 6


def _head(width: int) -> Line:
    bar = _bar(width)
    text = f"{'#':>2}  {'util':<{bar + 6}}   {'memory GiB':<{bar + 8}}"
    if width >= 60:
        text += f"   {'power':>9}"
    if width >= 70:
        text += f"  {'temp':>6}"
    if width >= WIDE:
        text += f"  {'clock':>8}"
    return ((text, "muted"),)


def _cell(gpu: GpuReading, peers: Sequence[GpuReading], width: int, role: str) -> Line:
    note, note_role = _note(gpu, peers, clock=False)
    used, total = fmt.gib(gpu.memory_used_bytes), fmt.gib(gpu.memory_total_bytes)
    memory = f"{used}/{total}" if width >= 18 else f"{used}G"
    spans: list[Span] = [(f"{gpu.index:>2} ", "muted"), (f"{fmt.percent(gpu.util_percent):>5} ", role)]
    if width >= 24:
        ratio = None if gpu.util_percent is None else gpu.util_percent / 100
        spans += [*meter(ratio, width - 18), (" ", "text")]
    spans.append((memory, "muted" if role == "muted" else "text"))
    if note:
        spans.append((" ▲", note_role))
    return line(*spans)


def columns_of(count: int, width: int, rows_max: int) -> tuple[int, int, int]:
    """Columns, rows and cells of a column for so many GPUs in at most `rows_max` lines, as far as they fit."""
    if count <= rows_max:
        return 1, count, width
    columns = max(-(-count // max(rows_max, 1)), 1)
    cell = (width - GAP * (columns - 1)) // columns
    if cell < CELL_MIN:
        columns = max((width + GAP) // (CELL_MIN + GAP), 1)
        cell = (width - GAP * (columns - 1)) // columns
    return columns, -(-count // columns), cell


def gpu_lines(
    gpus: tuple[GpuReading, ...], width: int, rows_max: int, role: str = "text", chosen: int | None = None
) -> list[Line]:
    """All GPUs in at most `rows_max` lines: as a table, else in columns. `chosen` is the place of one to mark."""
    columns, rows, cell = columns_of(len(gpus), width, rows_max)

    def marked(place: int, row: Line, room: int) -> Line:
        if place != chosen:
            return row
        head = (row[0][0][:-1] + "▸", row[0][1])
        return select_row(pad((head, *row[1:]), room))

    if columns == 1:
        lines = [marked(i, _row(gpu, gpus, width, role), width) for i, gpu in enumerate(gpus)]
        return [_head(width), *lines] if len(gpus) + 1 <= rows_max else lines
    cells = [marked(i, _cell(gpu, gpus, cell, role), cell) for i, gpu in enumerate(gpus)]
    return beside([cells[i * rows : (i + 1) * rows] for i in range(columns)], [cell] * columns, GAP)


def node_lines() -> Callable[..., list[Line]]:
    """Only a group's screen loads what it needs."""
    from console.tui.widgets.node_lines import node_gpu_lines

    return node_gpu_lines


class GpuTable(Panel):
    """GPUs and host of the newest snapshot."""

    model: RunModel | None = None

    def show(self, model: RunModel) -> None:
        """Show this run's hardware."""
        self.model = model
        self.repaint()

    def paint(self, width: int, height: int) -> list[Line]:
        snapshot = self.model.snapshot if self.model else None
        if self.model is None or snapshot is None:
            return []
        screen = self.app.size.height
        rows_max = 2 if screen < 23 else 4 if screen < 30 else 8 if screen < 44 else 17
        if snapshot.nodes:
            # Each machine has a row of its own.
            return node_lines()(snapshot.nodes, width, max(rows_max, 2 * len(snapshot.nodes)), troubles=screen >= 30)
        gpus = snapshot.gpus
        source = self.model.stale("gpu")
        if gpus:
            stale = source is not None
            names = sorted({g.name for g in gpus if g.name})
            title = f"{len(gpus)} × {names[0]}" if len(names) == 1 else f"{len(gpus)} GPUs"
            note = self._stale_note() if stale else ()
            out = [rule(title, width, note)]
            out += gpu_lines(gpus, width, rows_max, "muted" if stale else "text")
            if screen >= 30:
                out += [] if stale else trouble_lines(gpus, width)
                out.append(host_line(snapshot.host, True))
            if screen >= 44 and not stale and (traffic := traffic_line(gpus)):
                out.append(traffic)
            return [pad(row, width) for row in out]
        why = source.error if source is not None and source.error else ""
        title = "No GPU" if gpus is None and not why else "GPU" if why else "No GPU on this machine"
        note = ((why[: max(width - 12, 0)], "muted"),) if why else ()
        return [rule(title, width, line(*note)), pad(host_line(snapshot.host, False), width)]

    def _stale_note(self) -> Line:
        source = self.model.stale("gpu") if self.model else None
        if source is None:
            return ()
        age = f"{fmt.duration(source.age_s)} old" if source.age_s is not None else "no answer yet"
        return line((f"▲ figures {age}", "warn"), (f"  {source.error}" if source.error else "", "muted"))
