"""The fit arithmetic against figures that others published and that real servers printed.

Each row says what was reported, where, what had to be assumed to compute it, and how far the estimate may be off and
why. Run with `-s` to read by how much each is wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest

from console.core.fit import ARCHITECTURES, GIB
from console.core.fit.architecture import FLASH_PARTS, FLASH_RATIOS, PRO_PARTS, PRO_RATIOS, V3_PARTS
from console.core.fit.hardware import GPU_MEMORY_GIB, reserve
from console.core.fit.pages import V4Layout, gqa_pages, mla_pages, v4_pages, v41_pages
from console.core.fit.plan import KvPlan, plan_cache
from console.core.fit.weights import Parallel, divide

ENTRY = V4Layout()
BF16 = V4Layout(entry_bytes=1024, indexer_bytes=256, alignment=1)
NVFP4 = V4Layout(entry_bytes=288, indexer_bytes=68, alignment=1)


class Row(NamedTuple):
    """One published figure."""

    what: str
    published: float
    unit: str
    ours: Callable[[], float]
    within: float
    """Share by which the estimate may be off, up or down."""
    why: str
    """Why it is off by as much, or why it is not."""
    source: str


def flash(drafts: int, in_flight: int, layout: V4Layout = ENTRY, *, packed: bool = False) -> KvPlan:
    pages = v4_pages(FLASH_RATIOS, drafts=drafts, window=128, layout=layout, block=256)
    return plan_cache(pages, in_flight=in_flight, packed=packed)


def gqa(layers: int, kv_heads: int, tp: int, block: int = 16) -> KvPlan:
    pages = gqa_pages(layers=layers, kv_heads=kv_heads, head_dim=128, tensor_parallel=tp, element_bytes=2, block=block)
    return plan_cache(pages, in_flight=8192)


def growth_gib(pages: KvPlan, tokens: int) -> float:
    return pages.growth_bytes() * tokens / GIB


def mla(indexer_bytes: int = 0) -> KvPlan:
    return plan_cache(mla_pages(layers=61, entry_bytes=1152, block=64, indexer_bytes=indexer_bytes), in_flight=8192)


def v4_growth(ratios: tuple[int, ...]) -> float:
    plan = plan_cache(v4_pages(ratios, drafts=0, window=128, layout=BF16, block=256), in_flight=8192)
    return growth_gib(plan, 2**20)


def b200_concurrency(parallel: Parallel) -> float:
    """End to end: weights, reserve, cache. From the report: 0.95 of the memory, one step of 8,192 tokens, vLLM 0.25."""
    divided = divide(ARCHITECTURES["deepseek-v4-flash"], 167e9, parallel, speculates=True)
    left = GPU_MEMORY_GIB["B200"] * 0.95 - divided.gib_per_gpu - reserve(8192, parallel.gpus)[0]
    return flash(3, 8192).concurrency(left * GIB, 2**20) * parallel.dp


def maverick_longest(gpu: str) -> float:
    """All layers kept in full, as vLLM 0.8.3 did: it had no cache for chunks yet."""
    known = ARCHITECTURES["llama-4-maverick"]
    divided = divide(known, known.parts.backbone, Parallel(tp=8), speculates=False)
    left = GPU_MEMORY_GIB[gpu] * 0.9 - divided.gib_per_gpu - reserve(8192, 8)[0]
    return gqa(48, 8, 8).longest(left * GIB, 10**7)


def h20_left(size_gb: float) -> float:
    """0.95 of the memory, vLLM's default of 8,192 tokens per step, speculation with what draft layers there are."""
    divided = divide(ARCHITECTURES["deepseek-v4-flash"], size_gb * 1e9, Parallel(tp=2), speculates=True)
    return GPU_MEMORY_GIB["H20"] * 0.95 - divided.gib_per_gpu - reserve(8192, 2)[0]


def three_ninety() -> float:
    """PP2 × TP4 on 24 GiB cards. Without speculation the draft layers stay on disk."""
    divided = divide(ARCHITECTURES["deepseek-v4-flash"], 167e9, Parallel(tp=4, pp=2), speculates=False)
    return divided.gib_per_gpu


