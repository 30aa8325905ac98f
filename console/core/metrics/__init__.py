"""What one scrape of vLLM's `/metrics` says, and what two of them say together.

`table` lists the families that are kept, `scrape` reads one exposition, `windows` keeps what grew since earlier ones,
`goodput`, `engines` and `session` reckon with that, and `reading` puts it together.
"""

from console.core.metrics.reading import EngineMetrics
from console.core.metrics.table import (
    LATENCY_WINDOW_S,
    METRICS,
    OF_NO_FAMILY,
    RATE_WINDOW_S,
    SAMPLE_NAMES,
    Combine,
    Families,
    Kind,
    Metric,
    Point,
)

__all__ = [
    "LATENCY_WINDOW_S",
    "METRICS",
    "OF_NO_FAMILY",
    "RATE_WINDOW_S",
    "SAMPLE_NAMES",
    "Combine",
    "EngineMetrics",
    "Families",
    "Kind",
    "Metric",
    "Point",
]
