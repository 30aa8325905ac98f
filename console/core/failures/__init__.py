"""Known failures of a vLLM server: one row per text that tells a cause, with the remedy.

Tables and nothing else; `console.core.diagnosis` reads a log with them. The texts are those of vLLM 0.25 to 0.33,
PyTorch, NCCL, huggingface_hub and Python. Where a text is known for certain releases only, `versions` says so.
"""

from __future__ import annotations

from typing import Final

from console.core.failures.build import BUILD
from console.core.failures.checkpoint import CHECKPOINT
from console.core.failures.cpu import CPU
from console.core.failures.reports import REPORTS
from console.core.failures.row import Failure, FailureLevel, Stage
from console.core.failures.serving import SERVING
from console.core.failures.starting import STARTING

__all__ = ["FAILURES", "Failure", "FailureLevel", "Stage"]

FAILURES: Final[tuple[Failure, ...]] = (*STARTING, *CHECKPOINT, *CPU, *SERVING, *BUILD, *REPORTS)
"""In the order in which they are tried: a narrow row stands before a wide one."""
