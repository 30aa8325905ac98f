"""Prometheus' text exposition → the families that `console.core.metrics` keeps.

Of some 600 lines that vLLM answers (per engine) about a sixth are wanted, and between two scrapes only the figure at
a line's end changes. So unwanted lines are dropped by name, and the part with the labels goes through
`prometheus_client`'s parser once and is remembered: a scrape then costs a fraction of a millisecond.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families

from console.core.metrics import SAMPLE_NAMES, Families, Point

__all__ = ["BODY_BYTES_MAX", "SERIES_MAX", "ExpositionReader", "MetricsError"]

BODY_BYTES_MAX = 16 * 1024 * 1024
"""A larger answer is refused: 50 KiB per engine is usual."""
SERIES_MAX = 20_000
"""Remembered series; more than that and they are forgotten together."""

SERIES = re.compile(r"([a-zA-Z_:][\w:]*)(\{.*\})?[ \t]+(\S+)(?:[ \t]+-?\d+)?")
WANTED = re.compile(rf"^(?:{'|'.join(map(re.escape, SAMPLE_NAMES))})[ \t{{].*$", re.MULTILINE)
SHOWN_CHARS = 120


class MetricsError(ValueError):
    """The text is no exposition of vLLM's metrics. The message is one sentence for the operator."""


class ExpositionReader:
    """Reads scrapes of one server, one after the other."""

    def __init__(self) -> None:
        self._series: dict[str, tuple[str, str, Mapping[str, str]]] = {}

    def read(self, body: str) -> Families:
        """The wanted families of one scrape.

        Raises:
            MetricsError: too large, not in the text format, or without any vLLM metric.
        """
        if len(body) > BODY_BYTES_MAX:
            raise MetricsError(f"/metrics answered more than {BODY_BYTES_MAX // 1024**2} MiB")
        families: dict[str, list[Point]] = {}
        for line in WANTED.findall(body):
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
        if not families:
            raise MetricsError("/metrics answered without any vLLM metric")
        return families

    def _known(self, series: str) -> tuple[str, str, Mapping[str, str]]:
        found = self._series.get(series)
        if found is None:
            if len(self._series) >= SERIES_MAX:
                self._series.clear()
            found = self._series[series] = parse_series(series)
        return found


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
