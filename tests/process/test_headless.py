"""What the narrator says and when, on a scripted clock; no process is started."""

from __future__ import annotations

import shlex
from typing import Any

import msgspec
import pytest

from console.core.diagnosis import diagnose
from console.core.lifecycle import READY_TIMEOUT
from console.core.models import (
    Diagnosis,
    EngineReading,
    EventRecord,
    GpuReading,
    Hint,
    HintState,
    Money,
    Percentiles,
    Phase,
    PhaseTime,
    ProfileChange,
    RunInfo,
    ServerState,
    ServerStatus,
    Snapshot,
    SourceStatus,
    Spend,
)
from console.core.overrides import apply_overrides
from console.core.profile import EngineKind, EngineSection, ModelSection, Profile, ProfileSection, ServeSection
from console.headless import Narrator, set_options

RUN = RunInfo(id="r1", profile_name="p", model="m", url="http://h:1", engine_name="e", engine_version="0.33.0")
ENGINE = EngineReading(running=2, waiting=0, kv_cache_usage=0.5, generation_tokens_per_s=1234.0)
QUIET_S = 600.0


class Stage:
    """A narrator with a clock, and what it said."""

    def __init__(self, interval_s: float = 10.0, run: RunInfo = RUN) -> None:
        self.now_s = 100.0
        self.said: list[str] = []
        self.sent: list[dict[str, Any]] = []
        self.narrator = Narrator(
            run,
            "/runs/r1/server.log",
            say=self.said.append,
            emit=self.sent.append,
            interval_s=interval_s,
            again="dsv4-console --profile p --set serve.port=9",
            clock=lambda: self.now_s,
            wall=lambda: self.now_s,
        )
        self._seq = 0

    def show(self, state: ServerState, after_s: float = 0.0, **more: Any) -> None:
        """One snapshot, so long after the one before."""
        self.now_s += after_s
        self._seq += 1
        of_snapshot = {
            name: more.pop(name) for name in ("engine", "gpus", "host", "hints", "sources", "money") if name in more
        }
        status = ServerStatus(state=state, started_s=100.0, **more)
        self.narrator.snapshot(Snapshot(seq=self._seq, time_s=self.now_s, status=status, **of_snapshot))

    def kinds(self) -> list[str]:
        return [each["type"] for each in self.sent]


def test_a_start_is_told_by_its_phases_with_elapsed_time() -> None:
    stage = Stage()
    stage.narrator.begin()
    stage.show(ServerState.STARTING, pid=7)
    stage.show(ServerState.LOADING, 1, phase=Phase.CONFIG)
    stage.show(ServerState.LOADING, 4, phase=Phase.WEIGHTS, phase_detail="shard 3/46", progress=3 / 46)
    stage.show(ServerState.LOADING, 60, phase=Phase.SERVER, phase_detail="started")
    stage.show(ServerState.READY, 1)
    assert stage.said == [
        "run r1: m by e (vLLM 0.33.0) at http://h:1",
        "log /runs/r1/server.log",
        "[    0s] starting, pid 7",
        "[    1s] config",
        "[    5s] weights 7%: shard 3/46",
        "[ 1m05s] server: started",
        "[ 1m06s] ready: http://h:1/v1  model m",
    ]
    assert stage.kinds() == ["run", "state", "state", "phase", "phase", "phase", "state"]
    assert [each["elapsed_s"] for each in stage.sent] == [0, 0, 1, 1, 5, 65, 66]


def test_a_start_that_was_measured_before_tells_the_time_left() -> None:
    usual = (PhaseTime(phase=Phase.CONFIG, seconds=10.0), PhaseTime(phase=Phase.WEIGHTS, seconds=60.0))
    stage = Stage(run=msgspec.structs.replace(RUN, expected=usual, expected_ready_s=70.0))
    stage.narrator.begin()
    stage.show(ServerState.LOADING, 4, phase=Phase.CONFIG)
    stage.show(ServerState.LOADING, 6, phase=Phase.WEIGHTS, phases=usual[:1])
    assert stage.said[2:] == [
        "ready after about 1m10s, as measured here before",
        "[    4s] config, about 1m06s left",
        "[   10s] weights, about 1m00s left",
    ]
    assert stage.sent[0]["expected_ready_s"] == 70.0
    assert [each["left_s"] for each in stage.sent if each["type"] == "phase"] == [66.0, 60.0]


