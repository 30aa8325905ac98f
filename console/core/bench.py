"""What a benchmark is: the shapes of its load, one row of figures, and a result that can be kept and compared.

Kept apart from what runs it, because screens, comparisons and the tuning loop read results and never run anything.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from console.core.models import ProfileChange

__all__ = ["CONCURRENCY", "BenchPlan", "BenchPoint", "BenchProgress", "BenchResult", "Shape"]

CONCURRENCY = (1, 8, 32, 128)
"""Where none are asked for: one user's speed, and then up to where most servers have reached their throughput."""


class Shape(StrEnum):
    """What the requests look like."""

    CHAT = "chat"
    CODE = "code"
    LONG = "long"
    RANDOM = "random"


class BenchPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What to measure."""

    shape: Shape = Shape.CHAT
    concurrency: tuple[int, ...] = CONCURRENCY
    repeats: int = 1
    requests: int | None = None
    """Of each row; `None` for `console.core.bench_shapes.requests_for`."""
    seed: int = 0
    """Each row and repeat has its own seed, counted from this one, so that no prompt is sent twice."""

    @property
    def rows(self) -> tuple[tuple[int, int, int], ...]:
        """Concurrency, repeat and seed of each row, in order: all loads once, then all of them again.

        Repeats stand apart in time, so that a slow drift of the machine shows as their spread.
        """
        pairs = [(repeat, clients) for repeat in range(self.repeats) for clients in self.concurrency]
        return tuple((clients, repeat, self.seed + 1 + index) for index, (repeat, clients) in enumerate(pairs))


class BenchProgress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a benchmark is."""

    row: int
    """From 1; 0 while it warms up."""
    rows: int
    concurrency: int
    fraction: float
    """0 to 1, of this row."""

    @property
    def text(self) -> str:
        """In words."""
        if not self.row:
            return f"warming up  {self.fraction:.0%}"
        return f"row {self.row} of {self.rows}  {self.concurrency} at once  {self.fraction:.0%}"


class BenchPoint(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One row: one load at one concurrency, as `vllm bench serve` measured it from the client's side."""

    shape: Shape
    concurrency: int
    """Requests in flight at once."""
    seed: int = 0
    started_s: float
    """Wall-clock time (Unix)."""
    duration_s: float
    completed: int
    failed: int = 0
    requests_per_s: float
    output_tokens_per_s: float
    total_tokens_per_s: float
    ttft_mean_s: float | None = None
    ttft_p50_s: float | None = None
    ttft_p99_s: float | None = None
    tpot_mean_s: float | None = None
    tpot_p50_s: float | None = None
    tpot_p99_s: float | None = None
    itl_mean_s: float | None = None
    itl_p50_s: float | None = None
    itl_p99_s: float | None = None
    e2e_mean_s: float | None = None
    e2e_p99_s: float | None = None
    gpu_util_percent: float | None = None
    """Mean over all GPUs and the time of this row."""
    kv_cache_peak: float | None = None
    """0 to 1."""
    power_w: float | None = None
    """Mean of all GPUs together."""
    usd_per_million_tokens: float | None = None
    """Of output; `None` where there is no price."""


class BenchResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All rows of one benchmark, and what was measured."""

    id: str
    """Sortable: `20261123-201500-chat`."""
    created_s: float
    run_id: str
    profile_name: str
    model: str
    engine_version: str = ""
    machine: str = ""
    """For example `8×H200`, or the CPU's name."""
    change: tuple[ProfileChange, ...] = ()
    """How the settings differ from the profile of that name."""
    input_tokens: int | None = None
    """Of each prompt, as it was sent."""
    output_tokens: int | None = None
    notes: tuple[str, ...] = ()
    """What a reader must know: a load made smaller, a column without figures and why."""
    ended: str = ""
    """Why it has fewer rows than it should; empty if it has all."""
    points: tuple[BenchPoint, ...] = ()
    """In the order in which they were measured; repeats of one load stand there as rows of their own."""
