"""Results of benchmarks on disk, and what a benchmark takes from how a server was launched."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from console.client.bench_target import machine_text, target_of
from console.core.bench import BenchResult, Shape
from console.core.errors import EngineError, StateError, UsageError
from console.core.lifecycle import Timing
from console.core.models import GpuReading, RunInfo, ServerStatus, Snapshot
from console.core.profile import Profile
from console.io import benchfiles
from console.io.profiles import load
from console.io.runs import LaunchSpec, RunDir, create_run


def run(name: str = "cpu-smoke") -> RunDir:
    made = create_run(name)
    made.write_info(RunInfo(id=made.id, profile_name=name, created_s=1.0))
    return made


def result(of: RunDir, name: str, created_s: float = 1.0, profile: str = "cpu-smoke") -> BenchResult:
    return BenchResult(id=name, created_s=created_s, run_id=of.id, profile_name=profile, model="m")


def test_results_are_private_newest_first_and_found_by_any_name() -> None:
    one, two = run(), run("other")
    for kept in (result(one, "a", 1.0), result(one, "b", 3.0), result(two, "c", 2.0, "other")):
        path = benchfiles.save(one if kept.run_id == one.id else two, kept)
        assert path.stat().st_mode & 0o777 == 0o600
    assert [each.id for each in benchfiles.results()] == ["b", "c", "a"]
    assert [each.id for each in benchfiles.results(one)] == ["b", "a"]
    assert [benchfiles.find(name).id for name in ("last", "a", one.id, "cpu-smoke", "other")] == list("babbc")
    with pytest.raises(UsageError, match="no such benchmark") as caught:
        benchfiles.find("nope")
    assert "b, c, a" in caught.value.message


def test_an_id_is_given_once_and_what_is_damaged_is_passed_over() -> None:
    made = run()
    first = benchfiles.new_id(made, Shape.CHAT)
    benchfiles.save(made, result(made, first))
    assert benchfiles.new_id(made, Shape.CHAT) != first
    (made.path / "bench" / "torn.json").write_text('{"id": "x"')
    assert [each.id for each in benchfiles.results()] == [first]


def test_a_directory_that_cannot_be_written_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    made = run()

    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(benchfiles, "write_atomic", full)
    with pytest.raises(StateError, match="cannot be kept") as caught:
        benchfiles.save(made, result(made, "a"))
    assert "No space left" in caught.value.message


def spec(executable: Path, *argv: str, profile: Profile | None = None) -> LaunchSpec:
    return LaunchSpec(
        argv=(str(executable), "serve", "org/model", *argv),
        env={"HF_HOME": "/elsewhere"},
        cwd="/",
        url="http://127.0.0.1:8000",
        timing=Timing(),
        profile=profile or load("cpu-smoke").profile,
        model="served",
    )


def test_a_target_is_what_was_launched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    executable = tmp_path / "vllm"
    executable.touch()
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    info = RunInfo(id="r", profile_name="p", engine_version="0.32.0", usd_per_hour=2.0)
    target = target_of(info, spec(executable, "--tokenizer-mode", "deepseek_v4"))
    assert (target.engine.executable, target.engine.version) == (executable, "0.32.0")
    assert (target.model, target.tokenizer, target.usd_per_hour) == ("served", "org/model", 2.0)
    assert target.options == ("--tokenizer-mode", "deepseek_v4")
    assert target.env["HF_HUB_CACHE"] == str(tmp_path / "hub")
    assert "HF_HUB_OFFLINE" not in target.env
    (tmp_path / "hub" / "models--org--model").mkdir(parents=True)
    assert target_of(info, spec(executable)).env["HF_HUB_OFFLINE"] == "1"
    assert target_of(info, spec(executable, "--tokenizer", "other")).tokenizer == "other"
    assert target_of(info, spec(executable, "--tokenizer=third")).tokenizer == "third"


def test_the_cache_that_the_profile_names_is_the_one(tmp_path: Path) -> None:
    executable = tmp_path / "vllm"
    executable.touch()
    profile = load("cpu-smoke").profile
    serve = msgspec.structs.replace(profile.serve, extra={"download_dir": str(tmp_path)})
    changed = msgspec.structs.replace(profile, serve=serve)
    target = target_of(RunInfo(id="r", profile_name="p"), spec(executable, profile=changed))
    assert target.env["HF_HUB_CACHE"] == str(tmp_path)


def test_an_engine_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="engine of this run is gone"):
        target_of(RunInfo(id="r", profile_name="p"), spec(tmp_path / "vllm"))


def test_the_machine_in_words() -> None:
    gpus = tuple(GpuReading(index=index, name="NVIDIA H200") for index in range(8))
    assert machine_text(Snapshot(seq=1, time_s=1.0, status=ServerStatus(), gpus=gpus)) == "8×NVIDIA H200"
    assert machine_text(None).startswith("CPU, ")