WORLD = (
    Row(
        "V4-Flash on disk, one MTP layer",
        148.66,
        "GiB",
        lambda: (FLASH_PARTS.backbone + FLASH_PARTS.draft) / GIB,
        0.005,
        "computed from config.json alone; norms, hash tables and hyper-connections are left out",
        "https://huggingface.co/deepseek-ai/DeepSeek-V4-Flash (size of the repository)",
    ),
    Row(
        "V4-Flash-0731 on disk, three DSpark layers",
        167,
        "GB",
        lambda: (FLASH_PARTS.backbone + 3 * FLASH_PARTS.draft) / 1e9,
        0.01,
        "as above; the published figure is rounded to whole GB",
        "https://huggingface.co/deepseek-ai/DeepSeek-V4-Flash-0731 (size of the repository)",
    ),
    Row(
        "V4-Pro on disk, one MTP layer",
        865,
        "GB",
        lambda: (PRO_PARTS.backbone + PRO_PARTS.draft) / 1e9,
        0.005,
        "as above",
        "https://huggingface.co/deepseek-ai/DeepSeek-V4-Pro (size of the repository)",
    ),
    Row(
        "V4-Pro-0813 on disk, three DSpark layers",
        893,
        "GB",
        lambda: (PRO_PARTS.backbone + 3 * PRO_PARTS.draft) / 1e9,
        0.005,
        "as above",
        "https://huggingface.co/deepseek-ai/DeepSeek-V4-Pro-0813 (size of the repository)",
    ),
    Row(
        "V3 on disk, FP8 with its MTP layer",
        641.3,
        "GiB",
        lambda: (V3_PARTS.backbone + V3_PARTS.draft) / GIB,
        0.005,
        "computed from config.json; scales of the 128×128 blocks are left out",
        "https://huggingface.co/deepseek-ai/DeepSeek-V3 (size of the repository)",
    ),
    Row(
        "V3 weights per device, TP8",
        79.41,
        "GiB",
        lambda: divide(ARCHITECTURES["deepseek-v3"], 641.3 * GIB, Parallel(tp=8), speculates=False).gib_per_gpu,
        0.01,
        "another accelerator's build of vLLM, the same division",
        "https://github.com/HabanaAI/vllm-fork/issues/809",
    ),
    Row(
        "V4-Flash-0731 weights per GPU, PP2 × TP4",
        19.47,
        "GiB",
        three_ninety,
        0.05,
        "theirs has NCCL and CUDA memory in it, ours only weights; a fork for the RTX 3090, engine otherwise alike",
        "https://github.com/wtdcode/vllm-backport/issues/34",
    ),
    Row(
        "V4-Pro, growth of one request to 1M tokens, BF16",
        9.62,
        "GiB",
        lambda: v4_growth(PRO_RATIOS),
        0.005,
        "growth alone, entries of 1024 + 256 bytes without alignment",
        "https://vllm.ai/blog/2026-04-24-deepseek-v4",
    ),
    Row(
        "V4-Flash, growth of one request to 1M tokens, BF16",
        6.72,
        "GiB",
        lambda: v4_growth(FLASH_RATIOS),
        0.005,
        "as above",
        "https://vllm.ai/blog/2026-04-24-deepseek-v4",
    ),
    Row(
        "V3.2, one request of 1M tokens, BF16",
        83.9,
        "GiB",
        lambda: growth_gib(mla(256), 2**20),
        0.005,
        "61 × (576 × 2 + 128 × 2) bytes",
        "https://vllm.ai/blog/2026-04-24-deepseek-v4",
    ),
    Row(
        "V4.1-Flash, bytes per token, FP4",
        890,
        "B",
        lambda: plan_cache(
            v41_pages(
                (0, 0) + (2,) * 18 + (1,) * 20,
                (2, 8, 14, 20),
                drafts=0,
                window=128,
                layout=NVFP4,
                block=256,
            ),
            in_flight=8192,
        ).growth_bytes(),
        0.005,
        "(3/2 + 1) sources × (288 + 68) bytes, which only SM100 has; on Hopper the same is 1,790",
        "https://github.com/vllm-project/recipes/pull/959",
    ),
    Row(
        "Qwen3-0.6B, tokens in 69.66 GiB, BF16",
        652_144,
        "tokens",
        lambda: gqa(28, 8, 1).tokens(69.66 * GIB, 4096),
        0.001,
        "the report rounds GiB to two digits",
        "https://github.com/vllm-project/vllm/pull/24577",
    ),
    Row(
        "Qwen3-235B-A22B, tokens in 8.11 GiB, TP4",
        178_880,
        "tokens",
        lambda: gqa(94, 4, 4).tokens(8.11 * GIB, 16),
        0.02,
        "vLLM takes the blocks of the rank with least memory; the GiB printed may be another rank's",
        "https://github.com/vllm-project/vllm/issues/21348",
    ),
    Row(
        "V4-Flash, GiB for one request of 30,000 tokens",
        6.66,
        "GiB",
        lambda: flash(0, 16_384).request_bytes(30_000) / GIB,
        0.005,
        "0.22; the LLM class has 16,384 tokens per step, one step in flight",
        "https://github.com/vllm-project/vllm/issues/44376",
    ),
    Row(
        "V4-Flash, longest context in 5.44 GiB",
        13_528,
        "tokens",
        lambda: flash(0, 16_384).longest(5.44 * GIB, 30_000),
        0.005,
        "as above; the report rounds GiB to two digits",
        "https://github.com/vllm-project/vllm/issues/44376",
    ),
    Row(
        "V4-Flash with DSpark, GiB for 262,144 tokens",
        1.93,
        "GiB",
        lambda: flash(3, 2048).request_bytes(262_144) / GIB,
        0.005,
        "a fork; 2,048 tokens per step are vLLM's default for cards below 70 GiB",
        "https://github.com/yhfgyyf/vllm-deepseek-v4-sm89/issues/41",
    ),
    Row(
        "V4-Flash with DSpark, longest context in 1.88 GiB",
        251_136,
        "tokens",
        lambda: flash(3, 2048).longest(1.88 * GIB, 262_144),
        0.01,
        "the report rounds GiB to two digits, which are 0.3 %; that version kept no block back, which is 0.1 %",
        "https://github.com/yhfgyyf/vllm-deepseek-v4-sm89/issues/41",
    ),
    Row(
        "V4-Flash-0731, tokens in 7.71 GiB at 121,344",
        150_992,
        "tokens",
        lambda: flash(1, 2 * 8192).tokens(7.71 * GIB, 121_344),
        0.001,
        "0.26 with two steps of 8,192 tokens in flight",
        "https://github.com/vllm-project/vllm/issues/51041",
    ),
    Row(
        "V4-Flash preview, tokens in 7.01 GiB at 912,128",
        1_009_661,
        "tokens",
        lambda: flash(1, 8192).tokens(7.01 * GIB, 912_128),
        0.001,
        "one step of 8,192 tokens in flight, though the report names the same version as the row above",
        "https://github.com/vllm-project/vllm/issues/51041",
    ),
    Row(
        "V4-Flash's first six layers, tokens in 28.81 GiB at 32,768",
        1_681_250,
        "tokens",
        lambda: plan_cache(
            v4_pages(FLASH_RATIOS[:6], drafts=0, window=128, layout=ENTRY, block=256), in_flight=2 * 8192, packed=False
        ).tokens(28.81 * GIB, 32_768),
        0.001,
        "one H100, vLLM 0.26.0, part 3 of tests/gpu; GiB rounded to two digits",
        "tests/data/logs/h100-0.26.0/startup-v4-kernels.log",
    ),
    Row(
        "V4-Flash's first six layers, tokens in 83.37 GiB at 32,768",
        4_865_499,
        "tokens",
        lambda: plan_cache(
            v4_pages(FLASH_RATIOS[:6], drafts=0, window=128, layout=ENTRY, block=256), in_flight=2 * 8192, packed=False
        ).tokens(83.37 * GIB, 32_768),
        0.001,
        "one H200, vLLM 0.26.0, part 3 of tests/gpu",
        "tests/data/logs/h200-0.26.0/startup-v4-ready.log",
    ),
    Row(
        "V4-Flash-0731, 2 × H200, TP2: tokens in 43.76 GiB of each GPU at 131,072",
        885_355,
        "tokens",
        lambda: flash(3, 2 * 8192).tokens(43.76 * GIB, 131_072),
        0.001,
        "every tensor parallel rank holds the whole cache: else it would be twice as many",
        "tests/data/logs/h200-0.26.0/fail-v4-tp2-module-missing.log",
    ),
    Row(
        "V4-Flash-0731, 2 × H200, DP2 with EP: tokens of one engine in 41.16 GiB at 131,072",
        832_707,
        "tokens",
        lambda: flash(3, 2 * 8192).tokens(41.16 * GIB, 131_072),
        0.001,
        "each engine has a cache of its own; a GiB holds as much as under TP2",
        "tests/data/logs/h200-0.26.0/startup-v4-dep2-kernels.log",
    ),
    Row(
        "V4-Flash-0731, 8 × B200, TP8: requests of 1M tokens",
        20.43,
        "requests",
        lambda: b200_concurrency(Parallel(tp=8, ep=True)),
        0.03,
        "end to end; the reserve is the least certain part",
        "https://github.com/vllm-project/vllm/issues/51454",
    ),
    Row(
        "V4-Flash-0731, 8 × B200, DP8: requests of 1M tokens",
        156.9,
        "requests",
        lambda: b200_concurrency(Parallel(dp=8, ep=True)),
        0.03,
        "as above",
        "https://github.com/vllm-project/vllm/issues/51454",
    ),
    Row(
        "V4-Flash-0731, 2 × H20, TP2: GiB left for the cache",
        7.71,
        "GiB",
        lambda: h20_left(167),
        0.25,
        "a difference of large numbers: 1.1 GiB too little, of 95; the reserve is the least certain part",
        "https://github.com/vllm-project/vllm/issues/51041",
    ),
    Row(
        "V4-Flash preview, 2 × H20, TP2: GiB left for the cache",
        7.01,
        "GiB",
        lambda: h20_left(160),
        0.5,
        "2.9 GiB too much, of 95: the report has less left than with the larger checkpoint above, and does not say why",
        "https://github.com/vllm-project/vllm/issues/51041",
    ),
    Row(
        "Maverick FP8, 8 × H100: longest context",
        430_000,
        "tokens",
        lambda: maverick_longest("H100"),
        0.9,
        "far too high: vLLM 0.8.3, the first with this model, had 7.5 GiB per GPU less for the cache than what weights "
        "and our reserve leave; what took it was not published. On the first versions with a model ours is no more "
        "than an upper bound",
        "https://blog.vllm.ai/2025/04/05/llama4.html",
    ),
)


