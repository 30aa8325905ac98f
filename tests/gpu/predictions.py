"""What several H200 should show, written down before any did: `python -m tests.gpu.predictions` writes the page.

The console's own fit arithmetic over the shipped profiles, and beside it what vLLM's loader should hold, added up from
the tensors of the checkpoint. A test keeps the page current; `part_layout` judges runs by the same functions.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import NamedTuple

import msgspec

from console.core.fit import GIB, Architecture, FitSummary, fit
from console.core.fit.config import EXPERT, REPLICATED, architecture_from_config, parts_from_tensors
from console.core.fit.estimate import parallel_of
from console.core.fit.weights import Parallel
from console.core.profile import Profile
from tests.gpu import models, v4
from tests.gpu.layouts import LAYOUTS, Layout, shipped

__all__ = ["PAGE", "PHASES", "RUN_VERSION", "Prediction", "kv_figures", "loaded_bytes", "page", "predict"]

PAGE = Path(__file__).with_name("PREDICTIONS.md")
RUN_VERSION, NEWEST_VERSION = "0.26.0", "0.33.0"
"""What the machines that can be had run, and the newest that the profiles admit."""
STEP_TOKENS = 8192
"""vLLM's default for an H200."""
REPLICATED_TOO = ("main_proj", "main_norm")
"""Of DSpark: made as `ReplicatedLinear` (deepseek_v4/nvidia/dspark.py)."""
NOT_LOADED = ("confidence_head",)
"""vLLM 0.26 drops it (same file)."""


class Prediction(NamedTuple):
    """What is expected of one layout."""

    layout: Layout
    profile: Profile
    fit: FitSummary
    logged_gib: float
    """`Model loading took … GiB`, on each GPU."""


def predict(layout: Layout, version: str = RUN_VERSION, gpu_memory_gib: float | None = None) -> Prediction:
    """The answer for a layout.

    Args:
        version: of vLLM.
        gpu_memory_gib: of one GPU, in place of the console's table.
    """
    profile, architecture = shipped(layout), None
    config = models.SHAPES[layout.shape]
    assert config is not None
    if layout.shape.endswith("-cut"):
        weights_gb = v4.checkpoint_bytes(config) / 1e9
        profile = msgspec.structs.replace(profile, model=msgspec.structs.replace(profile.model, weights_gb=weights_gb))
        architecture = as_read(layout.shape)
    summary = fit(profile, gpu_memory_gib, architecture=architecture, engine_version=version)
    return Prediction(layout, profile, summary, loaded_bytes(layout.shape, parallel_of(profile)) / GIB)


@cache
def as_read(shape: str) -> Architecture:
    """As the console reads a checkpoint of this shape: from its `config.json` and the names and sizes of tensors."""
    config = models.SHAPES[shape]
    assert config is not None
    return architecture_from_config(config, parts_from_tensors(dict(v4.tensors(config))))


def loaded_bytes(shape: str, parallel: Parallel, step_tokens: int = STEP_TOKENS) -> float:
    """What the loader of vLLM 0.26 takes on one GPU: its share of each tensor, and what the model makes beside them.

    Beside them are two tables of rotary positions (for compressed layers and for the others), the streams of the last
    step that a draft module may read, and the indexer's choice per token. One H100 printed 39.63 GiB for six layers
    with FP8 experts and 22.75 with FP4, this says 39.60 and 22.71.
    """
    config = models.SHAPES[shape]
    assert config is not None
    divisors = {Held.EXPERTS: parallel.tp * parallel.dp, Held.SHARDED: parallel.tp, Held.WHOLE: 1}
    total = sum(size / divisors[kind] for kind, size in _sums(shape).items())
    rotary = 2 * 4 * config["max_position_embeddings"] * config["qk_rope_head_dim"]
    streams = 2 * step_tokens * config["hc_mult"] * config["hidden_size"]
    choice = 4 * step_tokens * config["index_topk"]
    return float(total + rotary + streams + choice)


class Held(StrEnum):
    """How parallelism divides a tensor."""

    EXPERTS = "over all GPUs"
    SHARDED = "over tensor parallel ranks"
    WHOLE = "on every GPU"


@cache
def _sums(shape: str) -> dict[Held, float]:
    config = models.SHAPES[shape]
    assert config is not None
    sums = dict.fromkeys(Held, 0.0)
    for name, size in v4.tensors(config):
        if not any(text in name for text in NOT_LOADED):
            # Tables of hashed routing are 64 bits wide on disk and 32 in memory.
            sums[_held(name)] += size / 2 if name.endswith("tid2eid") else size
    return sums


def _held(name: str) -> Held:
    if EXPERT.search(name) and "shared_experts" not in name:
        return Held.EXPERTS
    if REPLICATED.search(name) or any(text in name for text in REPLICATED_TOO):
        return Held.WHOLE
    return Held.SHARDED


def kv_figures(prediction: Prediction, kv_gib: float, version: str) -> FitSummary:
    """The same with so much memory for the KV cache on each GPU: what tells the layout of the cache from its size."""
    serve = prediction.profile.serve
    given = msgspec.structs.replace(serve, extra={**serve.extra, "kv_cache_memory_bytes": int(kv_gib * GIB)})
    architecture = as_read(prediction.layout.shape) if prediction.layout.shape.endswith("-cut") else None
    profile = msgspec.structs.replace(prediction.profile, serve=given)
    return fit(profile, architecture=architecture, engine_version=version)


