"""A group: one server over several machines, as a pure state machine: (group, event, now) -> (group, effects).

It decides for all machines together; each machine's own supervisor decides for its processes. The rules:

* The head starts first, since the others meet at its port; they start as soon as its supervisor has it running.
* It is ready when the head answers `/health`, which it does only with all others.
* It stops from the head on, which lets requests finish while the others still work for it.
* A machine that ends, or cannot start, ends the attempt everywhere. The next attempt, where the profile's policy has
  one, begins when nothing is left of this one on any machine.
* A machine that cannot be reached decides nothing: it serves on, or ends by itself (`console.core.peers`). Where it is
  not known to have ended, no other attempt is made.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final, TypeAlias

import msgspec

from console.core.group_events import (
    Announce,
    Event,
    GroupEffect,
    Reached,
    RestartWanted,
    Seen,
    Started,
    StartFailed,
    StartNode,
    StopNode,
    StopWanted,
    Tick,
)
from console.core.lifecycle_events import Now
from console.core.models import Diagnosis, ServerState, ServerStatus
from console.core.peers import SILENT
from console.core.profile import RestartPolicy
from console.core.retry import LINK_LOST, MISSED, Attempts, classify, plan_restart

__all__ = [
    "UNREACHED_S",
    "Announce",
    "Event",
    "Goal",
    "Group",
    "GroupEffect",
    "Life",
    "NodeView",
    "Reached",
    "RestartWanted",
    "Seen",
    "StartFailed",
    "StartNode",
    "Started",
    "StopNode",
    "StopWanted",
    "Tick",
    "begin",
    "culprit",
    "parted",
    "step",
    "why_ended",
]

UNREACHED_S: Final = 60.0
"""A machine that must start or end and cannot be reached for so long is not waited for any longer. By then its own
supervisor has ended its server, as the others are gone (`console.core.peers.SILENT_S`)."""
OWN_WORDS_S: Final = 20.0
"""Where one machine has only seen that another has gone, the others get so long to end with words of their own."""


class Life(StrEnum):
    """What is known of one machine's part in the present attempt."""

    IDLE = "idle"
    """Nothing was started."""
    STARTING = "starting"
    """A start was ordered; it is not known yet whether it took place."""
    UP = "up"
    """A supervisor has it."""
    OVER = "over"
    """Nothing runs and nothing is left, or see `NodeView.unknown`."""


class Goal(StrEnum):
    """What the group is being brought to."""

    RUN = "run"
    END = "end"
    """One machine has failed."""
    STOP = "stop"
    """Somebody asked for it."""
    WAIT = "wait"
    """For the next attempt."""
    DONE = "done"


class NodeView(msgspec.Struct, frozen=True, kw_only=True):
    """One machine."""

    host: str
    life: Life = Life.IDLE
    run: str = ""
    status: ServerStatus = ServerStatus()
    reached: bool = True
    unreached_since_s: float | None = None
    unreached_why: str = ""
    broke: int | None = None
    """Its place in the order in which machines were seen to have ended."""
    stop_sent: bool = False
    announced: bool = False
    """It was told that the head is ready."""
    warned: bool = False
    """It was told that the head's end is meant."""
    unknown: bool = False
    """It could not be reached to see its end."""


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """The whole state; times on the monotonic clock unless they say otherwise."""

    nodes: tuple[NodeView, ...]
    policy: RestartPolicy
    goal: Goal = Goal.RUN
    state: ServerState = ServerState.STARTING
    reason: str = ""
    culprit: int | None = None
    """The machine that the attempt ended for."""
    attempt: int = 1
    broken: int = 0
    ended_s: float | None = None
    """When the first machine was seen to have ended."""
    drain_s: float | None = None
    again: bool = False
    """A stop that is to be followed by a start."""
    ready_since_s: float | None = None
    proven: bool = False
    attempts: Attempts = Attempts()
    retry_at_s: float | None = None
    retry_wall_s: float | None = None
    restart: int | None = None

    @property
    def over(self) -> bool:
        """Nothing runs, as far as can be known, and nothing is planned."""
        return self.goal is Goal.DONE

    def name(self, rank: int) -> str:
        """One machine in words."""
        return f"node {rank} ({self.nodes[rank].host})"

    def names(self, ranks: Iterable[int]) -> str:
        """Several machines in words."""
        return " and ".join(map(self.name, ranks))