def test_progress_does_not_flood() -> None:
    stage = Stage()
    for done in range(1, 1001):
        stage.show(
            ServerState.LOADING, 0.25, phase=Phase.WEIGHTS, phase_detail=f"shard {done}/1000", progress=done / 1000
        )
    assert 250 / 5 * 0.9 <= len(stage.said) <= 250 / 5 + 2
    assert stage.said[-1].startswith("[ 4m")


def test_details_do_not_flood_either() -> None:
    stage = Stage()
    for done in range(400):
        stage.show(ServerState.LOADING, 0.25, phase=Phase.DOWNLOAD, phase_detail=f"file {done}")
    assert len(stage.said) <= 101


def test_a_long_phase_says_that_it_goes_on() -> None:
    stage = Stage()
    for _ in range(400):
        stage.show(ServerState.LOADING, 0.25, phase=Phase.COMPILE, phase_detail="tracing")
    assert stage.said == [
        "[    0s] compile: tracing",
        "[   30s] compile: tracing (for 30s)",
        "[ 1m00s] compile: tracing (for 1m00s)",
        "[ 1m30s] compile: tracing (for 1m30s)",
    ]


def test_figures_come_at_their_interval() -> None:
    stage = Stage(interval_s=20.0)
    stage.show(ServerState.READY)
    for _ in range(60):
        stage.show(
            ServerState.READY,
            1,
            engine=msgspec.structs.replace(ENGINE, ttft=Percentiles(p50_s=0.018)),
            gpus=(GpuReading(index=0, util_percent=40.0), GpuReading(index=1, util_percent=80.0), GpuReading(index=2)),
        )
    lines = [line for line in stage.said if "running" in line]
    assert len(lines) == 3
    assert lines[0] == (
        "[    1s] running 2  waiting 0  KV cache 50%  output 1.2k tok/s  prompt –  TTFT p50 18 ms  GPU 60%"
    )
    assert stage.kinds().count("status") == 3


def test_missing_figures_are_said_and_not_passed_over() -> None:
    stage = Stage()
    stage.show(ServerState.READY)
    stage.show(ServerState.READY, 5, sources=(SourceStatus(name="metrics", ok=False, error="HTTP 404"),))
    assert stage.said[-1] == "[    5s] no figures from the engine: HTTP 404"


def test_a_hint_comes_once_with_evidence_and_change_and_its_end_is_told() -> None:
    hint = Hint(
        id="cap",
        title="Raise max-num-seqs",
        evidence=("14 wait.", "For 40 s."),
        change=(ProfileChange(key="serve.max_num_seqs", before=2, after=4),),
        gain="More at a time.",
        risk="Slower tokens.",
    )
    unjudged = Hint(id="gpu", title="?", state=HintState.UNJUDGED, missing="GPU figures")
    stage = Stage()
    stage.show(ServerState.READY, engine=ENGINE)
    for _ in range(3):
        stage.show(ServerState.READY, 0, hints=(hint, unjudged))
    assert stage.said[1:] == [
        "[    0s] hint: Raise max-num-seqs",
        "           14 wait.",
        "           For 40 s.",
        "           change: --set serve.max_num_seqs=4",
        "           gain: More at a time.",
        "           risk: Slower tokens.",
    ]
    stage.show(ServerState.READY, 0)
    assert stage.said[-1] == "[    0s] no longer: Raise max-num-seqs"
    assert stage.kinds()[-2:] == ["hint", "hint-over"]


