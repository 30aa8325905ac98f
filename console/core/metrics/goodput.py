"""How many requests met the profile's targets.

vLLM's histograms of time to first token and of time per output token are separate, so it is not known which request
met both. With a the share of first tokens within `ttft_s` and b the share of finished requests within `tpot_s`, the
share g that met both lies between the Fréchet bounds (the intersection of two events of known probability)

    max(0, a + b - 1) <= g <= min(a, b)

and both ends are reached by some pairing. With one target the range is a point. A share whose histogram observed
nothing in the window may be anything from 0 to 1. Inside the bucket in which a target falls, observations are taken as
evenly spread, as `console.core.series.quantile` does: the 95th percentile is within the target exactly if the share is
at least 0.95. A target beyond the last finite bound counts only what lies below that bound.

Requests per second are finished requests of the window (observations of the second histogram, or of the first where
that alone has a target) over its seconds, times the share.
"""

from __future__ import annotations

import math
from bisect import bisect_left

from console.core.metrics.windows import Histogram
from console.core.models import Goodput
from console.core.profile import TargetsSection
from console.core.series import Buckets

__all__ = ["goodput", "share_within"]


def share_within(limit: float, grown: Buckets | None) -> float | None:
    """Share (0 to 1) of observations at or below `limit`; `None` without observations."""
    if grown is None or grown.counts[-1] <= 0:
        return None
    bounds, counts = grown.bounds, grown.counts
    index = bisect_left(bounds, limit)
    lower, below = (bounds[index - 1], counts[index - 1]) if index else (0.0, 0.0)
    upper = bounds[index]
    if not math.isfinite(upper):
        met = below
    elif upper <= lower:
        met = counts[index]
    else:
        met = below + (counts[index] - below) * (limit - lower) / (upper - lower)
    return min(1.0, max(0.0, met / counts[-1]))


def goodput(targets: TargetsSection, ttft: Histogram, tpot: Histogram) -> Goodput | None:
    """Requests of the window that met the targets; `None` without a target or without a request."""
    first = None if targets.ttft_s is None else share_within(targets.ttft_s, ttft.grown)
    each = None if targets.tpot_s is None else share_within(targets.tpot_s, tpot.grown)
    counted = ttft if targets.tpot_s is None else tpot
    span_s = counted.span_s
    if (first is None and each is None) or counted.grown is None or not span_s:
        return None
    ranges = [
        (0.0, 1.0) if share is None else (share, share)
        for share, target in ((first, targets.ttft_s), (each, targets.tpot_s))
        if target is not None
    ]
    low = max(0.0, 1.0 - math.fsum(1.0 - least for least, _ in ranges))
    high = min(most for _, most in ranges)
    # Rounding may set the ends of a point apart in the wrong order.
    low = min(low, high)
    requests_per_s = counted.grown.counts[-1] / span_s
    return Goodput(
        share_min=low,
        share_max=high,
        per_s_min=low * requests_per_s,
        per_s_max=high * requests_per_s,
        ttft_share=first,
        tpot_share=each,
    )
