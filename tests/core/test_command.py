"""The exact command of every shipped profile, and how values become arguments."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

import msgspec
import pytest
from packaging.specifiers import SpecifierSet

from console.core.command import FLAGS, GATES, build_command, shell_line
from console.core.nodes import Node
from console.core.overrides import apply_overrides
from console.core.profile import Profile, ServeSection
from console.core.profile_read import read_profile
from console.core.text import HIDDEN

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "data" / "golden"
PROFILES = sorted((ROOT / "profiles").glob("*.toml"))
VERSIONS = ("0.20.2", "0.23.0", "0.25.0", "0.26.0", "0.28.0", "0.30.0", "0.32.0+cpu", "0.33.0")


def shipped(path: Path) -> Profile:
    return read_profile(path.read_text(encoding="utf-8"), path.name)


def base(**serve: Any) -> Profile:
    text = "[profile]\ntitle='a'\n[hardware]\ngpu='H100'\ncount=1\n[model]\nid='a/b'\n"
    return apply_overrides(read_profile(text, "base"), {f"serve.{key}": value for key, value in serve.items()})


def argv_of(profile: Profile) -> tuple[str, ...]:
    return build_command(profile, "vllm").argv


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_golden_command(path: Path) -> None:
    """Run with UPDATE_GOLDEN=1 to write the files anew, on purpose."""
    profile = shipped(path)
    model = "/models/tiny-llama" if profile.model.id.startswith("generated:") else None
    text = ""
    for rank in range(profile.hardware.nodes):
        command = build_command(profile, "vllm", model, node=Node(rank=rank))
        text += f"# node {rank}\n" if profile.hardware.nodes > 1 else ""
        text += "\n".join([*(f"{name}={value}" for name, value in command.env.items()), *command.argv]) + "\n"
    golden = GOLDEN / f"{path.stem}.txt"
    if os.environ.get("UPDATE_GOLDEN") == "1":
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")


def test_every_golden_file_has_its_profile() -> None:
    assert {path.stem for path in GOLDEN.glob("*.txt")} == {path.stem for path in PROFILES}


def test_every_serve_field_has_a_flag() -> None:
    assert set(FLAGS) == set(ServeSection.__struct_fields__) - {"extra"}
    assert len(set(FLAGS.values())) == len(FLAGS)
    assert all(flag == "--" + field.replace("_", "-") for field, flag in FLAGS.items())


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("enforce_eager", True, ["--enforce-eager"]),
        ("enforce_eager", False, ["--no-enforce-eager"]),
        ("gpu_memory_utilization", 0.9, ["--gpu-memory-utilization", "0.9"]),
        ("max_model_len", "-1", ["--max-model-len=-1"]),
        ("speculative_config", {"method": "mtp", "n": 1}, ["--speculative-config", '{"method":"mtp","n":1}']),
        ("extra.max_num_queued_reqs", 5, ["--max-num-queued-reqs", "5"]),
        ("extra.lora_modules", ["a=b", "c=d"], ["--lora-modules", "a=b", "c=d"]),
        ("extra.lora_modules", [{"name": "a"}], ["--lora-modules", '{"name":"a"}']),
        ("extra.allowed_origins", ["*"], ["--allowed-origins", '["*"]']),
        ("extra.middleware", ["a", "b"], ["--middleware", "a", "--middleware", "b"]),
        ("extra.enable_flashinfer_autotune", False, ["--no-enable-flashinfer-autotune"]),
        ("extra.attention_config.indexer_kv_dtype", "mxfp4", ["--attention-config.indexer_kv_dtype", "mxfp4"]),
        ("extra.attention_config", {"a_b": 1}, ["--attention-config", '{"a_b":1}']),
    ],
)
def test_values_become_arguments(key: str, value: Any, expected: list[str]) -> None:
    argv = list(argv_of(base(**{key: value})))
    start = argv.index(expected[0])
    assert argv[start : start + len(expected)] == expected


def test_a_switch_without_a_negative_form_is_left_out() -> None:
    assert not any("disable-log-stats" in argument for argument in argv_of(base(**{"extra.disable_log_stats": False})))


def test_model_comes_first_and_is_served_under_a_name_without_paths() -> None:
    profile = shipped(ROOT / "profiles" / "cpu-smoke.toml")
    argv = build_command(profile, "/e/bin/vllm", "/m/tiny").argv
    assert argv[:5] == ("/e/bin/vllm", "serve", "/m/tiny", "--served-model-name", "tiny")
    nameless = msgspec.structs.replace(profile, model=msgspec.structs.replace(profile.model, served_name=None))
    assert build_command(nameless, "vllm", "/m/tiny").argv[4] == "tiny-llama"


def test_polling_is_kept_out_of_the_log_and_stopping_drains() -> None:
    argv = list(argv_of(apply_overrides(base(), {"supervise.drain_timeout_s": 12.5})))
    assert argv[argv.index("--disable-access-log-for-endpoints") + 1] == "/health,/metrics"
    assert argv[argv.index("--shutdown-timeout") + 1] == "13"


def test_the_profile_decides_over_the_access_log() -> None:
    argv = argv_of(base(**{"extra.disable_access_log_for_endpoints": "/health"}))
    assert argv.count("--disable-access-log-for-endpoints") == 1
    assert "/health" in argv


def test_an_old_engine_is_not_given_flags_it_lacks() -> None:
    argv = build_command(base(), "vllm", engine_version="0.14.1").argv
    assert "--shutdown-timeout" not in argv
    assert "--shutdown-timeout" in build_command(base(), "vllm", engine_version="0.33.0rc1").argv
    assert "--shutdown-timeout" in build_command(base(), "vllm", engine_version="strange").argv


def test_environment_is_for_logs_and_long_loads() -> None:
    env = build_command(base(), "vllm").env
    assert env["VLLM_LOGGING_COLOR"] == "0"
    assert env["NO_COLOR"] == "1"
    assert env["PYTHONUNBUFFERED"] == "1"
    assert env["VLLM_ENGINE_READY_TIMEOUT_S"] == "3600"
    assert env["VLLM_NO_USAGE_STATS"] == "1"
    assert "HF_HUB_OFFLINE" not in env


def test_the_engine_waits_as_long_as_the_profile() -> None:
    slow = apply_overrides(base(), {"supervise.ready_timeout_s": 7200})
    assert build_command(slow, "vllm").env["VLLM_ENGINE_READY_TIMEOUT_S"] == "7200"
    own = apply_overrides(slow, {"env.VLLM_ENGINE_READY_TIMEOUT_S": "900"})
    assert build_command(own, "vllm").env["VLLM_ENGINE_READY_TIMEOUT_S"] == "900"


@pytest.mark.parametrize("model", ["generated:x", "/models/x", "./x", "~/x"])
def test_local_models_ask_no_hub(model: str) -> None:
    profile = apply_overrides(base(), {"model.id": model, "model.revision": "main"})
    command = build_command(profile, "vllm", "/models/x")
    assert command.env["HF_HUB_OFFLINE"] == "1"
    assert "--revision" not in command.argv


def test_shell_line_can_be_typed_and_hides_secrets() -> None:
    argv = ("vllm", "serve", "a b", "--api-key", "sk-1", "sk-2", "--hf_token=hf-1", "--seed", "1", "$(x)")
    line = shell_line(argv, {"VLLM_API_KEY": "sk-3", "A": "x y"})
    for secret in ("sk-1", "sk-2", "sk-3", "hf-1"):
        assert secret not in line
    assert line.startswith(f"VLLM_API_KEY={HIDDEN} A='x y' vllm serve 'a b' --api-key {HIDDEN} {HIDDEN} ")
    assert shlex.split(line)[-3:] == ["--seed", "1", "$(x)"]


def test_gates_are_ranges_with_names() -> None:
    assert len({gate.id for gate in GATES}) == len(GATES)
    for gate in GATES:
        admitted = [SpecifierSet(gate.versions).contains(version) for version in VERSIONS]
        assert any(admitted)
        assert gate.text


def test_a_setting_unknown_to_the_engine_is_warned_of() -> None:
    profile = base(**{"extra.attention_config.use_fp4_indexer_cache": True})
    assert build_command(profile, "vllm", engine_version="0.25.0").warnings == ()
    (warning,) = build_command(profile, "vllm", engine_version="0.33.0").warnings
    assert "use_fp4_indexer_cache" in warning
    assert build_command(base(**{"extra.max-num-queued-reqs": 3}), "vllm", engine_version="0.28.0").warnings


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_no_shipped_profile_admits_a_version_that_lacks_its_settings(path: Path) -> None:
    profile = shipped(path)
    admitted = SpecifierSet(profile.engine.vllm)
    for version in VERSIONS:
        if admitted.contains(version):
            assert build_command(profile, "vllm", engine_version=version).warnings == ()
