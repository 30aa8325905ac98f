"""Run directories that are damaged, incomplete or of another version: every command says so, none breaks."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from console.cli import main
from console.core.models import RunInfo
from console.io import runs
from console.io.runs import RunDir

Capture = pytest.CaptureFixture[str]


def make(created_s: float = 1.0) -> RunDir:
    run = runs.create_run("p")
    run.write_info(RunInfo(id=run.id, profile_name="p", state="failed", created_s=created_s))
    run.log_path.write_text("one\n")
    return run


def truncated(run: RunDir) -> None:
    run.info_path.write_bytes(run.info_path.read_bytes()[:40])


def empty(run: RunDir) -> None:
    run.info_path.write_bytes(b"")


def missing(run: RunDir) -> None:
    run.info_path.unlink()


def newer(run: RunDir) -> None:
    data = json.loads(run.info_path.read_text())
    run.info_path.write_text(json.dumps(data | {"created_s": {"wall": 1.0}}))


def a_directory(run: RunDir) -> None:
    run.info_path.unlink()
    run.info_path.mkdir()


def garbage(run: RunDir) -> None:
    run.info_path.write_bytes(os.urandom(500))


@pytest.mark.parametrize("damage", [truncated, empty, missing, newer, a_directory, garbage], ids=lambda f: f.__name__)
@pytest.mark.parametrize("command", ["status", "logs", "stop", "report"])
def test_a_damaged_run_that_is_named(damage, command: str, capsys: Capture) -> None:
    run = make()
    damage(run)
    assert main([command, run.id]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert str(run.info_path) in err
    assert "Traceback" not in err
    assert "server.log in that directory" in err
    assert main([command]) == 3, "the only one there is"
    assert str(run.info_path) in capsys.readouterr().err


def test_one_of_a_newer_version_is_said_to_be_that(capsys: Capture) -> None:
    run = make()
    newer(run)
    main(["status", run.id])
    assert "another version of dsv4-console" in capsys.readouterr().err


def test_others_are_not_in_the_way(capsys: Capture) -> None:
    bad, good = make(2.0), make(1.0)
    truncated(bad)
    assert main(["status"]) == 5
    assert good.id in capsys.readouterr().out
    assert main(["runs", "list"]) == 0
    listed = capsys.readouterr().out
    assert "damaged" in listed
    assert bad.id in listed
    assert main(["runs", "prune", "--keep", "1"]) == 0
    assert "left alone" in capsys.readouterr().err
    assert bad.path.exists()


def test_fields_that_only_a_newer_version_knows_are_passed_over(capsys: Capture) -> None:
    run = make()
    data = json.loads(run.info_path.read_text())
    run.info_path.write_text(json.dumps(data | {"moon_phase": 3}))
    assert main(["status", run.id]) == 5


@pytest.mark.parametrize("name", ["events.jsonl", "samples/now.blocks", "server.log.index.json", "server.log"])
def test_other_files_that_are_garbage(name: str, tmp_path: Path, capsys: Capture) -> None:
    run = make()
    (run.path / name).parent.mkdir(exist_ok=True)
    (run.path / name).write_bytes(os.urandom(3_000) + b"\n{}\n")
    assert main(["status", run.id]) == 5
    assert main(["logs", run.id]) == 0
    assert main(["report", run.id, "-o", str(tmp_path / "r.tgz")]) == 0
    assert "Traceback" not in capsys.readouterr().err


def test_no_log_at_all(tmp_path: Path, capsys: Capture) -> None:
    run = make()
    run.log_path.unlink()
    assert main(["logs", run.id]) == 5
    assert "There is no log yet" in capsys.readouterr().err
    assert main(["report", run.id, "-o", str(tmp_path / "r.tgz")]) == 0
