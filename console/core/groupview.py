"""A group's machines as one snapshot, one history and one list of events: what one screen shows of all of them.

GPUs are numbered over all machines, `gpu_stride` numbers to each, so that a number means one GPU for the life of a
group, whichever machines are heard. The engine's figures are the head's, which has the HTTP server. So is the money: a
profile's price is that of all its machines (`console.core.cost`), and the head counts it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from console.core.group import Goal, Group, parted
from console.core.groupwords import node_text
from console.core.models import (
    Diagnosis,
    EventRecord,
    GpuReading,
    GroupSample,
    Hint,
    HintState,
    Level,
    NodeFigures,
    RunInfo,
    Sample,
    ServerState,
    ServerStatus,
    Snapshot,
    SourceStatus,
)
from console.core.retry import LINK_LOST

__all__ = [
    "GPU_NUMBERS",
    "SILENT_S",
    "Heard",
    "gpu_name",
    "gpu_stride",
    "group_event",
    "group_sample",
    "merge_samples",
    "merged",
    "node_event",
    "numbered",
    "place_of",
]

SILENT_S: Final = 10.0
"""A machine's supervisor tells its figures every second. One that says nothing for so long counts as cut off."""
GPU_NUMBERS: Final = 64
"""As many GPUs have charts (`console.core.gpuseries.GPUS_MAX`)."""
GPUS_USUAL: Final = 8
SAMPLE_SLACK_S: Final = 5.0
"""Samples of two machines this far apart are of one moment."""
GROUP_KINDS: Final = {"group": "state", "failure": "note", "restart": "note", "note": "note", "node": "note"}
"""Kinds of a coordinator's events, and as what they are shown."""
MACHINE_NEEDS: Final = ("gpu", "pcie", "nvlink", "utilization", "host", "open-files")
"""Beginnings of what a rule needs that looks at a machine alone (`console.core.hints.needs`)."""


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """What one machine has told."""

    snapshot: Snapshot | None = None
    run: RunInfo | None = None
    heard_s: float | None = None
    """When that snapshot came, in Unix time here."""
    away_why: str = ""
    """Why there is no way to it; empty while there is one."""