Step: TypeAlias = tuple[Group, tuple[GroupEffect, ...]]

_LATE: Final = frozenset({ServerState.STOPPING, ServerState.STOPPED, ServerState.FAILED, ServerState.CRASHED})
_COMING_UP: Final = frozenset({ServerState.STARTING, ServerState.LOADING})


def begin(hosts: tuple[str, ...], policy: RestartPolicy) -> Group:
    """A group of which nothing was started. The first `Tick` starts it."""
    return Group(nodes=tuple(NodeView(host=host) for host in hosts), policy=policy)


def step(group: Group, event: Event, now: Now) -> Step:
    """What follows from one event. Events that make no sense change nothing."""
    if group.over:
        return group, ()
    match event:
        case Started(rank=rank, run=run):
            if group.nodes[rank].life is Life.STARTING:
                group = _with(group, rank, life=Life.UP, run=run)
        case StartFailed(rank=rank, title=title, fix=fix):
            if group.nodes[rank].life is Life.STARTING:
                group = _start_failed(group, rank, title, fix)
        case Seen(rank=rank, status=status):
            group = _seen(group, rank, status)
        case Reached(rank=rank):
            group = _reached(group, event, now)
        case StopWanted(drain_s=drain) | RestartWanted(drain_s=drain):
            group = _stop_wanted(group, drain, again=isinstance(event, RestartWanted))
        case Tick():
            group = _tick(group, now)
    return _settle(group, now)


def culprit(group: Group) -> int | None:
    """The machine that the others ended for: not one that ended because another had gone, and rather one whose own
    log or signal says why; of several the first that was seen."""
    ended = [rank for rank, node in enumerate(group.nodes) if node.broke is not None]
    return min(ended, key=lambda rank: _blame(group.nodes[rank]), default=None)


def parted(group: Group) -> tuple[int, ...]:
    """The machines that ended because they heard nothing of each other, so that what is broken lies between them. Empty
    where one has ended for a reason of its own, or only one has ended: then the other may be what is lost."""
    ended = [rank for rank, node in enumerate(group.nodes) if node.broke is not None]
    # Whoever was refused has seen another end, which is what follows from it.
    deaf = tuple(rank for rank in ended if SILENT in group.nodes[rank].status.reason)
    return deaf if len(deaf) > 1 and _only_missed(group) else ()


def why_ended(group: Group) -> Diagnosis | None:
    """What the attempt ended for, where it is known."""
    if parted(group):
        return LINK_LOST
    return group.nodes[group.culprit].status.diagnosis if group.culprit is not None else None


def _blame(node: NodeView) -> tuple[bool, bool, int]:
    found, code = node.status.diagnosis, node.status.exit_code
    cause = found.cause if found is not None else None
    # What was stopped may have been killed for it.
    told = cause is not None or (code is not None and code < 0 and node.status.state is not ServerState.STOPPED)
    return cause in MISSED, not told, node.broke or 0


def _with(group: Group, rank: int, **changes: object) -> Group:
    nodes = list(group.nodes)
    nodes[rank] = msgspec.structs.replace(nodes[rank], **changes)
    return msgspec.structs.replace(group, nodes=tuple(nodes))


def _broke(group: Group, rank: int, state: ServerState) -> Group:
    """Note that a machine ended by itself, once, and in which order."""
    node = group.nodes[rank]
    # One that was found dead only after it had been asked to stop has ended by itself all the same.
    obeys = node.stop_sent and state in (ServerState.STOPPING, ServerState.STOPPED)
    if node.broke is not None or obeys or group.goal is Goal.STOP:
        return group
    group = msgspec.structs.replace(group, broken=group.broken + 1)
    return _with(group, rank, broke=group.broken)


def _start_failed(group: Group, rank: int, title: str, fix: str) -> Group:
    status = ServerStatus(
        state=ServerState.FAILED, reason=title, diagnosis=Diagnosis(title=title, remedy=fix), over=True
    )
    return _with(_broke(group, rank, status.state), rank, life=Life.OVER, status=status)


