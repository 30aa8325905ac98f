"""Which settings a search tries, and which values of them: a table.

Apart from the search, because this is knowledge of vLLM and grows by rows, while the search knows no setting.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from console.core.errors import UsageError
from console.core.hints.setting import BATCHED_TOKENS_MAX, Limits, Setting
from console.core.models import GpuReading, ProfileChange
from console.core.overrides import apply_changes
from console.core.profile import Profile

__all__ = ["PARAMETERS", "Facts", "Parameter", "allowed", "chosen"]

BATCHED_TOKENS_MIN = 512
"""Smaller scheduler steps split every prompt of some length into many."""
MEMORY_STEP, MEMORY_MAX = 0.02, 0.96
"""Of `gpu_memory_utilization`; 0.92 is vLLM's default. The rest is for graphs, NCCL and what profiling did not see."""
MEMORY_DEFAULT = 0.92
DRAFTS_MAX = 8


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What values are derived from: the best settings so far, and the load."""

    profile: Profile
    start: Profile
    """What the search began with."""
    concurrency: int
    """Requests in flight at once."""
    gpus: tuple[GpuReading, ...] = ()

    @property
    def setting(self) -> Setting:
        """The questions that hints ask too. Limits are the profile's own, since a search changes them."""
        return Setting(self.profile, Limits())


Values = Callable[[Facts], tuple[Any, ...]]


class Parameter(msgspec.Struct, frozen=True, kw_only=True):
    """One setting that a search may change."""

    key: str
    """Dotted, as in a profile."""
    why: str
    values: Values
    """Values worth a trial from here, the most promising first."""
    default: bool = True
    """Tried unless others are named. Not, where the answers of the model may change."""

    @property
    def name(self) -> str:
        """As the operator names it."""
        return self.key.rpartition(".")[2]


def _sequences(facts: Facts) -> tuple[int, ...]:
    """Room for the whole load first, then halves of that. More than the load is never used, so it is not tried.

    Fewer than at the start may win where the KV cache is too small for them; after a win upwards that is known.
    """
    now = facts.setting.seqs_limit(facts.gpus)
    if now is None:
        return ()
    engines = facts.profile.serve.data_parallel_size or 1
    load = -(-facts.concurrency // engines)
    wanted = min(1 << max(0, load - 1).bit_length(), facts.setting.seqs_ceiling(now))
    up = []
    while wanted > now:
        up.append(wanted)
        wanted //= 2
    raised = facts.profile.serve.max_num_seqs != facts.start.serve.max_num_seqs
    down = (now // 2,) if now // 2 >= 1 and load >= now and not raised else ()
    return (*up, *down)


def _batched_tokens(facts: Facts) -> tuple[int, ...]:
    """Twice and half. vLLM refuses fewer than `max_num_seqs`, and without chunked prefill fewer than the context."""
    now = facts.setting.batched_tokens_limit(facts.gpus)
    if now is None:
        return ()
    serve = facts.profile.serve
    least = max(BATCHED_TOKENS_MIN, facts.setting.seqs_limit(facts.gpus) or 0)
    chunked = {key.replace("-", "_"): value for key, value in serve.extra.items()}.get("enable_chunked_prefill", True)
    if not chunked and isinstance(serve.max_model_len, int):
        least = max(least, serve.max_model_len)
    return tuple(value for value in (now * 2, now // 2) if least <= value <= max(BATCHED_TOKENS_MAX, now))


def _memory(facts: Facts) -> tuple[float, ...]:
    if facts.setting.on_cpu:
        return ()
    value = round((facts.profile.serve.gpu_memory_utilization or MEMORY_DEFAULT) + MEMORY_STEP, 3)
    return (value,) if value <= MEMORY_MAX else ()


def _prefix_caching(facts: Facts) -> tuple[bool, ...]:
    return (facts.profile.serve.enable_prefix_caching is False,)


def _graphs(facts: Facts) -> tuple[bool, ...]:
    return (False,) if facts.profile.serve.enforce_eager and not facts.setting.on_cpu else ()


def _drafts(facts: Facts) -> tuple[int, ...]:
    now = (facts.profile.serve.speculative_config or {}).get("num_speculative_tokens")
    if not isinstance(now, int):
        return ()
    return tuple(value for value in (now + 1, now - 1) if 1 <= value <= DRAFTS_MAX)


def _fp8_cache(facts: Facts) -> tuple[str, ...]:
    return ("fp8",) if facts.setting.fp8_kv_possible(facts.gpus) else ()


PARAMETERS: tuple[Parameter, ...] = (
    Parameter(key="serve.max_num_seqs", why="requests that run at a time", values=_sequences),
    Parameter(key="serve.max_num_batched_tokens", why="tokens of one scheduler step", values=_batched_tokens),
    Parameter(key="serve.enforce_eager", why="compilation and CUDA graphs", values=_graphs),
    Parameter(key="serve.speculative_config.num_speculative_tokens", why="drafted tokens of one step", values=_drafts),
    Parameter(key="serve.gpu_memory_utilization", why="room for the KV cache", values=_memory),
    Parameter(key="serve.enable_prefix_caching", why="reuse of equal prompt starts", values=_prefix_caching),
    Parameter(
        key="serve.kv_cache_dtype",
        why="bytes of a cached token; answers may change",
        values=_fp8_cache,
        default=False,
    ),
)


def chosen(names: Sequence[str]) -> tuple[Parameter, ...]:
    """The parameters of these names in this order; those tried by default where none is named.

    Raises:
        UsageError: one is not in the table.
    """
    if not names:
        return tuple(row for row in PARAMETERS if row.default)
    rows = {row.name: row for row in PARAMETERS}
    unknown = [name for name in names if name.removeprefix("serve.") not in rows]
    if unknown:
        raise UsageError(
            f"{unknown[0]} is not a parameter that a search tries", f"there are: {', '.join(rows)}", "Correct it."
        )
    return tuple(dict.fromkeys(rows[name.removeprefix("serve.")] for name in names))


def allowed(profile: Profile, changes: tuple[ProfileChange, ...], gpus: Sequence[GpuReading] = ()) -> bool:
    """Whether vLLM takes these settings together, as far as is known here."""
    setting = Setting(apply_changes(profile, changes), Limits())
    seqs, batched = setting.seqs_limit(gpus), setting.batched_tokens_limit(gpus)
    return seqs is None or batched is None or batched >= seqs