def test_a_drain_is_told_with_its_counts_and_limit() -> None:
    stage = Stage()
    stage.show(ServerState.READY, ready_s=100.0)
    stage.narrator.signal("SIGTERM", first=True)
    stage.show(ServerState.STOPPING, ready_s=100.0, deadline_s=130.0)
    for count in (5, 5, 4, 1, 1, 0):
        stage.show(ServerState.STOPPING, 2, ready_s=100.0, deadline_s=130.0, in_flight=count)
    stage.narrator.signal("SIGTERM", first=False)
    stage.show(ServerState.STOPPED, 1, over=True)
    assert stage.said[1:] == [
        "[    0s] SIGTERM: stopping the server; requests in flight may finish, the same again cuts them off",
        "[    0s] stopping",
        "[    2s] draining: 5 requests in flight, at most 28s more",
        "[    6s] draining: 4 requests in flight, at most 24s more",
        "[    8s] draining: 1 request in flight, at most 22s more",
        "[   12s] SIGTERM again: not waiting for requests",
        "[   13s] stopped",
    ]


def test_a_crash_that_is_followed_by_a_restart_names_its_cause() -> None:
    stage = Stage()
    stage.show(ServerState.READY)
    stage.show(ServerState.CRASHED, 5, reason="vllm serve was killed by SIGKILL", diagnosis=Diagnosis(title="OOM"))
    stage.show(ServerState.STARTING, 2, pid=8)
    stage.show(ServerState.READY, 9)
    assert stage.said[1:] == [
        "[    5s] crashed: vllm serve was killed by SIGKILL – OOM",
        "[    7s] starting, pid 8",
        "[   16s] ready again: http://h:1/v1  model m",
    ]


TOO_LONG = (
    "(EngineCore pid=9) ERROR 11-23 13:57:08 [core.py:1099] ValueError: To serve at least one request with the "
    "model's max seq len (1048576), (3.76 GiB KV cache is needed, which is larger than the available KV cache memory "
    "(1.25 GiB). Based on the available memory, the estimated maximum model length is 348160."
)


def test_a_planned_restart_is_told_once_with_what_can_be_done() -> None:
    stage = Stage()
    stage.show(ServerState.READY)
    for after_s in (1, 1, 1):
        stage.show(ServerState.CRASHED, after_s, reason="why; restart 2 of 5", restart=2, deadline_s=105.0)
    told = [line for line in stage.said if "in 4s" in line]
    assert told == [
        "[    1s] restart 2 of 5 in 4s (now: dsv4-console restart r1 · give up: dsv4-console stop r1)",
    ]
    assert stage.kinds().count("restart") == 1
    assert {"number": 2, "of": 5, "left_s": 4.0}.items() <= stage.sent[-1].items()


def test_what_a_drain_came_to_is_read_aloud() -> None:
    stage = Stage()
    stage.narrator.event(
        EventRecord(time_s=1.0, kind="drain", text="the drain reached its limit: 2 requests were cut off")
    )
    assert stage.said[-1].endswith("the drain reached its limit: 2 requests were cut off")


def test_a_failure_is_three_lines_and_a_command_to_try() -> None:
    diagnosis = diagnose(["INFO:     fine", TOO_LONG], 1)
    stage = Stage()
    stage.narrator.failure(diagnosis)
    cause, remedy, log, again = stage.said
    assert cause.startswith("  cause:  A context of 1048576 tokens does not fit into the KV cache – One request")
    assert remedy.startswith("  remedy: Lower serve.max_model_len")
    assert log.startswith("  log:    /runs/r1/server.log:2: ValueError: To serve at least one request")
    assert again == "  try:    dsv4-console --profile p --set serve.port=9 --set serve.max_model_len=348160"
    (change,) = stage.sent[0]["diagnosis"]["change"]
    assert (change["before"], change["after"]) == (1_048_576, 348_160)


