"""Whether a launch can succeed, judged before it: a table of checks over what was probed. Pure, so that every verdict
can be tested without the machine that would give it. The data is exported here; judging it is in `table`, which a front
end that only shows reports need not load."""

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

__all__ = [
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
]
