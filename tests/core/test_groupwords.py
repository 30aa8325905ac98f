"""What is told of a group: who or what it ended for, once."""

from __future__ import annotations

from msgspec.structs import replace

from console.core import group as g
from console.core.groupwords import Line, Narration
from console.core.lifecycle_events import Now
from console.core.models import ServerStatus
from console.core.profile import RestartPolicy
from tests.core.test_group import CRASHED, SILENT, STOPPED, World


class Told(World):
    """What a group does, as it is told."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._narration = Narration(self.group)
        self.lines: list[Line] = []

    def feed(self, *events: g.Event) -> list[g.GroupEffect]:
        got: list[g.GroupEffect] = []
        for event in events:
            self.group, effects = g.step(self.group, event, Now(self.now_s, self.now_s + 1e9))
            self.lines += self._narration.news(self.group, self.now_s + 1e9)
            got += effects
        return got

    @property
    def failures(self) -> list[Line]:
        return [line for line in self.lines if line.kind == "failure"]


def ended(first: ServerStatus, second: ServerStatus, policy: RestartPolicy = RestartPolicy.NEVER) -> Told:
    world = Told(policy)
    world.serve()
    world.feed(g.Seen(0, first), g.Seen(1, second))
    return world


def test_where_machines_hear_nothing_of_each_other_the_network_is_why() -> None:
    world = ended(SILENT, replace(SILENT, reason="node 0 (a): it has not answered for 15 s; 2 requests were cut off"))
    (line,) = world.failures
    assert line.text.startswith("the network between node 0 (a) and node 1 (b) is why:\n  cause:  The machines of")
    assert line.text.count("  log:    ssh") == 2, "both have something to say"
    assert line.data["parted"] == ["a", "b"]
    assert line.data["diagnosis"]["cause"] == "link-lost"
    assert any("do not reach each other" in line.text for line in world.lines if line.kind == "group")


def test_one_machine_is_why_where_it_has_a_reason_of_its_own() -> None:
    (line,) = ended(SILENT, CRASHED).failures
    assert line.text.startswith("node 1 (b) is why:")
    assert line.text.count("  log:    ssh b ") == 1
    assert line.data["parted"] == []


def test_a_stop_on_a_machine_is_no_failure() -> None:
    world = ended(STOPPED, STOPPED)
    assert world.failures == []
    assert "was stopped there" in world.lines[-1].text


def test_a_stop_in_the_countdown_does_not_tell_the_failure_again() -> None:
    world = ended(CRASHED, STOPPED, RestartPolicy.ON_FAILURE)
    assert len(world.failures) == 1
    world.feed(g.StopWanted())
    assert world.group.over
    assert len(world.failures) == 1
