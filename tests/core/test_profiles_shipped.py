"""What every shipped profile must say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from console.core.fit import ARCHITECTURES
from console.core.profile import EngineKind, Evidence
from console.core.profile_checks import gpus_used, is_v4
from console.core.profile_read import check_profile, read_profile

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "profiles").glob("*.toml"))
PROFILES = {path.stem: read_profile(path.read_text(encoding="utf-8"), path.name) for path in FILES}

# The shapes of hardware and precision that the set must cover.
SHAPES = ("8xh200-bf16", "8xh100-fp8", "4xh200-fp8", "4xh100-int4", "2xh200-int4", "8xa100-int4", "cpu-smoke")


def test_every_shape_has_a_profile() -> None:
    for shape in SHAPES:
        assert any(name.startswith(shape) for name in PROFILES), shape


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
    assert profile.model.architecture in ARCHITECTURES
    if about.prefer is not None:
        assert PROFILES[about.prefer].profile.prefer is None
        assert PROFILES[about.prefer].hardware == profile.hardware


@pytest.mark.parametrize("name", PROFILES)
def test_its_name_is_its_hardware(name: str) -> None:
    profile = PROFILES[name]
    match = re.match(r"(\d+)x([a-z]+\d+)-(bf16|fp8|int4|native)-", name)
    if match is None:
        assert profile.engine.kind is EngineKind.CPU
        return
    assert profile.hardware.count == int(match[1]) == gpus_used(profile)
    assert profile.hardware.gpu.lower() == match[2]
    assert profile.model.weights_gb is not None


@pytest.mark.parametrize("name", PROFILES)
def test_it_is_for_released_versions_of_vllm(name: str) -> None:
    admitted = SpecifierSet(PROFILES[name].engine.vllm)
    assert admitted.contains("0.32.0")
    assert not admitted.contains("0.34.0")


@pytest.mark.parametrize("name", [name for name, profile in PROFILES.items() if is_v4(profile)])
def test_v4_has_its_tokenizer_parsers_and_cache(name: str) -> None:
    serve = PROFILES[name].serve
    assert serve.kv_cache_dtype == "fp8"
    assert serve.block_size == 256
    assert {serve.tokenizer_mode, serve.reasoning_parser, serve.tool_call_parser} == {"deepseek_v4"}
    assert serve.enable_auto_tool_choice
    assert ("reasoning_config" in serve.extra) == ("flash" in name)


def test_community_builds_name_the_native_checkpoint_to_prefer() -> None:
    for name, profile in PROFILES.items():
        if is_v4(profile) and not profile.model.id.startswith("deepseek-ai/"):
            assert profile.profile.prefer is not None, name
            assert profile.profile.evidence in (Evidence.UNVERIFIED, Evidence.REPORTED)


def test_no_price_is_shipped_without_a_source() -> None:
    for profile in PROFILES.values():
        assert profile.cost.usd_per_hour is None or (profile.cost.source and profile.cost.date)
