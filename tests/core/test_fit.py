"""The fit arithmetic by itself: what divides what, what is unknown, and how the parts add up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from console.core.fit import ARCHITECTURES, GIB, FitSummary, fit
from console.core.fit.caches import CacheSettings, NoPlan, make_plan
from console.core.fit.estimate import length_tokens
from console.core.fit.pages import CacheLayer, Keep, V4Layout, gqa_pages, v4_pages, v41_pages
from console.core.fit.plan import plan_cache, stage_ranges
from console.core.fit.tradeoff import CONTEXTS, KV_TYPES, trade_table
from console.core.fit.weights import Parallel, divide
from console.core.overrides import apply_overrides
from console.core.profile import EngineKind, Profile
from console.core.profile_read import read_profile

PROFILES = Path(__file__).parents[2] / "profiles"
FLASH = ARCHITECTURES["deepseek-v4-flash"]
PRO = ARCHITECTURES["deepseek-v4-pro"]
V3 = ARCHITECTURES["deepseek-v3"]
MAVERICK = ARCHITECTURES["llama-4-maverick"]


def shipped(name: str, **changes: Any) -> Profile:
    path = PROFILES / f"{name}.toml"
    profile = read_profile(path.read_text(encoding="utf-8"), path.name)
    return apply_overrides(profile, {key.replace("__", "."): value for key, value in changes.items()})


def per_gpu(size_gb: float, architecture: Any = FLASH, speculates: bool = True, **spread: Any) -> float:
    return divide(architecture, size_gb * 1e9, Parallel(**spread), speculates=speculates).gib_per_gpu


def growth(name: str, kv_dtype: str = "fp8", tp: int = 1) -> float:
    settings = CacheSettings(parallel=Parallel(tp=tp), kv_dtype=kv_dtype)
    return make_plan(ARCHITECTURES[name], settings).growth_bytes()


# Weights.


def test_tensor_parallelism_divides_all_but_what_every_rank_holds() -> None:
    one, four = per_gpu(160), per_gpu(160, tp=4)
    replicated = FLASH.parts.replicated / GIB
    assert four == pytest.approx((one - replicated) / 4 + replicated)


def test_data_parallelism_spreads_the_experts_alone() -> None:
    one, eight = per_gpu(160), per_gpu(160, dp=8, ep=True)
    rest = (FLASH.parts.sharded + FLASH.parts.replicated + FLASH.parts.embedding) / GIB
    assert eight == pytest.approx((one - rest) / 8 + rest)
    # vLLM flattens tensor parallelism across data parallel ranks where experts are not spread whole.
    assert per_gpu(160, dp=8) == pytest.approx(eight)
    # And so tensor parallelism holds less per GPU than data parallelism.
    assert per_gpu(160, tp=8) < eight


def test_pipeline_stages_hold_their_layers() -> None:
    assert stage_ranges(61, 2) == (range(31), range(31, 61))
    assert stage_ranges(40, 4, drafts=3) == (range(10), range(10, 20), range(20, 30), range(30, 43))
    assert per_gpu(160, pp=2) < per_gpu(160) * 0.53


def test_draft_layers_stay_on_disk_without_speculation() -> None:
    assert per_gpu(167) - per_gpu(167, speculates=False) == pytest.approx(3 * FLASH.parts.draft / GIB)
    # A build in another precision is counted whole: how large its draft layers are is not known.
    assert per_gpu(292) == per_gpu(292, speculates=False)


def test_a_build_in_sixteen_bits_has_larger_dense_parts() -> None:
    native = divide(FLASH, 292e9, Parallel(dp=8), speculates=False)
    wide = divide(FLASH, 568e9, Parallel(dp=8), speculates=False)
    assert any("16 bits" in line for line in wide.basis)
    assert not any("16 bits" in line for line in native.basis)


def test_engram_is_on_the_host() -> None:
    known = ARCHITECTURES["deepseek-v4.1-flash"]
    weights = divide(known, 510.286023e9, Parallel(tp=8), speculates=True)
    assert weights.host_gib == pytest.approx(189.13)
    # 475.24 GiB less Engram, over eight: the facts say about 39 GB.
    assert weights.gib_per_gpu * GIB / 1e9 == pytest.approx(39, abs=1)


# KV cache.


def test_v4_and_mla_are_the_same_on_every_rank_and_gqa_is_divided() -> None:
    for name in ("deepseek-v4-pro", "deepseek-v4-flash", "deepseek-v4.1-flash", "deepseek-v3"):
        assert growth(name) == growth(name, tp=8)
    assert growth("llama-4-maverick", tp=4) == growth("llama-4-maverick") / 4
    # More ranks than heads: each still holds one.
    assert growth("llama-4-maverick", tp=16) == growth("llama-4-maverick", tp=8)


def test_fp8_halves_mla_and_gqa_and_is_all_that_v4_takes() -> None:
    assert growth("deepseek-v3") * 2 == growth("deepseek-v3", "bfloat16") == 61 * 576 * 2
    assert growth("llama-4-maverick") * 2 == growth("llama-4-maverick", "bfloat16")
    with pytest.raises(NoPlan, match="fp8_ds_mla"):
        growth("deepseek-v4-pro", "bfloat16")
    assert growth("deepseek-v4-pro", "auto") == growth("deepseek-v4-pro")


def test_chunked_attention_grows_with_every_fourth_layer_only() -> None:
    assert growth("llama-4-maverick", "bfloat16") == 2 * 8 * 128 * 2 * 48 / 4
    plan = make_plan(MAVERICK, CacheSettings(kv_dtype="bfloat16", step_tokens=8192, steps_in_flight=1))
    assert len(plan.groups) == 4
    # Three groups hold a chunk and what is in flight; the fourth all tokens.
    assert plan.request_blocks(1_048_576) == 65_536 + 3 * (8192 + 8192) // 16


def test_v4_takes_a_fixed_amount_per_request_and_little_per_token() -> None:
    plan = make_plan(FLASH, CacheSettings(kv_dtype="fp8"))
    assert plan.growth_bytes() == pytest.approx(3850, rel=0.02)
    fixed = plan.request_bytes(131_072) - plan.growth_bytes() * 131_072
    assert fixed == pytest.approx(plan.request_bytes(1_048_576) - plan.growth_bytes() * 1_048_576)
    # Fewer tokens in flight, smaller windows.
    less = make_plan(FLASH, CacheSettings(kv_dtype="fp8", step_tokens=2048))
    assert less.request_bytes(131_072) < plan.request_bytes(131_072) / 2


def test_the_mxfp4_indexer_is_smaller() -> None:
    wide = make_plan(FLASH, CacheSettings(kv_dtype="fp8"))
    narrow = make_plan(FLASH, CacheSettings(kv_dtype="fp8", mxfp4_indexer=True))
    assert narrow.block_bytes < wide.block_bytes


def test_draft_layers_have_a_window() -> None:
    with_drafts = v4_pages(FLASH.shape.ratios, drafts=3, window=128, layout=V4Layout(), block=256)  # type: ignore[union-attr]
    without = v4_pages(FLASH.shape.ratios, drafts=0, window=128, layout=V4Layout(), block=256)  # type: ignore[union-attr]
    assert [page.keep for page in with_drafts[len(without) :]] == [Keep.WINDOW] * 3


def test_v41_keeps_compressed_entries_in_its_sources_only() -> None:
    pages = v41_pages((0, 2, 2, 1), (1, 3), drafts=1, window=128, layout=V4Layout(), block=256)
    assert {page.layer for page in pages if page.keep is Keep.ALL} == {1, 3}
    assert {page.layer for page in pages if page.keep is Keep.RING} == {1}
    assert {page.layer for page in pages if page.keep is Keep.WINDOW} == {0, 1, 2, 3, 4}


def test_pipeline_stages_share_the_cache_between_them() -> None:
    pages = gqa_pages(layers=8, kv_heads=1, head_dim=64, tensor_parallel=1, element_bytes=2, block=16)
    whole = plan_cache(pages, in_flight=0)
    halves = plan_cache(pages, in_flight=0, stages=stage_ranges(8, 2))
    assert halves.block_bytes * 2 == whole.block_bytes
    assert halves.tokens(GIB, 1024) == whole.tokens(GIB, 1024) * 2


def test_nearly_equal_kinds_are_padded_to_the_larger() -> None:
    def kind(keep: Keep, count: int, first: int) -> list[CacheLayer]:
        return [CacheLayer(layer=first + n, keep=keep, block=16, page_bytes=100, span=64) for n in range(count)]

    plan = plan_cache([*kind(Keep.ALL, 13, 0), *kind(Keep.WINDOW, 12, 13)], in_flight=0)
    assert len(plan.groups) == 2
    assert plan.block_bytes == 1300


@pytest.mark.parametrize(("available", "longest"), [(0, 0), (1, 0), (512 * 16 * 2, 16), (512 * 16 * 11, 160)])
def test_one_block_is_kept_back(available: int, longest: int) -> None:
    pages = gqa_pages(layers=2, kv_heads=2, head_dim=32, tensor_parallel=1, element_bytes=2, block=16)
    plan = plan_cache(pages, in_flight=0)
    assert plan.longest(available, 1000) == longest


@pytest.mark.parametrize(
    ("value", "tokens"),
    [
        (1024, 1024),
        ("32k", 32_000),
        ("32K", 32_768),
        ("auto", 999),
        (None, 999),
        (-1, 999),
        ("-1", 999),
        ("1.5k", 1500),
    ],
)
def test_context_lengths_are_read_as_vllm_reads_them(value: Any, tokens: int) -> None:
    assert length_tokens(value, 999) == tokens


# Whole profiles.


def test_pro_is_tight_on_eight_h200_and_does_not_fit_on_eight_h100() -> None:
    assert fit(shipped("8xh200-native-v4-pro")).verdict == "tight"
    never = fit(shipped("8xh200-native-v4-pro", hardware__gpu="H100"))
    assert never.verdict == "does not fit"
    assert never.kv_gib_per_gpu == 0
    assert never.kv_tokens == 0
    assert never.max_context == 0


def test_flash_does_not_fit_on_two_h100() -> None:
    assert fit(shipped("2xh200-native-v4-flash", hardware__gpu="H100")).verdict == "does not fit"


def test_a_context_longer_than_the_cache_does_not_fit() -> None:
    assert fit(shipped("8xa100-int4-v3")).verdict in ("fits", "tight")
    long = fit(shipped("8xa100-int4-v3", serve__max_model_len=1_000_000))
    assert long.verdict == "does not fit"
    assert fit(shipped("8xa100-int4-v3"), context=1_000_000).verdict == "does not fit"


def test_auto_takes_the_longest_context_that_fits() -> None:
    summary = fit(shipped("8xa100-int4-v3", serve__max_model_len="auto"), gpu_memory_gib=60.0)
    assert summary.verdict != "does not fit"
    assert summary.context == summary.max_context
    assert summary.max_context is not None
    assert summary.max_context < V3.context


def test_each_data_parallel_engine_has_its_own_cache() -> None:
    both = fit(shipped("8xh100-native-v4-flash"))
    assert both.engines == 2
    assert any("2 engines" in line for line in both.basis)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"model__architecture": "deepseek-v9"}, "unknown architecture deepseek-v9"),
        ({"model__architecture": None}, "not set"),
        ({"model__weights_gb": None}, "weights: unknown"),
        ({"serve__extra": {"decode-context-parallel-size": 2}}, "not modelled"),
    ],
)
def test_what_is_not_known_is_unknown_with_the_reason(changes: dict[str, Any], why: str) -> None:
    summary = fit(shipped("4xh200-fp8-v4-flash", **changes))
    assert summary.verdict == "unknown"
    assert summary.kv_tokens is None
    assert summary.max_concurrency is None
    assert any(why in line for line in summary.basis)


def test_an_unknown_gpu_is_unknown_until_its_memory_is_known() -> None:
    profile = shipped("4xh200-fp8-v4-flash", hardware__gpu="X1")
    assert fit(profile).verdict == "unknown"
    assert fit(profile, gpu_memory_gib=139.0).verdict == "fits"
    assert fit(apply_overrides(profile, {"hardware.memory_gib": 20.0})).verdict == "does not fit"


def test_the_machine_at_hand_counts_more_than_the_table() -> None:
    assert fit(shipped("4xh200-fp8-v4-flash"), gpu_memory_gib=40.0).verdict == "does not fit"


def test_engram_wants_host_memory() -> None:
    profile = shipped(
        "8xh200-native-v4-flash",
        model__architecture="deepseek-v4.1-flash",
        model__weights_gb=510.3,
        serve__data_parallel_size=None,
        serve__tensor_parallel_size=8,
    )
    assert fit(profile, host_memory_gib=100).verdict == "does not fit"
    enough = fit(profile, host_memory_gib=500)
    assert enough.verdict == "fits"
    assert enough.host_gib == pytest.approx(189.13)
    for config in ({"cpu_offload": False}, '{"cpu_offload": false}'):
        there = fit(apply_overrides(profile, {"serve.extra": {"engram_config": config}}), host_memory_gib=100)
        assert there.host_gib is None
        # The facts say 64 GB of 80 GB per GPU.
        assert (there.weights_gib_per_gpu or 0) * GIB / 1e9 == pytest.approx(64, abs=1)
    two = apply_overrides(profile, {"serve.data_parallel_size": 2, "serve.tensor_parallel_size": 4})
    assert any("/dev/shm" in line for line in fit(two).basis)
    assert not any("/dev/shm" in line for line in enough.basis)


def test_the_older_engine_has_larger_blocks() -> None:
    profile = shipped("4xh200-fp8-v4-flash")
    old, new = fit(profile, engine_version="0.26.0"), fit(profile, engine_version="0.32.0+cpu")
    assert old.kv_tokens is not None
    assert new.kv_tokens is not None
    assert old.kv_tokens < new.kv_tokens
    assert fit(profile).kv_tokens == new.kv_tokens


def test_a_fixed_number_of_blocks_counts_instead_of_memory() -> None:
    summary = fit(shipped("8xa100-int4-v3", serve__num_gpu_blocks_override=2048))
    assert summary.kv_tokens == 2048 * 64


def test_a_fixed_amount_of_cache_counts_instead_of_what_is_left() -> None:
    fixed = fit(shipped("4xh200-fp8-v4-flash", serve__extra={"kv-cache-memory-bytes": 20 * GIB}))
    assert fixed.kv_gib_per_gpu == 20
    assert fixed.verdict == "tight"


def test_cpu_smoke_is_judged_by_host_memory() -> None:
    profile = shipped("cpu-smoke")
    assert profile.engine.kind is EngineKind.CPU
    assert fit(profile).verdict == "unknown"
    assert fit(profile).kv_tokens == 2_097_152
    assert fit(profile, host_memory_gib=8).verdict == "fits"
    assert fit(profile, host_memory_gib=2).verdict == "does not fit"
    broken = apply_overrides(profile, {"env.VLLM_CPU_KVCACHE_SPACE": "much"})
    assert fit(broken, host_memory_gib=8).verdict == "unknown"


def parts(summary: FitSummary) -> list[float | None]:
    return [summary.weights_gib_per_gpu, summary.kv_gib_per_gpu, summary.reserve_gib_per_gpu]


@pytest.mark.parametrize("name", sorted(path.stem for path in PROFILES.glob("[2-8]x*.toml")))
def test_parts_add_up_and_say_where_they_are_from(name: str) -> None:
    summary = fit(shipped(name))
    total = summary.total_gib_per_gpu
    known = [value for value in parts(summary) if value is not None]
    assert total is not None
    assert len(known) == 3
    assert sum(known) <= total
    for part in ("memory:", "weights:", "reserve:", "KV cache:"):
        assert any(line.startswith(part) for line in summary.basis)


# The trade-off.


def test_the_table_has_every_context_and_type() -> None:
    rows = trade_table(shipped("8xa100-int4-v3"))
    assert {row.context for row in rows} == {*CONTEXTS, V3.context}
    assert {row.kv_type for row in rows} == set(KV_TYPES)
    by = {(row.context, row.kv_type): row for row in rows}
    for context in CONTEXTS:
        bf16, fp8 = by[context, "bf16"], by[context, "fp8"]
        assert bf16.gib_per_request == pytest.approx((fp8.gib_per_request or 0) * 2)
        assert fp8.max_concurrency == pytest.approx((bf16.max_concurrency or 0) * 2, rel=0.01)


def test_the_table_says_what_is_not_possible_and_why() -> None:
    for row in trade_table(shipped("4xh200-fp8-v4-flash")):
        if row.kv_type == "bf16":
            assert row.max_concurrency is None
            assert "fp8_ds_mla" in row.reason
        else:
            assert row.max_concurrency is not None
            assert row.concurrency_while_decoding is not None
            assert row.concurrency_while_decoding > row.max_concurrency
    assert trade_table(shipped("4xh200-fp8-v4-flash", model__architecture="x")) == ()


def test_the_table_counts_all_engines() -> None:
    profile = shipped("8xh100-native-v4-flash")
    row = next(row for row in trade_table(profile) if row.context == 131_072 and row.kv_type == "fp8")
    assert row.max_concurrency == pytest.approx((fit(profile, context=131_072).max_concurrency or 0) * 2)
