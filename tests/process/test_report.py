"""The report of a run: whole, bounded, honest about what is missing."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import msgspec
import pytest

from console.client import report as module
from console.client.report import PARTS, write_report
from console.core.errors import UsageError
from console.core.models import Diagnosis, EventRecord, RunInfo, Sample, ServerState
from console.io import evidence, runs
from console.io.evidence import MissingError


def unpack(path: Path) -> dict[str, str]:
    with tarfile.open(path) as archive:
        return {m.name.rpartition("/")[2]: archive.extractfile(m).read().decode() for m in archive.getmembers()}  # type: ignore[union-attr]


@pytest.fixture
def no_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> str:
        raise MissingError("nvidia-smi is not installed")

    monkeypatch.setattr(evidence, "_run", missing)


@pytest.mark.usefixtures("no_machine")
def test_everything_that_is_there_and_a_reason_for_everything_that_is_not(tmp_path: Path) -> None:
    run = runs.create_run("p")
    info = RunInfo(
        id=run.id,
        profile_name="p",
        state="crashed",
        engine_version="0.32.0",
        diagnosis=Diagnosis(title="It broke", cause="x", line=3_000, text="line 3000"),
        env={"HF_TOKEN": "abcdef123"},
    )
    run.write_info(info)
    run.log_path.write_text("".join(f"line {number}\n" for number in range(1, 10_001)))
    run.append_event(EventRecord(time_s=1.0, kind="note", text="what happened"))
    run.append_samples([Sample(time_s=float(second), state=ServerState.READY) for second in range(2_000)])
    target = tmp_path / "r.tar.gz"
    missing = dict(write_report(run, info, target))
    parts = unpack(target)
    assert set(parts) | set(missing) == {part.name for part in PARTS} | {"README.txt"}
    assert missing["gpu.txt"] == "nvidia-smi is not installed"
    assert "launch.json" in missing
    assert parts["log-head.txt"].splitlines()[0] == "       1  line 1"
    assert parts["log-tail.txt"].splitlines()[-1] == "   10000  line 10000"
    around = parts["log-around-diagnosis.txt"].splitlines()
    assert (around[0].split()[0], around[-1].split()[0]) == ("2800", "3200")
    assert len(parts["samples.jsonl"].splitlines()) == module.SAMPLES_MAX
    assert "abcdef123" not in "".join(parts.values())
    assert msgspec.json.decode(parts["run.json"])["state"] == "crashed"
    for name, why in missing.items():
        assert name in parts["README.txt"]
        assert why in parts["README.txt"]
    with pytest.raises(UsageError, match="there already"):
        write_report(run, info, target)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.usefixtures("no_machine")
def test_a_run_of_which_little_is_left(tmp_path: Path) -> None:
    run = runs.create_run("p")
    info = RunInfo(id=run.id, profile_name="p", state="failed", reason="exit status 1")
    target = tmp_path / "r.tar.gz"
    missing = dict(write_report(run, info, target))
    assert {"log-head.txt", "events.jsonl", "samples.jsonl", "supervisor.log"} <= set(missing)
    assert "exit status 1" in missing["diagnosis.json"]
    assert {"README.txt", "run.json", "versions.txt", "host.txt"} <= set(unpack(target))


def test_names_of_parts_are_file_names() -> None:
    assert len({part.name for part in PARTS}) == len(PARTS)
    for part in PARTS:
        assert Path(part.name).name == part.name
        assert part.about


def test_a_program_that_hangs_or_fails_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "COMMAND_TIMEOUT_S", 0.2)
    for name, body in (
        ("hangs", "exec sleep 60"),
        ("fails", "echo no permission >&2; exit 3"),
        ("works", "echo hello"),
    ):
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(MissingError, match="hangs did not answer within 0 s"):
        evidence._run(["hangs"])
    monkeypatch.setattr(evidence, "COMMAND_TIMEOUT_S", 10.0)
    with pytest.raises(MissingError, match="fails ended with 3: no permission"):
        evidence._run(["fails"])
    assert evidence._run(["works"]) == "hello\n"
    with pytest.raises(MissingError, match="nobody is not installed"):
        evidence._run(["nobody"])
