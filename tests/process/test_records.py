"""What a supervisor writes down, and what a full disk costs: records, never the server."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from console.core.models import EventRecord, RunInfo, Sample, ServerState
from console.io.runs import RunDir
from console.supervisor import records as module
from console.supervisor.records import Records

INFO = RunInfo(id="r", profile_name="p")


def sample(time_s: float) -> Sample:
    return Sample(time_s=time_s, state=ServerState.READY)


def test_samples_are_written_a_few_at_a_time_and_read_back_by_the_next_supervisor(tmp_path: Path) -> None:
    records = Records(RunDir(tmp_path), INFO)
    for second in range(module.FLUSH_EVERY + 1):
        records.sample(sample(float(second)))
    assert len(RunDir(tmp_path).samples()) == module.FLUSH_EVERY
    records.flush()
    again = Records(RunDir(tmp_path), INFO)
    assert again.last_sample_s == float(module.FLUSH_EVERY)


def test_history_has_the_seconds_asked_for_and_is_thinned_evenly() -> None:
    records = Records(RunDir(Path("/nonexistent")), INFO)
    for second in range(3_000):
        records.sample(sample(float(second)))
    recent = records.history(60.0).samples
    assert [s.time_s for s in recent] == [float(t) for t in range(2_939, 3_000)]
    all_of_it = records.history(10_000.0).samples
    assert len(all_of_it) <= module.HISTORY_SAMPLES_MAX
    steps = {b.time_s - a.time_s for a, b in itertools.pairwise(all_of_it)}
    assert len(steps) == 1


def test_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SAMPLES_KEPT", 10)
    monkeypatch.setattr(module, "EVENTS_KEPT", 10)
    records = Records(RunDir(tmp_path), INFO)
    for second in range(100):
        records.sample(sample(float(second)))
        records.event(EventRecord(time_s=float(second), kind="note", text="x"))
    history = records.history(1e9)
    assert len(history.samples) == len(history.events) == 10


def test_what_cannot_be_written_is_counted_and_stays_in_memory(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    records = Records(RunDir(gone), INFO)
    records.event(EventRecord(time_s=1.0, kind="note", text="kept"))
    records.write_info(INFO)
    for second in range(module.FLUSH_EVERY):
        records.sample(sample(float(second)))
    assert records.lost == 1 + module.FLUSH_EVERY
    assert "No such file" in records.last_error
    assert [event.text for event in records.history(10.0).events] == ["kept"]
    gone.mkdir()
    records.retry()
    assert RunDir(gone).read_info() == INFO, "who runs is written as soon as it can be"


def test_run_json_is_written_only_when_it_changes(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    records = Records(run, INFO)
    records.write_info(INFO)
    before = run.info_path.stat().st_mtime_ns
    records.write_info(INFO)
    assert run.info_path.stat().st_mtime_ns == before
