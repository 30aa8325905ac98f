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


async def test_history_has_the_seconds_asked_for_and_is_coarser_with_age(tmp_path: Path) -> None:
    records = Records(RunDir(tmp_path), INFO)
    for second in range(10_000):
        if not 4_000 <= second < 4_600:
            records.sample(sample(float(second)))
    recent = (await records.history(60.0)).samples
    assert [s.time_s for s in recent] == [float(t) for t in range(9_939, 10_000)]
    past = (await records.history(86_400.0)).samples
    assert len(past) <= module.HISTORY_SAMPLES_MAX
    assert sum(s.count for s in past) == 9_400, "every tick is in one of them, and in one only"
    assert [s.count for s in past[-module.SAMPLES_KEPT :]] == [1] * module.SAMPLES_KEPT
    steps = [b.time_s - b.span_s - a.time_s for a, b in itertools.pairwise(past)]
    assert max(steps) == 601.0, "what was not sampled stays a gap"
    assert sorted(steps)[-2] == 1.0
    assert (await records.history(0.0)).samples == ()


async def test_history_that_could_not_be_written_comes_from_memory() -> None:
    records = Records(RunDir(Path("/nonexistent")), INFO)
    for second in range(3_000):
        records.sample(sample(float(second)))
    past = (await records.history(86_400.0)).samples
    assert [s.time_s for s in past] == [float(t) for t in range(3_000 - module.SAMPLES_KEPT, 3_000)]


async def test_a_new_supervisor_tells_the_whole_past(tmp_path: Path) -> None:
    for start in (0, 1_000):
        records = Records(RunDir(tmp_path), INFO)
        for second in range(start, start + 900):
            records.sample(sample(float(second)))
        records.flush()
    past = (await Records(RunDir(tmp_path), INFO).history(86_400.0)).samples
    assert sum(s.count for s in past) == 1_800


async def test_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SAMPLES_KEPT", 10)
    monkeypatch.setattr(module, "EVENTS_KEPT", 10)
    records = Records(RunDir(tmp_path), INFO)
    for second in range(100):
        records.sample(sample(float(second)))
        records.event(EventRecord(time_s=float(second), kind="note", text="x"))
    assert len((await records.history(1e9)).events) == 10
    assert len(records._held(1e9)) == 10


async def test_what_cannot_be_written_is_counted_and_stays_in_memory(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    records = Records(RunDir(gone), INFO)
    records.event(EventRecord(time_s=1.0, kind="note", text="kept"))
    records.write_info(INFO)
    for second in range(module.FLUSH_EVERY):
        records.sample(sample(float(second)))
    assert records.lost == 1 + module.FLUSH_EVERY
    assert "No such file" in records.last_error
    assert [event.text for event in (await records.history(10.0)).events] == ["kept"]
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


def test_of_the_events_of_a_long_run_only_the_newest_are_held(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    for number in range(2 * module.EVENTS_KEPT):
        run.append_event(EventRecord(time_s=float(number), kind="note", text=str(number)))
    assert [event.text for event in run.events(3)] == [str(2 * module.EVENTS_KEPT - n) for n in (3, 2, 1)]
    assert len(Records(run, INFO)._events) == module.EVENTS_KEPT
    assert len(run.events()) == 2 * module.EVENTS_KEPT
