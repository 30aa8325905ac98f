"""From a model and a profile's settings to the plan of its KV cache, or to the reason why there is none.

Separate from the estimate because the trade-off table asks for several plans of one model: one per KV cache type.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from packaging.specifiers import InvalidSpecifier, SpecifierSet

from console.core.fit.architecture import V4, Architecture, Gqa, Mla
from console.core.fit.pages import (
    INDEXER_FP8_BYTES,
    INDEXER_MXFP4_BYTES,
    V4_BLOCK,
    V32_FP8_BYTES,
    CacheLayer,
    V4Layout,
    gqa_pages,
    mla_pages,
    v4_pages,
    v41_pages,
)
from console.core.fit.plan import KvPlan, plan_cache, stage_ranges
from console.core.fit.weights import Parallel
from console.core.profile import EngineKind, Profile

__all__ = ["CacheSettings", "NoPlan", "cache_settings", "make_plan"]

PACKED_SINCE = "0.32"
"""From here on blocks are packed, and an MXFP4 indexer takes half the memory of an FP8 one. The source of 0.26 has
wider blocks and room for FP8 in either case, and figures of 0.22 to 0.26 agree; versions between count as the older."""
TWO_BATCHES_SINCE = "0.26"
"""From here on tokens of two steps count as in flight (asynchronous scheduling; `max_concurrent_batches`, 0.32)."""
DRAFT_LAYERS = {"mtp": 1, "dspark": 3}
"""Draft layers that are loaded, by speculative method (deepseek_v4/nvidia/mtp.py, dspark.py)."""
BLOCK, MLA_BLOCK = 16, 64
CPU_BLOCK, CPU_MLA_BLOCK = 128, 16
"""vLLM's own `--block-size`, where the profile sets none (platforms/cpu.py, FlashMLA)."""
V4_ONLY_FP8 = "n/a: V4's cache is fp8_ds_mla; vLLM takes no other type on these GPUs"
"""`_resolve_dsv4_kv_cache_dtype` in vLLM 0.32 (deepseek_v4/attention.py)."""
DIVIDED_CONTEXT = ("decode_context_parallel_size", "prefill_context_parallel_size")


class NoPlan(Exception):
    """There is no plan; the text says why."""


class CacheSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What of a profile decides on the KV cache."""

    parallel: Parallel = Parallel()
    kv_dtype: str = "auto"
    block: int | None = None
    kind: EngineKind = EngineKind.CUDA
    drafts: int = 0
    step_tokens: int = 8192
    steps_in_flight: int = 2
    packed: bool = True
    mxfp4_indexer: bool = False
    unsupported: str = ""


def cache_settings(profile: Profile, parallel: Parallel, step_tokens: int, version: str | None) -> CacheSettings:
    """Read a profile.

    Args:
        version: of vLLM; `None` takes the newest that the profile allows.
    """
    serve = profile.serve
    method = str((serve.speculative_config or {}).get("method", ""))
    given = {key.replace("-", "_"): value for key, value in serve.extra.items()}
    divided = [key for key in DIVIDED_CONTEXT if _above_one(given.get(key))]
    in_flight = 1 if not _reaches(profile, version, TWO_BATCHES_SINCE) else parallel.pp + 1
    packed = _reaches(profile, version, PACKED_SINCE)
    return CacheSettings(
        parallel=parallel,
        kv_dtype=serve.kv_cache_dtype or "auto",
        block=serve.block_size,
        kind=profile.engine.kind,
        drafts=DRAFT_LAYERS.get(method, 0),
        step_tokens=step_tokens,
        steps_in_flight=in_flight,
        packed=packed,
        mxfp4_indexer=packed and _mxfp4(given),
        unsupported=f"{divided[0]} divides the cache in a way that is not modelled" if divided else "",
    )


def make_plan(architecture: Architecture, settings: CacheSettings) -> KvPlan:
    """The plan of the KV cache.

    Raises:
        NoPlan: this model cannot have it so, or the setting is not modelled.
    """
    if settings.unsupported:
        raise NoPlan(settings.unsupported)
    parallel = settings.parallel
    stages = stage_ranges(architecture.layers, parallel.pp, settings.drafts) if parallel.pp > 1 else ()
    return plan_cache(
        _caches(architecture, settings),
        in_flight=settings.step_tokens * settings.steps_in_flight,
        stages=stages,
        packed=settings.packed,
    )


def _caches(architecture: Architecture, settings: CacheSettings) -> tuple[CacheLayer, ...]:
    shape, layers = architecture.shape, architecture.layers
    fp8 = settings.kv_dtype.startswith("fp8")
    element = 1 if fp8 else 2
    cpu = settings.kind is EngineKind.CPU
    if isinstance(shape, Gqa):
        return gqa_pages(
            layers=layers,
            kv_heads=shape.kv_heads,
            head_dim=shape.head_dim,
            tensor_parallel=settings.parallel.tp,
            element_bytes=element,
            block=settings.block or (CPU_BLOCK if cpu else BLOCK),
            full_every=shape.full_every,
            chunk=shape.chunk,
        )
    if isinstance(shape, Mla):
        entry = V32_FP8_BYTES if shape.indexer and fp8 else shape.latent * element
        return mla_pages(
            layers=layers + settings.drafts,
            entry_bytes=entry,
            # The CPU's MLA kernel has one block size, whatever is asked for.
            block=CPU_MLA_BLOCK if cpu else settings.block or MLA_BLOCK,
            indexer_bytes=INDEXER_FP8_BYTES if shape.indexer else 0,
        )
    if not fp8 and settings.kv_dtype != "auto":
        raise NoPlan(V4_ONLY_FP8)
    layout = V4Layout(indexer_bytes=INDEXER_MXFP4_BYTES if settings.mxfp4_indexer else INDEXER_FP8_BYTES)
    block = V4_BLOCK if cpu else settings.block or V4_BLOCK
    if isinstance(shape, V4):
        return v4_pages(
            shape.ratios,
            drafts=settings.drafts,
            window=shape.window,
            layout=layout,
            block=block,
            head=shape.head_dim,
            index=shape.index_dim,
        )
    return v41_pages(
        shape.ratios,
        shape.sources,
        drafts=settings.drafts,
        window=shape.window,
        layout=layout,
        block=block,
        head=shape.head_dim,
    )


def _reaches(profile: Profile, version: str | None, since: str) -> bool:
    """Whether the version, or else any that the profile allows, is `since` or later."""
    if version is not None:
        return SpecifierSet(f">={since}").contains(version.partition("+")[0], prereleases=True)
    try:
        allowed = SpecifierSet(profile.engine.vllm)
    except InvalidSpecifier:
        return True
    major, minor = since.split(".")
    return any(allowed.contains(f"{major}.{number}.0") for number in range(int(minor), int(minor) + 100))


def _above_one(value: Any) -> bool:
    return isinstance(value, int) and value > 1


def _mxfp4(given: Mapping[str, Any]) -> bool:
    """`attention_config.indexer_kv_dtype=mxfp4`, or its older name `use_fp4_indexer_cache`."""
    config = given.get("attention_config")
    flat = dict(given)
    if isinstance(config, Mapping):
        flat |= {f"attention_config.{key}": value for key, value in config.items()}
    return flat.get("attention_config.indexer_kv_dtype") == "mxfp4" or flat.get(
        "attention_config.use_fp4_indexer_cache"
    ) in (True, "True", "true")
