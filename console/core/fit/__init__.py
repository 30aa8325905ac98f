"""Whether a model fits a machine, and what its KV cache holds: pure arithmetic, each figure with its derivation.

`summary` is the answer, `estimate` gives it; `tradeoff` asks for several contexts and KV cache types at once. Below
them: `architecture` (what a model is), `config` (the same from a config.json), `weights` (what each GPU holds),
`pages` and `plan` (how vLLM divides KV cache memory), `hardware` (memory and what else takes it).
"""

from console.core.fit.architecture import ARCHITECTURES, Architecture
from console.core.fit.estimate import fit
from console.core.fit.hardware import CPU_PROCESSES_GIB, GPU_MEMORY_GIB, UTILIZATION_DEFAULT
from console.core.fit.summary import GIB, FitSummary

__all__ = [
    "ARCHITECTURES",
    "CPU_PROCESSES_GIB",
    "GIB",
    "GPU_MEMORY_GIB",
    "UTILIZATION_DEFAULT",
    "Architecture",
    "FitSummary",
    "fit",
]