def test_an_unknown_failure_quotes_the_end_of_its_block() -> None:
    text = "\n".join(f"(EngineCore pid=9) ERROR 11-23 13:57:08 [core.py:1] line {number}" for number in range(9))
    stage = Stage()
    stage.narrator.failure(Diagnosis(title="RuntimeError: flux", text=text, line=25, remedy="Read on."))
    assert stage.said[:3] == ["  cause:  RuntimeError: flux", "  remedy: Read on.", "  log:    /runs/r1/server.log:25"]
    assert stage.said[3:] == [f"          line {number}" for number in range(3, 9)]


@pytest.mark.parametrize("diagnosis", [None, READY_TIMEOUT])
def test_a_failure_without_a_line_in_the_log(diagnosis: Diagnosis | None) -> None:
    stage = Stage()
    stage.show(ServerState.FAILED, reason="cannot start /no/vllm: No such file or directory", over=True)
    stage.narrator.failure(diagnosis)
    assert stage.said[0] == "[    0s] failed: cannot start /no/vllm: No such file or directory"
    assert [line.split(":")[0].strip() for line in stage.said[1:]] == ["cause", "remedy", "log"]


def test_notes_of_the_supervisor_are_read_aloud() -> None:
    stage = Stage()
    stage.narrator.event(EventRecord(time_s=1.0, kind="state", text="loading → ready"))
    stage.narrator.event(EventRecord(time_s=1.0, kind="note", text="took over"))
    assert stage.said == ["[    0s] took over"]
    assert stage.kinds() == ["event", "event", "note"]


@pytest.mark.parametrize(
    "change",
    [
        ProfileChange(key="serve.max_num_seqs", after=64),
        ProfileChange(key="serve.enforce_eager", after=True),
        ProfileChange(key="serve.kv_cache_dtype", after="fp8"),
        ProfileChange(key="serve.gpu_memory_utilization", after=0.85),
        ProfileChange(key="serve.dtype", before="auto", after=None),
        ProfileChange(key="serve.speculative_config", after={"method": "mtp", "num_speculative_tokens": 2}),
    ],
    ids=lambda change: change.key,
)
def test_a_change_can_be_typed_as_it_is_shown(change: ProfileChange) -> None:
    option, pair = shlex.split(set_options((change,)))
    assert option == "--set"
    key, _, value = pair.partition("=")
    profile = Profile(
        profile=ProfileSection(title="t"),
        model=ModelSection(id="m"),
        serve=ServeSection(dtype="auto"),
        engine=EngineSection(kind=EngineKind.CPU),
    )
    changed = apply_overrides(profile, {key: value})
    assert getattr(changed.serve, change.key.partition(".")[2]) == change.after


def test_idleness_counts_down_at_a_few_moments_and_the_end_is_summed_up() -> None:
    stage = Stage(interval_s=QUIET_S)
    for left_s in (90, 61, 60, 59, 31, 29, 28, 9, 8):
        idle = Money(
            usd_per_hour=36.0,
            total_s=100.0,
            total_usd=1.0,
            seconds={Spend.IDLE: 100.0},
            idle_s=100.0 - left_s,
            idle_warned=True,
            idle_stop_in_s=float(left_s),
        )
        stage.show(ServerState.READY, 1, money=idle)
    told = [line.partition("] ")[2] for line in stage.said if "stops in" in line]
    assert [line.partition(" (")[0] for line in told] == [
        "idle 40s, stops in 1m00s",
        "idle 1m11s, stops in 29s",
        "idle 1m31s, stops in 9s",
    ]
    assert "(postpone: dsv4-console keep r1)" in told[0]
    assert [each["left_s"] for each in stage.sent if each["type"] == "idle"] == [60.0, 29.0, 9.0]
    stage.narrator.summary()
    assert stage.said[-1] == "this run: 1m40s, $1.00: idle 100%"
    assert stage.sent[-1]["money"]["total_usd"] == 1.0


def test_without_a_ledger_there_is_no_summary() -> None:
    stage = Stage()
    stage.show(ServerState.READY)
    said = len(stage.said)
    stage.narrator.summary()
    assert len(stage.said) == said
