"""Probes for preflight: each answers one question about this machine, all at a time, none for longer than its limit."""

from __future__ import annotations

from console.io.preflight.ask import ANSWER_TIMEOUT_S, ask_all
from console.io.preflight.engine import read_engine_facts
from console.io.preflight.gpus import read_gpus
from console.io.preflight.machine import read_environment, read_limits, read_memory, read_shm
from console.io.preflight.processes import Ended, end_orphans, find_vllm
from console.io.preflight.weights import cache_of, read_weights

__all__ = [
    "ANSWER_TIMEOUT_S",
    "Ended",
    "ask_all",
    "cache_of",
    "end_orphans",
    "find_vllm",
    "read_engine_facts",
    "read_environment",
    "read_gpus",
    "read_limits",
    "read_memory",
    "read_shm",
    "read_weights",
]
