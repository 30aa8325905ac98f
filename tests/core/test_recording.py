"""What a replay knows of each moment: line times, position, status, hints. All of it pure."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from console.core import timeline as module
from console.core.hints import HintEngine
from console.core.logtimes import line_times, stamp_s, utc_offset_s
from console.core.models import (
    Diagnosis,
    EngineReading,
    EventRecord,
    GpuReading,
    Hint,
    HintState,
    Phase,
    RunInfo,
    Sample,
    ServerState,
)
from console.core.playback import SPEEDS, Playback
from console.core.profile import HardwareSection, ModelSection, Profile, ProfileSection, ServeSection
from console.core.recording import RecordedLog, Recording, turns
from console.core.timeline import Timeline

BEGIN_S = 1_795_452_527.0
"""2026-11-23 16:48:47 UTC."""
GIB = 1024**3
RUN = RunInfo(id="20261123-164847-p", profile_name="p", created_s=BEGIN_S, state="stopped", max_num_seqs=2)
PROFILE = Profile(
    profile=ProfileSection(title="p"),
    model=ModelSection(id="m"),
    hardware=HardwareSection(gpu="H100", count=1),
    serve=ServeSection(max_num_seqs=2),
)


def event(after_s: float, kind: str, text: str) -> EventRecord:
    return EventRecord(time_s=BEGIN_S + after_s, kind=kind, text=text)


def sample(after_s: float, state: ServerState = ServerState.READY, **engine: object) -> Sample:
    """A server at its sequence cap, with a queue, on a GPU that has time."""
    gpu = GpuReading(index=0, util_percent=30.0, memory_used_bytes=70 * GIB, memory_total_bytes=80 * GIB)
    reading = EngineReading(
        running=2,
        waiting=20,
        kv_cache_usage=0.01,
        kv_cache_tokens=32_000,
        generation_tokens_per_s=90.0,
        preemptions_total=0,
        mean_prompt_tokens=64.0,
        mean_generation_tokens=200.0,
        requests_finished_total=10,
    )
    return Sample(time_s=BEGIN_S + after_s, state=state, gpus=(gpu,), engine=replace(reading, **engine))


START = (
    event(1, "state", "stopped → starting"),
    event(10, "state", "starting → loading"),
    event(20, "phase", "weights: loading"),
    event(30, "phase", "memory: 56.74 GiB for the KV cache"),
    event(40, "state", "loading → ready"),
)
LOG = RecordedLog(
    (1, 2, 3, 4),
    (
        "INFO 11-23 16:49:08 [l.py:1] Loading safetensors checkpoint shards:  50% Completed | 1/2 [00:01<00:01]",
        "(W pid=1) INFO 11-23 16:49:20 [l.py:1] something",
        "a line without a stamp",
        "(W pid=1) INFO 11-23 16:50:00 [l.py:1] the end",
    ),
    (BEGIN_S + 21, BEGIN_S + 33, BEGIN_S + 33, BEGIN_S + 73),
)


def recording(**changes: object) -> Recording:
    whole = Recording(
        run=RUN,
        profile=PROFILE,
        begin_s=BEGIN_S,
        end_s=BEGIN_S + 100,
        events=(*START, event(90, "state", "ready → stopping"), event(95, "state", "stopping → stopped")),
        samples=tuple(sample(s) for s in range(40, 90)),
        log=LOG,
    )
    return replace(whole, **changes)


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("(APIServer pid=926) INFO 11-23 16:48:47 [x.py:1] text", BEGIN_S),
        ("(Worker_TP0 pid=9, ip=10.0.0.1) WARNING 11-23 16:48:47 [x.py:1] text", BEGIN_S),
        ("INFO 11-23 16:48:47 [x.py:1] text", BEGIN_S),
        ("2026-11-23 16:48:47,159 - INFO - autotuner.py:651 - flashinfer.jit: text", BEGIN_S),
        ('{"levelname": "INFO", "asctime": "11-23 16:48:47", "message": "text"}', BEGIN_S),
        ("INFO 12-31 23:59:59 [x.py:1] of this year, which is nearer than that of the last", 1_798_761_599.0),
        ("INFO 02-30 16:48:47 [x.py:1] there is no such day", None),
        ("a text that mentions 11-23 16:48:47 in passing", None),
        ("", None),
    ],
)
def test_stamps(line: str, wanted: float | None) -> None:
    assert stamp_s(line, BEGIN_S) == wanted


def test_a_stamp_without_a_year_is_of_the_nearest_one() -> None:
    new_year = 1_798_761_600.0  # 2027-01-01 00:00:00
    assert stamp_s("INFO 12-31 23:59:50 [x.py:1] t", new_year) == new_year - 10
    assert stamp_s("INFO 01-01 00:00:10 [x.py:1] t", new_year - 20) == new_year + 10


@pytest.mark.parametrize(
    ("run_id", "first_after_s", "wanted"),
    [
        ("20261123-164847-p", None, 0.0),
        ("20261123-091847-p", None, -7.5 * 3600),
        ("20261123-223347-p", None, 5.75 * 3600),
        ("renamed", 3600 + 95.0, 3600.0),
        ("renamed", -7200 + 600.0, -7200.0),
        ("renamed", None, 0.0),
        ("20991123-164847-p", 40.0, 0.0),
        ("20261399-999999-p", 40.0, 0.0),
    ],
)
def test_the_zone_of_a_recorded_machine(run_id: str, first_after_s: float | None, wanted: float) -> None:
    first = None if first_after_s is None else BEGIN_S + first_after_s
    assert utc_offset_s(run_id, BEGIN_S, first) == wanted


def test_lines_come_when_they_were_written_and_others_with_the_one_before() -> None:
    hour = 3600.0
    lines = [
        "banner",
        "INFO 11-23 17:48:57 [x.py:1] ten seconds",
        "Traceback (most recent call last):",
        "INFO 11-23 17:48:50 [x.py:1] of another process, written late",
        "INFO 11-23 23:00:00 [x.py:1] of no moment of the run",
        "INFO 11-23 17:49:47 [x.py:1] a minute",
    ]
    times = line_times(lines, begin_s=BEGIN_S, end_s=BEGIN_S + 90, offset_s=hour)
    assert [at - BEGIN_S for at in times] == [0, 10, 10, 10, 10, 60]


def test_a_log_without_stamps_follows_the_phases() -> None:
    lines = ["begin", "Loading model from scratch...", "x", "Available KV cache memory: 56.74 GiB", "y"]
    times = line_times(lines, begin_s=BEGIN_S, end_s=BEGIN_S + 90, offset_s=0.0, events=START)
    assert [at - BEGIN_S for at in times] == [0, 20, 20, 30, 30]
    assert line_times([], begin_s=BEGIN_S, end_s=BEGIN_S, offset_s=0.0) == []


@given(st.lists(st.text(max_size=60)), st.floats(1e9, 4e9), st.floats(0, 1e6))
def test_times_of_any_lines_never_fall_and_stay_inside(lines: list[str], begin_s: float, length_s: float) -> None:
    times = line_times(lines, begin_s=begin_s, end_s=begin_s + length_s, offset_s=0.0)
    assert len(times) == len(lines)
    assert times == sorted(times)
    assert all(begin_s <= at <= begin_s + length_s for at in times)


def test_playback_runs_with_the_clock_holds_moves_and_ends() -> None:
    play = Playback(begin_s=100.0, end_s=200.0, at_s=100.0, set_s=5.0)
    assert play.position_s(15.0) == 110.0
    held = play.toggled(15.0)
    assert held.position_s(99.0) == 110.0
    on = held.toggled(99.0)
    assert on.position_s(100.0) == 111.0
    fast = on.faster(100.0, 1)
    assert fast.speed == SPEEDS[1]
    assert fast.position_s(101.0) == 111.0 + SPEEDS[1]
    assert fast.faster(101.0, -1).faster(101.0, -1).speed == SPEEDS[0]
    assert fast.sought(101.0, 1.0).position_s(101.0) == 100.0
    over = fast.sought(101.0, 900.0)
    assert over.position_s(101.0) == 200.0
    assert over.ended(101.0)
    assert over.toggled(101.0).position_s(102.0) == 100.0 + SPEEDS[1], "from the end it begins again"
    assert not over.toggled(101.0).paused


def test_status_is_that_of_the_moment_with_its_phases() -> None:
    line = Timeline(recording())
    before = line.snapshot(BEGIN_S + 0.5, 1).status
    assert before.state is ServerState.STARTING
    weights = line.snapshot(BEGIN_S + 25, 2).status
    assert (weights.state, weights.phase, weights.phase_detail, weights.progress) == (
        ServerState.LOADING,
        Phase.WEIGHTS,
        "shard 1/2",
        0.5,
    )
    assert [(done.phase, done.seconds) for done in weights.phases] == [(Phase.CONFIG, 10.0)]
    assert weights.started_s == BEGIN_S + 1
    ready = line.snapshot(BEGIN_S + 50, 3)
    assert ready.status.state is ServerState.READY
    assert ready.status.ready_s == BEGIN_S + 40
    assert [done.phase for done in ready.status.phases] == [Phase.CONFIG, Phase.WEIGHTS, Phase.MEMORY]
    assert ready.sources == (), "nothing of a recording is stale"
    assert ready.engine is not None
    stopping = line.snapshot(BEGIN_S + 91, 4).status
    assert (stopping.state, stopping.in_flight, stopping.over) == (ServerState.STOPPING, 22, False)
    over = line.snapshot(BEGIN_S + 99, 5).status
    assert (over.state, over.over) == (ServerState.STOPPED, True)


def test_a_crash_has_its_diagnosis_at_its_end_alone() -> None:
    found = Diagnosis(title="It broke", line=3)
    events = (
        *START,
        event(50, "state", "ready → crashed: was killed by SIGKILL"),
        event(51, "restart", "restart 1 of 5 is planned"),
        event(60, "state", "crashed → starting"),
        event(70, "state", "starting → failed: exited with code 1"),
    )
    line = Timeline(recording(events=events, run=replace(RUN, diagnosis=found, state="failed"), samples=()))
    first = line.snapshot(BEGIN_S + 55, 1).status
    assert (first.state, first.reason, first.restart, first.deadline_s) == (
        ServerState.CRASHED,
        "was killed by SIGKILL",
        1,
        BEGIN_S + 60,
    )
    assert first.diagnosis is None
    again = line.snapshot(BEGIN_S + 65, 2).status
    assert (again.state, again.restart, again.ready_s, again.phases) == (ServerState.STARTING, None, None, ())
    last = line.snapshot(BEGIN_S + 80, 3).status
    assert (last.state, last.over, last.diagnosis) == (ServerState.FAILED, True, found)


def test_without_events_the_samples_tell_the_state() -> None:
    samples = (sample(5, ServerState.LOADING), sample(6, ServerState.LOADING), sample(7))
    found = turns(recording(events=(), samples=samples))
    assert [(at - BEGIN_S, status.state) for at, status in found] == [
        (0, ServerState.LOADING),
        (5, ServerState.LOADING),
        (7, ServerState.READY),
    ]


def test_events_that_begin_late_name_what_was_before() -> None:
    line = Timeline(recording(events=(event(90, "state", "ready → stopping"),), samples=()))
    assert line.snapshot(BEGIN_S + 5, 1).status.state is ServerState.READY


def test_hints_come_and_are_the_same_however_one_got_there() -> None:
    engine = HintEngine(PROFILE, max_num_seqs=2)
    samples = tuple(sample(s) for s in range(40, 90))
    live = {s.time_s: engine.update(s) for s in samples}
    played = Timeline(recording())
    for s in samples:
        assert played.snapshot(s.time_s + 0.3, 1).hints == live[s.time_s]
    fired = [s.time_s for s in samples if any(h.state is HintState.FIRING for h in live[s.time_s])]
    assert fired, "the series is one that fires a rule"
    jumped = Timeline(recording())
    for at in (BEGIN_S + 85, fired[0], fired[0] - 1, BEGIN_S + 41, BEGIN_S + 89):
        assert jumped.snapshot(at, 1).hints == live[at]


def test_figures_without_a_profile_have_no_hints_and_a_gap_has_no_figures() -> None:
    assert Timeline(recording(profile=None)).snapshot(BEGIN_S + 85, 1).hints == ()
    late = Timeline(recording(end_s=BEGIN_S + 1000, events=START)).snapshot(BEGIN_S + 500, 1)
    assert late.gpus is None
    assert late.engine is None
    assert late.status.state is ServerState.READY


def test_figures_that_no_rule_can_reckon_with_cost_the_hints_alone() -> None:
    samples = tuple(sample(s, generation_tokens_per_s=float("inf"), kv_cache_usage=float("nan")) for s in range(40, 90))
    shown = Timeline(recording(samples=samples)).snapshot(BEGIN_S + 85, 1)
    assert shown.status.state is ServerState.READY
    assert shown.gpus is not None


def test_going_from_event_to_event() -> None:
    line = Timeline(recording())
    at, seen = BEGIN_S, []
    while (stop := line.stop(at, 1)) is not None:
        seen.append(stop - BEGIN_S)
        at = stop
    assert seen == [1, 10, 20, 30, 40, 90, 95, 100]
    back = []
    while (stop := line.stop(at, -1)) is not None:
        back.append(stop - BEGIN_S)
        at = stop
    assert back == [95, 90, 40, 30, 20, 10, 1, 0]


def test_lines_samples_and_events_up_to_a_moment() -> None:
    line = Timeline(recording())
    assert [line.lines_until(BEGIN_S + at) for at in (0, 21, 33, 72, 73)] == [0, 1, 3, 3, 4]
    assert [s.time_s - BEGIN_S for s in line.samples(BEGIN_S + 40, BEGIN_S + 43, 10)] == [41, 42, 43]
    assert [s.time_s - BEGIN_S for s in line.samples(BEGIN_S, BEGIN_S + 60, 2)] == [59, 60]
    assert [e.text for e in line.events(BEGIN_S + 1, BEGIN_S + 10, 9)] == ["starting → loading"]


def test_playing_begins_at_the_figures_where_they_cover_only_the_end() -> None:
    assert recording().from_s == BEGIN_S
    assert recording(samples=(sample(5000),), end_s=BEGIN_S + 6000).from_s == BEGIN_S + 5000


def test_a_jump_in_a_day_judges_minutes_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    judged = 0

    class Counting(HintEngine):
        def update(self, sample: Sample) -> tuple[Hint, ...]:
            nonlocal judged
            judged += 1
            return super().update(sample)

    monkeypatch.setattr(module, "HintEngine", Counting)
    samples = tuple(sample(s) for s in range(0, 86_400, 2))
    line = Timeline(recording(samples=samples, end_s=BEGIN_S + 86_400, events=START))
    for jump, at in enumerate((80_000, 10_000, 43_000, 42_000), 1):
        assert line.snapshot(BEGIN_S + at, 1).hints
        assert judged < jump * len(samples) / 20


def test_settings_that_a_trial_changed_hold_at_their_time() -> None:
    changed = EventRecord(
        time_s=BEGIN_S + 100,
        kind="settings",
        text="other settings are in force from here on",
        data={"before": {"max_num_seqs": 2}, "serve": {"max_num_seqs": 64}},
    )
    broken = EventRecord(time_s=BEGIN_S + 150, kind="settings", text="", data={"before": 3})
    kept = replace(PROFILE, serve=ServeSection(max_num_seqs=64))
    found = recording(
        samples=tuple(sample(second) for second in range(40, 200)),
        events=(*START, changed, broken),
        run=replace(RUN, max_num_seqs=64),
        profile=kept,
    )
    timeline = Timeline(found)
    before, after = (timeline.snapshot(BEGIN_S + at, 1) for at in (90, 190))
    assert "raise-max-num-seqs" in {hint.id for hint in before.hints if hint.state is HintState.FIRING}
    assert "raise-max-num-seqs" not in {hint.id for hint in after.hints if hint.state is HintState.FIRING}
    assert [timeline.run_at(BEGIN_S + at).max_num_seqs for at in (50, 190)] == [2, 64]
    again = timeline.snapshot(BEGIN_S + 90, 1)
    assert again.hints == before.hints
