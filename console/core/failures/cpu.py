"""Failures of the CPU build alone: memory of the machine, and how its cores are shared."""

from __future__ import annotations

import re
from typing import Final

from console.core.failures.changes import less_kv_space, set_to, share_left_free, threads_per_worker
from console.core.failures.row import Failure, Stage

__all__ = ["CPU"]

CPU: Final[tuple[Failure, ...]] = (
    Failure(
        id="threads-binding",
        needles=("bind threads of",),
        pattern=re.compile(r"Not enough allowed NUMA nodes to bind threads of (?P<workers>\d+) local CPUWorkers"),
        stage=Stage.START,
        title="vLLM cannot share the CPU among {workers} workers by itself",
        why="It gives each worker a NUMA node of its own, and this machine has fewer.",
        remedy="Name the cores of each worker in [env], for example VLLM_CPU_OMP_THREADS_BIND = `0|1`, or lower "
        "serve.tensor_parallel_size.",
        change=threads_per_worker,
        versions=">=0.25",
        example="AssertionError: Not enough allowed NUMA nodes to bind threads of 2 local CPUWorkers. Allowed NUMA "
        "nodes are [0]. Please try to bind threads manually or decrease DP/TP/PP.",
    ),
    Failure(
        id="cpu-memory-taken",
        needles=("desired CPU memory utilization",),
        pattern=re.compile(
            r"Available memory on node \d+ \((?P<free>[\d.]+)/(?P<total>[\d.]+) GiB\) on startup is less than desired "
            r"CPU memory utilization \((?P<asked>[\d.]+),"
        ),
        stage=Stage.LOAD,
        title="Only {free} of {total} GiB of the machine's memory are available",
        why="vLLM wants a share of {asked} of it.",
        remedy="End what else uses the memory, or lower serve.gpu_memory_utilization, which means the machine's "
        "memory here.",
        change=share_left_free,
        versions=">=0.32",
        example="ValueError: Available memory on node 0 (12.61/14.34 GiB) on startup is less than desired CPU memory "
        "utilization (0.99, 14.2 GiB).",
    ),
    Failure(
        id="cpu-kv-space",
        needles=("on kv cache allocation is less than requested",),
        pattern=re.compile(
            r"Available memory on node \d+ \((?P<free>[\d.]+)/[\d.]+ GiB\) on kv cache allocation is less than "
            r"requested memory for kv \((?P<asked>[\d.]+) GiB\)"
        ),
        stage=Stage.MEMORY,
        title="A KV cache of {asked} GiB does not fit into {free} GiB",
        remedy="Lower VLLM_CPU_KVCACHE_SPACE in [env] to what the machine has left.",
        change=less_kv_space,
        versions=">=0.32",
        example="ValueError: Available memory on node 0 (12.61/14.34 GiB) on kv cache allocation is less than "
        "requested memory for kv (4000.0 GiB). Decrease --kv-cache-memory-bytes, VLLM_CPU_KVCACHE_SPACE,",
    ),
    Failure(
        id="cpu-no-kv-memory",
        needles=("on kv cache allocation is less than requested",),
        pattern=re.compile(
            r"on kv cache allocation is less than requested memory for kv \((?P<left>-?[\d.]+)/(?P<share>[\d.]+) GiB\)"
        ),
        stage=Stage.MEMORY,
        title="Nothing is left for the KV cache",
        why="Of the {share} GiB that vLLM may take, weights and program leave {left} GiB.",
        remedy="Raise serve.gpu_memory_utilization, which means the machine's memory here, or leave it out.",
        change=set_to("serve.gpu_memory_utilization", None),
        versions=">=0.32",
        example="ValueError: Available memory on node 0 (12.74/14.34 GiB) on kv cache allocation is less than "
        "requested memory for kv (-0.47/0.14 GiB). Reduce CPU memory used by other processes.",
    ),
)
