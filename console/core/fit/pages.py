"""The KV cache of one layer as vLLM allocates it: pages of a fixed size, each for a block of tokens.

Separate from the planner, which only adds pages up: here stands what a model keeps per layer, one function per kind
of attention. Source of every size: vLLM 0.32's `get_kv_cache_spec` methods, named at each function.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import msgspec

__all__ = [
    "INDEXER_FP8_BYTES",
    "INDEXER_MXFP4_BYTES",
    "V4_BLOCK",
    "V32_FP8_BYTES",
    "CacheLayer",
    "Keep",
    "V4Layout",
    "gqa_pages",
    "mla_pages",
    "rounded_up",
    "v4_pages",
    "v41_pages",
]

DS_MLA_BYTES = 584
"""One entry of `fp8_ds_mla`: 448 FP8 + 128 BF16 rope + 8 scales (vLLM 0.32, deepseek_v4/attention.py)."""
INDEXER_FP8_BYTES = 132
"""One FP8 indexer key: 128 + 4 bytes of scale (same file)."""
INDEXER_MXFP4_BYTES = 68
"""One MXFP4 indexer key: 64 + 4 scales; SM100 and gfx950 only (same file)."""
ALIGNMENT_BYTES = 576
"""Pages of `fp8_ds_mla` are rounded up to this (same file)."""
V32_FP8_BYTES = 656
"""One FP8 entry of V3.2: 512 FP8 + 16 scales + 128 BF16 rope (v1/attention/backends/mla/flashmla_sparse.py)."""
V4_BLOCK = 256
V4_WINDOW_BLOCK = 64
"""Tokens per page of V4's sliding window (v1/attention/backends/mla/sparse_swa.py)."""
V4_STATE_BLOCKS = {4: 4, 128: 8}
"""Tokens per page of the compressor's state, by compression ratio (deepseek_v4/compressor.py)."""
V41_WINDOW_BLOCK = 32
V41_STATE_BLOCK = 8


class Keep(StrEnum):
    """Which tokens of a request stay in the cache."""

    ALL = "all"
    WINDOW = "window"
    """The last `span` tokens and those in flight."""
    CHUNK = "chunk"
    """The present chunk of `span` tokens and those in flight."""
    RING = "ring"
    """One page per request."""


class CacheLayer(msgspec.Struct, frozen=True, kw_only=True):
    """Pages of one cache of one layer; a layer of V4 has up to five caches."""

    layer: int
    keep: Keep
    block: int
    """Tokens per page."""
    page_bytes: int
    span: int = 0
    """Length of window or chunk, tokens."""