@pytest.mark.parametrize("row", WORLD, ids=lambda row: row.what)
def test_it_is_near_what_was_published(row: Row) -> None:
    ours = row.ours()
    wrong = ours / row.published - 1
    print(f"{row.what}: {row.published:,.6g} {row.unit} published, {ours:,.6g} here, {wrong:+.2%}")
    assert abs(wrong) <= row.within, f"{wrong:+.2%}: {row.why}"


def test_the_bounds_are_not_wider_than_they_need_be() -> None:
    """A bound far above the error would let the arithmetic rot unseen."""
    for row in WORLD:
        wrong = abs(row.ours() / row.published - 1)
        assert row.within <= max(0.005, 4 * wrong + 0.02), f"{row.what}: {wrong:.2%} of {row.within:.1%}"


def test_maverick_serves_its_whole_context_on_eight_h200() -> None:
    """The same blog: 1M tokens without a limit set."""
    assert maverick_longest("H200") > 1_000_000


@pytest.mark.parametrize(
    ("length", "drafts"),
    [(4096, 0), (131_072, 1), (1_048_576, 3)],
)
def test_the_older_layout_never_promises_more(length: int, drafts: int) -> None:
    assert flash(drafts, 16_384).request_bytes(length) >= flash(drafts, 16_384, packed=True).request_bytes(length)


# Printed by vLLM 0.32 for the CPU with 1 GiB of KV cache.
ENGINE = (
    (
        "GQA",
        lambda: plan_cache(
            gqa_pages(layers=2, kv_heads=2, head_dim=32, tensor_parallel=1, element_bytes=2, block=128), in_flight=2048
        ),
        2_097_152,
    ),
    ("MLA", lambda: plan_cache(mla_pages(layers=3, entry_bytes=1152, block=16), in_flight=2048), 310_688),
    (
        "V4",
        lambda: plan_cache(v4_pages((0, 0, 4, 128), drafts=0, window=128, layout=ENTRY, block=256), in_flight=2048),
        50_214,
    ),
)


@pytest.mark.parametrize(("name", "plan", "printed"), ENGINE, ids=[row[0] for row in ENGINE])
def test_it_is_exactly_what_the_engine_printed(name: str, plan: Callable[[], KvPlan], printed: int) -> None:
    assert plan().tokens(GIB, 1024) == printed
