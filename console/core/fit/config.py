"""A model's architecture from its config.json and the sizes in its safetensors headers.

For a local directory and for models that are in no table. Only kinds of attention whose cache is known from vLLM's
source are read; anything else is answered with why not. Reading files is `console.io.checkpoint`'s.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from console.core.fit.architecture import V4, V41, Architecture, Gqa, Mla, Parts, Shape

__all__ = ["NotKnown", "architecture_from_config", "parts_from_tensors"]

GQA_TYPES = frozenset({"llama", "llama4_text", "mistral", "mixtral", "qwen2", "qwen3", "qwen3_moe", "qwen2_moe"})
"""`model_type` whose layers all keep keys and values per KV head, plainly."""
MLA_TYPES = frozenset({"deepseek_v2", "deepseek_v3", "deepseek_v32", "kimi_k2"})
V4_TYPES = frozenset({"deepseek_v4"})
V41_TYPES = frozenset({"deepseek_v41"})

EXPERT = re.compile(r"(?:^|\.)(?:mlp\.|ffn\.|feed_forward\.)?experts\.")
EMBEDDING = re.compile(r"(?:^|\.)(?:embed_tokens|embed|lm_head|head|output)\.weight$")
ENGRAM = re.compile(r"engram", re.IGNORECASE)
REPLICATED = re.compile(
    r"\.(?:wq_a|wkv|q_a_proj|kv_a_proj_with_mqa|indexer|compressor|gate|router)(?:\.|$)|norm\.weight$|attn_sink$|\.hc_"
)
"""What every tensor parallel rank holds whole: the layers that vLLM makes with `disable_tp` or `ReplicatedLinear`."""
DRAFT = re.compile(r"(?:^|\.)(?:mtp|dspark)\.")


class NotKnown(Exception):
    """This model's cache is not known; the text says why."""


def architecture_from_config(config: Mapping[str, Any], parts: Parts | None = None) -> Architecture:
    """Read a config.json.

    Raises:
        NotKnown: a kind of attention that is not modelled, or fields are missing.
    """
    text = config.get("text_config")
    inner: Mapping[str, Any] = text if isinstance(text, Mapping) else config
    kind = str(inner.get("model_type") or config.get("model_type") or "")
    try:
        shape = _shape(kind, inner)
        layers = int(inner["num_hidden_layers"])
        context = int(inner["max_position_embeddings"])
    except KeyError as error:
        raise NotKnown(f"config.json of model_type {kind or '(none)'} has no {error.args[0]}") from None
    except (TypeError, ValueError) as error:
        raise NotKnown(f"config.json of model_type {kind}: {error}") from None
    if layers < 1 or context < 1:
        raise NotKnown(f"config.json of model_type {kind} has {layers} layers and a context of {context}")
    return Architecture(
        name=kind,
        layers=layers,
        context=context,
        shape=shape,
        parts=parts or Parts(),
        moe=any(inner.get(key) for key in ("n_routed_experts", "num_local_experts", "num_experts")),
        source="config.json of the directory",
    )


def parts_from_tensors(tensors: Mapping[str, int]) -> Parts:
    """Add up tensors by how parallelism divides them; names as DeepSeek's and Llama's checkpoints have them.

    Args:
        tensors: bytes by name, from safetensors headers.
    """
    sums = dict.fromkeys(("experts", "embedding", "host", "replicated", "sharded", "draft"), 0.0)
    drafts: set[str] = set()
    for name, size in tensors.items():
        if ENGRAM.search(name):
            kind = "host"
        elif DRAFT.search(name):
            kind = "draft"
            drafts.add(".".join(name.split(".")[:2]))
        elif EXPERT.search(name) and "shared_experts" not in name:
            kind = "experts"
        elif EMBEDDING.search(name):
            kind = "embedding"
        else:
            kind = "replicated" if REPLICATED.search(name) else "sharded"
        sums[kind] += size
    return Parts(**{**sums, "draft": sums["draft"] / max(1, len(drafts))}, as_read=True)


def _shape(kind: str, config: Mapping[str, Any]) -> Shape:
    if kind in V4_TYPES:
        ratios = tuple(int(ratio) for ratio in config["compress_ratios"])[: int(config["num_hidden_layers"])]
        odd = sorted(set(ratios) - {0, 1, 4, 128})
        if odd:
            raise NotKnown(f"compress_ratios {odd} are none that vLLM's V4 has")
        return V4(
            ratios=ratios,
            window=int(config["sliding_window"]),
            head_dim=int(config["head_dim"]),
            index_dim=int(config["index_head_dim"]),
        )
    if kind in V41_TYPES:
        return V41(
            ratios=tuple(int(ratio) for ratio in config["compress_ratios"])[: int(config["num_hidden_layers"])],
            sources=tuple(int(layer) for layer in config["kv_source_layer_ids"]),
            window=int(config["sliding_window"]),
            head_dim=int(config["head_dim"]),
        )
    if kind in MLA_TYPES:
        return Mla(latent=int(config["kv_lora_rank"]) + int(config["qk_rope_head_dim"]), indexer="index_topk" in config)
    if kind in GQA_TYPES:
        return _gqa(kind, config)
    raise NotKnown(f"the KV cache of model_type {kind or '(none)'} is not modelled here")


def _gqa(kind: str, config: Mapping[str, Any]) -> Gqa:
    heads = int(config["num_attention_heads"])
    if config.get("sliding_window") and config.get("use_sliding_window", True) and kind not in ("llama", "llama4_text"):
        raise NotKnown(f"model_type {kind} with a sliding window of {config['sliding_window']} is not modelled here")
    return Gqa(
        kv_heads=int(config.get("num_key_value_heads") or heads),
        head_dim=int(config.get("head_dim") or int(config["hidden_size"]) // heads),
        full_every=int(config.get("no_rope_layer_interval") or 4) if kind == "llama4_text" else 1,
        chunk=int(config.get("attention_chunk_size") or 0) if kind == "llama4_text" else 0,
    )
