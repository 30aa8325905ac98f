"""The table of `console.core.gauges` as Prometheus' text, by `prometheus_client`: its escaping, its format.

That library is loaded in a supervisor in any case, for its parser (see `console.io.prometheus`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import generate_latest

from console.core.gauges import FAMILIES, PREFIX, Kind, View

__all__ = ["CONTENT_TYPE", "exposition"]

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class _Collected:
    """What `generate_latest` asks a registry for."""

    def __init__(self, view: View) -> None:
        self._view = view

    def collect(self) -> Iterator[Metric]:
        """The families that have a series now."""
        for row in FAMILIES:
            family = (CounterMetricFamily if row.kind is Kind.COUNTER else GaugeMetricFamily)(
                PREFIX + row.name, row.help, labels=row.labels
            )
            for labels, value in row.read(self._view):
                if value is not None:
                    family.add_metric(labels, value)
            if family.samples:
                yield family


def exposition(view: View) -> bytes:
    """The whole answer to a scrape."""
    return generate_latest(_Collected(view))
