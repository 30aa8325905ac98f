"""The GPUs: a row each where there is room, several to a row where there is not; and the host below.

A GPU speaks up only when something is wrong: near its memory, hot, or silent.
"""

from __future__ import annotations

from console.core.models import GpuReading, HostReading
from console.tui import fmt
from console.tui.glyphs import UNKNOWN
from console.tui.model import RunModel
from console.tui.paint import Line, Span, beside, line, pad, rule
from console.tui.widgets.panel import Panel

__all__ = ["GpuTable", "gpu_lines", "host_line", "meter"]

HOT_C = 87.0
"""From here on a data-centre GPU is near its slowdown temperature (H100: 87 °C target, 92 °C slowdown)."""


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


def _note(gpu: GpuReading) -> Span:
    if gpu.util_percent is None and gpu.memory_used_bytes is None:
        return ("▲ no answer", "warn")
    if gpu.temperature_c is not None and gpu.temperature_c >= HOT_C:
        return ("▲ hot", "warn")
    return ("", "muted")


def _row(gpu: GpuReading, width: int, role: str) -> Line:
    wide = width >= 76
    bar = 12 if wide else 6
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
    spans += [("  ", "text"), _note(gpu)]
    return line(*spans)


def _head(width: int) -> Line:
    wide = width >= 76
    bar = 12 if wide else 6
    text = f"{'#':>2}  {'util':<{bar + 6}}   {'memory GiB':<{bar + 8}}"
    if width >= 60:
        text += f"   {'power':>9}"
    if width >= 70:
        text += f"  {'temp':>6}"
    return ((text, "muted"),)


def _cell(gpu: GpuReading, width: int, role: str) -> Line:
    note = _note(gpu)[0]
    used, total = fmt.gib(gpu.memory_used_bytes), fmt.gib(gpu.memory_total_bytes)
    memory = f"{used}/{total}" if width >= 18 else f"{used}G"
    spans: list[Span] = [(f"{gpu.index:>2} ", "muted"), (f"{fmt.percent(gpu.util_percent):>5} ", role)]
    if width >= 24:
        ratio = None if gpu.util_percent is None else gpu.util_percent / 100
        spans += [*meter(ratio, width - 18), (" ", "text")]
    spans.append((memory, "muted" if role == "muted" else "text"))
    if note:
        spans.append((" ▲", "warn"))
    return line(*spans)


def gpu_lines(gpus: tuple[GpuReading, ...], width: int, rows_max: int, role: str = "text") -> list[Line]:
    """All GPUs in at most `rows_max` lines: as a table, else in columns."""
    if len(gpus) + 1 <= rows_max:
        return [_head(width), *(_row(gpu, width, role) for gpu in gpus)]
    if len(gpus) <= rows_max:
        return [_row(gpu, width, role) for gpu in gpus]
    gap = 2
    columns = max(-(-len(gpus) // max(rows_max, 1)), 1)
    cell = (width - gap * (columns - 1)) // columns
    if cell < 12:
        columns = max((width + gap) // (12 + gap), 1)
        cell = (width - gap * (columns - 1)) // columns
    rows = -(-len(gpus) // columns)
    blocks = [[_cell(gpu, cell, role) for gpu in gpus[i * rows : (i + 1) * rows]] for i in range(columns)]
    return beside(blocks, [cell] * columns, gap)


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
                out.append(host_line(snapshot.host, True))
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
