"""DeepSeek V4 as released: configurations, the same with fewer layers, and every tensor of the checkpoint.

Separate from `models`, which writes directories: here the tensors are told one by one, so that their sum can be held to
the published size. No weights are needed for it, and none are made. Dimensions: the repositories' `config.json`; which
tensors there are: the layers of vLLM 0.26's `models/deepseek_v4` (model.py, attention.py, compressor.py, dspark.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from console.io import tinymodel

__all__ = ["FLASH", "FLASH_PREVIEW", "PRO", "PUBLISHED", "Published", "checkpoint_bytes", "cut", "tensors"]

QUANTIZATION = {
    "activation_scheme": "dynamic",
    "fmt": "e4m3",
    "quant_method": "fp8",
    "scale_fmt": "ue8m0",
    "weight_block_size": [128, 128],
}
COMMON: dict[str, Any] = tinymodel.SHAPES["tiny-v4"] | {
    "vocab_size": 129_280,
    "o_lora_rank": 1024,
    "num_experts_per_tok": 6,
    "num_hash_layers": 3,
    "num_nextn_predict_layers": 1,
    "expert_dtype": "fp4",
    "quantization_config": QUANTIZATION,
}
DSPARK_STAGES = 3
"""Draft layers of a checkpoint with DSpark; `num_nextn_predict_layers` says 1 all the same."""

FLASH_PREVIEW: dict[str, Any] = COMMON | {
    "hidden_size": 4096,
    "num_hidden_layers": 43,
    "num_attention_heads": 64,
    "q_lora_rank": 1024,
    "o_groups": 8,
    "n_routed_experts": 256,
    "moe_intermediate_size": 2048,
    "routed_scaling_factor": 1.5,
    "index_topk": 512,
    "compress_ratios": [0, 0, *[4, 128] * 20, 4, 0],
}
"""DeepSeek-V4-Flash with its one MTP layer."""
FLASH: dict[str, Any] = FLASH_PREVIEW | {
    "compress_ratios": [0, 0, *[4, 128] * 20, 4, 0, 0, 0],
    "dspark_block_size": 5,
    "dspark_markov_rank": 256,
    "dspark_noise_token_id": 128_799,
    "dspark_target_layer_ids": [40, 41, 42],
}
"""DeepSeek-V4-Flash-0731 with DSpark."""
PRO: dict[str, Any] = FLASH | {
    "hidden_size": 7168,
    "num_hidden_layers": 61,
    "num_attention_heads": 128,
    "q_lora_rank": 1536,
    "o_groups": 16,
    "n_routed_experts": 384,
    "moe_intermediate_size": 3072,
    "routed_scaling_factor": 2.5,
    "index_topk": 1024,
    "compress_ratios": [128, 128, *[4, 128] * 29, 4, 0, 0, 0],
    "dspark_markov_rank": 512,
    "dspark_target_layer_ids": [58, 59, 60],
}
"""DeepSeek-V4-Pro-0813 with DSpark."""


class Published(NamedTuple):
    """What was published of a checkpoint."""

    model: str
    config: Mapping[str, Any]
    size_bytes: float
    """Of all tensors."""
    within: float
    """Share by which the sum may be off."""
    tensors: int | None
    source: str


PUBLISHED = (
    Published(
        "deepseek-ai/DeepSeek-V4-Flash-0731",
        FLASH,
        166_878_536_440,
        0.0,
        72_317,
        "sizes of the tensors in its 48 files",
    ),
    Published(
        "deepseek-ai/DeepSeek-V4-Pro-0813",
        PRO,
        892_727_580_904,
        0.0,
        149_782,
        "`total_size` and names in its model.safetensors.index.json",
    ),
    Published(
        "deepseek-ai/DeepSeek-V4-Flash",
        FLASH_PREVIEW,
        148.66 * 2**30,
        1e-4,
        None,
        "size of the repository, in GiB to two places; the tokenizer and the index are in it, which are about 13 MB",
    ),
)


def cut(config: Mapping[str, Any], layers: int) -> dict[str, Any]:
    """The same model with its first layers alone, all else as it is: DSpark then looks at the last three of them.

    Raises:
        ValueError: not so many layers, or too few for DSpark.
    """
    whole = config["num_hidden_layers"]
    if not DSPARK_STAGES <= layers <= whole:
        raise ValueError(f"{layers} layers: allowed are {DSPARK_STAGES} to {whole}")
    changed: dict[str, Any] = {
        "num_hidden_layers": layers,
        "compress_ratios": [*config["compress_ratios"][:layers], *config["compress_ratios"][whole:]],
    }
    if "dspark_target_layer_ids" in config:
        changed["dspark_target_layer_ids"] = list(range(layers - DSPARK_STAGES, layers))
    return {**config, **changed}


def checkpoint_bytes(config: Mapping[str, Any]) -> int:
    """Bytes of all tensors of the checkpoint."""
    return sum(size for _, size in tensors(config))


def tensors(config: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """Name and bytes of each tensor, named as in the released files. Draft layers are `mtp.0`, `mtp.1`, …"""
    hidden, vocabulary, hyper = config["hidden_size"], config["vocab_size"], config["hc_mult"]
    dspark = "dspark_target_layer_ids" in config
    drafts = DSPARK_STAGES if dspark else config["num_nextn_predict_layers"]
    for layer in range(config["num_hidden_layers"]):
        ratio, is_hashed = config["compress_ratios"][layer], layer < config["num_hash_layers"]
        yield from _layer(f"layers.{layer}", config, ratio, is_hashed=is_hashed)
    for stage in range(drafts):
        yield from _layer(f"mtp.{stage}", config, 0, is_hashed=False)
    yield "embed.weight", 2 * vocabulary * hidden
    yield "head.weight", 2 * vocabulary * hidden
    yield "norm.weight", 2 * hidden
    yield from _hyper("hc_head", hyper, hyper * hidden, 1)
    if not drafts:
        return
    last = f"mtp.{drafts - 1}"
    yield f"{last}.norm.weight", 2 * hidden
    yield from _hyper(f"{last}.hc_head", hyper, hyper * hidden, 1)
    if not dspark:
        yield from ((f"{last}.{name}.weight", 2 * hidden) for name in ("enorm", "hnorm"))
        for name in ("e_proj", "h_proj"):
            yield from _fp8(f"{last}.{name}", hidden, hidden, config)
        return
    rank = config["dspark_markov_rank"]
    yield from _fp8("mtp.0.main_proj", hidden, len(config["dspark_target_layer_ids"]) * hidden, config)
    yield "mtp.0.main_norm.weight", 2 * hidden
    yield from ((f"{last}.markov_head.{name}.weight", 2 * vocabulary * rank) for name in ("markov_w1", "markov_w2"))
    yield f"{last}.confidence_head.proj.weight", 2 * (hidden + rank)


def _layer(prefix: str, config: Mapping[str, Any], ratio: int, *, is_hashed: bool) -> Iterator[tuple[str, int]]:
    """One layer: attention, compressor and indexer by its ratio, experts, hyper-connections."""
    hidden, hyper = config["hidden_size"], config["hc_mult"]
    yield from _attention(f"{prefix}.attn", config, ratio)
    experts, inner = config["n_routed_experts"], config["moe_intermediate_size"]
    yield f"{prefix}.ffn.gate.weight", 2 * experts * hidden
    if is_hashed:
        yield f"{prefix}.ffn.gate.tid2eid", 8 * config["vocab_size"] * config["num_experts_per_tok"]
    else:
        yield f"{prefix}.ffn.gate.bias", 4 * experts
    for name, rows, columns in (("w1", inner, hidden), ("w2", hidden, inner), ("w3", inner, hidden)):
        yield from _fp8(f"{prefix}.ffn.shared_experts.{name}", rows, columns, config)
        for expert in range(experts):
            yield from _expert(f"{prefix}.ffn.experts.{expert}.{name}", rows, columns, config)
    yield f"{prefix}.attn_norm.weight", 2 * hidden
    yield f"{prefix}.ffn_norm.weight", 2 * hidden
    for name in ("attn", "ffn"):
        yield from _hyper(f"{prefix}.hc_{name}", (2 + hyper) * hyper, hyper * hidden, 3)


def _attention(prefix: str, config: Mapping[str, Any], ratio: int) -> Iterator[tuple[str, int]]:
    hidden, heads, head = config["hidden_size"], config["num_attention_heads"], config["head_dim"]
    rank, groups, o_rank = config["q_lora_rank"], config["o_groups"], config["o_lora_rank"]
    for name, rows, columns in (
        ("wq_a", rank, hidden),
        ("wq_b", heads * head, rank),
        ("wkv", head, hidden),
        ("wo_a", groups * o_rank, heads * head // groups),
        ("wo_b", hidden, groups * o_rank),
    ):
        yield from _fp8(f"{prefix}.{name}", rows, columns, config)
    yield f"{prefix}.q_norm.weight", 2 * rank
    yield f"{prefix}.kv_norm.weight", 2 * head
    yield f"{prefix}.attn_sink", 4 * heads
    if ratio:
        yield from _compressor(f"{prefix}.compressor", hidden, head, ratio)
    if ratio == 4:
        index_heads, index = config["index_n_heads"], config["index_head_dim"]
        yield from _fp8(f"{prefix}.indexer.wq_b", index_heads * index, rank, config)
        yield f"{prefix}.indexer.weights_proj.weight", 2 * index_heads * hidden
        yield from _compressor(f"{prefix}.indexer.compressor", hidden, index, ratio)


def _compressor(prefix: str, hidden: int, head: int, ratio: int) -> Iterator[tuple[str, int]]:
    """Where windows overlap (ratio 4), twice as wide."""
    width = head * (2 if ratio == 4 else 1)
    yield f"{prefix}.wkv.weight", 2 * width * hidden
    yield f"{prefix}.wgate.weight", 2 * width * hidden
    yield f"{prefix}.ape", 4 * ratio * width
    yield f"{prefix}.norm.weight", 2 * head


def _hyper(prefix: str, rows: int, columns: int, scales: int) -> Iterator[tuple[str, int]]:
    """A hyper-connection in FP32."""
    yield f"{prefix}_fn", 4 * rows * columns
    yield f"{prefix}_base", 4 * rows
    yield f"{prefix}_scale", 4 * scales


def _fp8(name: str, rows: int, columns: int, config: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """A byte per element, and a scale per 128×128: a byte, or FP32 where the experts are FP8, too."""
    yield f"{name}.weight", rows * columns
    yield f"{name}.scale", -(-rows // 128) * -(-columns // 128) * (1 if config["expert_dtype"] == "fp4" else 4)


def _expert(name: str, rows: int, columns: int, config: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """FP4: two elements in a byte, and a scale byte per 32."""
    if config["expert_dtype"] != "fp4":
        yield from _fp8(name, rows, columns, config)
        return
    yield f"{name}.weight", rows * columns // 2
    yield f"{name}.scale", rows * columns // 32