def _seen(group: Group, rank: int, status: ServerStatus) -> Group:
    if group.nodes[rank].life is not Life.UP:
        return group
    group = _with(group, rank, status=status)
    if status.state in _LATE:
        group = _broke(group, rank, status.state)
    return _with(group, rank, life=Life.OVER) if status.over else group


def _reached(group: Group, event: Reached, now: Now) -> Group:
    since_s = group.nodes[event.rank].unreached_since_s
    return _with(
        group,
        event.rank,
        reached=event.ok,
        unreached_since_s=None if event.ok else now.mono_s if since_s is None else since_s,
        unreached_why=event.why,
    )


def _stop_wanted(group: Group, drain_s: float | None, *, again: bool) -> Group:
    if group.goal is Goal.WAIT:
        # Nothing runs: the next attempt is made at once, or not at all.
        return msgspec.structs.replace(group, goal=Goal.STOP, again=again, retry_at_s=None, restart=None)
    if group.goal is Goal.STOP and not again:
        # The same again means now.
        nodes = tuple(msgspec.structs.replace(node, stop_sent=False) for node in group.nodes)
        group = msgspec.structs.replace(group, nodes=nodes)
    return msgspec.structs.replace(
        group, goal=Goal.STOP, state=ServerState.STOPPING, drain_s=drain_s, again=again, reason=""
    )


def _tick(group: Group, now: Now) -> Group:
    if group.goal is Goal.WAIT and group.retry_at_s is not None and now.mono_s >= group.retry_at_s:
        return _next_attempt(group)
    for rank, node in enumerate(group.nodes):
        since_s = node.unreached_since_s
        waited = node.life is Life.STARTING or (node.life is Life.UP and group.goal in (Goal.END, Goal.STOP))
        if waited and since_s is not None and now.mono_s - since_s >= UNREACHED_S:
            if node.life is Life.STARTING and not node.run:
                group = _start_failed(
                    group, rank, f"it cannot be reached: {node.unreached_why}", "Log in there by SSH."
                )
                # It may have begun just as the line broke.
                group = _with(group, rank, unknown=True)
            else:
                group = _with(group, rank, life=Life.OVER, unknown=True)
    return group


def _next_attempt(group: Group) -> Group:
    return msgspec.structs.replace(
        group,
        nodes=tuple(NodeView(host=node.host, reached=node.reached) for node in group.nodes),
        goal=Goal.RUN,
        state=ServerState.STARTING,
        reason="",
        culprit=None,
        attempt=group.attempt + 1,
        broken=0,
        ended_s=None,
        drain_s=None,
        again=False,
        ready_since_s=None,
        retry_at_s=None,
        retry_wall_s=None,
        restart=None,
    )


def _settle(group: Group, now: Now) -> Step:
    """Bring everything closer to the goal."""
    effects: list[GroupEffect] = []
    if group.goal is Goal.RUN and any(node.broke is not None for node in group.nodes):
        group = msgspec.structs.replace(
            group, goal=Goal.END, state=ServerState.STOPPING, drain_s=0.0, ended_s=now.mono_s
        )
    if group.goal in (Goal.END, Goal.STOP) and group.broken:
        blamed = culprit(group)
        reason = _reason(group, blamed) if blamed is not None else ""
        group = msgspec.structs.replace(group, culprit=blamed, reason=reason)
    if group.goal is Goal.RUN:
        group = _run(group, now, effects)
    elif group.goal in (Goal.END, Goal.STOP):
        group = _stop(group, now, effects)
        if all(node.life in (Life.IDLE, Life.OVER) for node in group.nodes):
            group = _finish(group, now)
            if group.goal is Goal.RUN:
                return _settle(group, now)
    return group, tuple(effects)


