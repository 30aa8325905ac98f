"""A supervisor that is killed at any moment: what its successor does."""

from __future__ import annotations

import msgspec
import pytest

from console.core import lifecycle
from console.core.lifecycle import Effect, Machine, Now, Timing
from console.core.models import ServerState
from console.core.profile import RestartPolicy
from console.core.resume import Saved, resume

TIMING = Timing(restart=RestartPolicy.ON_FAILURE)
PID = 4242


def after(*events: lifecycle.Event) -> tuple[Machine, tuple[Effect, ...]]:
    """A machine and the effects of the last event; a second passes with each."""
    machine, effects = lifecycle.initial(TIMING), ()
    for number, event in enumerate(events):
        machine, effects = lifecycle.step(machine, event, Now(100.0 + number, 1_000.0 + number))
    return machine, effects


START = (lifecycle.Launch(), lifecycle.Spawned(PID))
SERVE = (*START, lifecycle.HealthOk())
CRASH = (*SERVE, lifecycle.Exited(-9))


@pytest.mark.parametrize(
    ("events", "pid", "effects", "alive"),
    [
        pytest.param(START[:1], None, (Effect.SPAWN,), False, id="planned, not started"),
        pytest.param(START[:1], PID, (), True, id="started, not noted"),
        pytest.param(SERVE, PID, (), True, id="serving"),
        pytest.param((*SERVE, lifecycle.StopRequested()), PID, (Effect.TERMINATE,), True, id="stop"),
        pytest.param((*SERVE, lifecycle.RestartRequested()), PID, (Effect.TERMINATE,), True, id="restart"),
        pytest.param(CRASH, PID, (Effect.KILL_GROUP, Effect.CHECK_GONE), False, id="crashed"),
        pytest.param((*CRASH, lifecycle.Gone()), None, (), False, id="waiting to restart"),
        pytest.param(
            (*SERVE, lifecycle.RestartRequested(), lifecycle.Exited(0), lifecycle.Gone()),
            None,
            (Effect.SPAWN,),
            False,
            id="restart, not started",
        ),
    ],
)
@pytest.mark.parametrize("carried_out", [False, True])
def test_it_goes_on_where_it_was(
    events: tuple[lifecycle.Event, ...], pid: int | None, effects: tuple[Effect, ...], alive: bool, carried_out: bool
) -> None:
    machine, pending = after(*events)
    spawning = Effect.SPAWN in pending
    saved = Saved(machine=machine, saved_s=110.0, pending=() if carried_out and not spawning else pending)
    saved = msgspec.json.decode(msgspec.json.encode(saved), type=Saved)
    step = resume(saved, Now(111.0, 1_011.0), pid=pid)
    assert step is not None
    went_on, asked = step
    assert went_on.alive is alive
    assert went_on.stop == machine.stop
    assert went_on.status.ready_s == machine.status.ready_s
    assert went_on.retry_at_s == machine.retry_at_s
    if carried_out and machine.stop is not None and machine.alive:
        effects = ()  # SIGTERM was sent
    assert asked == effects


def test_leftovers_are_looked_for_again() -> None:
    machine, _ = after(*SERVE, lifecycle.StopRequested(), lifecycle.Exited(0))
    step = resume(Saved(machine=machine, saved_s=105.0), Now(106.0, 0.0), pid=PID)
    assert step is not None
    assert step[1] == (Effect.CHECK_GONE,)


def test_what_was_saved_before_a_boot_is_not_believed() -> None:
    machine, _ = after(*SERVE)
    assert resume(Saved(machine=machine, saved_s=5_000.0), Now(60.0, 9_000.0), pid=None) is None


def test_the_wall_clock_plays_no_part() -> None:
    machine, _ = after(*SERVE)
    saved = Saved(machine=machine, saved_s=105.0)
    assert resume(saved, Now(106.0, -1e9), pid=PID) == resume(saved, Now(106.0, 1e12), pid=PID)


def test_a_machine_that_did_nothing_yet_has_nothing_to_say() -> None:
    assert resume(Saved(machine=lifecycle.initial(TIMING), saved_s=1.0), Now(2.0, 2.0), pid=PID) is None
    assert lifecycle.initial(TIMING).status.state is ServerState.STOPPED
