"""A benchmark and a comparison as lines of text: one table of columns for the terminal and the screen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from console.core import units
from console.core.bench import BenchPoint
from console.core.bench_compare import METRICS, Comparison, Ratio

__all__ = ["COLUMNS", "comparison_lines", "heading", "ratio_text", "row_line"]


class Column(NamedTuple):
    """One column."""

    title: str
    width: int
    text: Callable[[BenchPoint], str]


COLUMNS: tuple[Column, ...] = (
    Column("conc", 4, lambda point: str(point.concurrency)),
    Column("tok/s", 6, lambda point: units.short_count_text(point.output_tokens_per_s)),
    Column("req/s", 6, lambda point: units.short_count_text(point.requests_per_s)),
    Column("TTFT", 6, lambda point: units.latency_text(point.ttft_p50_s)),
    Column("p99", 6, lambda point: units.latency_text(point.ttft_p99_s)),
    Column("TPOT", 6, lambda point: units.latency_text(point.tpot_p50_s)),
    Column("ITL p99", 7, lambda point: units.latency_text(point.itl_p99_s)),
    Column("GPU", 4, lambda point: units.percent_text(point.gpu_util_percent)),
    Column("KV", 4, lambda point: units.ratio_text(point.kv_cache_peak)),
    Column("power", 6, lambda point: units.watts_text(point.power_w)),
    Column("$/Mtok", 6, lambda point: units.usd_text(point.usd_per_million_tokens)),
    Column("failed", 6, lambda point: str(point.failed)),
)
"""TTFT and TPOT are medians, KV is the peak, GPU and power are means."""


def heading(columns: Sequence[Column] = COLUMNS) -> str:
    """The titles."""
    return " ".join(column.title.rjust(column.width) for column in columns)


def row_line(point: BenchPoint, columns: Sequence[Column] = COLUMNS) -> str:
    """One row, in the columns of `heading`."""
    return " ".join(column.text(point).rjust(column.width) for column in columns)


def ratio_text(ratio: Ratio) -> str:
    """For example `1.42 (1.38 to 1.46; 95 % 1.35 to 1.49)  better`."""
    interval = "" if ratio.low is None else f"; 95 % {ratio.low:.2f} to {ratio.high:.2f}"
    return f"{ratio.ratio:.2f} ({ratio.ratio_min:.2f} to {ratio.ratio_max:.2f}{interval})  {ratio.verdict}"


def comparison_lines(comparison: Comparison) -> list[str]:
    """All of it: each row with its ratios, after over before, with range and interval over the repeats."""
    titles = {metric.field: metric.title for metric in METRICS}
    width = max(len(title) for title in titles.values())
    lines = []
    for row in comparison.rows:
        counts = f"{row.repeats_before}" + (f" and {row.repeats_after}" * (row.repeats_before != row.repeats_after))
        plural = "s" if max(row.repeats_before, row.repeats_after) > 1 else ""
        lines.append(f"{row.shape}, {row.concurrency} at once, {counts} repeat{plural}")
        lines += [f"  {titles[ratio.field]:<{width}}  {ratio_text(ratio)}" for ratio in row.ratios]
    if comparison.overall is not None and len(comparison.rows) > 1:
        lines.append("all rows")
        lines.append(f"  {METRICS[0].title:<{width}}  {ratio_text(comparison.overall)}")
    for which, keys in (("the first", comparison.only_before), ("the second", comparison.only_after)):
        lines += [f"only in {which}: {shape}, {clients} at once" for shape, clients in keys]
    return lines
