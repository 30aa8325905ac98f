"""Run directories: private, found by name, pruned, and robust against damage."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from console.core.errors import NotRunningError, StateError
from console.core.models import EventRecord, RunInfo, Sample, ServerState
from console.io import paths, process, runs


def make(name: str = "cpu-smoke", **fields: object) -> tuple[runs.RunDir, RunInfo]:
    run = runs.create_run(name)
    info = RunInfo(id=run.id, profile_name=name, **fields)  # type: ignore[arg-type]
    run.write_info(info)
    return run, info


def alive() -> dict[str, object]:
    return {"server_pid": os.getpid(), "server_start_s": process.process_start_s(os.getpid())}


def test_a_run_is_private_to_its_owner() -> None:
    run, _ = make()
    assert stat.S_IMODE(run.path.stat().st_mode) == 0o700
    assert stat.S_IMODE(run.info_path.stat().st_mode) == 0o600
    assert stat.S_IMODE(paths.runs_dir().stat().st_mode) == 0o700


def test_runs_of_the_same_second_have_different_names() -> None:
    assert len({make()[0].id for _ in range(5)}) == 5


@pytest.mark.parametrize("name", ["../../etc", "a/b", "x y", "ü", "-"])
def test_a_profile_name_cannot_leave_the_runs_directory(name: str) -> None:
    run = runs.create_run(name)
    assert run.path.parent == paths.runs_dir()


def test_a_live_run_is_found_before_a_newer_one_that_is_over() -> None:
    live, _ = make("first", **alive())
    make("second", created_s=1.0)
    assert runs.find_run(None)[0].id == live.id
    assert runs.find_run("second")[1].profile_name == "second"
    assert runs.find_run(live.id)[0].id == live.id
    with pytest.raises(NotRunningError):
        runs.find_run("third")


def test_nothing_launched_yet_says_so() -> None:
    with pytest.raises(NotRunningError) as caught:
        runs.find_run(None)
    assert "--profile" in caught.value.fix


def test_damaged_runs_are_passed_over_and_named_when_asked_for() -> None:
    run, _ = make()
    run.info_path.write_text("{")
    assert runs.list_runs() == ()
    with pytest.raises(StateError) as caught:
        run.read_info()
    assert str(run.info_path) in caught.value.message


def test_events_and_samples_survive_a_torn_last_line() -> None:
    run, _ = make()
    run.append_event(EventRecord(time_s=1.0, kind="note", text="a"))
    with run.events_path.open("ab") as file:
        file.write(b'{"time_s": 2.0, "ki')
    assert [event.text for event in run.events()] == ["a"]
    run.append_samples([Sample(time_s=1.0, state=ServerState.READY), Sample(time_s=2.0, state=ServerState.READY)])
    assert [sample.time_s for sample in run.samples()] == [1.0, 2.0]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    runs.write_atomic(path, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        runs.write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_an_unwritable_state_directory_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(blocker))
    with pytest.raises(StateError) as caught:
        runs.create_run("x")
    assert "XDG_STATE_HOME" in caught.value.fix


def test_the_socket_is_reachable_below_a_deep_directory(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    run = runs.RunDir(deep)
    with socket.socket(socket.AF_UNIX) as server:
        with run.reachable_socket() as path:
            server.bind(path)
        server.listen()
        assert run.socket_path.exists()
        with socket.socket(socket.AF_UNIX) as client, run.reachable_socket() as path:
            client.connect(path)


@given(st.builds(RunInfo, id=st.text(), profile_name=st.text(), reason=st.text(), created_s=st.floats(0, 2e9)))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
def test_run_info_reads_back_what_it_wrote(info: RunInfo) -> None:
    assert msgspec.json.decode(msgspec.json.encode(info), type=RunInfo) == info
