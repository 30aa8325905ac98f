"""A model's architecture from its own config.json, against the table of known models."""

from __future__ import annotations

from typing import Any

import pytest

from console.core.fit import ARCHITECTURES, GIB
from console.core.fit.caches import CacheSettings, make_plan
from console.core.fit.config import NotKnown, architecture_from_config, parts_from_tensors
from console.core.fit.weights import Parallel, divide

FLASH: dict[str, Any] = {
    "model_type": "deepseek_v4",
    "num_hidden_layers": 43,
    "max_position_embeddings": 1_048_576,
    "compress_ratios": [0, 0, *[4, 128] * 20, 4, 0],
    "sliding_window": 128,
    "head_dim": 512,
    "index_head_dim": 128,
    "n_routed_experts": 256,
}
V41: dict[str, Any] = {
    "model_type": "deepseek_v41_vl",
    "text_config": {
        "model_type": "deepseek_v41",
        "num_hidden_layers": 40,
        "max_position_embeddings": 1_048_576,
        "compress_ratios": [0, 0, *[2] * 18, *[1] * 20, 0, 0, 0],
        "kv_source_layer_ids": [2, 8, 14, 20],
        "sliding_window": 128,
        "head_dim": 512,
        "n_routed_experts": 384,
    },
}
V3: dict[str, Any] = {
    "model_type": "deepseek_v3",
    "num_hidden_layers": 61,
    "max_position_embeddings": 163_840,
    "kv_lora_rank": 512,
    "qk_rope_head_dim": 64,
    "n_routed_experts": 256,
}
MAVERICK: dict[str, Any] = {
    "model_type": "llama4",
    "text_config": {
        "model_type": "llama4_text",
        "num_hidden_layers": 48,
        "max_position_embeddings": 1_048_576,
        "num_attention_heads": 40,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "attention_chunk_size": 8192,
        "num_local_experts": 128,
    },
}


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("deepseek-v4-flash", FLASH),
        ("deepseek-v4.1-flash", V41),
        ("deepseek-v3", V3),
        ("deepseek-v3.2", V3 | {"index_topk": 2048}),
        ("llama-4-maverick", MAVERICK),
    ],
)
def test_the_published_config_gives_the_row_of_the_table(name: str, config: dict[str, Any]) -> None:
    read, known = architecture_from_config(config), ARCHITECTURES[name]
    assert read.shape == known.shape
    assert (read.layers, read.context, read.moe) == (known.layers, known.context, known.moe)
    settings = CacheSettings(kv_dtype="fp8")
    assert make_plan(read, settings) == make_plan(known, settings)


def test_a_dense_llama_without_head_dim() -> None:
    config = {
        "model_type": "llama",
        "num_hidden_layers": 2,
        "max_position_embeddings": 131_072,
        "hidden_size": 128,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    read = architecture_from_config(config)
    assert read.shape == ARCHITECTURES["tiny-llama"].shape
    assert not read.moe


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({}, "model_type .none. is not modelled"),
        ({"model_type": "mamba"}, "mamba is not modelled"),
        ({"model_type": "deepseek_v3"}, "no kv_lora_rank"),
        (FLASH | {"compress_ratios": [4, 7, *[4] * 41]}, "7"),
        (FLASH | {"compress_ratios": None}, "deepseek_v4"),
        (FLASH | {"num_hidden_layers": 0}, "0 layers"),
        (FLASH | {"num_hidden_layers": "many"}, "many"),
        (
            {"model_type": "mistral", "num_attention_heads": 32, "sliding_window": 4096, "num_hidden_layers": 2},
            "sliding window of 4096",
        ),
    ],
)
def test_what_is_not_modelled_is_answered_with_why(config: dict[str, Any], why: str) -> None:
    with pytest.raises(NotKnown, match=why):
        architecture_from_config(config)


def test_tensors_are_sorted_by_what_divides_them() -> None:
    tensors = {
        "model.embed_tokens.weight": 10,
        "lm_head.weight": 10,
        "model.layers.0.self_attn.q_b_proj.weight": 100,
        "model.layers.0.self_attn.q_a_proj.weight": 7,
        "model.layers.0.self_attn.kv_a_proj_with_mqa.weight": 5,
        "model.layers.0.mlp.experts.0.up_proj.weight": 1000,
        "model.layers.0.mlp.experts.1.up_proj.weight": 1000,
        "model.layers.0.mlp.shared_experts.up_proj.weight": 50,
        "model.layers.0.mlp.gate.weight": 3,
        "model.layers.0.mlp.gate_proj.weight": 40,
        "model.layers.0.input_layernorm.weight": 1,
        "layers.1.engram.table": 5000,
        "mtp.0.attn.wq_b.weight": 20,
        "mtp.1.ffn.experts.0.w1.weight": 60,
    }
    parts = parts_from_tensors(tensors)
    assert parts.embedding == 20
    assert parts.experts == 2000
    assert parts.sharded == 190
    assert parts.replicated == 16
    assert parts.host == 5000
    assert parts.draft == 40
    assert parts.backbone + 2 * parts.draft == sum(tensors.values())


def test_a_directory_is_divided_as_a_known_model_is() -> None:
    flash = ARCHITECTURES["deepseek-v4-flash"]
    sizes = {
        "layers.0.ffn.experts.0.w1.weight": int(flash.parts.experts),
        "layers.0.attn.wq_b.weight": int(flash.parts.sharded),
        "layers.0.attn.wkv.weight": int(flash.parts.replicated),
        "embed.weight": int(flash.parts.embedding),
        "mtp.0.ffn.experts.0.w1.weight": int(flash.parts.draft),
    }
    read = architecture_from_config(FLASH, parts_from_tensors(sizes))
    for spread in (Parallel(tp=4), Parallel(dp=4, ep=True), Parallel(tp=2, pp=2)):
        for speculates in (False, True):
            ours = divide(read, sum(sizes.values()), spread, speculates=speculates).gib_per_gpu
            table = divide(flash, sum(sizes.values()), spread, speculates=speculates).gib_per_gpu
            assert ours * GIB == pytest.approx(table * GIB, abs=10)
