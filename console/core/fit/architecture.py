"""What the arithmetic has to know of a model: its attention, its parts by how they are divided, its limits.

Separate from the formulas: a known checkpoint is one row of `ARCHITECTURES`; `console.core.fit.config` makes the same
from a config.json. Dimensions are those of the published config.json files.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

__all__ = ["ARCHITECTURES", "V4", "V41", "Architecture", "Gqa", "Mla", "Parts", "Shape"]


class Dimensions(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Base of the kinds of attention."""


class Gqa(Dimensions, frozen=True, kw_only=True):
    """Keys and values per KV head; with `chunk`, only every `full_every`-th layer attends to everything."""

    kv_heads: int
    head_dim: int
    full_every: int = 1
    chunk: int = 0


class Mla(Dimensions, frozen=True, kw_only=True):
    """One latent vector per layer."""

    latent: int
    """`kv_lora_rank` + `qk_rope_head_dim`."""
    indexer: bool = False


class V4(Dimensions, frozen=True, kw_only=True):
    """Compressed sparse, heavily compressed and sliding-window layers."""

    ratios: tuple[int, ...]
    """Of the backbone's layers."""
    window: int = 128
    head_dim: int = 512
    index_dim: int = 128


class V41(Dimensions, frozen=True, kw_only=True):
    """V4.1: compressed caches in the KV source layers only."""

    ratios: tuple[int, ...]
    sources: tuple[int, ...]
    window: int = 128
    head_dim: int = 512


Shape: TypeAlias = Gqa | Mla | V4 | V41


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes of the parts of a checkpoint, by how parallelism divides them. The routed experts are the rest of it."""

    sharded: float = 0.0
    """Attention projections, dense and shared expert layers: divided by TP, replicated under DP."""
    replicated: float = 0.0
    """Down-projections, indexers, compressors, routers: on every GPU."""
    embedding: float = 0.0
    """Embedding and head: divided by TP, replicated under DP."""
    host: float = 0.0
    """Kept in host memory (Engram)."""
    draft: float = 0.0
    """One draft layer with its experts; read only with speculation."""
    experts: float = 0.0
    """Routed experts of the backbone in native precision, to tell draft layers and builds in another precision."""
    expert_element: float = 1.0
    """Native bytes per parameter of an expert."""
    dense_element: float = 1.0
    """Native bytes per parameter of the sharded parts."""
    as_read: bool = False
    """Sizes are those of the very files, so that no other precision is to be looked for."""

    @property
    def backbone(self) -> float:
        """Bytes of all without draft layers, in native precision."""
        return self.sharded + self.replicated + self.embedding + self.host + self.experts

    @property
    def parameters(self) -> float:
        """Roughly, without tables for the host; 0 where it does not matter."""
        if self.as_read:
            return 0.0
        return self.experts / self.expert_element + self.sharded / self.dense_element + self.embedding / 2


class Architecture(msgspec.Struct, frozen=True, kw_only=True):
    """One model."""

    name: str
    layers: int
    context: int
    """`max_position_embeddings`."""
    shape: Shape
    parts: Parts = Parts()
    moe: bool = True
    max_tp: int = 64
    heads: int | None = None
    """`num_attention_heads`, which the tensor parallel size must divide."""
    groups: int | None = None
    """`o_groups` of V4's output projection; the same holds for them."""
    expert_width: int | None = None
    """`moe_intermediate_size`, which must come in whole quantization blocks."""
    source: str = "config.json of the model repository"


def v4_ratios(first: tuple[int, int], pairs: int) -> tuple[int, ...]:
    """`compress_ratios` without draft layers: two layers, then 4 and 128 by turns, and a last 4."""
    return first + (4, 128) * pairs + (4,)


def v4_parts(
    *,
    ratios: tuple[int, ...],
    hidden: int,
    heads: int,
    q_rank: int,
    groups: int,
    experts: int,
    expert_width: int,
    o_rank: int = 1024,
    index_heads: int = 64,
    vocabulary: int = 129_280,
    head_dim: int = 512,
    index_dim: int = 128,
) -> Parts:
    """Bytes of V4 as released: FP4 experts with a scale byte per 32, FP8 the rest, BF16 embedding and compressors.

    Follows the layers that vLLM 0.32 makes (deepseek_v4/attention.py, compressor.py). For V4-Flash with one MTP layer
    this gives 159.5·10⁹ bytes; its repository has 148.66 GiB, which are 159.6·10⁹.
    """
    layers = len(ratios)
    csa, hca = ratios.count(4), ratios.count(128)
    expert = 3 * hidden * expert_width
    attention = q_rank * heads * head_dim + heads * head_dim * o_rank + groups * o_rank * hidden
    down = hidden * (q_rank + head_dim)
    router = 2 * hidden * experts
    indexer = q_rank * index_heads * index_dim + 2 * hidden * index_heads + 2 * hidden * 4 * index_dim
    compressor_csa, compressor_hca = 2 * hidden * 4 * head_dim, 2 * hidden * 2 * head_dim
    per_layer = attention + expert
    fp4 = 0.5 + 1 / 32
    return Parts(
        sharded=float(layers * per_layer),
        replicated=float(layers * (down + router) + csa * (indexer + compressor_csa) + hca * compressor_hca),
        embedding=float(2 * 2 * vocabulary * hidden),
        experts=layers * experts * expert * fp4,
        expert_element=fp4,
        draft=per_layer + down + router + experts * expert * fp4 + 2 * hidden * hidden,
    )


