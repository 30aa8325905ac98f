"""A group's machines as one: figures, silence, state, hints, history and events."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from console.core.group import Goal, Group, Life, NodeView
from console.core.groupview import (
    SILENT_S,
    Heard,
    gpu_name,
    gpu_stride,
    group_event,
    group_sample,
    merge_samples,
    merged,
    node_event,
)
from console.core.models import (
    Diagnosis,
    EngineReading,
    EventRecord,
    GpuReading,
    Hint,
    HintState,
    HostReading,
    Level,
    Money,
    Phase,
    PhaseTime,
    RunInfo,
    Sample,
    ServerState,
    ServerStatus,
    Snapshot,
    SourceStatus,
)
from console.core.peers import SILENT
from console.core.profile import RestartPolicy
from console.core.retry import NODE_LOST

NOW_S = 1_000_000.0
STRIDE = gpu_stride(2)


def view(host: str, **changes: Any) -> NodeView:
    status = ServerStatus(state=ServerState.READY, started_s=NOW_S - 50, ready_s=NOW_S - 10)
    return NodeView(**({"host": host, "life": Life.UP, "run": f"run-{host}", "status": status} | changes))


def group(*nodes: NodeView, **changes: Any) -> Group:
    fields: dict[str, Any] = {"nodes": nodes, "policy": RestartPolicy.NEVER, "state": ServerState.READY}
    return Group(**(fields | changes))


def heard(host: str, util: float = 90.0, age_s: float = 0.5, away: str = "", **changes: Any) -> Heard:
    status = ServerStatus(state=ServerState.READY, started_s=NOW_S - 50, ready_s=NOW_S - 10)
    fields: dict[str, Any] = {
        "seq": 3,
        "time_s": NOW_S - age_s,
        "status": status,
        "gpus": tuple(GpuReading(index=index, util_percent=util) for index in range(8)),
        "host": HostReading(cpu_percent=util / 2),
        "sources": (SourceStatus(name="gpu"), SourceStatus(name="metrics")),
    }
    run = RunInfo(id=f"run-{host}", profile_name="p", expected=(PhaseTime(phase=Phase.CONFIG, seconds=9.0),))
    return Heard(snapshot=Snapshot(**(fields | changes)), run=run, heard_s=NOW_S - age_s, away_why=away)


def seen(of: Group, *machines: Heard) -> Snapshot:
    return merged(of, machines, seq=7, now_s=NOW_S, mono_s=500.0, log_bytes=11)


PAIR = group(view("a"), view("b"))


def test_gpus_of_all_machines_are_numbered_apart_and_named_as_their_drivers_do() -> None:
    found = seen(PAIR, heard("a", engine=EngineReading(running=4)), heard("b", 20.0, engine=EngineReading(running=9)))
    assert found.gpus is not None
    assert [gpu.index for gpu in found.gpus] == [*range(8), *range(STRIDE, STRIDE + 8)]
    assert gpu_name(found, STRIDE + 3) == "b/3"
    assert gpu_name(replace(found, nodes=()), 3) == "3"
    assert [node.host for node in found.nodes] == ["a", "b"]
    assert [node.reading.cpu_percent for node in found.nodes if node.reading] == [45.0, 10.0]
    assert found.engine == EngineReading(running=4), "the head's"
    assert (found.seq, found.time_s, found.log_bytes) == (7, NOW_S, 11)
    assert [source.name for source in found.sources] == ["metrics"]
    assert found.nodes[1].expected[0].seconds == 9.0


def test_the_head_counts_the_money_of_all() -> None:
    price = Money(usd_per_hour=50.0, total_usd=3.0)
    assert seen(PAIR, heard("a", money=price), heard("b", money=price)).money == price


def test_a_machine_that_says_nothing_keeps_its_last_figures_and_none_of_them_counts() -> None:
    found = seen(PAIR, heard("a"), heard("b", age_s=SILENT_S + 27))
    assert found.nodes[1].silent_s == SILENT_S + 27
    assert found.nodes[1].gpus is not None
    assert found.gpus is not None
    assert len(found.gpus) == 8
    assert [node.host for node in group_sample(found).nodes] == ["a"]
    assert found.status.state is ServerState.READY, "it decides nothing"


def test_a_broken_line_is_known_at_once_and_says_why() -> None:
    node = seen(PAIR, heard("a"), heard("b", age_s=2.0, away="no route")).nodes[1]
    assert (node.silent_s, node.silent_why) == (2.0, "no route")


def test_one_that_was_never_heard_is_cut_off_as_long_as_the_coordinator_says() -> None:
    off = view("b", reached=False, unreached_since_s=470.0, unreached_why="timed out")
    node = seen(group(view("a"), off), heard("a"), Heard()).nodes[1]
    assert (node.silent_s, node.silent_why, node.gpus) == (30.0, "timed out", None)
    never = seen(group(view("a"), view("b", life=Life.IDLE, run="", status=ServerStatus())), heard("a"), Heard()).nodes[
        1
    ]
    assert (never.silent_s, never.words) == (None, "not started")


def test_a_cut_off_head_makes_its_figures_old() -> None:
    found = seen(PAIR, heard("a", age_s=40.0, engine=EngineReading()), heard("b"))
    (metrics,) = found.sources
    assert (metrics.ok, metrics.age_s) == (False, 40.0)
    assert "a is cut off" in (metrics.error or "")
    assert found.gpus is not None
    assert found.gpus[0].index == STRIDE


def test_a_start_has_the_heads_phase_and_each_machine_its_own() -> None:
    loads = ServerStatus(state=ServerState.LOADING, started_s=NOW_S - 20, phase=Phase.WEIGHTS, progress=0.4)
    waits = ServerStatus(state=ServerState.LOADING, started_s=NOW_S - 15, phase=Phase.CONFIG)
    of = group(view("a"), view("b"), state=ServerState.LOADING)
    found = seen(of, heard("a", status=loads), heard("b", status=waits))
    assert (found.status.phase, found.status.progress, found.status.started_s) == (Phase.WEIGHTS, 0.4, NOW_S - 20)
    assert [node.status.phase for node in found.nodes] == [Phase.WEIGHTS, Phase.CONFIG]
    assert found.nodes[0].words == "loading: weights 40%"


def test_figures_of_an_earlier_attempt_are_not_those_of_this_one() -> None:
    of = group(view("a", run="later", status=ServerStatus(state=ServerState.STARTING)), view("b"))
    assert seen(of, heard("a"), heard("b")).nodes[0].status.state is ServerState.STARTING


def test_a_failure_names_its_machine_and_a_planned_restart_its_time() -> None:
    why = Diagnosis(title="Out of memory", cause="oom", line=42)
    dead = ServerStatus(state=ServerState.CRASHED, exit_code=1, diagnosis=why, over=True)
    of = group(view("a"), view("b", status=dead), goal=Goal.WAIT, state=ServerState.CRASHED, culprit=1, restart=2)
    found = seen(replace(of, retry_wall_s=NOW_S + 8), heard("a"), heard("b", status=dead))
    assert found.status.diagnosis is not None
    assert (found.status.diagnosis.title, found.status.diagnosis.line) == ("b: Out of memory", None)
    assert (found.status.restart, found.status.deadline_s, found.status.exit_code) == (2, NOW_S + 8, 1)


def test_what_lies_between_two_machines_is_told_with_both_names() -> None:
    deaf = ServerStatus(state=ServerState.CRASHED, diagnosis=NODE_LOST, reason=f"node 1 (b): {SILENT}", over=True)
    of = group(
        view("a", status=deaf, broke=1, life=Life.OVER),
        view("b", status=deaf, broke=2, life=Life.OVER),
        goal=Goal.DONE,
        state=ServerState.CRASHED,
        culprit=0,
    )
    found = seen(of, heard("a", status=deaf), heard("b", status=deaf)).status.diagnosis
    assert found is not None
    assert (found.title, found.cause) == ("a and b do not reach each other", "link-lost")


def test_hints_of_the_engine_are_the_heads_and_those_of_a_machine_are_named() -> None:
    hot, queue = Hint(id="gpu-hot", title="Hot"), Hint(id="ttft-queue", title="Queue")
    unjudged = Hint(id="gpu-hot", title="Hot", state=HintState.UNJUDGED)
    found = seen(PAIR, heard("a", hints=(queue, unjudged)), heard("b", hints=(hot, queue)))
    assert [(hint.id, hint.title) for hint in found.hints] == [("ttft-queue", "Queue"), ("gpu-hot@b", "b: Hot")]


def sample(time_s: float, gpus: int | None = 2, running: int | None = None) -> Sample:
    readings = None if gpus is None else tuple(GpuReading(index=index) for index in range(gpus))
    engine = None if running is None else EngineReading(running=running)
    return Sample(time_s=time_s, state=ServerState.READY, gpus=readings, engine=engine)


def test_the_past_of_all_is_that_of_the_head_with_what_the_others_told_then() -> None:
    head = [sample(float(second), running=second) for second in range(100, 130)]
    other = [sample(second + 0.4, 1) for second in range(100, 110)]
    found = merge_samples([head, other])
    assert [each.time_s for each in found] == [each.time_s for each in head]
    assert [len(each.gpus or ()) for each in found] == [3] * 15 + [2] * 15, "then it is too old"
    assert found[5].gpus is not None
    assert found[5].gpus[-1].index == STRIDE
    assert merge_samples([(), other])[0].gpus == (GpuReading(index=STRIDE),)
    assert merge_samples([(), ()]) == ()
    assert merge_samples([[sample(1.0, None)], [sample(1.0, None)]])[0].gpus is None


def test_events_have_their_machine_and_those_told_twice_come_once() -> None:
    event = EventRecord(time_s=1.0, kind="xid", text="Xid 94", level=Level.BAD)
    assert node_event("b", event).text == "b: Xid 94"
    assert group_event(EventRecord(time_s=1.0, kind="node", text="x", data={"reached": True})) is None
    cut = group_event(EventRecord(time_s=1.0, kind="node", text="x", data={"reached": False}))
    assert cut is not None
    assert (cut.kind, cut.level) == ("note", Level.WARN)
    failure = group_event(EventRecord(time_s=1.0, kind="failure", text="b is why:\n  cause:  oom"))
    assert failure is not None
    assert (failure.text, failure.level) == ("b is why: cause:  oom", Level.BAD)
    assert group_event(event) is None
