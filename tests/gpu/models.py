"""Models without weights for a GPU: shapes of real ones, with the tiny model's tokenizer, served with dummy weights.

The tokenizer is filled up to the model's vocabulary, so that every token that can be drawn has a text.
"""

from __future__ import annotations

import hashlib
import json
import threading
from pathlib import Path
from typing import Any

from console.io import tinymodel
from console.io.tinymodel import VOCABULARY, make_model

__all__ = ["ARCHITECTURES", "SHAPES", "V4_COMPRESS_RATIOS", "make", "weights_bytes"]


def llama(hidden: int, inner: int, layers: int, heads: int, head_dim: int) -> dict[str, Any]:
    """A Llama 3 shape."""
    return tinymodel.SHAPES["tiny-llama"] | {
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": 8,
        "head_dim": head_dim,
        "rope_theta": 500_000.0,
        "vocab_size": 128_256,
    }


V4_COMPRESS_RATIOS = (0, 0, 4, 128, 4, 128)
"""The first layers of DeepSeek-V4-Flash: two with a sliding window alone, then CSA and HCA in turn."""

V4: dict[str, Any] = {
    "architectures": ["DeepseekV4ForCausalLM"],
    "model_type": "deepseek_v4",
    "vocab_size": 129_280,
    "hidden_size": 4096,
    "num_hidden_layers": len(V4_COMPRESS_RATIOS),
    "num_attention_heads": 64,
    "num_key_value_heads": 1,
    "head_dim": 512,
    "qk_rope_head_dim": 64,
    "q_lora_rank": 1024,
    "o_groups": 8,
    "o_lora_rank": 1024,
    "n_routed_experts": 256,
    "num_experts_per_tok": 6,
    "n_shared_experts": 1,
    "moe_intermediate_size": 2048,
    "num_hash_layers": 3,
    "scoring_func": "sqrtsoftplus",
    "topk_method": "noaux_tc",
    "norm_topk_prob": True,
    "routed_scaling_factor": 1.5,
    "swiglu_limit": 10.0,
    "hidden_act": "silu",
    "hc_mult": 4,
    "hc_sinkhorn_iters": 20,
    "hc_eps": 1e-6,
    "index_n_heads": 64,
    "index_head_dim": 128,
    "index_topk": 512,
    "sliding_window": 128,
    "compress_ratios": list(V4_COMPRESS_RATIOS),
    "rope_theta": 10_000.0,
    "compress_rope_theta": 160_000.0,
    "rope_scaling": {
        "type": "yarn",
        "rope_type": "yarn",
        "factor": 16,
        "original_max_position_embeddings": 65_536,
        "beta_fast": 32,
        "beta_slow": 1,
    },
    "max_position_embeddings": 1_048_576,
    "num_nextn_predict_layers": 0,
    "rms_norm_eps": 1e-6,
    "attention_bias": False,
    "attention_dropout": 0.0,
    "initializer_range": 0.02,
    "tie_word_embeddings": False,
    "quantization_config": {
        "activation_scheme": "dynamic",
        "fmt": "e4m3",
        "quant_method": "fp8",
        "weight_block_size": [128, 128],
    },
}

SHAPES: dict[str, dict[str, Any] | None] = {
    "tiny": None,
    "llama-1b": llama(2048, 8192, 16, 32, 64),
    "llama-8b": llama(4096, 14_336, 32, 32, 128),
    "llama-too-large": llama(8192, 28_672, 120, 64, 128),
    "v4-flash-fp8": V4 | {"expert_dtype": "fp8"},
    "v4-flash-fp4": V4
    | {"expert_dtype": "fp4", "quantization_config": V4["quantization_config"] | {"scale_fmt": "ue8m0"}},
}
"""`None` leaves the tiny model as it is. The large one has 105 billion parameters: 210 GB, too much for any one GPU."""

ARCHITECTURES: dict[str, tuple[int, int, int]] = {"llama-1b": (16, 8, 64), "llama-8b": (32, 8, 128), "tiny": (2, 2, 32)}
"""Layers, KV heads and head size, for the console's own arithmetic."""


_making = threading.Lock()


def make(shape: str, folder: Path) -> Path:
    """Write configuration and tokenizer of a shape into `folder/SHAPE`, once, and return that directory."""
    config = SHAPES[shape]
    if config is None:
        return make_model(folder / shape)
    name = f"{shape}-{hashlib.sha256(json.dumps(config).encode()).hexdigest()[:8]}"
    with _making:
        if not (folder / name).exists():
            partial = make_model(folder / f".{name}")
            fill(partial, config)
            partial.rename(folder / name)
    return folder / name


def fill(directory: Path, config: dict[str, Any]) -> None:
    """Turn the tiny model in `directory` into one of this configuration."""
    tiny = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    kept = {key: tiny[key] for key in ("bos_token_id", "eos_token_id", "torch_dtype")}
    write(directory / "config.json", config | kept)
    tokenizer = json.loads((directory / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary.update({f"Ġt{number}": number for number in range(VOCABULARY, config["vocab_size"])})
    write(directory / "tokenizer.json", tokenizer)


def write(path: Path, document: dict[str, Any]) -> None:
    """Write JSON."""
    path.write_text(json.dumps(document, ensure_ascii=False) + "\n", encoding="utf-8")


def weights_bytes(shape: str) -> int | None:
    """What the weights of a shape take, from its configuration: BF16 for a Llama, the types of V4 else."""
    config = SHAPES[shape]
    if config is None:
        return None
    hidden, layers, vocabulary = config["hidden_size"], config["num_hidden_layers"], config["vocab_size"]
    if config["model_type"] == "llama":
        heads = config["head_dim"] * (2 * config["num_attention_heads"] + 2 * config["num_key_value_heads"])
        per_layer = hidden * heads + 3 * hidden * config["intermediate_size"] + 2 * hidden
        return int(2 * (layers * per_layer + 2 * vocabulary * hidden + hidden))
    wide, rank, groups = config["num_attention_heads"] * config["head_dim"], config["q_lora_rank"], config["o_groups"]
    out = wide // groups * groups * config["o_lora_rank"] + groups * config["o_lora_rank"] * hidden
    attention = hidden * (rank + config["head_dim"]) + rank * wide + out
    indexer = rank * config["index_n_heads"] * config["index_head_dim"]
    expert = 3 * hidden * config["moe_intermediate_size"]
    routed = config["n_routed_experts"] * expert * (1 if config["expert_dtype"] == "fp8" else 17 / 32)
    csa = sum(ratio == 4 for ratio in config["compress_ratios"])
    return int(layers * (attention + expert + routed) + csa * indexer + 2 * 2 * vocabulary * hidden)
