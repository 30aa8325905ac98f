"""Utilization, power, KV cache use, running requests and output over one run, on one time axis, as SVG.

    python -m tests.gpu.chart timeline.csv OUT.svg

The CSV is that of part 2 (`recordings/full-load/timeline.csv`). Each row has its own scale from 0, named with its top.
"""

from __future__ import annotations

import csv
import math
import sys
from pathlib import Path
from typing import NamedTuple

__all__ = ["draw", "main"]

WIDTH, ROW, GAP, LEFT, RIGHT, TOP, BOTTOM = 960, 70, 26, 20, 20, 40, 34
INK, FAINT, PAPER = "#c9d1d9", "#484f58", "#0d1117"
TICK_S = 30


class Row(NamedTuple):
    """One line of the chart."""

    column: str
    title: str
    colour: str
    scale: float = 1.0
    top: float | None = None
    """Of the scale; `None` takes a round number above the largest value."""


ROWS = (
    Row("util_percent", "GPU utilization, %", "#58a6ff", top=100),
    Row("power_w", "power, W", "#f0883e"),
    Row("kv_cache_usage", "KV cache, % of its blocks", "#3fb950", scale=100),
    Row("running", "requests running", "#bc8cff"),
    Row("generation_tokens_per_s", "output, tok/s", "#e3b341"),
)


def draw(rows: list[dict[str, str]], title: str) -> str:
    """The chart of a timeline.

    Raises:
        ValueError: the timeline has no row.
    """
    if not rows:
        raise ValueError("the timeline is empty")
    end_s = max(float(row["time_s"]) for row in rows)
    height = TOP + len(ROWS) * (ROW + GAP) + BOTTOM

    def x(time_s: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * time_s / end_s

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif" '
        f'font-size="13">',
        f'<rect width="{WIDTH}" height="{height}" fill="{PAPER}"/>',
        f'<text x="{LEFT}" y="22" fill="{INK}" font-size="15">{title}</text>',
    ]
    for number, row in enumerate(ROWS):
        points = [
            (float(each["time_s"]), float(each[row.column]) * row.scale if each[row.column] else None) for each in rows
        ]
        known = [value for _, value in points if value is not None]
        top = row.top or round_up(max(known, default=1.0))
        base = TOP + number * (ROW + GAP) + GAP + ROW
        name = f"{row.title} · top {top:,g}, most {round(max(known, default=0), 1):,g}"
        parts.append(f'<text x="{LEFT}" y="{base - ROW - 6}" fill="{row.colour}">{name}</text>')
        for y in (base, base - ROW):
            parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}" stroke="{FAINT}"/>')
        pen = "M"
        path: list[str] = []
        for time_s, value in points:
            if value is None:
                pen = "M"  # a gap stays one
                continue
            path.append(f"{pen}{x(time_s):.1f},{base - ROW * min(1.0, value / top):.1f}")
            pen = "L"
        parts.append(f'<path d="{" ".join(path)}" fill="none" stroke="{row.colour}" stroke-width="1.6"/>')
    for tick in range(0, int(end_s) + 1, TICK_S):
        parts.append(f'<text x="{x(tick):.1f}" y="{height - 12}" fill="{INK}" text-anchor="middle">{tick} s</text>')
    return "\n".join([*parts, "</svg>", ""])


def round_up(value: float) -> float:
    """The next of 1, 2, 5, 10 … times a power of ten."""
    if value <= 0:
        return 1.0
    power = 10 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value)


def main(source: Path, target: Path) -> None:
    """Draw a timeline's file."""
    with source.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    target.write_text(draw(rows, "One server on one H100: start, idle, one client, 128 clients"), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
