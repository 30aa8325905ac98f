"""The tables of models, speeds and advice."""

from __future__ import annotations

from pathlib import Path

import pytest

from console.core.catalogue.advice import ADVICE, advice
from console.core.catalogue.models import MODELS
from console.core.catalogue.speeds import SPEEDS, Kind, Measurement, measured_beside
from console.core.profile import Evidence
from console.core.profile_read import read_profile

PROFILES = {
    path.stem: read_profile(path.read_text(encoding="utf-8"), path.name)
    for path in sorted((Path(__file__).parents[2] / "profiles").glob("*.toml"))
}
HERE = Measurement(
    hardware="8 × H100",
    architecture="deepseek-v4-flash",
    profile="8xh100-native-v4-flash",
    engine="vLLM 0.33.0",
    tokens_per_s=1500,
    run="r",
    date="2026-11-23",
)


def test_each_model_has_its_facts_with_a_source_and_profiles() -> None:
    served = {profile.model.architecture for profile in PROFILES.values()}
    for model in MODELS:
        assert set(model.architectures) <= served
        assert model.source.startswith("https://")
        assert all((model.total, model.active, model.licence, model.best_for, model.disk))
        assert all(size.gb > 0 and size.evidence in (Evidence.REPORTED, Evidence.DERIVED) for size in model.disk)


def test_sizes_are_those_of_the_profiles() -> None:
    known = {(arch, size.gb) for model in MODELS for arch in model.architectures for size in model.disk}
    for name, profile in PROFILES.items():
        model = profile.model
        if model.id.startswith(("deepseek-ai/", "meta-llama/")):
            assert (model.architecture, model.weights_gb) in known, name


def test_each_speed_names_engine_load_and_source() -> None:
    for speed in SPEEDS:
        assert all((speed.hardware, speed.model, speed.engine, speed.load, speed.source))
        assert speed.tokens_per_s is not None or speed.note
        assert (speed.kind is Kind.PROJECTION) == (speed.architecture == ""), "only what never was is projected"
        assert speed.kind is Kind.PROJECTION or speed.source.startswith("https://")


def test_the_projections_are_the_guides() -> None:
    rows = {(s.hardware, s.tokens_per_s, s.note) for s in SPEEDS if s.kind is Kind.PROJECTION}
    assert rows == {
        ("8 × H100", 1800, "18 s for 512 tokens"),
        ("4 × H200", 1400, "22 s for 512 tokens"),
        ("8 × A100", 600, "52 s for 512 tokens"),
    }


def test_a_measurement_stands_beside_its_own_hardware_and_model() -> None:
    beside = [speed for speed in SPEEDS if measured_beside(speed, [HERE])]
    assert {(speed.hardware, speed.kind) for speed in beside} == {
        ("8 × H100", Kind.PUBLISHED),
        ("8 × H100", Kind.PROJECTION),
    }
    slower = Measurement(**{name: getattr(HERE, name) for name in HERE.__struct_fields__} | {"tokens_per_s": 3.0})
    assert measured_beside(beside[0], [slower, HERE]) is HERE
    assert measured_beside(beside[0], []) is None


def test_each_advice_applies_to_a_shipped_profile() -> None:
    assert len({row.id for row in ADVICE}) == len(ADVICE)
    shown = {row.id for profile in PROFILES.values() for row in advice(profile)}
    assert shown == {row.id for row in ADVICE}


@pytest.mark.parametrize(
    ("name", "ids"),
    [
        ("8xh200-native-v4-pro", ["native-hopper", "tep", "spot"]),
        ("8xb200-native-v4-flash-dep", ["native", "dp", "spot"]),
        ("8xb200-nvfp4-v4-pro", ["nvfp4", "tep", "spot"]),
        ("8xh100-native-v4-flash", ["native-hopper", "tp-dp", "spot"]),
        ("8xa100-int4-v3", ["int4", "tp", "spot"]),
        ("2xh200-int4-v4-flash", ["int4", "tp", "spot"]),
        ("8xh200-bf16-v4-flash", ["bf16", "tep", "spot"]),
        ("8xh100-fp8-llama4-maverick", ["fp8", "tp", "spot"]),
        ("cpu-smoke", ["bf16"]),
    ],
)
def test_what_to_weigh(name: str, ids: list[str]) -> None:
    assert [row.id for row in advice(PROFILES[name])] == ids
