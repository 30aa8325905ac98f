"""All rules, in order of precedence: of one topic, or of several changes to one key, the first that fires shows."""

from __future__ import annotations

from console.core.hints.rule import Rule
from console.core.hints.rules_concurrency import LOAD_TOO_SMALL, RAISE_MAX_NUM_SEQS, SEQUENCE_CAP
from console.core.hints.rules_gpu import EAGER_MODE, GPU_HOT, GPUS_UNEVEN, GPUS_UNUSED
from console.core.hints.rules_host import HOST_CPU, HOST_MEMORY, IDLE_SPEND
from console.core.hints.rules_memory import KV_CACHE_FULL, PREFILL_BUDGET, PREFIX_CACHE_OFF

__all__ = ["RULES"]

RULES: tuple[Rule, ...] = (
    HOST_MEMORY,
    KV_CACHE_FULL,
    RAISE_MAX_NUM_SEQS,
    SEQUENCE_CAP,
    LOAD_TOO_SMALL,
    PREFILL_BUDGET,
    HOST_CPU,
    GPU_HOT,
    IDLE_SPEND,
    GPUS_UNEVEN,
    EAGER_MODE,
    PREFIX_CACHE_OFF,
    GPUS_UNUSED,
)
