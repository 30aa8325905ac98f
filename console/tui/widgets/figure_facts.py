"""Figures of the engine that have no chart: one row of `FACTS` each, the most telling first.

A fact that has nothing to say (speculation that is off, no target set) is not there; one that asks for attention has
a mark, and is on the screen however small that is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from console.core.models import EngineReading, EngineShare
from console.tui import fmt
from console.tui.paint import Line, Span, line, line_width
from console.tui.widgets.figure_texts import (
    Facts,
    busy_text,
    cache_text,
    ended_text,
    energy_text,
    errors_text,
    estimate_text,
    goodput_text,
    imbalance_text,
    lengths_text,
    longest_parts_text,
    longest_text,
    p95_text,
    peaks_text,
    positions_text,
    prefix_text,
    ratio,
    requests_text,
    sources_text,
    speculation_text,
    waiting_text,
)

__all__ = [
    "ENGINES_SHOWN_MAX",
    "FACTS",
    "IMBALANCE_WARN",
    "Group",
    "Shown",
    "engine_lines",
    "flow",
    "shown_facts",
]

IMBALANCE_WARN = 1.5
"""From here on one engine has so much more than the others that they are idle beside it."""
ENGINES_SHOWN_MAX = 16
GAP = "   "


class Group:
    """The column of a wide screen in which a fact stands."""

    NARROW = "narrow"
    """In no column: a wide screen shows it elsewhere."""
    WORK = "work"
    REQUESTS = "requests"
    CACHE = "cache"


class Fact(NamedTuple):
    """One figure with its name."""

    label: str
    group: str
    read: Callable[[Facts], str]
    """Its text; empty where there is nothing to say."""
    alarm: Callable[[EngineReading], bool] = lambda engine: False


FACTS: tuple[Fact, ...] = (
    Fact(
        "errors",
        Group.REQUESTS,
        lambda f: errors_text(f.engine),
        lambda e: bool((e.http_errors_by_status or {}).get("5xx")),
    ),
    Fact(
        "rejected",
        Group.REQUESTS,
        lambda f: "" if f.engine.admission_rejections_total is None else fmt.whole(f.engine.admission_rejections_total),
        lambda e: bool(e.admission_rejections_total),
    ),
    Fact("waiting for", Group.REQUESTS, lambda f: waiting_text(f.engine), lambda e: bool(e.waiting_deferred)),
    Fact(
        "engines",
        Group.WORK,
        lambda f: imbalance_text(f.engine),
        lambda e: e.imbalance is not None and e.imbalance >= IMBALANCE_WARN,
    ),
    Fact("goodput", Group.WORK, lambda f: goodput_text(f.engine.goodput)),
    Fact("speculation", Group.WORK, lambda f: speculation_text(f.engine)),
    Fact("accepted by position", Group.WORK, lambda f: positions_text(f.engine)),
    Fact("p95", Group.NARROW, lambda f: p95_text(f.engine)),
    Fact("prompts", Group.REQUESTS, lambda f: lengths_text(f.engine.prompt_lengths)),
    Fact("answers", Group.REQUESTS, lambda f: lengths_text(f.engine.generation_lengths)),
    Fact(
        "cut at their limit",
        Group.REQUESTS,
        lambda f: "" if f.engine.length_capped_share is None else ratio(f.engine.length_capped_share),
    ),
    Fact("longest request", Group.REQUESTS, longest_text),
    Fact("longest", Group.REQUESTS, lambda f: longest_parts_text(f.engine)),
    Fact("prefix cache", Group.CACHE, lambda f: prefix_text(f.engine)),
    Fact(
        "external cache",
        Group.CACHE,
        lambda f: "" if f.engine.external_cache_hit_rate is None else ratio(f.engine.external_cache_hit_rate),
    ),
    Fact("prompt tokens", Group.CACHE, lambda f: sources_text(f.engine)),
    Fact("KV cache", Group.CACHE, lambda f: cache_text(f.engine)),
    Fact(
        "prefill",
        Group.WORK,
        lambda f: "" if f.engine.prefill_share is None else f"{ratio(f.engine.prefill_share)} of the time",
    ),
    Fact(
        "requests",
        Group.WORK,
        lambda f: requests_text(f.engine.requests_per_s),
    ),
    Fact(
        "per step",
        Group.WORK,
        lambda f: (
            "" if f.engine.iteration_tokens_mean is None else f"{fmt.count(f.engine.iteration_tokens_mean)} tokens"
        ),
    ),
    Fact("while busy", Group.WORK, lambda f: busy_text(f.engine)),
    Fact("energy", Group.WORK, energy_text),
    Fact("estimate per GPU", Group.WORK, lambda f: estimate_text(f.engine)),
    Fact("ended", Group.REQUESTS, lambda f: ended_text(f.engine)),
    Fact("peak", Group.REQUESTS, lambda f: peaks_text(f.engine)),
    Fact(
        "counters fell back",
        Group.REQUESTS,
        lambda f: f"{f.engine.resets_total}×" if f.engine.resets_total else "",
        lambda e: e.resets_total > 0,
    ),
)


class Shown(NamedTuple):
    """One fact as it stands on the screen."""

    spans: Line
    group: str
    alarm: bool


def shown_facts(facts: Facts, role: str) -> list[Shown]:
    """All facts that have something to say, those that ask for attention first."""
    out = []
    for fact in FACTS:
        text = fact.read(facts)
        if text:
            alarm = fact.alarm(facts.engine) and role != "muted"
            mark: Span = ("▲ ", "warn") if alarm else ("", "text")
            out.append(
                Shown(line(mark, (f"{fact.label} ", "muted"), (text, "warn" if alarm else role)), fact.group, alarm)
            )
    return sorted(out, key=lambda shown: not shown.alarm)


def flow(facts: Iterable[Shown], width: int, rows: int) -> tuple[list[Line], list[Shown]]:
    """Facts one after the other in at most so many lines, and those for which there is no room."""
    out: list[list[Span]] = []
    left: list[Shown] = []
    used = 0
    for shown in facts:
        size = line_width(shown.spans)
        if size > width:
            left.append(shown)
        elif out and used + len(GAP) + size <= width:
            out[-1] += [(GAP, "text"), *shown.spans]
            used += len(GAP) + size
        elif len(out) < rows:
            out.append(list(shown.spans))
            used = size
        else:
            left.append(shown)
    return [tuple(spans) for spans in out], left


def engine_lines(engines: Sequence[EngineShare], width: int, role: str) -> list[Line]:
    """Each of several engines, as many beside one another as there is room for."""
    cells: list[Line] = []
    for one in engines[:ENGINES_SHOWN_MAX]:
        cells.append(
            line(
                (f"engine {one.engine:<3}", "muted"),
                (f"{fmt.whole(one.running):>4}", role),
                (" run ", "muted"),
                (f"{fmt.whole(one.waiting):>4}", "warn" if one.waiting and role != "muted" else role),
                (" wait  KV ", "muted"),
                (f"{ratio(one.kv_cache_usage):>4}", role),
                (f"  {fmt.rate(one.generation_tokens_per_s):<11}", role),
            )
        )
    if not cells:
        return []
    across = max(1, (width + len(GAP)) // (line_width(cells[0]) + len(GAP)))
    out: list[Line] = []
    for start in range(0, len(cells), across):
        row: list[Span] = []
        for cell in cells[start : start + across]:
            row += [*([(GAP, "text")] if row else []), *cell]
        out.append(tuple(row))
    if len(engines) > ENGINES_SHOWN_MAX:
        out.append(line((f"and {len(engines) - ENGINES_SHOWN_MAX} more engines", "muted")))
    return out
