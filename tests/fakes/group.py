"""A scripted group: two machines of eight GPUs, as its session shows it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from console.client.api import Update
from console.core.groupview import gpu_stride, numbered
from console.core.models import (
    GpuReading,
    HostReading,
    NodeFigures,
    Phase,
    PhaseTime,
    ServerState,
    ServerStatus,
    Snapshot,
)
from tests.fakes.backend import GIB, HOST, NOW_S, READY, RUN, FakeBackend, FakeSession, gpus, snapshot

__all__ = ["GROUP_LOG", "GROUP_RUN", "HOSTS", "FakeGroup", "attached_group", "group_snapshot", "loading_nodes", "node"]

HOSTS = ("node-a", "node-b")
GROUP_RUN = replace(RUN, id="group-20261130-094400-2x8xh200", profile_name="2x8xh200-native-v4-pro-dep")
GROUP_LOG = (
    "(node-a/APIServer pid=11) INFO 11-23 11:42:01 [api.py:1] the head began",
    "(node-b/ pid=21) INFO 11-23 11:42:01 [cli.py:1] the member began",
    "(node-a/Worker_TP0 pid=12) INFO 11-23 11:42:02 [worker.py:7] a worker of the head",
    "(node-b/Worker_TP0 pid=22) WARNING 11-23 11:42:03 [worker.py:7] a worker of the member",
    "(node-b/Worker_TP0 pid=22) INFO 11-23 11:42:04 [worker.py:8] and once more",
)


def node(rank: int, util: float = 90.0, **changes: Any) -> NodeFigures:
    """One machine that serves."""
    first = rank * gpu_stride(len(HOSTS))
    read: tuple[GpuReading, ...] = tuple(replace(gpu, name="NVIDIA H200") for gpu in gpus(8, util))
    host: HostReading = replace(HOST, memory_used_bytes=(210 + rank) * GIB)
    fields: dict[str, Any] = {
        "host": HOSTS[rank],
        "status": READY,
        "words": "ready",
        "gpus": numbered(read, first),
        "first_gpu": first,
        "reading": host,
    }
    return NodeFigures(**(fields | changes))


def group_snapshot(*nodes: NodeFigures, **changes: Any) -> Snapshot:
    """A tick of the group."""
    seen = nodes or (node(0), node(1))
    heard = tuple(gpu for each in seen if each.silent_s is None for gpu in each.gpus or ())
    return snapshot(nodes=seen, gpus=heard, **changes)


def loading_nodes() -> tuple[NodeFigures, NodeFigures]:
    """The head loads weights, the other has them compiled."""
    begin = NOW_S - 75.0
    done = (PhaseTime(phase=Phase.CONFIG, seconds=12.0),)
    head = ServerStatus(
        state=ServerState.LOADING,
        started_s=begin,
        phase=Phase.WEIGHTS,
        phases=done,
        progress=0.43,
        phase_detail="shard 20/46",
    )
    more = (*done, PhaseTime(phase=Phase.WEIGHTS, seconds=41.0))
    other = ServerStatus(state=ServerState.LOADING, started_s=begin, phase=Phase.COMPILE, phases=more)
    return node(0, 3.0, status=head, words="loading: weights 43%"), node(1, 3.0, status=other, words="loading: compile")


class FakeGroup(FakeSession):
    """Its session."""

    hosts = HOSTS

    def __init__(self, updates: Sequence[Update | Snapshot] = (), log: Sequence[str] = GROUP_LOG) -> None:
        super().__init__(GROUP_RUN, (), log)
        self.push(*updates)


def attached_group(*updates: Update | Snapshot) -> tuple[FakeBackend, FakeGroup]:
    """A backend whose one run is the group."""
    session = FakeGroup(updates)
    return FakeBackend(runs=(GROUP_RUN,), sessions={GROUP_RUN.id: session}), session