PHASES = (
    (
        "config",
        "20 to 45 s",
        "one H100: 19 s with warm imports, 35 s with cold ones; more processes import side by side",
    ),
    ("weights", "2 to 15 s", "one H100: 22.8 GiB with FP4 experts in 1.9 s, 39.6 GiB with FP8 in 9.1 s; dummy weights"),
    (
        "compile",
        "none",
        "vLLM 0.26 turns torch.compile off for V4 (breakable CUDA graphs); DeepGEMM's warm-up is skipped",
    ),
    ("memory", "about 6 s", "one H100, six layers without a draft module"),
    (
        "graphs",
        "100 s or more",
        "one H100 compiled V4's kernels for that long and was not done; later starts find them",
    ),
    ("server", "1 s", "one H100"),
)
"""Phase of a start, expected seconds, from what."""


def page() -> str:
    """The page as Markdown."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield "# V4 at full size on several H200: what is expected"
    yield ""
    yield "Made by `python -m tests.gpu.predictions`, before any run; `python -m tests.gpu.flash` compares. A test"
    yield "keeps this page current. No figure here was taken from a run; what two H200 said to them stands in"
    yield "[docs/h100.md](../../docs/h100.md)."
    yield ""
    yield "## The checkpoints"
    yield ""
    yield "Every tensor of them, from `config.json` alone (`tests/gpu/v4.py`):"
    yield ""
    yield "| model | tensors | bytes | published | difference |"
    yield "|---|---|---|---|---|"
    for row in v4.PUBLISHED:
        found = list(v4.tensors(row.config))
        size = sum(each for _, each in found)
        said = f"{row.size_bytes:,.0f}" + (f", {row.tensors:,} tensors" if row.tensors else "")
        yield f"| {row.model} | {len(found):,} | {size:,} | {said}: {row.source} | {size - round(row.size_bytes):,} |"
    for version in (RUN_VERSION, NEWEST_VERSION):
        yield from _table(version)
    yield from _claims()
    yield from _phases()


def _table(version: str) -> Iterator[str]:
    yield ""
    yield f"## vLLM {version}"
    yield ""
    yield "Memory in GiB on each GPU, KV cache as vLLM prints it for one engine. *fit* is the console's arithmetic"
    yield "(`profiles fit`), *loaded* what `Model loading took … GiB` should say, from the tensors."
    yield ""
    yield "| part | profile | weights, fit | loaded | reserve | KV cache | B per token | GiB per request beside |"
    yield "|---|---|---|---|---|---|---|---|"
    for layout in LAYOUTS.values():
        found = predict(layout, version)
        each = found.fit
        yield (
            f"| `{layout.key}` | `{layout.profile}`{_cut(layout)} | {each.weights_gib_per_gpu or 0:.2f} "
            f"| {found.logged_gib:.2f} | {each.reserve_gib_per_gpu or 0:.2f} | {each.kv_gib_per_gpu or 0:.2f} "
            f"| {each.kv_bytes_per_token or 0:,.0f} | {(each.kv_bytes_per_request or 0) / GIB:.2f} |"
        )
    yield ""
    yield "| part | context | KV tokens, one engine | engines | KV tokens in all | concurrency | in all | verdict |"
    yield "|---|---|---|---|---|---|---|---|"
    for layout in LAYOUTS.values():
        each = predict(layout, version).fit
        tokens, concurrency = each.kv_tokens or 0, each.max_concurrency or 0.0
        yield (
            f"| `{layout.key}` | {each.context or 0:,} | {tokens:,} | {each.engines} | {tokens * each.engines:,} "
            f"| {concurrency:.2f} | {concurrency * each.engines:.2f} | {each.verdict} |"
        )


def _cut(layout: Layout) -> str:
    config = models.SHAPES[layout.shape]
    assert config is not None
    return f", {config['num_hidden_layers']} layers" if layout.shape.endswith("-cut") else ""


def _claims() -> Iterator[str]:
    yield ""
    yield "## What decides on the claims"
    yield ""
    yield f"From the KV cache memory that a GPU prints, and vLLM {RUN_VERSION}. *Replicated*: each tensor parallel rank"
    yield "holds the whole cache, so a GiB holds as many tokens under TP4 as under DP4. *Divided*: four times as many."
    yield ""
    yield "| part | tokens per GiB if replicated | if divided | concurrency on all GPUs, against tensor parallel |"
    yield "|---|---|---|---|"
    for layout in LAYOUTS.values():
        found = predict(layout)
        if found.fit.kv_gib_per_gpu is None or found.fit.kv_gib_per_gpu < 1.0:
            continue
        parallel = parallel_of(found.profile)
        per_gib = (found.fit.kv_tokens or 0) / found.fit.kv_gib_per_gpu
        divided = f"{per_gib * parallel.tp:,.0f}" if parallel.tp > 1 else "–"
        beside = _beside(found)
        yield f"| `{layout.key}` | {per_gib:,.0f} | {divided} | {beside} |"


def _beside(found: Prediction) -> str:
    """Data parallel against tensor parallel of as many GPUs."""
    other = LAYOUTS.get(f"{found.layout.gpus}-tp")
    if found.fit.engines == 1 or other is None:
        return "–"
    plain = predict(other).fit
    return f"{(found.fit.max_concurrency or 0) * found.fit.engines / (plain.max_concurrency or 1):.2f}×"


def _phases() -> Iterator[str]:
    yield ""
    yield "## Phases"
    yield ""
    yield "| phase | expected | from |"
    yield "|---|---|---|"
    for row in PHASES:
        yield "| " + " | ".join(row) + " |"
    yield ""
    yield "All parts but `8-pro-dep` should start. That one has no room for its context: vLLM should refuse it with `To"
    yield "serve at least one request …` or `No available memory for the cache blocks.`, and the console should say so."


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    sys.stdout.write(f"{PAGE}\n")
