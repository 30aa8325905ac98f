"""Whether a launch can succeed, judged before it: a table of checks over what was probed. Pure, so that every verdict
can be tested without the machine that would give it."""

from __future__ import annotations

from console.core.preflight.facts import (
    EngineFacts,
    Environment,
    Facts,
    Gpu,
    GpuFacts,
    GpuHolder,
    Limits,
    Memory,
    NoAnswer,
    PortFacts,
    Space,
    VllmProcess,
    Weights,
)
from console.core.preflight.report import Check, Override, Preflight, Verdict
from console.core.preflight.table import CHECKS, judge

__all__ = [
    "CHECKS",
    "Check",
    "EngineFacts",
    "Environment",
    "Facts",
    "Gpu",
    "GpuFacts",
    "GpuHolder",
    "Limits",
    "Memory",
    "NoAnswer",
    "Override",
    "PortFacts",
    "Preflight",
    "Space",
    "Verdict",
    "VllmProcess",
    "Weights",
    "judge",
]