FLASH_RATIOS = v4_ratios((0, 0), 20)
PRO_RATIOS = v4_ratios((128, 128), 29)
FLASH_PARTS = v4_parts(
    ratios=FLASH_RATIOS, hidden=4096, heads=64, q_rank=1024, groups=8, experts=256, expert_width=2048
)
PRO_PARTS = v4_parts(ratios=PRO_RATIOS, hidden=7168, heads=128, q_rank=1536, groups=16, experts=384, expert_width=3072)

V3_ATTENTION = 1536 * 128 * 192 + 512 * 128 * 256 + 128 * 128 * 7168
V3_DOWN = 7168 * (1536 + 576)
V3_EXPERT = 3 * 7168 * 2048
V3_PARTS = Parts(
    sharded=float(61 * V3_ATTENTION + 58 * V3_EXPERT + 3 * 3 * 7168 * 18_432),
    replicated=float(61 * V3_DOWN + 58 * 2 * 7168 * 256),
    embedding=float(2 * 2 * 129_280 * 7168),
    experts=float(58 * 256 * V3_EXPERT),
    draft=float(V3_ATTENTION + V3_DOWN + 257 * V3_EXPERT + 2 * 2 * 7168 * 7168 + 2 * 2 * 129_280 * 7168),
)
"""DeepSeek V3 in FP8 with its MTP layer, which carries an embedding and a head of its own."""

_GIB = 2.0**30
V41_PARTS = Parts(
    sharded=(4.72 + 1.32 + 0.90) * _GIB,
    embedding=(1.23 + 1.23) * _GIB,
    host=189.13 * _GIB,
    draft=7.39 / 3 * _GIB,
    experts=268.95 * _GIB,
    expert_element=17 / 32,
)
"""Attention, shared experts, vision; embedding and head; Engram; three DSpark stages: sizes in the repository."""

MAVERICK_PARTS = Parts(
    sharded=2.0 * (48 * (2 * 5120 * 5120 + 2 * 5120 * 1024) + 24 * 3 * 5120 * 16_384 + 24 * 3 * 5120 * 8192),
    replicated=2.0 * 24 * 5120 * 128,
    embedding=2.0 * 2 * 202_048 * 5120,
    experts=24.0 * 128 * 3 * 5120 * 8192,
    dense_element=2.0,
)
"""Llama 4 Maverick: FP8 experts in every second layer, BF16 the rest."""

ARCHITECTURES: dict[str, Architecture] = {
    row.name: row
    for row in (
        Architecture(
            name="deepseek-v4-pro",
            layers=61,
            context=1_048_576,
            shape=V4(ratios=PRO_RATIOS),
            parts=PRO_PARTS,
            heads=128,
            groups=16,
            expert_width=3072,
        ),
        Architecture(
            name="deepseek-v4-flash",
            layers=43,
            context=1_048_576,
            shape=V4(ratios=FLASH_RATIOS),
            parts=FLASH_PARTS,
            heads=64,
            groups=8,
            expert_width=2048,
        ),
        Architecture(
            name="deepseek-v4.1-flash",
            layers=40,
            context=1_048_576,
            shape=V41(ratios=(0, 0) + (2,) * 18 + (1,) * 20, sources=(2, 8, 14, 20)),
            parts=V41_PARTS,
            max_tp=8,
            heads=64,
            groups=8,
            expert_width=2304,
        ),
        Architecture(
            name="deepseek-v3",
            layers=61,
            context=163_840,
            shape=Mla(latent=576),
            parts=V3_PARTS,
            heads=128,
            expert_width=2048,
        ),
        Architecture(
            name="deepseek-v3.2", layers=61, context=163_840, shape=Mla(latent=576, indexer=True), parts=V3_PARTS
        ),
        Architecture(
            name="llama-4-maverick",
            layers=48,
            context=1_048_576,
            shape=Gqa(kv_heads=8, head_dim=128, full_every=4, chunk=8192),
            parts=MAVERICK_PARTS,
            heads=40,
        ),
        Architecture(
            name="tiny-llama",
            layers=2,
            context=131_072,
            shape=Gqa(kv_heads=2, head_dim=32),
            moe=False,
            heads=4,
        ),
    )
}
"""What `model.architecture` may name for the arithmetic to know it."""
