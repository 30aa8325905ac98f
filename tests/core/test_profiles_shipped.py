"""What every shipped profile must say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from console.core.catalogue.models import MODELS, NOT_SERVED
from console.core.catalogue.parsers import PARSED_BY
from console.core.command import GATES, build_command
from console.core.nodes import gpus_used
from console.core.profile import EngineKind, Evidence
from console.core.profile_checks import is_v4
from console.core.profile_read import check_profile, read_profile

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "profiles").glob("*.toml"))
PROFILES = {path.stem: read_profile(path.read_text(encoding="utf-8"), path.name) for path in FILES}

KNOWN_ARCHITECTURES = {name for model in MODELS for name in model.architectures} | {"tiny-llama"}
# The shapes of hardware and precision that the set must cover.
SHAPES = ("8xh200-bf16", "8xh100-fp8", "4xh200-fp8", "4xh100-int4", "2xh200-int4", "8xa100-int4", "cpu-smoke")
# Each released model on the hardware that vLLM's recipes or reports give for it.
SERVED = {
    "v4-flash": "8xh200 4xh200 2xh200 8xh100 4xh100 8xb200 4xb200 8xb300 4xb300 1xb300 4xgb200 4xgb300 1xgb300 "
    "8xrtxpro6000 4xrtxpro6000 4xmi355x",
    "v4-pro": "8xh200 8xb200 8xb300 4xgb300 8xmi355x",
    "v4.1-flash": "8xh200 4xh200 8xh100 8xb200 4xb300 4xgb200 4xgb300 4xmi355x",
}
SM100 = ("B200", "B300", "GB200", "GB300")


def test_every_shape_has_a_profile() -> None:
    for shape in SHAPES:
        assert any(name.startswith(shape) for name in PROFILES), shape


@pytest.mark.parametrize("model", SERVED)
def test_every_released_model_has_a_profile_on_its_hardware(model: str) -> None:
    for hardware in SERVED[model].split():
        assert any(re.fullmatch(rf"{hardware}-(native|fp8)-{model}(-\w+)?", name) for name in PROFILES), hardware


def test_hardware_that_cannot_serve_a_model_has_something_instead() -> None:
    for row in NOT_SERVED:
        assert row.reason
        assert row.source.startswith("https://")
        assert not row.instead or row.instead in PROFILES


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_reads_without_a_warning(path: Path) -> None:
    reading = check_profile(path.read_text(encoding="utf-8"), path.name)
    assert reading.errors == ()
    assert reading.warnings == ()


@pytest.mark.parametrize("name", PROFILES)
def test_it_says_what_it_is_when_to_use_it_and_how_far_to_trust_it(name: str) -> None:
    profile = PROFILES[name]
    about = profile.profile
    assert about.title
    assert about.description
    assert about.use
    assert about.sources
    assert profile.model.served_name
    assert profile.model.precision
    assert profile.model.architecture in KNOWN_ARCHITECTURES
    if about.prefer is not None:
        assert PROFILES[about.prefer].profile.prefer is None
        assert PROFILES[about.prefer].hardware == profile.hardware


@pytest.mark.parametrize("name", PROFILES)
def test_its_name_is_its_hardware(name: str) -> None:
    profile = PROFILES[name]
    nodes, name = (int(name[0]), name[2:]) if re.match(r"\dx\d+x", name) else (1, name)
    match = re.fullmatch(r"(\d+)x([a-z]+\d+x?)-(bf16|fp8|int4|native|nvfp4)-[a-z0-9.-]+?(-tp|-tep|-dep)?", name)
    if match is None:
        assert profile.engine.kind is EngineKind.CPU
        return
    assert profile.hardware.nodes == nodes
    assert profile.hardware.count * nodes == int(match[1]) * nodes == gpus_used(profile)
    assert profile.hardware.gpu.lower().replace(" ", "") == match[2]
    serve = profile.serve
    shape = {None: None, "-tp": (True, False, False), "-tep": (True, False, True), "-dep": (False, True, True)}[
        match[4]
    ]
    assert shape in (
        None,
        (bool(serve.tensor_parallel_size), bool(serve.data_parallel_size), bool(serve.enable_expert_parallel)),
    )
    assert profile.model.weights_gb is not None


@pytest.mark.parametrize("name", PROFILES)
def test_it_is_for_released_versions_of_vllm(name: str) -> None:
    admitted = SpecifierSet(PROFILES[name].engine.vllm)
    assert admitted.contains("0.32.0")
    assert not admitted.contains("0.34.0")


@pytest.mark.parametrize("name", [name for name, profile in PROFILES.items() if is_v4(profile) and "v4.1" not in name])
def test_v4_has_its_tokenizer_parsers_and_cache(name: str) -> None:
    serve = PROFILES[name].serve
    assert serve.kv_cache_dtype == "fp8"
    assert serve.block_size == 256
    assert {serve.tokenizer_mode, serve.reasoning_parser, serve.tool_call_parser} == {"deepseek_v4"}
    assert serve.enable_auto_tool_choice
    assert ("reasoning_config" in serve.extra) == ("flash" in name)


@pytest.mark.parametrize("name", [name for name in PROFILES if "v4.1" in name])
def test_v41_has_its_own(name: str) -> None:
    serve = PROFILES[name].serve
    assert {serve.tokenizer_mode, serve.reasoning_parser, serve.tool_call_parser} == {"deepseek_v41"}
    draft = serve.speculative_config or {}
    assert (draft["method"], draft["num_speculative_tokens"]) == ("dspark", 5)
    assert draft["enable_adaptive_verification"] == (PROFILES[name].hardware.gpu in SM100)
    assert (serve.tensor_parallel_size or 1) <= 8, "o_groups is 8"
    assert "200 GiB" in " ".join(PROFILES[name].profile.description.split()), "Engram's host memory is told"


@pytest.mark.parametrize("name", PROFILES)
def test_settings_of_one_generation_stay_there(name: str) -> None:
    profile = PROFILES[name]
    serve, gpu = profile.serve, profile.hardware.gpu
    fp4_indexer = serve.extra.get("attention_config.indexer_kv_dtype") == "mxfp4"
    mega = serve.extra.get("moe_backend") == "deep_gemm_mega_moe"
    assert not fp4_indexer or gpu in SM100, "aborts at start elsewhere"
    assert not mega or (gpu in SM100 and serve.enable_expert_parallel and "NVFP4" not in profile.model.precision)
    assert serve.enable_expert_parallel or not mega
    if gpu == "H100" and "v4-flash" in name:
        assert (serve.max_num_batched_tokens or 0) in range(1, 16_385), "more crashed under load"


@pytest.mark.parametrize("name", PROFILES)
def test_no_version_that_it_admits_lacks_its_settings(name: str) -> None:
    profile = PROFILES[name]
    for version in PARSED_BY:
        if SpecifierSet(profile.engine.vllm).contains(version):
            assert build_command(profile, "vllm", engine_version=version).warnings == ()
    assert len(GATES) > 5


def test_variants_say_when_to_take_them() -> None:
    for name, profile in PROFILES.items():
        if name.endswith(("-tp", "-dep")):
            plain = PROFILES.get(re.sub("-(tp|dep)$", "", name))
            assert plain is None or profile.profile.use != plain.profile.use


def test_community_builds_name_the_native_checkpoint_to_prefer() -> None:
    for name, profile in PROFILES.items():
        if is_v4(profile) and not profile.model.id.startswith(("deepseek-ai/", "nvidia/")):
            assert profile.profile.prefer is not None, name
            assert profile.profile.evidence in (Evidence.UNVERIFIED, Evidence.REPORTED)


def test_no_price_is_shipped_without_a_source() -> None:
    for profile in PROFILES.values():
        assert profile.cost.usd_per_hour is None or (profile.cost.source and profile.cost.date)