class V4Layout(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes of V4's cache entries."""

    entry_bytes: int = DS_MLA_BYTES
    indexer_bytes: int = INDEXER_FP8_BYTES
    alignment: int = ALIGNMENT_BYTES


def rounded_up(value: int, step: int) -> int:
    """The next multiple of `step`."""
    return -(-value // step) * step


def gqa_pages(
    *,
    layers: int,
    kv_heads: int,
    head_dim: int,
    tensor_parallel: int,
    element_bytes: int,
    block: int,
    full_every: int = 1,
    chunk: int = 0,
) -> tuple[CacheLayer, ...]:
    """Keys and values per KV head: 2 × KV heads / TP × head dimension × element bytes × tokens of a block.

    With fewer KV heads than ranks each rank keeps one head (vLLM: `max(1, total_kv_heads // tp)`).
    Llama 4 attends to everything in every `full_every`-th layer and to chunks of `chunk` tokens elsewhere
    (config.json: `no_rope_layers`, `attention_chunk_size`).
    """
    page = 2 * max(1, kv_heads // tensor_parallel) * head_dim * element_bytes * block
    return tuple(
        CacheLayer(layer=number, keep=Keep.ALL, block=block, page_bytes=page)
        if not chunk or (number + 1) % full_every == 0
        else CacheLayer(layer=number, keep=Keep.CHUNK, block=block, page_bytes=page, span=chunk)
        for number in range(layers)
    )


def mla_pages(*, layers: int, entry_bytes: int, block: int, indexer_bytes: int = 0) -> tuple[CacheLayer, ...]:
    """One latent vector per layer and token, the same on every tensor parallel rank (vLLM: `MLAAttentionSpec`).

    Args:
        entry_bytes: (`kv_lora_rank` + `qk_rope_head_dim`) × bytes per element.
        indexer_bytes: per token, where the model has an indexer (V3.2).
    """
    pages = []
    for number in range(layers):
        pages.append(CacheLayer(layer=number, keep=Keep.ALL, block=block, page_bytes=entry_bytes * block))
        if indexer_bytes:
            pages.append(CacheLayer(layer=number, keep=Keep.ALL, block=block, page_bytes=indexer_bytes * block))
    return tuple(pages)


def v4_pages(
    ratios: Sequence[int], *, drafts: int, window: int, layout: V4Layout, block: int, head: int = 512, index: int = 128
) -> tuple[CacheLayer, ...]:
    """All caches of a V4: window in every layer, compressed entries, indexer keys and compressor states by ratio.

    The state of a compressor holds key and score in FP32: 2 × 4 × dimension bytes per token, twice that where
    windows overlap (ratio 4). Draft layers (MTP, DSpark) have a window only.

    Args:
        ratios: `compress_ratios` of the backbone's layers: 4 = sparse with indexer, 128 = heavily compressed, 0 = none.
        drafts: draft layers that are loaded.
        head: `head_dim`.
        index: `index_head_dim`.
    """
    page = rounded_up(V4_WINDOW_BLOCK * layout.entry_bytes, layout.alignment)
    pages: list[CacheLayer] = []

    def add(layer: int, keep: Keep, tokens: int, size: int, span: int = 0) -> None:
        size = rounded_up(size, layout.alignment)
        pages.append(CacheLayer(layer=layer, keep=keep, block=tokens, page_bytes=size, span=span))

    for number, ratio in enumerate(ratios):
        pages.append(CacheLayer(layer=number, keep=Keep.WINDOW, block=V4_WINDOW_BLOCK, page_bytes=page, span=window))
        if ratio <= 1:
            continue
        overlap = 2 if ratio == 4 else 1
        state = V4_STATE_BLOCKS[ratio]
        add(number, Keep.ALL, block, block // ratio * layout.entry_bytes)
        add(number, Keep.WINDOW, state, state * 2 * 4 * overlap * head, overlap * ratio)
        if ratio == 4:
            add(number, Keep.ALL, block, block // ratio * layout.indexer_bytes)
            add(number, Keep.WINDOW, state, state * 2 * 4 * overlap * index, overlap * ratio)
    for number in range(len(ratios), len(ratios) + drafts):
        pages.append(CacheLayer(layer=number, keep=Keep.WINDOW, block=V4_WINDOW_BLOCK, page_bytes=page, span=window))
    return tuple(pages)


def v41_pages(
    ratios: Sequence[int],
    sources: Sequence[int],
    *,
    drafts: int,
    window: int,
    layout: V4Layout,
    block: int,
    head: int = 512,
) -> tuple[CacheLayer, ...]:
    """All caches of a V4.1: a window in every layer; compressed entries and indexer keys in the KV source layers only.

    Source: vLLM 0.32, deepseek_v41/attention.py and compressor.py. Layers after a source read its cache.
    """
    page = rounded_up(V41_WINDOW_BLOCK * layout.entry_bytes, layout.alignment)
    pages = [
        CacheLayer(layer=number, keep=Keep.WINDOW, block=V41_WINDOW_BLOCK, page_bytes=page, span=window)
        for number in range(len(ratios) + drafts)
    ]
    for number in sources:
        entries = block // ratios[number]
        for size in (layout.entry_bytes, layout.indexer_bytes):
            compressed = rounded_up(entries * size, layout.alignment)
            pages.append(CacheLayer(layer=number, keep=Keep.ALL, block=block, page_bytes=compressed))
        if ratios[number] > 1:
            state = V41_STATE_BLOCK * 2 * head * 4
            pages.append(CacheLayer(layer=number, keep=Keep.RING, block=V41_STATE_BLOCK, page_bytes=state))
    return tuple(sorted(pages, key=lambda entry: entry.layer))
