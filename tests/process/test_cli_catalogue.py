"""`models`, `cost`, and `profiles new|diff|schema|reference|show`, as a caller meets them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from console.cli import main
from console.core.catalogue.models import MODELS
from console.core.lifecycle import Timing
from console.core.models import EngineReading, RunInfo, Sample, ServerState
from console.io import paths, profiles, runs

PROFILE = "8xh100-native-v4-flash"


def said(capsys: pytest.CaptureFixture[str], *command: str) -> str:
    assert main(list(command)) == 0
    return capsys.readouterr().out


def document(capsys: pytest.CaptureFixture[str], *command: str) -> Any:
    return json.loads(said(capsys, *command, "--json"))


def past_run(rate: float, seconds: int = 90) -> None:
    """A run of `PROFILE` that held this rate."""
    run = runs.create_run(PROFILE)
    run.write_info(RunInfo(id=run.id, profile_name=PROFILE, engine_version="0.33.0", created_s=1_795_000_000.0))
    profile = profiles.load(PROFILE).profile
    run.write_launch(
        runs.LaunchSpec(
            argv=("vllm",), env={}, cwd="/", url="http://127.0.0.1:1", timing=Timing(), profile=profile, model="m"
        )
    )
    engine = EngineReading(generation_tokens_per_s=rate)
    run.append_samples(
        [Sample(time_s=float(second), state=ServerState.READY, engine=engine) for second in range(seconds)]
    )


def test_models_fit_a_terminal_of_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "models")
    for line in text.splitlines():
        assert len(line) <= 80 or "https://" in line, line
    for model in MODELS:
        assert model.name in text
    assert "1,800 tok/s; 18 s for 512 tokens (projection)" in text
    assert "nothing yet" in text


def test_models_name_their_profiles_and_measurements(capsys: pytest.CaptureFixture[str]) -> None:
    past_run(1500.0)
    found = document(capsys, "models")
    flash = next(model for model in found["models"] if model["name"] == "DeepSeek V4-Flash")
    assert PROFILE in flash["profiles"]
    assert found["measured"][0]["tokens_per_s"] == 1500
    projected = next(row for row in found["speeds"] if row["kind"] == "projection" and row["hardware"] == "8 × H100")
    assert projected["measured"]["profile"] == PROFILE
    assert "measured here: 1,500 tok/s with 8xh100-native-v4-flash, vLLM 0.33.0" in re.sub(
        r"\s+", " ", said(capsys, "models")
    )


def test_cost_of_a_given_price(capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--usd-per-hour", "20", "--spot-usd-per-hour", "9", "--api-price", "2", "--throughput", "3000")
    text = said(capsys, "cost", PROFILE, *options)
    assert "$20.00 per hour, $14,600 per month (730 h)" in text
    assert "55% less" in text
    assert "7,300 million output tokens per month" in text
    assert "93% of the throughput" in text
    assert "missing" not in text
    assert document(capsys, "cost", PROFILE, *options)["break_even_share"] == pytest.approx(0.9259, abs=1e-4)


def test_cost_from_configuration_and_a_measured_minute(capsys: pytest.CaptureFixture[str]) -> None:
    assert "list price of one provider, not yours: 8 × H100" in said(capsys, "cost", PROFILE)
    assert "a price:" in said(capsys, "cost", "4xgb300-native-v4-pro"), "no list has one"
    paths.config_dir().mkdir(parents=True)
    (paths.config_dir() / "config.toml").write_text('[price.H100]\nusd_per_hour = 2.5\nsource = "contract"\n')
    past_run(2000.0)
    found = document(capsys, "cost", PROFILE)
    assert (found["usd_per_hour"], found["source"]) == (20.0, "8 × contract")
    assert found["throughput"]["tokens_per_s"] == 2000
    assert found["throughput"]["basis"].startswith("measured here: best minute of ")
    assert found["usd_per_million_tokens"] == pytest.approx(20 / 7.2)
    shown = document(capsys, "profiles", "show", PROFILE)
    assert shown["profile"]["cost"]["usd_per_hour"] == 20.0
    damaged = runs.list_runs()[0][0]
    damaged.launch_path.write_text("{")
    assert document(capsys, "cost", PROFILE)["throughput"] is None


@pytest.mark.parametrize("option", ["--usd-per-hour", "--api-price", "--throughput"])
@pytest.mark.parametrize("value", ["0", "-1", "nan", "much"])
def test_no_price_below_nothing(option: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cost", PROFILE, f"{option}={value}"]) == 2
    assert "more than 0" in capsys.readouterr().err


def test_show_says_what_to_weigh_and_what_was_checked(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "profiles", "show", PROFILE)
    assert "read by the parsers of vLLM 0.25.0" in text
    assert "Groups of tensor parallel GPUs" in text
    assert "Spot costs less" in text
    changed = document(capsys, "profiles", "show", PROFILE, "--set", "serve.max_num_seqs=64")
    assert changed["flags"].startswith("not checked")
    assert set(changed["advice"]) == {"precision", "parallel", "price"}


def test_a_change_is_judged_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    short = document(capsys, "profiles", "show", PROFILE)["fit"]
    small = document(capsys, "profiles", "show", PROFILE, "--set", "serve.gpu_memory_utilization=0.3")["fit"]
    assert short["verdict"] in ("fits", "tight")
    assert small["verdict"] == "does not fit"


def test_a_profile_of_ones_own(capsys: pytest.CaptureFixture[str]) -> None:
    made = document(capsys, "profiles", "new", "mine", "--from", PROFILE, "--set", "serve.max_num_seqs=64")
    path = Path(made["path"])
    source = profiles.load(PROFILE).path.read_text(encoding="utf-8")
    assert set(path.read_text(encoding="utf-8").splitlines()) - set(source.splitlines()) == {"max_num_seqs = 64"}
    (change,) = document(capsys, "profiles", "diff", PROFILE, "mine")["changes"]
    assert change == {"key": "serve.max_num_seqs", "after": 64} | ({"before": None} if "before" in change else {})
    assert "serve.max_num_seqs  – → 64" in said(capsys, "profiles", "diff", PROFILE, "mine")
    assert "no difference" in said(capsys, "profiles", "diff", "mine", "mine")
    assert main(["profiles", "check", str(path.parent)]) == 0
    assert main(["profiles", "new", "mine", "--from", PROFILE]) == 2
    assert main(["profiles", "new", "other", "--from", PROFILE, "--set", "serve.max_num_seqs=many"]) == 2
    assert main(["profiles", "new", "other", "--from", "no-such"]) == 2
    assert not path.with_name("other.toml").exists()


def test_check_of_a_folder_names_every_mistake_of_every_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "good.toml").write_text(
        "[profile]\ntitle = 'a'\n[model]\nid = 'a/b'\n[hardware]\ngpu = 'H100'\ncount = 1\n"
    )
    (tmp_path / "guide.toml").write_text(
        "[profile]\ntitle = 'a'\n[hardware]\ngpu = 'H100'\ncount = 8\n[model]\nid = 'deepseek-ai/DeepSeek-V4'\n"
        "[serve]\ntensor_parallel_size = 8\ndtype = 'fp8'\nkv_cache_dtype = 'fp8_e5m2'\n"
    )
    assert main(["profiles", "check", str(tmp_path)]) == 2
    text = capsys.readouterr().out
    assert "✓ good" in text
    assert "✖ guide" in text
    assert "write deepseek-ai/DeepSeek-V4-Flash-0731 or deepseek-ai/DeepSeek-V4-Pro-0813" in text
    assert "leave dtype out: the checkpoint says its precision" in text
    assert 'write "fp8"' in text
    (tmp_path / "empty").mkdir()
    assert main(["profiles", "check", str(tmp_path / "empty")]) == 2
    assert "no profile in" in capsys.readouterr().err


def test_schema_and_reference(capsys: pytest.CaptureFixture[str]) -> None:
    root = Path(__file__).parents[2]
    assert said(capsys, "profiles", "schema") == (root / "profiles" / "profile.schema.json").read_text(encoding="utf-8")
    assert document(capsys, "profiles", "schema")["title"] == "Profile of dsv4-console"
    assert said(capsys, "profiles", "reference") == (root / "docs" / "profile-reference.md").read_text(encoding="utf-8")


def test_a_profile_for_amd_can_be_shown_and_says_how_to_get_an_engine(capsys: pytest.CaptureFixture[str]) -> None:
    name = "4xmi355x-native-v4-flash"
    assert "none here, and none that this installs" in said(capsys, "profiles", "show", name)
    assert main(["--profile", name, "--yes"]) == 3
    assert "container image" in capsys.readouterr().err
