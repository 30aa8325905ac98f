"""Tells a server that hangs from one that works long, by whether its own figures move.

What moves when (read in vLLM 0.32, `v1/engine/async_llm.py`, `v1/core/sched/scheduler.py`): after every scheduler step
the engine core sends its statistics, and the API server sets the gauges `num_requests_running`,
`num_requests_waiting` and `kv_cache_usage_perc` from them. A step that brings tokens also raises `generation_tokens`;
`prompt_tokens` rises only when a whole prompt is done, and `iteration_tokens_total` only with tokens, so it adds
nothing. A prefill of a million tokens is cut into steps of `max_num_batched_tokens`, each of which takes KV cache
blocks: the usage moves with every one of them, a matter of seconds. An engine core or worker that hangs sends nothing,
and all of these stand still, while `/health` of the API server goes on answering 200.

So the longest honest standstill is one step: with a kernel that is compiled inside it, a minute or two. Twice the 60 s
after which vLLM itself begins to warn (`No available shared memory broadcast block found`) is the default limit, well
before the 300 s (`VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS`) after which its engine gives up on a worker.

An engine that hangs while it is idle moves nothing either way: only a request can tell, which is what the canary is
for, or the kernel, where a process was stopped.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

__all__ = ["HANG_TIMEOUT_S", "STOPPED_GRACE_S", "Marks", "Watch", "look", "metrics_lost", "standstill"]

HANG_TIMEOUT_S = 120.0
"""Default of `supervise.hang_timeout_s`."""
STOPPED_GRACE_S = 10.0
"""A process may be stopped (SIGSTOP, a debugger) for this long before it is said."""

GAP_MAX_S = 30.0
"""After so long without figures watching begins anew: this process or the whole machine may have been stopped."""

Marks = Mapping[str, tuple[float, ...]]
"""Engine → requests that it has, then all its figures that move as it works."""


class Progress(msgspec.Struct, frozen=True):
    """One engine's figures, and since when they are the same."""

    marks: tuple[float, ...]
    since_s: float


class Watch(msgspec.Struct, frozen=True):
    """What was seen of all engines of one server. Times on the monotonic clock."""

    engines: dict[str, Progress] = {}
    seen_s: float | None = None
    """When figures came last."""


def look(watch: Watch, marks: Marks | None, now_s: float) -> Watch:
    """Take in the newest figures; `None` if there are none now."""
    if marks is None:
        return watch
    gap = watch.seen_s is None or now_s - watch.seen_s > GAP_MAX_S
    engines = {}
    for name, values in marks.items():
        before = watch.engines.get(name)
        same = before is not None and before.marks == values and values[0] > 0 and not gap
        engines[name] = before if same and before is not None else Progress(values, now_s)
    return Watch(engines, now_s)


def standstill(watch: Watch, limit_s: float) -> str:
    """Why the server hangs, if an engine has had requests for `limit_s` and nothing moved; empty if not.

    Only time that was watched counts, up to the last figures.
    """
    for name, progress in sorted(watch.engines.items()):
        held_s = (watch.seen_s or 0.0) - progress.since_s
        if progress.marks[0] > 0 and held_s >= limit_s:
            count = int(progress.marks[0])
            who = f"engine {name}" if len(watch.engines) > 1 else "the engine"
            requests = "1 request" if count == 1 else f"{count} requests"
            return f"{who} has {requests}, and no token and no KV cache block moved for {held_s:.0f} s"
    return ""


def metrics_lost(watch: Watch, now_s: float, limit_s: float, *, health_ok: bool, error: str | None) -> str:
    """Why the server counts as hanging if `/metrics` stopped answering while `/health` goes on; empty if not."""
    if not health_ok or not error or watch.seen_s is None or now_s - watch.seen_s < limit_s:
        return ""
    return f"/metrics has not answered for {now_s - watch.seen_s:.0f} s ({error}), while /health does"
