"""The trial's state machine: whatever happens and whenever it is cut off, the old settings serve or those kept by word.

The model has what survives (settings on disk, the saved trial, the server) and what does not (the supervisor), does
things in the supervisor's order, and can be cut off before any of them.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from console.core import trial as core
from console.core.lifecycle import Machine, StopPlan, Timing, initial
from console.core.models import ProfileChange, ServerState, ServerStatus, TrialPhase
from console.core.trial import OLD, Do, Trial

CHANGE = (ProfileChange(key="serve.max_num_seqs", before=2, after=16),)
OWNER = 1


def machine(state: ServerState, *, reason: str = "", restart: bool = False) -> Machine:
    base = initial(Timing())
    plan = StopPlan(serving=True, drain_until_s=0, kill_at_s=0, begun_s=0, last_term_s=0, restart=True)
    return msgspec.structs.replace(
        base,
        status=ServerStatus(state=state, reason=reason, started_s=1.0),
        alive=state in (ServerState.STARTING, ServerState.READY),
        cleaned=state in (ServerState.STOPPED, ServerState.FAILED, ServerState.CRASHED),
        stop=plan if restart else None,
    )


READY, STARTING = machine(ServerState.READY), machine(ServerState.STARTING)
DRAINING = machine(ServerState.STOPPING, restart=True)
FAILED = machine(ServerState.FAILED, reason="out of memory")


def started(**changes: object) -> Trial:
    return msgspec.structs.replace(core.begin("t", CHANGE, OWNER, 60.0, 0.0), **changes)


LOOKS: dict[str, tuple[Trial, Machine, float, int, Do]] = {
    "it begins": (started(), READY, 1, 1, Do.RESTART),
    "it drains": (started(), DRAINING, 1, 1, Do.NOTHING),
    "it starts": (started(running=1), STARTING, 1, 1, Do.NOTHING),
    "it serves": (started(running=1), READY, 1, 1, Do.NOTHING),
    "it failed": (started(running=1), FAILED, 1, OLD, Do.RESTART),
    "the lease is over": (started(running=1), READY, 61, OLD, Do.RESTART),
    "the lease is over while it drains": (started(), DRAINING, 61, OLD, Do.NOTHING),
    "the next settings": (started(running=1, wanted=2), READY, 1, 2, Do.RESTART),
    "going back": (started(running=1, wanted=OLD), READY, 1, OLD, Do.RESTART),
    "back on the way": (started(running=OLD, wanted=OLD), STARTING, 1, OLD, Do.NOTHING),
    "back": (started(running=OLD, wanted=OLD), READY, 1, OLD, Do.END),
    "the old ones fail": (started(running=OLD, wanted=OLD), FAILED, 1, OLD, Do.END),
    "stopped": (started(running=1, wanted=OLD, stopped=True), machine(ServerState.STOPPED), 1, OLD, Do.END),
    "stopping": (started(running=1, wanted=OLD, stopped=True), machine(ServerState.STOPPING), 1, OLD, Do.NOTHING),
}


@pytest.mark.parametrize("case", list(LOOKS))
def test_what_is_to_be_done(case: str) -> None:
    trial, state, now_s, wanted, what = LOOKS[case]
    after, found = core.look(trial, state, now_s)
    assert (after.wanted, found) == (wanted, what)
    assert after.why or after.wanted == trial.wanted


TURNS: dict[str, Callable[[Trial], Trial]] = {
    "its client leaves": lambda trial: core.left(trial, OWNER),
    "the supervisor is lost": core.taken_over,
    "it is stopped": lambda trial: core.stopped(trial, "stop"),
    "by word": lambda trial: core.turn_back(trial, "word"),
}


@pytest.mark.parametrize("case", list(TURNS))
def test_what_turns_it_back(case: str) -> None:
    after = TURNS[case](started(running=1))
    assert after.wanted == OLD
    assert after.why
    assert core.keep_refusal(after, READY)
    assert core.turn_back(after, "later").why == after.why, "the first reason counts"


def test_another_client_may_leave() -> None:
    assert core.left(started(), 7) == started()


def test_only_what_serves_can_be_kept() -> None:
    assert core.keep_refusal(started(running=1), READY) == ""
    assert core.keep_refusal(None, READY)
    assert core.keep_refusal(started(running=1), STARTING)
    assert core.keep_refusal(started(), READY)


def test_a_lease_is_renewed_and_bounded() -> None:
    assert core.look(core.hold(started(running=1), 50.0), READY, 100.0)[1] is Do.NOTHING
    assert core.begin("t", CHANGE, OWNER, 1e9, 0.0).lease_s == core.LEASE_S_MAX
    assert core.another(started(running=1), CHANGE, 50.0).lease_until_s == 110.0


PHASES = {
    TrialPhase.DRAINING: (started(), DRAINING),
    TrialPhase.STARTING: (started(running=1), STARTING),
    TrialPhase.SERVING: (started(running=1), READY),
    TrialPhase.REVERTING: (started(running=1, wanted=OLD), READY),
}


@pytest.mark.parametrize("phase", list(PHASES))
def test_its_phase(phase: TrialPhase) -> None:
    assert core.status_of(*PHASES[phase]).phase is phase


def test_how_it_ended() -> None:
    back = started(wanted=OLD, running=OLD, why="it lost")
    assert core.outcome(back, READY, kept=False).phase is TrialPhase.REVERTED
    assert core.outcome(started(running=1), READY, kept=True).phase is TrialPhase.KEPT
    lost = core.outcome(back, FAILED, kept=False)
    assert lost.phase is TrialPhase.LOST
    assert "out of memory" in lost.why


class Cut(Exception):
    """The supervisor was killed."""


class World:
    """Disk, server and supervisor, as `console.supervisor.trial` and the service use them."""

    def __init__(self) -> None:
        self.launch, self.tried = "old", ""  # launch.json, trial.json
        self.saved: Trial | None = None  # in state.json
        self.server = "old"  # what the running server was started with; "" while none runs
        self.state = READY
        self.trial: Trial | None = None
        self.now_s = 0.0
        self.word = ""  # what the operator asked to keep
        self.cut_after = -1

    def point(self) -> None:
        """A moment at which the supervisor may be killed."""
        self.cut_after -= 1
        if self.cut_after == -1:
            raise Cut

    def save(self) -> None:
        self.point()
        self.saved = self.trial

    def event(self, name: str) -> None:
        """One thing that happens, and what the supervisor makes of it."""
        try:
            getattr(self, f"on_{name}")()
            self.turn()
        except Cut:
            self.take_over()

    def on_try(self) -> None:
        if self.trial is None:
            if self.state is not READY:
                return
            number = 1
        elif self.trial.owner is None or self.trial.wanted == OLD or self.trial.stopped:
            return
        else:
            number = self.trial.highest + 1
        self.point()
        self.tried = f"new {self.now_s}"
        begin = core.begin("t", CHANGE, OWNER, 60.0, self.now_s)
        self.trial = begin if self.trial is None else core.another(self.trial, CHANGE, self.now_s)
        assert self.trial.highest == number
        self.save()

    def on_keep(self) -> None:
        if core.keep_refusal(self.trial, self.state):
            return
        self.word = self.server
        self.point()
        self.launch, self.tried = self.tried, ""
        self.trial = None
        self.save()

    def on_revert(self) -> None:
        if self.trial is not None:
            self.trial = core.turn_back(self.trial, "word")
            self.save()

    def on_leave(self) -> None:
        if self.trial is not None:
            self.trial = core.left(self.trial, OWNER)

    def on_wait(self) -> None:
        self.now_s += 70.0

    def on_hold(self) -> None:
        if self.trial is not None:
            self.trial = core.hold(self.trial, self.now_s)

    def on_fail(self) -> None:
        """Tried settings fail in their start; those from before do not."""
        if self.server not in ("", self.launch):
            self.server, self.state = "", FAILED

    def on_up(self) -> None:
        """A start gets on: what drains ends, what starts is ready."""
        if self.state is STARTING:
            self.state = READY
        elif self.state is DRAINING:
            self.server = ""
            self.spawn()

    def spawn(self) -> None:
        trial = self.trial
        if trial is not None:
            self.trial = msgspec.structs.replace(trial, running=trial.wanted)
            self.save()
        self.point()
        tried = self.trial is not None and self.trial.wanted != OLD
        self.server, self.state = (self.tried if tried else self.launch), STARTING
        self.save()

    def turn(self) -> None:
        if self.trial is None:
            return
        self.trial, what = core.look(self.trial, self.state, self.now_s)
        if what is Do.RESTART:
            self.save()
            if self.state is FAILED:
                self.spawn()
            else:
                self.state = DRAINING
        elif what is Do.END:
            self.point()
            self.tried = ""
            self.trial = None
            self.save()

    def take_over(self) -> None:
        """Another supervisor, as `Trials.restore` and `resume` begin."""
        self.trial, self.cut_after = None, -1
        if self.saved is None:
            self.tried = ""
        elif not self.tried and self.saved.wanted != OLD:
            pass  # kept
        else:
            self.trial = core.taken_over(self.saved)
        if not self.server:
            self.spawn()  # the plan to start one was saved with the machine
        self.turn()


@settings(max_examples=600, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["try", "keep", "revert", "leave", "wait", "hold", "fail", "up"]), st.integers(-1, 4)
        ),
        max_size=14,
    )
)
def test_at_every_interruption_the_old_serve_or_the_new_were_kept_by_word(events: list[tuple[str, int]]) -> None:
    world = World()
    for name, cut_after in events:
        world.cut_after = cut_after if cut_after >= 0 else -1
        world.now_s += 1.0
        world.event(name)
        world.cut_after = -1
    world.event("leave")
    for _ in range(8):
        world.event("up")
    assert world.trial is None
    assert world.saved is None or world.saved.wanted == OLD or not world.tried
    assert world.tried == ""
    assert world.state is READY
    assert world.server == world.launch, "what serves is what the run directory says"
    assert world.launch in ("old", world.word), "tried settings stay by word alone"