def _run(group: Group, now: Now, effects: list[GroupEffect]) -> Group:
    head = group.nodes[0]
    for rank, node in enumerate(group.nodes):
        if node.life is Life.IDLE and (rank == 0 or (head.life is Life.UP and head.status.pid is not None)):
            group = _with(group, rank, life=Life.STARTING)
            effects.append(StartNode(rank, group.attempt))
    state = ServerState.STARTING
    if all(node.life is Life.UP for node in group.nodes):
        state = head.status.state
    if state is ServerState.READY:
        for rank, node in enumerate(group.nodes):
            if rank and node.status.state in _COMING_UP and node.reached and not node.announced:
                group = _with(group, rank, announced=True)
                effects.append(Announce(rank))
        if group.ready_since_s is None:
            group = msgspec.structs.replace(group, ready_since_s=now.mono_s, proven=True)
    return msgspec.structs.replace(group, state=state)


def _stop(group: Group, now: Now, effects: list[GroupEffect]) -> Group:
    waited_s = now.mono_s - (group.ended_s if group.ended_s is not None else now.mono_s)
    if group.goal is Goal.END and waited_s < OWN_WORDS_S and _only_missed(group):
        return group
    head = group.nodes[0]
    # Somebody may have stopped the head itself: its requests too need the others to the end.
    drains = head.status.state is ServerState.STOPPING and head.status.diagnosis is None
    head_first = head.life in (Life.STARTING, Life.UP) and (group.goal is Goal.STOP or drains)
    for rank, node in enumerate(group.nodes):
        if node.life is not Life.UP or node.stop_sent or (rank == 0 and drains and group.goal is Goal.END):
            continue
        if rank and head_first:
            if not node.warned:
                group = _with(group, rank, warned=True)
                effects.append(Announce(rank, ending=True))
            continue
        group = _with(group, rank, stop_sent=True)
        effects.append(StopNode(rank, group.drain_s if rank == 0 else 0.0))
    return group


def _only_missed(group: Group) -> bool:
    """Nobody has told yet what went wrong, only that somebody is missed."""
    ended = [node.status.diagnosis for node in group.nodes if node.broke is not None]
    return all(found is not None and found.cause in MISSED for found in ended)


def _reason(group: Group, rank: int) -> str:
    status = group.nodes[rank].status
    if apart := parted(group):
        return f"{group.names(apart)} do not reach each other: {status.reason}"
    found = status.diagnosis
    title = f"{found.title}: " if found is not None and found.title != status.reason else ""
    return f"{group.name(rank)}: {title}{status.reason or status.state}"


def _finish(group: Group, now: Now) -> Group:
    lost = [rank for rank, node in enumerate(group.nodes) if node.unknown]
    unseen = f"the end of {group.names(lost)} could not be seen" if lost else ""
    if group.goal is Goal.STOP:
        if group.again and not lost:
            return _next_attempt(group)
        reason = "; ".join(filter(None, (group.reason, unseen)))
        return msgspec.structs.replace(group, goal=Goal.DONE, state=ServerState.STOPPED, reason=reason)
    served_s = None if group.ready_since_s is None else now.mono_s - group.ready_since_s
    blamed = group.culprit if group.culprit is not None else 0
    status = group.nodes[blamed].status
    if status.state is ServerState.STOPPED:
        reason = f"{group.name(blamed)} was stopped there" + (f": {status.reason}" if status.reason else "")
        return msgspec.structs.replace(group, goal=Goal.DONE, state=ServerState.STOPPED, reason=reason)
    plan = plan_restart(
        group.policy,
        classify(status.diagnosis, served=served_s is not None, proven=group.proven),
        group.attempts,
        now.mono_s,
        served_s=served_s,
        clean_exit=status.exit_code == 0 and status.diagnosis is None,
    )
    outcome = ServerState.FAILED if served_s is None else ServerState.CRASHED
    group = msgspec.structs.replace(group, state=outcome, attempts=plan.attempts)
    if plan.wait_s is None or lost:
        why = unseen + ", so it is not started again" if lost and plan.wait_s is not None else unseen or plan.reason
        reason = "; ".join(filter(None, (group.reason, why)))
        return msgspec.structs.replace(group, goal=Goal.DONE, reason=reason)
    return msgspec.structs.replace(
        group,
        goal=Goal.WAIT,
        retry_at_s=now.mono_s + plan.wait_s,
        retry_wall_s=now.wall_s + plan.wait_s,
        restart=plan.number,
    )
