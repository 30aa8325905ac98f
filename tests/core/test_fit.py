"""The fit arithmetic against published and measured figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from console.core.fit import ARCHITECTURES, GIB, fit, gqa, mla
from console.core.overrides import apply_overrides
from console.core.profile import Profile
from console.core.profile_read import read_profile

PROFILES = Path(__file__).parents[2] / "profiles"


def shipped(name: str, **changes: Any) -> Profile:
    path = PROFILES / f"{name}.toml"
    profile = read_profile(path.read_text(encoding="utf-8"), path.name)
    return apply_overrides(profile, {key.replace("__", "."): value for key, value in changes.items()})


def test_gqa_gives_the_tokens_that_real_vllm_printed() -> None:
    per_token = gqa(layers=2, kv_heads=2, head_dim=32, name="").kv_bytes(1, 2.0)
    assert per_token == 512
    assert GIB / per_token == 2_097_152


def test_mla_gives_the_tokens_that_real_vllm_printed() -> None:
    per_token = mla(layers=3, name="").kv_bytes(1, 2.0)
    assert per_token == 3 * 576 * 2
    # vLLM rounds down to whole blocks of 16 tokens.
    assert int(GIB / per_token) // 16 * 16 == 310_688


@pytest.mark.parametrize(
    ("name", "tokens", "gib"),
    [
        ("deepseek-v4-pro", 1_048_576, 5.4),
        ("deepseek-v4-flash", 1_048_576, 3.8),
        # 61 layers × 576 × 2 bytes, as published for the BF16 cache of V3.
        ("deepseek-v3", 163_840, 10.7),
    ],
)
def test_growth_of_a_long_request(name: str, tokens: int, gib: float) -> None:
    assert ARCHITECTURES[name].kv_bytes(8, 2.0) * tokens / GIB == pytest.approx(gib, abs=0.06)


def test_growth_per_token_of_v4() -> None:
    assert ARCHITECTURES["deepseek-v4-pro"].kv_bytes(1, 2.0) == pytest.approx(5511, abs=1)
    assert ARCHITECTURES["deepseek-v4-flash"].kv_bytes(1, 2.0) == pytest.approx(3850, abs=1)


def test_v4_and_mla_are_the_same_on_every_rank_and_gqa_is_divided() -> None:
    for name in ("deepseek-v4-pro", "deepseek-v4-flash", "deepseek-v3"):
        assert ARCHITECTURES[name].kv_bytes(1, 2.0) == ARCHITECTURES[name].kv_bytes(8, 2.0)
    grouped = gqa(layers=32, kv_heads=8, head_dim=128, name="")
    assert grouped.kv_bytes(4, 2.0) == grouped.kv_bytes(1, 2.0) / 4
    # More ranks than heads: each still holds one.
    assert grouped.kv_bytes(16, 2.0) == grouped.kv_bytes(8, 2.0)


def test_fp8_halves_mla_and_leaves_v4() -> None:
    assert ARCHITECTURES["deepseek-v3"].kv_bytes(1, 1.0) * 2 == ARCHITECTURES["deepseek-v3"].kv_bytes(1, 2.0)
    assert ARCHITECTURES["deepseek-v4-pro"].own_layout


def test_pro_is_tight_on_eight_h200_and_does_not_fit_on_eight_h100() -> None:
    tight = fit(shipped("8xh200-native-v4-pro"))
    assert tight.verdict == "tight"
    assert tight.weights_gib_per_gpu == pytest.approx(893 / 8 * 1e9 / GIB)
    never = fit(shipped("8xh200-native-v4-pro", hardware__gpu="H100"))
    assert never.verdict == "does not fit"
    assert never.kv_gib_per_gpu == 0
    assert never.kv_tokens == 0


def test_flash_does_not_fit_on_two_h100() -> None:
    assert fit(shipped("2xh200-native-v4-flash", hardware__gpu="H100")).verdict == "does not fit"


def test_a_context_longer_than_the_cache_does_not_fit() -> None:
    assert fit(shipped("8xa100-int4-v3")).verdict in ("fits", "tight")
    long = fit(shipped("8xa100-int4-v3", serve__max_model_len=1_000_000))
    assert long.verdict == "does not fit"


def test_data_parallel_shares_weights_only_with_expert_parallel() -> None:
    both = fit(shipped("8xh100-native-v4-flash"))
    alone = fit(shipped("8xh100-native-v4-flash", serve__enable_expert_parallel=None))
    assert both.weights_gib_per_gpu is not None
    assert alone.weights_gib_per_gpu == pytest.approx(both.weights_gib_per_gpu * 2)
    assert any("2 engines" in line for line in both.basis)


@pytest.mark.parametrize(
    "changes",
    [{"model__architecture": "deepseek-v9"}, {"model__architecture": None}, {"model__weights_gb": None}],
)
def test_what_is_not_known_is_unknown(changes: dict[str, Any]) -> None:
    summary = fit(shipped("4xh200-fp8-v4-flash", **changes))
    assert summary.verdict == "unknown"
    assert summary.kv_tokens is None
    assert any("unknown" in line for line in summary.basis)


def test_an_unknown_gpu_is_unknown_until_its_memory_is_known() -> None:
    profile = shipped("4xh200-fp8-v4-flash", hardware__gpu="X1")
    assert fit(profile).verdict == "unknown"
    assert fit(profile, gpu_memory_gib=139.0).verdict == "fits"
    assert fit(apply_overrides(profile, {"hardware.memory_gib": 20.0})).verdict == "does not fit"


def test_the_machine_at_hand_counts_more_than_the_table() -> None:
    assert fit(shipped("4xh200-fp8-v4-flash"), gpu_memory_gib=40.0).verdict == "does not fit"


def test_cpu_smoke_is_judged_by_host_memory() -> None:
    profile = shipped("cpu-smoke")
    assert fit(profile).verdict == "unknown"
    assert fit(profile).kv_tokens == 2_097_152
    assert fit(profile, host_memory_gib=8).verdict == "fits"
    assert fit(profile, host_memory_gib=2).verdict == "does not fit"
    broken = apply_overrides(profile, {"env.VLLM_CPU_KVCACHE_SPACE": "much"})
    assert fit(broken, host_memory_gib=8).verdict == "unknown"


def test_parts_add_up_and_say_where_they_are_from() -> None:
    for path in PROFILES.glob("[2-8]x*.toml"):
        if shipped(path.stem).model.architecture not in ARCHITECTURES:
            continue
        summary = fit(shipped(path.stem))
        assert summary.total_gib_per_gpu is not None
        assert summary.weights_gib_per_gpu is not None
        assert summary.kv_gib_per_gpu is not None
        assert summary.reserve_gib_per_gpu is not None
        used = summary.weights_gib_per_gpu + summary.kv_gib_per_gpu + summary.reserve_gib_per_gpu
        assert used <= summary.total_gib_per_gpu
        assert summary.verdict in ("fits", "tight")
        for part in ("memory:", "weights:", "reserve:", "KV cache:"):
            assert any(line.startswith(part) for line in summary.basis)