def gpu_stride(nodes: int) -> int:
    """How many numbers each of so many machines has for its GPUs."""
    return max(GPU_NUMBERS // max(nodes, 1), GPUS_USUAL)


def numbered(gpus: Sequence[GpuReading] | None, first: int) -> tuple[GpuReading, ...] | None:
    """A machine's GPUs by their numbers in the group."""
    if gpus is None:
        return None
    return tuple(msgspec.structs.replace(gpu, index=gpu.index + first) for gpu in gpus)


def place_of(nodes: Sequence[NodeFigures], index: int) -> NodeFigures:
    """The machine whose GPU has this number."""
    return nodes[min(index // gpu_stride(len(nodes)), len(nodes) - 1)]


def gpu_name(snapshot: Snapshot | None, index: int) -> str:
    """A GPU in words: `3`, or in a group `node-b/3`, where 3 is what the driver there calls it."""
    if snapshot is None or not snapshot.nodes:
        return str(index)
    node = place_of(snapshot.nodes, index)
    return f"{node.host}/{index - node.first_gpu}"


def merged(
    group: Group,
    heard: Sequence[Heard],
    *,
    seq: int,
    now_s: float,
    mono_s: float,
    log_bytes: int = 0,
) -> Snapshot:
    """All machines as one snapshot.

    Args:
        group: as the coordinator has written it down.
        heard: of each machine, by rank.
        seq: number of this snapshot.
        now_s: Unix time here.
        mono_s: the monotonic clock here, which the coordinator uses too.
        log_bytes: size of the merged log.
    """
    stride = gpu_stride(len(heard))
    # What an earlier attempt has told is not so any more.
    heard = [
        each if each.run is None or each.run.id == view.run else Heard(run=each.run, away_why=each.away_why)
        for each, view in zip(heard, group.nodes, strict=True)
    ]
    nodes = tuple(_node(group, rank, each, rank * stride, now_s, mono_s) for rank, each in enumerate(heard))
    fresh = [node.gpus for node in nodes if node.silent_s is None and node.gpus is not None]
    head, first = heard[0].snapshot, nodes[0]
    status = _status(group, nodes)
    return Snapshot(
        seq=seq,
        time_s=now_s,
        status=status,
        gpus=tuple(gpu for gpus in fresh for gpu in gpus) if fresh else None,
        host=first.reading,
        engine=head.engine if head else None,
        sources=_sources(head, first, bool(fresh)),
        hints=_hints(nodes, heard),
        money=head.money if head else None,
        log_bytes=log_bytes,
        nodes=nodes,
    )


def _node(group: Group, rank: int, heard: Heard, first: int, now_s: float, mono_s: float) -> NodeFigures:
    view, snapshot, run = group.nodes[rank], heard.snapshot, heard.run
    silent_s, why = _silence(group, rank, heard, now_s, mono_s)
    status = snapshot.status if snapshot is not None and silent_s is None else view.status
    source = next((one for one in snapshot.sources if one.name == "gpu" and not one.ok), None) if snapshot else None
    return NodeFigures(
        host=view.host,
        status=status,
        words=node_text(msgspec.structs.replace(view, status=status, reached=True)),
        gpus=numbered(snapshot.gpus, first) if snapshot else None,
        first_gpu=first,
        gpu_error=(source.error or "no answer") if source is not None else "",
        reading=snapshot.host if snapshot else None,
        silent_s=silent_s,
        silent_why=why,
        expected=run.expected if run else (),
    )


def _silence(group: Group, rank: int, heard: Heard, now_s: float, mono_s: float) -> tuple[float | None, str]:
    """For how long a machine is cut off from here, and why; `None` while it is heard, or nothing runs there."""
    view, age_s = group.nodes[rank], None
    if heard.heard_s is not None:
        age_s = max(now_s - heard.heard_s, 0.0)
        if age_s <= SILENT_S and not heard.away_why:
            return None, ""
    if view.status.over:
        return None, ""
    why = heard.away_why or view.unreached_why
    if heard.away_why or (age_s is not None and age_s > SILENT_S):
        return age_s if age_s is not None else 0.0, why or "it says nothing any more"
    if not view.reached:
        since_s = view.unreached_since_s
        return max(mono_s - since_s, 0.0) if since_s is not None else 0.0, why
    return None, ""


def _status(group: Group, nodes: Sequence[NodeFigures]) -> ServerStatus:
    """The group's state, with the head's progress and the words of the machine that it ended for."""
    head = nodes[0].status
    begun = [node.status.started_s for node in nodes if node.status.started_s is not None]
    coming = group.state in (ServerState.STARTING, ServerState.LOADING)
    waits = group.goal is Goal.WAIT
    culprit = nodes[group.culprit] if group.culprit is not None else None
    return ServerStatus(
        state=group.state,
        since_s=max((node.status.since_s for node in nodes), default=0.0),
        started_s=min(begun, default=None),
        ready_s=None if coming else head.ready_s,
        phase=head.phase if coming else None,
        phase_detail=head.phase_detail,
        progress=head.progress,
        phases=head.phases,
        exit_code=culprit.status.exit_code if culprit else None,
        reason=group.reason,
        diagnosis=_between(group) or (_named(culprit) if culprit else None),
        in_flight=head.in_flight,
        cut=head.cut,
        deadline_s=group.retry_wall_s if waits else None if group.over else head.deadline_s,
        restart=group.restart if waits else None,
        over=group.over,
    )


def _between(group: Group) -> Diagnosis | None:
    """What lies between machines that hear nothing of each other, with their names; `None` where it was not that."""
    apart = " and ".join(group.nodes[rank].host for rank in parted(group))
    return msgspec.structs.replace(LINK_LOST, title=f"{apart} do not reach each other") if apart else None


def _named(node: NodeFigures) -> Diagnosis | None:
    """Why a machine failed, with its name. The line of its log is none of the merged one, and a change of the profile
    would be one of this machine's."""
    found = node.status.diagnosis
    if found is None:
        return None
    return msgspec.structs.replace(found, title=f"{node.host}: {found.title}", line=None, change=())


def _sources(head: Snapshot | None, first: NodeFigures, any_gpu: bool) -> tuple[SourceStatus, ...]:
    """The head's; those of GPUs are told machine by machine where any is heard."""
    found = tuple(one for one in (head.sources if head else ()) if one.name != "gpu" or not any_gpu)
    if first.silent_s is None:
        return found
    error = f"{first.host} is cut off: {first.silent_why}"
    return tuple(
        msgspec.structs.replace(one, ok=False, age_s=first.silent_s, error=error) for one in found if one.name != "gpu"
    )


def _hints(nodes: Sequence[NodeFigures], heard: Sequence[Heard]) -> tuple[Hint, ...]:
    """The head's hints, and what other machines say of themselves, with their names.

    No change comes with them: one machine's supervisor cannot try it alone.
    """
    found: list[Hint] = []
    alone = _machine_rules()
    for rank, (node, each) in enumerate(zip(nodes, heard, strict=True)):
        for hint in each.snapshot.hints if each.snapshot and node.silent_s is None else ():
            if hint.id in alone and hint.state is HintState.FIRING:
                named = {"id": f"{hint.id}@{node.host}", "title": f"{node.host}: {hint.title}"}
                found.append(msgspec.structs.replace(hint, **named))
            elif rank == 0 and hint.id not in alone:
                found.append(hint)
    return tuple(found)


def _machine_rules() -> frozenset[str]:
    """Ids of the rules that look at a machine and not at the engine."""
    from console.core.hints.table import RULES

    return frozenset(rule.id for rule in RULES if rule.needs and all(map(_of_machine, rule.needs)))


def _of_machine(need: str) -> bool:
    return need.startswith(MACHINE_NEEDS)


def group_sample(snapshot: Snapshot) -> GroupSample:
    """What rules between machines look at: those whose figures are of now."""
    return GroupSample(
        time_s=snapshot.time_s,
        state=snapshot.status.state,
        gpus=snapshot.gpus,
        host=snapshot.host,
        engine=snapshot.engine,
        nodes=tuple(node for node in snapshot.nodes if node.silent_s is None and not node.gpu_error),
    )


def merge_samples(histories: Sequence[Sequence[Sample]]) -> tuple[Sample, ...]:
    """The machines' pasts as one: at each moment of the head's, what the others told last.

    Args:
        histories: by rank, each oldest first. Where the head has none, the first that has one stands for it.
    """
    base = next((rank for rank, samples in enumerate(histories) if samples), None)
    if base is None:
        return ()
    stride = gpu_stride(len(histories))
    places = [0] * len(histories)
    out = []
    for sample in histories[base]:
        gpus: list[GpuReading] = []
        known = False
        for rank, others in enumerate(histories):
            while places[rank] + 1 < len(others) and others[places[rank] + 1].time_s <= sample.time_s:
                places[rank] += 1
            other = sample if rank == base else others[places[rank]] if others else None
            if other is None or other.gpus is None:
                continue
            if abs(other.time_s - sample.time_s) <= SAMPLE_SLACK_S + sample.span_s + other.span_s:
                known = True
                gpus += numbered(other.gpus, rank * stride) or ()
        out.append(msgspec.structs.replace(sample, gpus=tuple(gpus) if known else None))
    return tuple(out)


def node_event(host: str, event: EventRecord) -> EventRecord:
    """What happened on one machine, with its name."""
    return msgspec.structs.replace(event, text=f"{host}: {event.text}")


def group_event(event: EventRecord) -> EventRecord | None:
    """What a coordinator told, for the list of events; `None` for what the machine itself tells."""
    if event.kind not in GROUP_KINDS or (event.kind == "node" and event.data.get("reached", True)):
        return None
    level = Level.BAD if event.kind == "failure" else Level.WARN if event.kind == "node" else event.level
    text = " ".join(line.strip() for line in event.text.splitlines())
    return EventRecord(time_s=event.time_s, kind=GROUP_KINDS[event.kind], text=text, level=level)
