"""A group's machines in lines: their GPUs under the name of each, and how far each is in a start."""

from __future__ import annotations

from collections.abc import Sequence

from console.core.groupview import numbered
from console.core.models import PHASES, GpuReading, HostReading, NodeFigures, Phase, ServerState
from console.tui import fmt
from console.tui.glyphs import UNKNOWN
from console.tui.paint import Line, Span, clip, line, line_width, pad, rule
from console.tui.widgets.gpu_table import gpu_lines, trouble_lines

__all__ = ["node_gpu_lines", "node_phase_lines", "node_words_lines"]

HOST_CELLS = 24
CELL_WIDTH = 22
"""Of a machine in the table of phases: `◐  1m02s  43% shard 3/4`."""
CELL_WIDTH_MAX = 40
WORDS_WIDTH = 25


def _silence(node: NodeFigures, room: int) -> Line:
    if node.silent_s is None:
        return ()
    return line((clip(f"▲ cut off for {fmt.duration(node.silent_s)}: {node.silent_why}", room), "warn"))


def _host(host: HostReading | None) -> Line:
    if host is None:
        return ()
    memory = f"{fmt.gib(host.memory_used_bytes)}/{fmt.gib(host.memory_total_bytes)} GiB"
    return line((f"CPU {fmt.percent(host.cpu_percent)}  RAM {memory}", "muted"))


def _title(node: NodeFigures) -> str:
    gpus = node.gpus
    names = sorted({gpu.name for gpu in gpus or () if gpu.name})
    what = f"  {len(gpus)} × {names[0]}" if gpus and len(names) == 1 else f"  {len(gpus)} GPUs" if gpus else ""
    return f"{clip(line((node.host, ''))[0][0], HOST_CELLS)}{what}"


def node_rule(node: NodeFigures, width: int) -> Line:
    """The machine's row: its name, its GPUs, and its host's load; or for how long it is cut off."""
    title = _title(node)
    room = max(width - line_width(((title, ""),)) - 6, 0)
    note = _silence(node, room)
    if not note and node.gpu_error and node.gpus:
        note = line((clip(f"▲ figures old: {node.gpu_error}", room), "warn"))
    if not note:
        host = _host(node.reading)
        note = host if line_width(host) <= room else ()
    return rule(title, width, note)


def node_gpu_lines(
    nodes: Sequence[NodeFigures], width: int, rows_max: int, chosen: int | None = None, *, troubles: bool = False
) -> list[Line]:
    """Each machine's row, then its GPUs.

    Args:
        nodes: by rank.
        width: cells.
        rows_max: lines for the GPUs of all of them.
        chosen: number of a GPU to mark.
        troubles: say below each machine's GPUs what is wrong with them.
    """
    each = max(rows_max // max(len(nodes), 1), 1)
    out: list[Line] = []
    for node in nodes:
        out.append(node_rule(node, width))
        gpus = numbered(node.gpus, -node.first_gpu)
        if not gpus:
            words = "its driver shows no GPU" if gpus == () else "no figures of GPUs"
            text = f"{words}: {node.gpu_error}" if node.gpu_error and gpus is None else words
            out.append(line((f"{UNKNOWN} ", "muted"), (clip(text, width - 2), "muted")))
            continue
        old = node.silent_s is not None or bool(node.gpu_error)
        out += gpu_lines(gpus, width, each, "muted" if old else "text", chosen=_place(node, chosen))
        if troubles and not old:
            out += trouble_lines(gpus, width)
    return [pad(row, width) for row in out]


def _place(node: NodeFigures, chosen: int | None) -> int | None:
    gpus: tuple[GpuReading, ...] = node.gpus or ()
    return next((place for place, gpu in enumerate(gpus) if gpu.index == chosen), None)


def node_phase_lines(nodes: Sequence[NodeFigures], now: float, width: int, words: dict[Phase, str]) -> list[Line]:
    """How far each machine is in its start: a column for each where there is room, else a row.

    Args:
        nodes: by rank.
        now: Unix time.
        width: cells.
        words: for each phase.
    """
    cell = min((width - WORDS_WIDTH) // max(len(nodes), 1), CELL_WIDTH_MAX)
    if cell < CELL_WIDTH:
        return node_words_lines(nodes, width)
    heads: list[Span | str] = [(" " * WORDS_WIDTH, "muted")]
    heads += [(f"{clip(line((node.host, ''))[0][0], cell - 2):<{cell}}", "strong") for node in nodes]
    out: list[Line] = [line(*heads)]
    for phase in PHASES:
        spans: list[Span | str] = [(f"  {words[phase]:<{WORDS_WIDTH - 2}}", "text")]
        for node in nodes:
            glyph, text, role = _phase(node, phase, now)
            shown = clip(f"{glyph} {text}", cell - 2)
            spans.append((f"{shown:<{cell}}", role))
        out.append(line(*spans))
    # What no phase shows: a machine that was not started yet, or is cut off.
    if any(node.silent_s is not None or node.status.phase is None for node in nodes):
        out += node_words_lines(nodes, width)
    return out


def _phase(node: NodeFigures, phase: Phase, now: float) -> tuple[str, str, str]:
    status = node.status
    done = {each.phase: each.seconds for each in status.phases}
    usual = {each.phase: each.seconds for each in node.expected}
    if phase is status.phase and status.state in (ServerState.STARTING, ServerState.LOADING):
        elapsed = None if status.started_s is None else max(now - status.started_s - sum(done.values()), 0.0)
        share = "" if status.progress is None else f" {fmt.percent(status.progress * 100)}"
        return "◐", f"{fmt.duration(elapsed):>6}{share} {status.phase_detail}".rstrip(), "accent"
    if phase in done:
        return "✓", f"{fmt.duration(done[phase]):>6}", "muted"
    if status.ready_s is not None or (status.phase is not None and PHASES.index(phase) < PHASES.index(status.phase)):
        return "·", "not needed", "muted"
    return "·", f"{'~' + fmt.duration(usual[phase]):>6}" if phase in usual else "", "faint"


def node_words_lines(nodes: Sequence[NodeFigures], width: int) -> list[Line]:
    """A row for each machine: how it is, in words."""
    longest = min(max((len(node.host) for node in nodes), default=0), HOST_CELLS)
    out = []
    for node in nodes:
        host = clip(line((node.host, ""))[0][0], longest)
        room = width - longest - 4
        silent = _silence(node, room)
        text: Line = silent or line((clip(node.words, room), "text"))
        glyph: Span = ("▲ ", "warn") if silent else ("· ", "faint")
        out.append(line(glyph, (f"{host:<{longest}}  ", "strong"), *text))
    return out
