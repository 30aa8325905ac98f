"""The lifecycle machine: each rule by example, and what must hold for any order of events."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from console.core import lifecycle
from console.core.lifecycle import Effect, Machine, Now, Timing
from console.core.models import OVER_STATES, Diagnosis, Phase, ServerState
from console.core.profile import RestartPolicy
from console.core.retry import NODE_LOST, RESTARTS_MAX


@dataclass
class Driver:
    """Feeds events with a clock that the test moves, and keeps the effects."""

    timing: Timing = field(default_factory=Timing)
    mono_s: float = 100.0
    wall_s: float = 1_000.0
    effects: list[Effect] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.machine: Machine = lifecycle.initial(self.timing)

    def feed(self, event: lifecycle.Event) -> tuple[Effect, ...]:
        self.machine, effects = lifecycle.step(self.machine, event, Now(self.mono_s, self.wall_s))
        self.effects.extend(effects)
        return effects

    def later(self, seconds: float) -> tuple[Effect, ...]:
        self.mono_s += seconds
        self.wall_s += seconds
        return self.feed(lifecycle.Tick())

    @property
    def state(self) -> ServerState:
        return self.machine.status.state

    def start(self) -> Driver:
        assert self.feed(lifecycle.Launch()) == (Effect.SPAWN,)
        self.feed(lifecycle.Spawned(4242))
        return self

    def serve(self) -> Driver:
        self.start()
        self.feed(lifecycle.PhaseSeen(Phase.CONFIG))
        self.later(3)
        self.feed(lifecycle.PhaseSeen(Phase.WEIGHTS, "shard 3/46", 3 / 46))
        self.later(5)
        self.feed(lifecycle.HealthOk())
        assert self.state is ServerState.READY
        return self


def test_a_stop_for_a_reason_keeps_it_and_is_never_restarted() -> None:
    d = Driver(Timing(restart=RestartPolicy.ALWAYS)).serve()
    assert d.feed(lifecycle.StopRequested(reason="idle for 30m00s")) == (Effect.TERMINATE,)
    assert d.machine.status.reason == "idle for 30m00s"
    d.feed(lifecycle.Exited(0))
    d.feed(lifecycle.Gone())
    d.later(600)
    assert (d.state, d.machine.status.reason) == (ServerState.STOPPED, "idle for 30m00s")
    assert d.machine.over
    assert d.effects.count(Effect.SPAWN) == 1


def test_a_start_goes_through_its_phases_and_is_ready_only_by_health() -> None:
    d = Driver().start()
    assert d.state is ServerState.STARTING
    d.feed(lifecycle.PhaseSeen(Phase.CONFIG))
    assert d.state is ServerState.LOADING
    d.later(3)
    d.feed(lifecycle.PhaseSeen(Phase.SERVER, "Application startup complete"))
    assert d.state is ServerState.LOADING
    d.later(2)
    d.feed(lifecycle.HealthOk())
    assert d.state is ServerState.READY
    times = {time.phase: time.seconds for time in d.machine.status.phases}
    assert times == {Phase.CONFIG: 3.0, Phase.SERVER: 2.0}
    assert d.machine.status.ready_s == d.wall_s


def test_not_ready_in_time_is_a_failure_and_is_cleaned_up() -> None:
    d = Driver(Timing(ready_timeout_s=60)).start()
    assert d.later(59) == ()
    assert d.later(1) == (Effect.TERMINATE,)
    assert d.state is ServerState.STOPPING
    assert d.feed(lifecycle.Exited(0)) == (Effect.CHECK_GONE,)
    d.feed(lifecycle.Gone())
    assert d.state is ServerState.FAILED
    assert "60 s" in d.machine.status.reason
    assert d.machine.status.diagnosis == lifecycle.READY_TIMEOUT


def test_without_another_machine_it_ends_at_once_and_says_so() -> None:
    d = Driver().serve()
    assert d.feed(lifecycle.PeerLost("node 1 (b) has gone")) == (Effect.TERMINATE,)
    assert d.feed(lifecycle.PeerLost("node 1 (b) has gone")) == (), "once"
    d.feed(lifecycle.Exited(0))
    d.feed(lifecycle.Gone())
    assert (d.state, d.machine.over) == (ServerState.CRASHED, True)
    assert d.machine.status.reason == "node 1 (b) has gone"
    assert d.machine.status.diagnosis == NODE_LOST


def test_where_its_own_log_has_a_cause_the_other_has_gone_because_of_it() -> None:
    own = Diagnosis(title="A process of the server ended unexpectedly", cause="engine-exited")
    d = Driver().serve()
    d.feed(lifecycle.PeerLost("node 0 (a) has gone", own))
    d.feed(lifecycle.Exited(0))
    d.feed(lifecycle.Gone())
    assert d.machine.status.diagnosis == own


def test_a_machine_that_is_told_of_its_readiness_is_never_late() -> None:
    d = Driver(Timing(ready_timeout_s=10.0, told_ready=True)).start()
    assert d.later(1_000.0) == ()
    d.feed(lifecycle.HealthOk())
    assert d.state is ServerState.READY


def test_a_machine_behind_a_head_is_not_waited_for_as_long_as_one_with_requests() -> None:
    for told_ready, killed in ((True, True), (False, False)):
        d = Driver(Timing(stop_timeout_s=30.0, told_ready=told_ready)).serve()
        d.feed(lifecycle.StopRequested(0.0))
        assert (Effect.KILL_GROUP in d.later(lifecycle.HANG_KILL_S)) is killed


@pytest.mark.parametrize("code", [0, 1, 2, -9])
def test_an_exit_nobody_asked_for_is_a_failure_whatever_its_code(code: int) -> None:
    starting, serving = Driver().start(), Driver().serve()
    assert starting.feed(lifecycle.Exited(code)) == (Effect.KILL_GROUP, Effect.CHECK_GONE)
    assert starting.state is ServerState.FAILED
    serving.feed(lifecycle.Exited(code, Diagnosis(title="why")))
    assert serving.state is ServerState.CRASHED
    assert serving.machine.status.exit_code == code
    assert serving.machine.status.diagnosis == Diagnosis(title="why")
    assert not serving.machine.over
    serving.feed(lifecycle.Gone())
    assert serving.machine.over


def test_a_serving_server_gets_one_sigterm_and_drains() -> None:
    d = Driver(Timing(drain_timeout_s=20, stop_timeout_s=10)).serve()
    assert d.feed(lifecycle.StopRequested()) == (Effect.TERMINATE,)
    assert d.later(19) == ()
    assert d.later(1) == (Effect.TERMINATE,)
    assert d.later(9) == ()
    assert d.later(1) == (Effect.KILL_GROUP,)
    assert d.later(1) == ()


def test_a_loading_server_gets_sigterm_again_and_then_sigkill() -> None:
    d = Driver(Timing(drain_timeout_s=20, stop_timeout_s=10)).start()
    assert d.feed(lifecycle.StopRequested()) == (Effect.TERMINATE,)
    assert d.later(2) == ()
    assert d.later(1) == (Effect.TERMINATE,)
    assert d.later(3) == (Effect.TERMINATE,)
    assert d.later(4) == (Effect.KILL_GROUP,)


def test_stopped_is_only_said_when_nothing_is_left() -> None:
    d = Driver().serve()
    d.feed(lifecycle.StopRequested())
    assert d.feed(lifecycle.Exited(0)) == (Effect.CHECK_GONE,)
    assert d.state is ServerState.STOPPING
    assert d.feed(lifecycle.Remains((7, 8))) == (Effect.KILL_GROUP, Effect.CHECK_GONE)
    assert "7, 8" in d.machine.status.reason
    d.feed(lifecycle.Gone())
    assert d.state is ServerState.STOPPED
    assert d.machine.over


def test_a_second_stop_shortens_the_drain_but_never_lengthens_it() -> None:
    d = Driver(Timing(drain_timeout_s=60, stop_timeout_s=10)).serve()
    d.feed(lifecycle.StopRequested())
    d.feed(lifecycle.StopRequested(600.0))
    d.feed(lifecycle.StopRequested(0.0))
    assert d.later(0) == (Effect.TERMINATE,)
    assert d.later(10) == (Effect.KILL_GROUP,)


def test_restart_spawns_again_only_after_the_old_one_is_gone() -> None:
    d = Driver().serve()
    assert d.feed(lifecycle.RestartRequested(0.0)) == (Effect.TERMINATE,)
    assert d.feed(lifecycle.Exited(0)) == (Effect.CHECK_GONE,)
    assert d.feed(lifecycle.Gone()) == (Effect.SPAWN,)
    assert d.state is ServerState.STARTING
    assert d.machine.status.exit_code is None


def test_a_stop_during_a_restart_wins() -> None:
    d = Driver().serve()
    d.feed(lifecycle.RestartRequested(0.0))
    d.feed(lifecycle.StopRequested(0.0))
    d.feed(lifecycle.Exited(0))
    assert d.feed(lifecycle.Gone()) == ()
    assert d.state is ServerState.STOPPED


def test_restart_of_a_crashed_server_waits_for_its_leftovers() -> None:
    d = Driver().serve()
    d.feed(lifecycle.Exited(1))
    assert d.feed(lifecycle.RestartRequested()) == ()
    d.feed(lifecycle.Gone())
    assert d.later(0) == (Effect.SPAWN,)


def test_health_may_fail_for_a_while() -> None:
    d = Driver().serve()
    d.feed(lifecycle.HealthBad("timed out"))
    d.later(lifecycle.HEALTH_GRACE_S - 1)
    d.feed(lifecycle.HealthBad("timed out"))
    assert d.state is ServerState.READY
    d.later(1)
    d.feed(lifecycle.HealthBad("timed out"))
    assert d.state is ServerState.UNHEALTHY
    assert "timed out" in d.machine.status.reason
    d.feed(lifecycle.HealthOk())
    assert d.state is ServerState.READY
    d.later(lifecycle.HEALTH_GRACE_S)
    d.feed(lifecycle.HealthBad("again"))
    assert d.state is ServerState.READY


def test_health_during_a_stop_changes_nothing() -> None:
    d = Driver().serve()
    d.feed(lifecycle.StopRequested())
    d.feed(lifecycle.HealthOk())
    assert d.state is ServerState.STOPPING


def test_a_server_that_cannot_be_started_has_failed() -> None:
    d = Driver()
    d.feed(lifecycle.Launch())
    d.feed(lifecycle.SpawnFailed("no such file"))
    assert d.state is ServerState.FAILED
    assert d.machine.over
    assert d.machine.status.reason == "no such file"


def test_a_crash_restarts_by_policy_with_backoff_and_gives_up() -> None:
    d = Driver(Timing(restart=RestartPolicy.ON_FAILURE)).serve()
    waits = []
    for _ in range(RESTARTS_MAX):
        d.feed(lifecycle.Exited(1))
        d.feed(lifecycle.Gone())
        assert not d.machine.over
        waited = 0.0
        while not d.later(1):
            waited += 1
        waits.append(waited + 1)
        d.feed(lifecycle.Spawned(1))
        d.feed(lifecycle.HealthOk())
    assert waits == [2, 4, 8, 16, 32]
    d.feed(lifecycle.Exited(1))
    d.feed(lifecycle.Gone())
    assert d.machine.over
    assert "given up" in d.machine.status.reason


def test_a_failed_start_is_never_retried_by_itself() -> None:
    d = Driver(Timing(restart=RestartPolicy.ALWAYS)).start()
    d.feed(lifecycle.Exited(2))
    d.feed(lifecycle.Gone())
    assert d.machine.over
    assert d.later(3_600) == ()


def test_a_stop_cancels_a_planned_restart() -> None:
    d = Driver(Timing(restart=RestartPolicy.ON_FAILURE)).serve()
    d.feed(lifecycle.Exited(1))
    d.feed(lifecycle.Gone())
    assert d.machine.status.restart == 1
    assert d.machine.status.deadline_s == d.wall_s + 2
    assert d.machine.status.reason.endswith("restart 1 of 5")
    d.feed(lifecycle.StopRequested())
    assert d.machine.over
    assert d.state is ServerState.STOPPED
    assert "exited with code 1" in d.machine.status.reason
    assert d.later(100) == ()


def test_a_stop_while_leftovers_end_cancels_the_restart_too() -> None:
    d = Driver(Timing(restart=RestartPolicy.ON_FAILURE)).serve()
    d.feed(lifecycle.Exited(1))
    d.feed(lifecycle.StopRequested())
    assert not lifecycle.wants_restart(d.machine)
    d.feed(lifecycle.Gone())
    assert d.machine.over
    assert d.later(100) == ()


def test_retry_now_does_not_wait_and_counts_anew() -> None:
    d = Driver(Timing(restart=RestartPolicy.ON_FAILURE)).serve()
    d.feed(lifecycle.Exited(1))
    d.feed(lifecycle.Gone())
    assert d.feed(lifecycle.RestartRequested()) == (Effect.SPAWN,)
    d.feed(lifecycle.Spawned(2))
    d.feed(lifecycle.HealthOk())
    d.feed(lifecycle.Exited(1))
    d.feed(lifecycle.Gone())
    assert d.machine.status.restart == 1


@pytest.mark.parametrize(("policy", "restarts"), [(RestartPolicy.ON_FAILURE, False), (RestartPolicy.ALWAYS, True)])
def test_an_unasked_end_in_good_order(policy: RestartPolicy, restarts: bool) -> None:
    d = Driver(Timing(restart=policy)).serve()
    d.feed(lifecycle.Exited(0))
    d.feed(lifecycle.Gone())
    assert d.machine.over is not restarts


def test_a_transient_failure_of_a_start_is_tried_again() -> None:
    d = Driver(Timing(restart=RestartPolicy.ON_FAILURE)).start()
    d.feed(lifecycle.Exited(1, Diagnosis(title="taken", cause="port-in-use")))
    d.feed(lifecycle.Gone())
    assert d.state is ServerState.FAILED
    assert not d.machine.over
    assert d.later(2) == (Effect.SPAWN,)


def test_what_is_waited_for_is_said_and_then_forgotten() -> None:
    d = Driver(Timing(restart=RestartPolicy.ON_FAILURE)).serve()
    d.feed(lifecycle.Exited(-9))
    d.feed(lifecycle.Waiting("waiting for GPU memory to be freed: GPU 0"))
    d.feed(lifecycle.Waiting("waiting for GPU memory to be freed: GPU 1"))
    assert (
        d.machine.status.reason
        == "vllm serve was killed by SIGKILL while it served; waiting for GPU memory to be freed: GPU 1"
    )
    d.feed(lifecycle.Gone())
    assert d.machine.status.reason == "vllm serve was killed by SIGKILL while it served; restart 1 of 5"


def test_a_hang_is_unhealthy_and_health_alone_does_not_mend_it() -> None:
    d = Driver().serve()
    d.feed(lifecycle.Stalled("the engine has 3 requests"))
    assert d.state is ServerState.UNHEALTHY
    assert d.machine.status.reason == "the engine has 3 requests"
    d.feed(lifecycle.HealthOk())
    assert d.later(10_000) == ()
    assert d.state is ServerState.UNHEALTHY, "the policy is never"
    d.feed(lifecycle.Moving())
    assert d.state is ServerState.READY


def test_a_sure_hang_is_restarted_at_once_and_killed_soon() -> None:
    d = Driver(Timing(restart=RestartPolicy.ON_FAILURE, stop_timeout_s=30)).serve()
    d.feed(lifecycle.Stalled("nothing moved"))
    assert d.later(0) == (Effect.TERMINATE,)
    assert d.state is ServerState.STOPPING
    assert Effect.KILL_GROUP in d.later(lifecycle.HANG_KILL_S)
    d.feed(lifecycle.Exited(-9))
    d.feed(lifecycle.Gone())
    assert d.state is ServerState.CRASHED
    assert d.machine.status.reason == "it hung: nothing moved; restart 1 of 5"
    assert d.machine.status.diagnosis is not None
    assert d.machine.status.diagnosis.cause == "hang"
    assert d.later(2) == (Effect.SPAWN,)


def test_evidence_that_may_pass_is_given_time() -> None:
    d = Driver(Timing(restart=RestartPolicy.ON_FAILURE)).serve()
    d.feed(lifecycle.Stalled("stopped", sure=False))
    assert d.state is ServerState.UNHEALTHY
    assert d.later(lifecycle.UNHEALTHY_RESTART_S - 1) == ()
    d.feed(lifecycle.Moving())
    assert d.state is ServerState.READY
    assert d.later(1_000) == ()
    d.feed(lifecycle.Stalled("stopped", sure=False))
    d.feed(lifecycle.Stalled("stopped", sure=True))
    assert d.later(0) == (Effect.TERMINATE,)


def test_health_that_fails_for_a_minute_restarts_by_policy() -> None:
    d = Driver(Timing(restart=RestartPolicy.ON_FAILURE)).serve()
    d.feed(lifecycle.HealthBad("timed out"))
    d.later(lifecycle.HEALTH_GRACE_S)
    d.feed(lifecycle.HealthBad("timed out"))
    assert d.state is ServerState.UNHEALTHY
    assert d.later(lifecycle.UNHEALTHY_RESTART_S - 1) == ()
    assert d.later(1) == (Effect.TERMINATE,)


def test_a_jump_of_the_wall_clock_changes_no_deadline() -> None:
    d = Driver(Timing(ready_timeout_s=60)).start()
    d.wall_s += 86_400
    assert d.later(1) == ()
    assert d.state is ServerState.STARTING


def test_a_taken_over_server_finds_its_readiness_anew() -> None:
    d = Driver()
    d.machine = lifecycle.adopted(d.timing, 77, Now(d.mono_s, d.wall_s), started_s=900.0)
    d.feed(lifecycle.HealthOk())
    assert d.state is ServerState.READY
    assert d.machine.status.started_s == 900.0
    d.feed(lifecycle.StopRequested())
    d.feed(lifecycle.Exited(None))
    d.feed(lifecycle.Gone())
    assert d.state is ServerState.STOPPED


@pytest.mark.parametrize(
    ("code", "words"),
    [(0, "exited with code 0"), (-9, "was killed by SIGKILL"), (None, "not known"), (-64, "signal 64")],
)
def test_exit_codes_in_words(code: int | None, words: str) -> None:
    assert words in lifecycle.describe_exit(code)


class AnyOrder(RuleBasedStateMachine):
    """A world with one server process in it, which obeys effects, and operators who do as they please."""

    def __init__(self) -> None:
        super().__init__()
        self.d = Driver(Timing(ready_timeout_s=30, drain_timeout_s=5, stop_timeout_s=5, restart=RestartPolicy.ALWAYS))
        self.running = False
        self.children = False
        self.checking = False

    def feed(self, event: lifecycle.Event) -> None:
        self.obey(self.d.feed(event))

    def obey(self, effects: tuple[Effect, ...]) -> None:
        for effect in effects:
            if effect is Effect.SPAWN:
                assert not self.running, "a second server beside a running one"
                assert not self.children, "a second server beside the first one's workers"
                self.running = self.children = True
                self.feed(lifecycle.Spawned(1))
            elif effect is Effect.KILL_GROUP:
                was, self.running, self.children = self.running, False, False
                if was:
                    self.feed(lifecycle.Exited(-9))
            elif effect is Effect.CHECK_GONE:
                self.checking = True

    @rule()
    def launch(self) -> None:
        self.feed(lifecycle.Launch())

    @rule(drain=st.sampled_from([None, 0.0, 3.0]))
    def stop(self, drain: float | None) -> None:
        self.feed(lifecycle.StopRequested(drain))

    @rule(drain=st.sampled_from([None, 0.0, 3.0]))
    def restart(self, drain: float | None) -> None:
        self.feed(lifecycle.RestartRequested(drain))

    @rule(seconds=st.sampled_from([0.25, 1.0, 4.0, 11.0, 40.0]))
    def wait(self, seconds: float) -> None:
        self.obey(self.d.later(seconds))

    @rule(phase=st.sampled_from(list(Phase)))
    def phase(self, phase: Phase) -> None:
        self.feed(lifecycle.PhaseSeen(phase))

    @precondition(lambda self: self.running)
    @rule()
    def health_ok(self) -> None:
        self.feed(lifecycle.HealthOk())

    @rule(sure=st.booleans())
    def stalled(self, sure: bool) -> None:
        self.feed(lifecycle.Stalled("nothing moved", sure))

    @rule()
    def moving(self) -> None:
        self.feed(lifecycle.Moving())

    @rule()
    def peer_lost(self) -> None:
        self.feed(lifecycle.PeerLost("node 1 has gone"))

    @rule()
    def waiting(self) -> None:
        self.feed(lifecycle.Waiting("for memory"))

    @rule()
    def health_bad(self) -> None:
        self.feed(lifecycle.HealthBad("refused"))

    @precondition(lambda self: self.running)
    @rule(code=st.sampled_from([0, 1, -9, -15]), orphans=st.booleans())
    def die(self, code: int, orphans: bool) -> None:
        self.running = False
        self.children = orphans
        self.feed(lifecycle.Exited(code))

    @precondition(lambda self: self.checking)
    @rule()
    def check(self) -> None:
        self.checking = False
        self.feed(lifecycle.Remains((1,)) if self.running or self.children else lifecycle.Gone())

    @invariant()
    def over_means_nothing_is_left(self) -> None:
        if self.d.machine.over:
            assert not self.running
            assert not self.children

    @invariant()
    def stopped_after_a_start_means_nothing_is_left(self) -> None:
        if self.d.state is ServerState.STOPPED:
            assert not self.running
            assert not self.children

    @invariant()
    def ready_means_running(self) -> None:
        if self.d.state in {ServerState.READY, ServerState.UNHEALTHY}:
            assert self.running
            assert self.d.machine.status.ready_s is not None

    @invariant()
    def it_can_always_be_brought_to_an_end(self) -> None:
        """From here, a stop and time enough end in an over state with nothing left."""
        if self.d.machine.status.started_s is None:
            return
        saved = self.d.machine, self.running, self.children, self.checking, self.d.mono_s, self.d.wall_s
        self.feed(lifecycle.StopRequested(0.0))
        for _ in range(12):
            self.obey(self.d.later(6.0))
            if self.checking:
                self.check()
        assert self.d.machine.over
        assert self.d.state in OVER_STATES
        assert not self.running
        self.d.machine, self.running, self.children, self.checking, self.d.mono_s, self.d.wall_s = saved


AnyOrder.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
TestAnyOrder = AnyOrder.TestCase


def test_the_machine_is_plain_data() -> None:
    machine = Driver().serve().machine
    assert msgspec.json.decode(msgspec.json.encode(machine), type=Machine) == machine
