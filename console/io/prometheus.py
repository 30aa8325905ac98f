"""Prometheus' text exposition → the families that `console.core.metrics` keeps.

Of some 600 lines that vLLM answers (per engine) under half are wanted, and between two scrapes only the figure at a
line's end changes. So the first scrape is read by name, with the labels going through `prometheus_client`'s parser
once per series, and leaves a plan: which line begins with which series. Where the next scrape keeps to it, only the
figures are read. Anything else is read by name again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from console.core.metrics import SAMPLE_NAMES, Families, Point

__all__ = ["BODY_BYTES_MAX", "PLANNED_READS_MAX", "SERIES_MAX", "ExpositionReader", "MetricsError"]

BODY_BYTES_MAX = 16 * 1024 * 1024
"""A larger answer is refused: 50 KiB per engine is usual."""
SERIES_MAX = 20_000
"""Remembered series; more than that and they are forgotten together."""
PLANNED_READS_MAX = 60
"""After so many scrapes a plan is made anew: one that lost a line and gained a wanted one would look the same."""

SERIES = re.compile(r"([a-zA-Z_:][\w:]*)(\{.*\})?[ \t]+(\S+)(?:[ \t]+-?\d+)?")
WANTED = re.compile(rf"(?:{'|'.join(map(re.escape, SAMPLE_NAMES))})[ \t{{]")
OWN_PREFIX = "vllm:"
SHOWN_CHARS = 120


class MetricsError(ValueError):
    """The text is no exposition of vLLM's metrics. The message is one sentence for the operator."""


class Planned(NamedTuple):
    """One wanted line: where it stands, and what is before its figure."""

    place: int
    head: str
    size: int
    suffix: str
    labels: Mapping[str, str]


class Plan(NamedTuple):
    """The wanted lines of an exposition with so many lines."""

    lines: int
    families: dict[str, list[Planned]]


class ExpositionReader:
    """Reads scrapes of one server, one after the other."""

    def __init__(self) -> None:
        self._series: dict[str, tuple[str, str, Mapping[str, str]]] = {}
        self._plan: Plan | None = None
        self._planned_reads = 0

    def read(self, body: str) -> Families:
        """The wanted families of one scrape.

        Raises:
            MetricsError: too large, not in the text format, or without any vLLM metric.
        """
        if len(body) > BODY_BYTES_MAX:
            raise MetricsError(f"/metrics answered more than {BODY_BYTES_MAX // 1024**2} MiB")
        lines = body.split("\n")
        if self._plan is not None and self._planned_reads < PLANNED_READS_MAX:
            planned = by_plan(lines, self._plan)
            if planned is not None:
                self._planned_reads += 1
                return planned
        return self._by_name(lines)

    def _by_name(self, lines: list[str]) -> Families:
        families: dict[str, list[Point]] = {}
        plan: dict[str, list[Planned]] = {}
        for index, line in enumerate(lines):
            if WANTED.match(line) is None:
                continue
            match = SERIES.fullmatch(line.rstrip())
            if match is None:
                raise MetricsError(f"/metrics has a line that cannot be read: {line[:SHOWN_CHARS]}")
            name, labels_text, value_text = match.groups()
            family, suffix, labels = self._known(name + (labels_text or ""))
            try:
                value = float(value_text)
            except ValueError as error:
                raise MetricsError(f"/metrics has a figure that is no number: {line[:SHOWN_CHARS]}") from error
            families.setdefault(family, []).append(Point(suffix, labels, value))
            size = match.start(3)
            plan.setdefault(family, []).append(Planned(index, line[:size], size, suffix, labels))
        if not any(name.startswith(OWN_PREFIX) for name in families):
            raise MetricsError("/metrics answered without any vLLM metric")
        self._plan, self._planned_reads = Plan(len(lines), plan), 0
        return families

    def _known(self, series: str) -> tuple[str, str, Mapping[str, str]]:
        found = self._series.get(series)
        if found is None:
            if len(self._series) >= SERIES_MAX:
                self._series.clear()
            found = self._series[series] = parse_series(series)
        return found


def by_plan(lines: list[str], plan: Plan) -> Families | None:
    """The families as the plan has them; `None` if the lines are others."""
    if len(lines) != plan.lines:
        return None
    families: dict[str, list[Point]] = {}
    try:
        for family, entries in plan.families.items():
            points = families[family] = []
            for place, head, size, suffix, labels in entries:
                line = lines[place]
                if not line.startswith(head):
                    return None
                points.append(Point(suffix, labels, float(line[size:])))
    except ValueError:
        return None
    return families


def parse_series(series: str) -> tuple[str, str, Mapping[str, str]]:
    """Family, suffix and labels of `name{label="value",…}`.

    Raises:
        MetricsError: it is not well formed.
    """
    try:
        (metric,) = text_string_to_metric_families(f"{series} 0\n")
        (sample,) = metric.samples
        family, suffix = SAMPLE_NAMES[sample.name]
    # The parser meets broken text with several kinds of exception (ValueError, IndexError, KeyError).
    except Exception as error:
        raise MetricsError(f"/metrics has labels that cannot be read: {series[:SHOWN_CHARS]}") from error
    return family, suffix, sample.labels
