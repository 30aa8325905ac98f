"""All rules, in order of precedence: of one topic, or of several changes to one key, the first that fires shows."""

from __future__ import annotations

from console.core.hints.rule import Rule
from console.core.hints.rules_capacity import CONTEXT_UNUSED, KV_FP8, KV_OFFLOAD
from console.core.hints.rules_clocks import GPU_POWER_BRAKE, GPU_POWER_CAP, GPU_THERMAL
from console.core.hints.rules_concurrency import LOAD_TOO_SMALL, RAISE_MAX_NUM_SEQS, SEQUENCE_CAP
from console.core.hints.rules_engine import ENGINE_OLD, GRAPHS_OFF, GRAPHS_TOO_SMALL
from console.core.hints.rules_faults import GPU_FAULT, GPU_REPAIR_PENDING, GPU_XID, NVLINK_DOWN
from console.core.hints.rules_gpu import EAGER_MODE, GPU_HOT, GPUS_UNEVEN, GPUS_UNUSED
from console.core.hints.rules_host import HOST_CPU, HOST_MEMORY, IDLE_SPEND, OPEN_FILES
from console.core.hints.rules_kernels import KERNELS_COMPILED
from console.core.hints.rules_latency import TARGETS_MISSED, TTFT_PREFILL, TTFT_QUEUE
from console.core.hints.rules_memory import DRAFT_SLOTS, KV_CACHE_FULL, PREFILL_BUDGET, PREFIX_CACHE_OFF
from console.core.hints.rules_nodes import NETWORK_BOUND, NODE_SLOW, NODES_UNEQUAL
from console.core.hints.rules_parallel import ENGINES_UNEVEN, EXPERTS_UNEVEN, TP_TO_DP
from console.core.hints.rules_pcie import PCIE_BOUND, PCIE_LINK
from console.core.hints.rules_requests import (
    ADMISSION_REJECTIONS,
    ANSWERS_CUT,
    CLIENT_ERRORS,
    PREFIX_CACHE_USELESS,
    SERVER_ERRORS,
)
from console.core.hints.rules_spec import SPEC_TOO_COSTLY, SPEC_TOO_SHORT

__all__ = ["NODE_RULES", "RULES"]

RULES: tuple[Rule, ...] = (
    GPU_FAULT,
    GPU_XID,
    HOST_MEMORY,
    OPEN_FILES,
    SERVER_ERRORS,
    GPU_THERMAL,
    KERNELS_COMPILED,
    KV_CACHE_FULL,
    RAISE_MAX_NUM_SEQS,
    SEQUENCE_CAP,
    TTFT_QUEUE,
    LOAD_TOO_SMALL,
    TP_TO_DP,
    DRAFT_SLOTS,
    PREFILL_BUDGET,
    TTFT_PREFILL,
    TARGETS_MISSED,
    ADMISSION_REJECTIONS,
    SPEC_TOO_COSTLY,
    SPEC_TOO_SHORT,
    GRAPHS_TOO_SMALL,
    HOST_CPU,
    ENGINES_UNEVEN,
    GPU_POWER_BRAKE,
    PCIE_BOUND,
    PCIE_LINK,
    NVLINK_DOWN,
    GPU_REPAIR_PENDING,
    GPU_HOT,
    IDLE_SPEND,
    KV_FP8,
    KV_OFFLOAD,
    CONTEXT_UNUSED,
    EXPERTS_UNEVEN,
    GPUS_UNEVEN,
    GPU_POWER_CAP,
    EAGER_MODE,
    GRAPHS_OFF,
    PREFIX_CACHE_OFF,
    PREFIX_CACHE_USELESS,
    ANSWERS_CUT,
    CLIENT_ERRORS,
    ENGINE_OLD,
    GPUS_UNUSED,
)

NODE_RULES: tuple[Rule, ...] = (NODE_SLOW, NODES_UNEQUAL, NETWORK_BOUND)
"""Between the machines of a group: judged where one screen sees all of them, and nowhere else."""
