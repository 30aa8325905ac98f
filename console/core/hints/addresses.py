"""Addresses of the documentation behind the rules: vLLM's pages, its recipes, NVIDIA's references, man pages.

Separate so that an address that moves is changed once. vLLM's are those of its newest release (`stable`).
"""

from __future__ import annotations

__all__ = [
    "CLOCKS",
    "CONTEXT",
    "CPU_RESOURCES",
    "CUDA_GRAPHS",
    "DATA_PARALLEL",
    "ECC",
    "EXPERT_PARALLEL",
    "FILES",
    "KV_FP8",
    "KV_OFFLOAD",
    "METRICS",
    "NVML_QUERIES",
    "OPTIMIZATION",
    "OUT_OF_MEMORY",
    "PREFILL",
    "PREFIX_CACHE",
    "RECIPES",
    "SERVE_ARGUMENTS",
    "SPECULATION",
    "TARGETS",
    "XID",
]

_VLLM = "https://docs.vllm.ai/en/stable"
_NVIDIA = "https://docs.nvidia.com/deploy"

OPTIMIZATION = f"{_VLLM}/configuration/optimization"
"""Preemption, chunked prefill, parallelism."""
PREFILL = f"{_VLLM}/configuration/optimization/#chunked-prefill"
CPU_RESOURCES = f"{_VLLM}/configuration/optimization/#cpu-resources-for-gpu-deployments"
CONTEXT = f"{_VLLM}/configuration/conserving_memory"
SERVE_ARGUMENTS = f"{_VLLM}/cli/serve"
METRICS = f"{_VLLM}/usage/metrics"
PREFIX_CACHE = f"{_VLLM}/features/automatic_prefix_caching"
SPECULATION = f"{_VLLM}/features/speculative_decoding"
KV_FP8 = f"{_VLLM}/features/quantization/quantized_kvcache"
KV_OFFLOAD = f"{_VLLM}/features/kv_offloading_usage"
CUDA_GRAPHS = f"{_VLLM}/design/cuda_graphs"
DATA_PARALLEL = f"{_VLLM}/serving/data_parallel_deployment"
EXPERT_PARALLEL = f"{_VLLM}/serving/expert_parallel_deployment"
TARGETS = f"{_VLLM}/benchmarking/cli"
RECIPES = "https://recipes.vllm.ai"
CLOCKS = f"{_NVIDIA}/nvml-api/group__nvmlClocksEventReasons.html"
XID = f"{_NVIDIA}/xid-errors/analyzing-xid-catalog.html"
ECC = f"{_NVIDIA}/a100-gpu-mem-error-mgmt/index.html"
NVML_QUERIES = f"{_NVIDIA}/nvml-api/group__nvmlDeviceQueries.html"
FILES = "https://man7.org/linux/man-pages/man2/getrlimit.2.html"
OUT_OF_MEMORY = "https://docs.kernel.org/admin-guide/mm/concepts.html#oom-killer"
