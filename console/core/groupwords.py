"""What a group does, in lines: one per change of the group or of one of its machines, each with the machine's name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from console.core.errors import UsageError
from console.core.group import Goal, Group, Life, NodeView, parted, why_ended
from console.core.models import ServerState, ServerStatus
from console.core.retry import RESTARTS_MAX
from console.core.units import elapsed_text, ratio_text

__all__ = ["Line", "Narration", "no_trial", "node_text"]

STEP: Final = 0.25
"""Of a phase's progress, told in quarters."""


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One change."""

    kind: str
    """`group`, `node`, `failure` or `restart`."""
    text: str
    data: dict[str, Any] = {}


def node_text(node: NodeView) -> str:
    """How one machine is, in words."""
    status = node.status
    if node.unknown:
        return "it cannot be reached, and its end was not seen"
    match node.life:
        case Life.IDLE:
            text = "not started"
        case Life.STARTING:
            text = "being started"
        case Life.UP if status.started_s is None:
            return "its supervisor has it"
        case _:
            text = str(status.state)
    if status.phase is not None and status.state in (ServerState.STARTING, ServerState.LOADING):
        text += f": {status.phase}"
        if status.progress is not None and status.progress < 1:
            text += f" {ratio_text(status.progress)}"
    if status.reason:
        text += f" – {status.reason}"
    return text if node.reached else f"{text} (cut off: {node.unreached_why})"


class Narration:
    """Tells what is new since the group that it saw last."""

    def __init__(self, group: Group) -> None:
        self._group = group
        self._said: dict[int, tuple[object, ...]] = {rank: _marks(node) for rank, node in enumerate(group.nodes)}

    def news(self, group: Group, wall_s: float) -> tuple[Line, ...]:
        """Lines for what has changed. `wall_s` is the time now."""
        before, self._group = self._group, group
        if group.attempt != before.attempt:
            self._said.clear()
        lines = []
        for rank, node in enumerate(group.nodes):
            marks = _marks(node)
            if self._said.get(rank) != marks and node.life is not Life.IDLE:
                lines.append(_node_line(group, rank, node))
            self._said[rank] = marks
        if (group.state, group.goal, group.attempt) != (before.state, before.goal, before.attempt):
            lines += _group_lines(group, before, wall_s)
        return tuple(lines)


def _marks(node: NodeView) -> tuple[object, ...]:
    """What a line is told for."""
    status = node.status
    quarter = None if status.progress is None else int(status.progress / STEP)
    return node.life, node.reached, node.unknown, status.state, status.phase, quarter, status.reason


def _node_line(group: Group, rank: int, node: NodeView) -> Line:
    data = {
        "rank": rank,
        "host": node.host,
        "run": node.run,
        "life": str(node.life),
        "state": str(node.status.state),
        "phase": str(node.status.phase) if node.status.phase is not None else None,
        "progress": node.status.progress,
        "reason": node.status.reason,
        "reached": node.reached,
    }
    return Line(kind="node", text=f"{group.name(rank)}: {node_text(node)}", data=data)


def _group_lines(group: Group, before: Group, wall_s: float) -> list[Line]:
    data: dict[str, Any] = {"state": str(group.state), "attempt": group.attempt, "reason": group.reason}
    data["culprit"] = group.culprit
    lines = []
    ended = before.goal is not group.goal and group.goal in (Goal.WAIT, Goal.DONE)
    reason = f": {group.reason}" if group.reason else ""
    if group.state is not before.state or ended:
        lines.append(Line(kind="group", text=f"group: {group.state}{reason}", data=data))
    # A stop in the countdown has the reason that was told before it, and one on a machine has nothing to explain.
    blamed = group.culprit if ended and before.goal is not Goal.WAIT else None
    if blamed is not None and group.nodes[blamed].status.state is not ServerState.STOPPED:
        status = group.nodes[blamed].status
        lines.append(Line(kind="failure", text=_why(group, blamed, status), data=_failure(group, status)))
    if group.goal is Goal.WAIT and group.goal is not before.goal and group.retry_wall_s is not None:
        left_s = max(0.0, group.retry_wall_s - wall_s)
        text = f"group: restart {group.restart} of {RESTARTS_MAX} in {elapsed_text(left_s)}, on all machines"
        lines.append(Line(kind="restart", text=text, data={"number": group.restart, "left_s": left_s}))
    return lines


def _why(group: Group, rank: int, status: ServerStatus) -> str:
    """Cause, remedy and log of the machines that the group ended for, a line each."""
    found, apart = why_ended(group), parted(group)
    lines = ["the network between " + group.names(apart) + " is why:" if apart else f"{group.name(rank)} is why:"]
    if found is None:
        lines += [f"  cause:  not found in its log; {status.reason}", "  remedy: read the end of its log"]
    else:
        why = f" – {found.why}" if found.why else ""
        line = f" (line {found.line})" if found.line is not None else ""
        lines += [f"  cause:  {found.title}{why}{line}", f"  remedy: {found.remedy or 'read the end of its log'}"]
    ran = [group.nodes[each] for each in apart or (rank,) if group.nodes[each].run]
    lines += [f"  log:    ssh {node.host} dsv4-console logs {node.run}" for node in ran]
    return "\n".join(lines)


def _failure(group: Group, status: ServerStatus) -> dict[str, Any]:
    rank = group.culprit or 0
    found = why_ended(group)
    diagnosis = msgspec.to_builtins(found) if found is not None else None
    node = group.nodes[rank]
    return {
        "rank": rank,
        "host": node.host,
        "parted": [group.nodes[each].host for each in parted(group)],
        "run": node.run,
        "reason": status.reason,
        "diagnosis": diagnosis,
    }


def no_trial(profile: str, group: str, hosts: Sequence[str]) -> UsageError:
    """Why no setting is tried on a group, and what to do instead."""
    return UsageError(
        "No setting is tried on a group of machines",
        f"a trial restarts the server of one machine, and this one spans {', '.join(hosts)}",
        f"Measure it: dsv4-console bench {group}. Then change the profile, start it again with dsv4-console --profile "
        f"{profile} --hosts {','.join(hosts)}, and measure once more.",
    )
