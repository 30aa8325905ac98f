"""What is fixed for one run: the profile, the limits in force, and what follows from them.

Kept apart from the readings, because rules ask both and only one of them changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from console.core.models import GpuReading, Money, ProfileChange
from console.core.profile import EngineKind, Profile

__all__ = ["BATCHED_TOKENS_MAX", "MAX_NUM_SEQS_MAX", "Limits", "Setting"]

GIB = 2**30
LARGE_GPU_GIB = 70.0
"""From here on vLLM's defaults are the large ones."""
HUGE_GPU_GIB = 160.0
MAX_NUM_SEQS_MAX = 1024
"""vLLM's own largest default; nothing above it is proposed."""
BATCHED_TOKENS_MAX = 16_384
"""vLLM's own largest default for serving. 24,576 crashed DeepSeek V4-Flash on 4×H100 under load
(vllm-project/vllm#51743), so nothing above is proposed."""
FP8_KV_GPUS = ("H100", "H200", "H800", "H20", "GH200", "B200", "B300", "L40", "L4", "RTX PRO 6000")
"""Name parts of GPUs with FP8 arithmetic (compute capability 8.9 and up); the A100 (8.0) has none."""
LATENT_KV = ("deepseek-v3", "deepseek-r1", "deepseek-v4")
"""Name parts of models with one KV head or latent vector (MLA), which every tensor-parallel rank keeps in full."""
PLAIN_KV_DTYPES = frozenset({None, "auto", "bfloat16", "float16"})


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What is known about this run; `None` where the profile and vLLM's defaults must do."""

    max_num_seqs: int | None = None
    """Per engine, as vLLM counts it."""
    max_model_len: int | None = None
    """Tokens."""
    usd_per_hour: float | None = None
    engine_version: str | None = None
    """Of vLLM."""


class Setting:
    """A profile and its limits, with the questions that rules ask about them."""

    def __init__(self, profile: Profile, limits: Limits) -> None:
        self.profile = profile
        self.serve = profile.serve
        self.limits = limits
        self.on_cpu = profile.engine.kind is EngineKind.CPU
        self.usd_per_hour = profile.cost.usd_per_hour if limits.usd_per_hour is None else limits.usd_per_hour
        self.money: Money | None = None
        """What the run has cost as of this tick; `None` where nobody keeps the ledger."""
        self.tensor_parallel = profile.serve.tensor_parallel_size or 1
        names = f"{profile.model.architecture or ''} {profile.model.id}".lower()
        self.is_v4 = "deepseek-v4" in names
        self.replicates_kv = any(part in names for part in LATENT_KV)
        """Whether each tensor-parallel rank keeps the whole KV cache."""
        drafts = (profile.serve.speculative_config or {}).get("num_speculative_tokens")
        self.drafts = drafts if isinstance(drafts, int) and not isinstance(drafts, bool) and drafts > 0 else 0
        """Tokens drafted per step; 0 without speculation, or where the checkpoint decides."""

    def seqs_limit(self, gpus: Sequence[GpuReading]) -> int | None:
        """`max_num_seqs` in force, per engine; `None` if it is unset and the GPU's memory is unknown.

        vLLM's defaults: 1,024 on GPUs of at least 70 GiB except the A100, else 256; the CPU build takes 128 per
        worker (`vllm/engine/arg_utils.py`, 0.32, `get_batch_defaults`).
        """
        known = self.limits.max_num_seqs or self.serve.max_num_seqs
        if known is not None:
            return known
        if self.on_cpu:
            return 128 * self.tensor_parallel * (self.serve.pipeline_parallel_size or 1)
        memory_gib, name = self._gpu(gpus)
        if memory_gib is None:
            return None
        return 1024 if memory_gib >= LARGE_GPU_GIB and "A100" not in name else 256

    def batched_tokens_limit(self, gpus: Sequence[GpuReading]) -> int | None:
        """`max_num_batched_tokens` in force; `None` if it is unset and the GPU's memory is unknown.

        vLLM's defaults for serving: 16,384 from 160 GiB per GPU, 8,192 from 70 GiB except the A100, else 2,048
        (same source).
        """
        if self.serve.max_num_batched_tokens is not None:
            return self.serve.max_num_batched_tokens
        if self.on_cpu:
            return 2048 * self.tensor_parallel * (self.serve.pipeline_parallel_size or 1)
        memory_gib, name = self._gpu(gpus)
        if memory_gib is None:
            return None
        if memory_gib >= HUGE_GPU_GIB:
            return 16_384
        return 8192 if memory_gib >= LARGE_GPU_GIB and "A100" not in name else 2048

    def seqs_ceiling(self, limit: int) -> int:
        """The most that may be proposed for `max_num_seqs` without breaking another setting.

        vLLM refuses `max_num_batched_tokens < max_num_seqs`, and with speculation each request takes its drafts
        and one token per step.
        """
        ceiling = max(MAX_NUM_SEQS_MAX, limit)
        batched = self.serve.max_num_batched_tokens
        if batched is None:
            return ceiling
        return min(ceiling, batched // (1 + self.drafts))

    def fp8_kv_possible(self, gpus: Sequence[GpuReading]) -> bool:
        """Whether the KV cache is 16 bits wide now and could be FP8.

        DeepSeek V4 keeps FP8 entries whatever is set, so it is never asked to change.
        """
        if self.on_cpu or self.is_v4 or self.serve.kv_cache_dtype not in PLAIN_KV_DTYPES:
            return False
        name = self._gpu(gpus)[1]
        return any(part in name for part in FP8_KV_GPUS)

    def change(self, field: str, after: Any) -> tuple[ProfileChange, ...]:
        """The difference that sets `[serve] field` to `after`."""
        return (ProfileChange(key=f"serve.{field}", before=getattr(self.serve, field), after=after),)

    def flag(self, name: str) -> tuple[str, Any]:
        """Key and value of a flag in `[serve.extra]`, however it is spelled there; `None` if it is not set."""
        for key, value in self.serve.extra.items():
            if key.replace("_", "-").lower() == name:
                return key, value
        return name.replace("-", "_"), None

    def change_extra(self, flag: str, after: Any) -> tuple[ProfileChange, ...]:
        """The difference that sets a flag in `[serve.extra]` to `after`."""
        key, before = self.flag(flag)
        return (ProfileChange(key=f"serve.extra.{key}", before=before, after=after),)

    def _gpu(self, gpus: Sequence[GpuReading]) -> tuple[float | None, str]:
        """Memory in GiB and name of one GPU: as read, else as the profile says."""
        hardware = self.profile.hardware
        if gpus and gpus[0].memory_total_bytes is not None:
            return gpus[0].memory_total_bytes / GIB, (gpus[0].name or hardware.gpu).upper()
        return hardware.memory_gib, hardware.gpu.upper()
