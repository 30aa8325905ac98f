"""The group's state machine: its rules one by one, and over any order of events."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from console.core import group as g
from console.core.group import Goal, Group, Life
from console.core.lifecycle_events import Now
from console.core.models import Diagnosis, Phase, ServerState, ServerStatus
from console.core.profile import RestartPolicy
from console.core.retry import LINK_LOST, NODE_LOST, RESTARTS_MAX

HOSTS = ("a", "b", "c")
LOADING = ServerStatus(state=ServerState.LOADING, started_s=1.0, pid=7, phase=Phase.WEIGHTS)
READY = ServerStatus(state=ServerState.READY, started_s=1.0, ready_s=2.0, pid=7)
STOPPED = ServerStatus(state=ServerState.STOPPED, started_s=1.0, over=True)
CRASHED = ServerStatus(state=ServerState.CRASHED, started_s=1.0, exit_code=-9, reason="was killed", over=True)
LOST = replace(CRASHED, exit_code=0, diagnosis=NODE_LOST, reason="node 1 has gone")
OOM = Diagnosis(title="Out of memory", cause="cuda-oom", remedy="less")
RESET = replace(CRASHED, exit_code=0, diagnosis=Diagnosis(title="Another rank has gone", cause="rank-lost"))


@dataclass
class World:
    """A group and what became of its effects."""

    policy: RestartPolicy = RestartPolicy.NEVER
    hosts: tuple[str, ...] = HOSTS[:2]
    now_s: float = 100.0
    effects: list[g.GroupEffect] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.group: Group = g.begin(self.hosts, self.policy)

    def feed(self, *events: g.Event) -> list[g.GroupEffect]:
        got: list[g.GroupEffect] = []
        for event in events:
            self.group, effects = g.step(self.group, event, Now(self.now_s, self.now_s + 1e9))
            got += effects
        self.effects += got
        return got

    def serve(self) -> None:
        self.feed(g.Tick(), g.Started(0, "r0"), g.Seen(0, LOADING), g.Started(1, "r1"), g.Seen(1, LOADING))
        self.feed(g.Seen(0, READY), g.Seen(1, READY))
        assert self.group.state is ServerState.READY


def test_the_head_starts_first_and_the_others_once_it_runs() -> None:
    world = World(hosts=HOSTS)
    assert world.feed(g.Tick()) == [g.StartNode(0, 1)]
    assert world.feed(g.Tick(), g.Started(0, "r0")) == []
    assert world.feed(g.Seen(0, LOADING)) == [g.StartNode(1, 1), g.StartNode(2, 1)]
    assert world.feed(g.Started(1, "r1"), g.Started(2, "r2"), g.Seen(1, LOADING), g.Seen(2, LOADING)) == []
    assert world.feed(g.Seen(0, READY)) == [g.Announce(1), g.Announce(2)]
    assert world.group.state is ServerState.READY


def test_it_stops_from_the_head_on() -> None:
    world = World()
    world.serve()
    assert world.feed(g.StopWanted(None)) == [g.StopNode(0, None), g.Announce(1, ending=True)]
    assert world.feed(g.StopWanted(0.0)) == [g.StopNode(0, 0.0)], "the same again means now"
    assert world.feed(g.Seen(0, STOPPED)) == [g.StopNode(1, 0.0)]
    assert world.feed(g.Seen(1, STOPPED)) == []
    assert (world.group.over, world.group.state, world.group.reason) == (True, ServerState.STOPPED, "")


def test_a_stop_before_the_start_is_known_waits_for_it() -> None:
    world = World()
    world.feed(g.Tick())
    assert world.feed(g.StopWanted()) == []
    assert world.feed(g.Started(0, "r0")) == [g.StopNode(0, None)]
    world.feed(g.Seen(0, STOPPED))
    assert world.group.over


def test_one_death_ends_all_without_a_drain() -> None:
    world = World(hosts=HOSTS)
    world.feed(g.Tick(), g.Started(0, "r0"), g.Seen(0, LOADING), g.Started(1, "r1"), g.Started(2, "r2"))
    world.feed(g.Seen(1, LOADING), g.Seen(2, LOADING), g.Seen(0, READY))
    assert world.feed(g.Seen(2, CRASHED)) == [g.StopNode(0, 0.0), g.StopNode(1, 0.0)]
    assert world.feed(g.Seen(0, STOPPED)) == []
    assert not world.group.over
    world.feed(g.Seen(1, STOPPED))
    assert (world.group.over, world.group.culprit) == (True, 2)
    assert "node 2 (c): was killed" in world.group.reason


@pytest.mark.parametrize(
    ("first", "second", "blamed"),
    [
        (CRASHED, CRASHED, 0),
        (LOST, CRASHED, 1),
        (replace(CRASHED, exit_code=1), replace(CRASHED, exit_code=1, diagnosis=OOM), 1),
        (replace(CRASHED, exit_code=1), LOST, 0),
        (RESET, replace(CRASHED, exit_code=0, diagnosis=OOM), 1),
        (RESET, CRASHED, 1),
    ],
)
def test_who_is_blamed(first: ServerStatus, second: ServerStatus, blamed: int) -> None:
    world = World()
    world.serve()
    world.feed(g.Seen(0, replace(first, over=False)), g.Seen(1, second), g.Seen(0, first))
    assert (world.group.over, world.group.culprit) == (True, blamed)


@pytest.mark.parametrize("first", [LOST, RESET])
def test_who_only_misses_another_gives_it_time_for_its_own_words(first: ServerStatus) -> None:
    world = World()
    world.serve()
    assert world.feed(g.Seen(0, first)) == []
    world.now_s += g.OWN_WORDS_S - 1
    assert world.feed(g.Tick()) == []
    world.now_s += 1
    assert world.feed(g.Tick()) == [g.StopNode(1, 0.0)]


SILENT = replace(LOST, reason="node 0 (a): it has not answered for 15 s")


@pytest.mark.parametrize(
    ("ends", "apart"),
    [
        ((SILENT, SILENT), (0, 1)),
        ((SILENT, CRASHED), ()),
        ((SILENT, STOPPED), ()),
        ((SILENT, LOST), ()),
        ((LOST, LOST), ()),
    ],
)
def test_machines_that_hear_nothing_of_each_other_blame_what_is_between_them(
    ends: tuple[ServerStatus, ServerStatus], apart: tuple[int, ...]
) -> None:
    world = World()
    world.serve()
    # The coordinator asks the other to end only where nobody tells why.
    world.feed(g.Seen(0, ends[0]))
    world.now_s += g.OWN_WORDS_S
    world.feed(g.Tick(), g.Seen(1, ends[1]))
    assert (world.group.over, g.parted(world.group)) == (True, apart)
    assert ("node 0 (a) and node 1 (b) do not reach each other" in world.group.reason) is bool(apart)
    found = g.why_ended(world.group)
    assert (found is LINK_LOST) is bool(apart)


def test_of_three_the_one_that_saw_an_end_is_none_of_those_that_are_parted() -> None:
    world = World(hosts=HOSTS)
    world.feed(g.Tick(), g.Started(0, "r0"), g.Seen(0, LOADING), g.Started(1, "r1"), g.Started(2, "r2"))
    world.feed(g.Seen(1, LOADING), g.Seen(2, LOADING), g.Seen(0, READY))
    world.feed(g.Seen(0, SILENT), g.Seen(1, LOST), g.Seen(2, SILENT))
    assert (world.group.over, g.parted(world.group)) == (True, (0, 2))


def test_the_policy_starts_all_again_and_gives_up() -> None:
    world = World(RestartPolicy.ON_FAILURE)
    for attempt in range(1, RESTARTS_MAX + 1):
        world.serve()
        world.feed(g.Seen(1, CRASHED), g.Seen(0, STOPPED))
        assert (world.group.goal, world.group.restart, world.group.attempt) == (Goal.WAIT, attempt, attempt)
        world.now_s += 60.0
        assert world.feed(g.Tick()) == [g.StartNode(0, attempt + 1)]
        world.group = replace(world.group, nodes=tuple(replace(n, life=Life.IDLE) for n in world.group.nodes))
    world.serve()
    world.feed(g.Seen(1, CRASHED), g.Seen(0, STOPPED))
    assert world.group.over
    assert "given up" in world.group.reason


def test_a_configuration_that_cannot_work_is_not_tried_again() -> None:
    world = World(RestartPolicy.ALWAYS)
    world.feed(g.Tick(), g.Started(0, "r0"), g.Seen(0, LOADING))
    world.feed(g.StartFailed(1, "no engine", "install one"), g.Seen(0, STOPPED))
    assert (world.group.over, world.group.state) == (True, ServerState.FAILED)
    assert "node 1 (b): no engine" in world.group.reason


def test_a_machine_that_was_killed_for_a_stop_of_the_head_is_not_why() -> None:
    world = World()
    world.serve()
    stopping = replace(STOPPED, state=ServerState.STOPPING, over=False)
    assert world.feed(g.Seen(0, stopping)) == [g.Announce(1, ending=True)]
    world.feed(g.Seen(1, replace(STOPPED, exit_code=-9)), g.Seen(0, STOPPED))
    assert (world.group.over, world.group.culprit) == (True, 0)
    assert world.group.reason == "node 0 (a) was stopped there"


def test_a_stop_on_one_machine_stops_the_group() -> None:
    world = World(RestartPolicy.ALWAYS)
    world.serve()
    assert world.feed(g.Seen(1, STOPPED)) == [g.StopNode(0, 0.0)]
    world.feed(g.Seen(0, STOPPED))
    assert (world.group.over, world.group.state) == (True, ServerState.STOPPED)
    assert "was stopped there" in world.group.reason


def test_a_head_that_is_stopped_there_drains_first() -> None:
    world = World()
    world.serve()
    draining = replace(READY, state=ServerState.STOPPING)
    assert world.feed(g.Seen(0, draining)) == [g.Announce(1, ending=True)]
    assert world.feed(g.Seen(0, STOPPED)) == [g.StopNode(1, 0.0)]


def test_an_unreached_machine_serves_on_and_is_not_waited_for_at_the_end() -> None:
    world = World(RestartPolicy.ALWAYS)
    world.serve()
    world.feed(g.Reached(1, False, "timeout"))
    world.now_s += 10 * g.UNREACHED_S
    assert world.feed(g.Tick()) == []
    assert world.group.state is ServerState.READY
    world.feed(g.Seen(0, CRASHED))
    assert not world.group.over or world.group.nodes[1].unknown
    world.feed(g.Tick())
    assert world.group.over, "where one is not known to have ended there is no other attempt"
    assert "node 1 (b) could not be seen" in world.group.reason


def test_a_restart_is_a_stop_and_a_start() -> None:
    world = World()
    world.serve()
    assert world.feed(g.RestartWanted()) == [g.StopNode(0, None), g.Announce(1, ending=True)]
    assert world.feed(g.Seen(0, STOPPED), g.Seen(1, STOPPED)) == [g.StopNode(1, 0.0), g.StartNode(0, 2)]
    assert (world.group.goal, world.group.attempt) == (Goal.RUN, 2)


_STATUSES = st.sampled_from([LOADING, READY, STOPPED, CRASHED, LOST, replace(CRASHED, over=False)])
_RANKS = st.integers(0, len(HOSTS) - 1)
_EVENTS = st.one_of(
    st.builds(g.Started, _RANKS, st.just("r")),
    st.builds(g.StartFailed, _RANKS, st.just("no")),
    st.builds(g.Seen, _RANKS, _STATUSES),
    st.builds(g.Reached, _RANKS, st.booleans()),
    st.just(g.Tick()),
    st.builds(g.StopWanted, st.sampled_from([None, 0.0])),
    st.just(g.RestartWanted()),
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(RestartPolicy), st.lists(st.tuples(_EVENTS, st.sampled_from([0.1, 5.0, 70.0])), max_size=60))
def test_over_any_events(policy: RestartPolicy, events: list[tuple[g.Event, float]]) -> None:
    world = World(policy, HOSTS)
    started: set[tuple[int, int]] = set()
    stopped = False
    world.feed(g.Tick())
    for event, pause_s in events:
        world.now_s += pause_s
        before = world.group
        world.effects.clear()
        world.feed(event)
        group = world.group
        stopped = (stopped or isinstance(event, g.StopWanted)) and not isinstance(event, g.RestartWanted)
        for effect in world.effects:
            if isinstance(effect, g.StartNode):
                assert (effect.attempt, effect.rank) not in started, "never two starts of the same attempt"
                started.add((effect.attempt, effect.rank))
                assert not stopped, "nothing starts once it was asked to stop"
                assert group.goal is Goal.RUN
            if isinstance(effect, g.StopNode):
                assert group.nodes[effect.rank].life is Life.UP
        lives = {node.life for node in group.nodes}
        if group.goal in (Goal.DONE, Goal.WAIT):
            assert lives <= {Life.IDLE, Life.OVER}, "never one machine running while the group is over"
        if group.attempt > before.attempt:
            last = getattr(event, "rank", None)
            others = [node for rank, node in enumerate(before.nodes) if rank != last]
            assert all(node.life in (Life.IDLE, Life.OVER) and not node.unknown for node in others), "one at a time"
        if before.over:
            assert group == before, "what is over stays so"
        if group.goal is Goal.RUN and group.state is ServerState.READY:
            assert lives == {Life.UP}
