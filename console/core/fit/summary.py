"""What the fit arithmetic answers, and the units it answers in.

Separate so that front ends can name the answer without loading the arithmetic.
"""

from __future__ import annotations

import msgspec

__all__ = ["GIB", "FitSummary"]

GIB = 2**30


class FitSummary(msgspec.Struct, frozen=True, kw_only=True):
    """Memory of one GPU under a profile, in GiB. `None` is unknown; `basis` says where each figure is from."""

    weights_gib_per_gpu: float | None = None
    kv_gib_per_gpu: float | None = None
    reserve_gib_per_gpu: float | None = None
    total_gib_per_gpu: float | None = None
    kv_bytes_per_token: float | None = None
    """What one more token of a long request takes on one GPU."""
    kv_bytes_per_request: float | None = None
    """What a request of the longest context takes beyond that: windows and states, whatever its length."""
    kv_tokens: int | None = None
    """Of one engine, as vLLM prints it (concurrency × context): with data parallelism each engine has so many."""
    context: int | None = None
    """Tokens of the longest request that figures are for."""
    max_context: int | None = None
    """The longest context with which it would start, at most the model's own limit."""
    max_concurrency: float | None = None
    """Requests of `context` tokens at once, of one engine, as vLLM prints it."""
    engines: int = 1
    """Data parallel engines, each with a KV cache of its own."""
    host_gib: float | None = None
    """Host memory that weights kept off the GPU take (Engram)."""
    verdict: str = "unknown"
    """`fits`, `tight`, `does not fit` or `unknown`."""
    basis: tuple[str, ...] = ()
    """One derivation or source per line."""
    measured: str = ""
    """What this machine measured for it before, with date and the estimate's error; empty if nothing."""
