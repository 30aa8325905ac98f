"""What vLLM needs of a profile that serves DeepSeek V4 as released on H200: each need is a row, with its source."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from packaging.specifiers import SpecifierSet

from console.core.command import build_command
from console.core.fit import ARCHITECTURES
from console.core.fit.estimate import parallel_of
from console.core.profile import Profile
from console.core.profile_read import read_profile

ROOT = Path(__file__).parents[2]
RECIPES = "https://github.com/vllm-project/recipes/blob/main/models/deepseek-ai"
FLASH_RECIPE, PRO_RECIPE = f"{RECIPES}/DeepSeek-V4-Flash.yaml", f"{RECIPES}/DeepSeek-V4-Pro.yaml"
BLOCK = 128
"""Rows and columns of a quantization block."""


def released() -> dict[str, Profile]:
    """V4-Flash and V4-Pro, native, on H200."""
    files = sorted((ROOT / "profiles").glob("*xh200-*.toml"))
    found = {path.stem: read_profile(path.read_text(encoding="utf-8"), path.name) for path in files}
    return {name: each for name, each in found.items() if each.model.id.startswith("deepseek-ai/DeepSeek-V4-")}


PROFILES = released()
V41 = {name for name, profile in PROFILES.items() if "V4.1" in profile.model.id}
V4 = {name: profile for name, profile in PROFILES.items() if name not in V41}
PRO = {name for name, profile in V4.items() if profile.model.architecture == "deepseek-v4-pro"}


class Need(NamedTuple):
    """Something that must hold."""

    says: str
    holds: Callable[[Profile], bool]
    source: str
    of_pro: bool | None = None
    """Only of V4-Pro, or only not of it."""


def draft(profile: Profile) -> dict[str, Any]:
    return dict(profile.serve.speculative_config or {})


def divides(profile: Profile) -> bool:
    """Heads, output groups and experts come out even, and each rank has whole quantization blocks."""
    known, parallel = ARCHITECTURES[profile.model.architecture or ""], parallel_of(profile)
    experts = 384 if profile.model.architecture == "deepseek-v4-pro" else 256
    width = known.expert_width or 0
    return (known.heads or 0) % parallel.tp == (
        known.groups or 0
    ) % parallel.tp == experts % parallel.gpus == 0 and width // parallel.tp % BLOCK == 0


NEEDS = (
    Need("code of the checkpoint may run", lambda p: p.serve.trust_remote_code is True, FLASH_RECIPE),
    Need(
        "the draft module of the checkpoint: DSpark, with seven tokens, which are not below its block of five",
        lambda p: draft(p) == {"method": "dspark", "num_speculative_tokens": 7, "draft_sample_method": "probabilistic"},
        FLASH_RECIPE,
    ),
    Need(
        "a vLLM that has DSpark",
        lambda p: not SpecifierSet(p.engine.vllm).contains("0.24.0") and SpecifierSet(p.engine.vllm).contains("0.26.0"),
        "https://github.com/vllm-project/vllm/pull/47419",
    ),
    Need("parallelism divides the model", divides, "https://github.com/vllm-project/vllm/issues/40955"),
    Need(
        "nothing that only Blackwell has",
        lambda p: p.serve.extra.get("moe_backend") != "deep_gemm_mega_moe" and "mxfp4" not in json.dumps(p.serve.extra),
        FLASH_RECIPE,
    ),
    Need(
        "time for the engine to come up",
        lambda p: int(build_command(p, "vllm", engine_version="0.26.0").env["VLLM_ENGINE_READY_TIMEOUT_S"]) >= 3600,
        PRO_RECIPE,
    ),
    Need(
        "reasoning tokens are told from the parser",
        lambda p: p.serve.extra["reasoning_config"]["reasoning_parser"] == p.serve.reasoning_parser,
        FLASH_RECIPE,
        of_pro=False,
    ),
    Need(
        "the recipe's limits for Hopper: 0.95 of the memory, 16 sequences, no autotuning, decode graphs alone",
        lambda p: (
            (p.serve.gpu_memory_utilization, p.serve.max_num_seqs) == (0.95, 16)
            and p.serve.extra["enable_flashinfer_autotune"] is False
            and p.serve.compilation_config == {"mode": 0, "cudagraph_mode": "FULL_DECODE_ONLY"}
        ),
        PRO_RECIPE,
        of_pro=True,
    ),
    Need(
        "no more than 200,000 tokens of context with tensor parallelism, 800,000 with data parallelism",
        lambda p: p.serve.max_model_len == (800_000 if p.serve.data_parallel_size else 200_000),
        "https://github.com/vllm-project/recipes/issues/832",
        of_pro=True,
    ),
)
CASES = [(name, need) for name in V4 for need in NEEDS if need.of_pro is None or need.of_pro == (name in PRO)]


@pytest.mark.parametrize(("name", "need"), CASES, ids=[f"{name}: {need.says}" for name, need in CASES])
def test_it_has_what_vllm_needs(name: str, need: Need) -> None:
    assert need.holds(V4[name]), f"{need.says}: {need.source}"


def test_every_layout_of_the_recipes_is_there() -> None:
    shapes = {(name in PRO, spread.tp, spread.dp, spread.ep) for name, p in V4.items() for spread in [parallel_of(p)]}
    flash = {(False, tp, dp, ep) for tp, dp, ep in ((4, 1, True), (8, 1, True), (8, 1, False), (1, 4, True))}
    assert shapes >= flash | {(True, 8, 1, True), (True, 8, 1, False), (True, 1, 8, True)}
    assert len(V4) == 12
    assert [name for name, p in V4.items() if p.hardware.nodes > 1] == ["2x8xh200-native-v4-pro-dep"]
