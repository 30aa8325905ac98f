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
from tests.gpu import v4

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

PRO_LAYERS = 31
"""DeepSeek-V4-Pro with half its layers: room for a KV cache on eight H200, whatever the reserve turns out to be."""

PRO_LAYERS_FOR_TWO = 8
"""As many as leave two H200 more than half their memory."""

V4_FP4: dict[str, Any] = v4.cut(v4.FLASH_PREVIEW, len(V4_COMPRESS_RATIOS)) | {
    "compress_ratios": list(V4_COMPRESS_RATIOS),
    "num_nextn_predict_layers": 0,
}
"""DeepSeek-V4-Flash with its first layers alone, without a draft layer."""
FP8_EXPERTS: dict[str, Any] = {
    "expert_dtype": "fp8",
    "quantization_config": {key: value for key, value in v4.QUANTIZATION.items() if key != "scale_fmt"},
}

SHAPES: dict[str, dict[str, Any] | None] = {
    "tiny": None,
    "llama-1b": llama(2048, 8192, 16, 32, 64),
    "llama-8b": llama(4096, 14_336, 32, 32, 128),
    "llama-too-large": llama(8192, 28_672, 120, 64, 128),
    "v4-flash-fp8": V4_FP4 | FP8_EXPERTS,
    "v4-flash-fp4": V4_FP4,
    "v4-flash": v4.FLASH,
    "v4-pro": v4.PRO,
    "v4-pro-cut": v4.cut(v4.PRO, PRO_LAYERS),
    "v4-pro-for-two-cut": v4.cut(v4.PRO, PRO_LAYERS_FOR_TWO),
    "tiny-v4": None,
}
"""`None` leaves the tiny model as it is. The large one has 105 billion parameters: 210 GB, too much for any one GPU."""
TINY = {"tiny": "tiny-llama", "tiny-v4": "tiny-v4"}
"""Shapes that the console makes by itself, by its own name for them."""

ARCHITECTURES: dict[str, tuple[int, int, int]] = {"llama-1b": (16, 8, 64), "llama-8b": (32, 8, 128), "tiny": (2, 2, 32)}
"""Layers, KV heads and head size, for the console's own arithmetic."""


_making = threading.Lock()


def make(shape: str, folder: Path) -> Path:
    """Write configuration and tokenizer of a shape into `folder/SHAPE`, once, and return that directory."""
    config = SHAPES[shape]
    if config is None:
        return make_model(folder / shape, TINY[shape])
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
    if config["model_type"] != "llama":
        return v4.checkpoint_bytes(config)
    hidden, layers, vocabulary = config["hidden_size"], config["num_hidden_layers"], config["vocab_size"]
    heads = config["head_dim"] * (2 * config["num_attention_heads"] + 2 * config["num_key_value_heads"])
    per_layer = hidden * heads + 3 * hidden * config["intermediate_size"] + 2 * hidden
    return int(2 * (layers * per_layer + 2 * vocabulary * hidden + hidden))
