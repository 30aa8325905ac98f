"""The server's life as a pure state machine: (machine, event, now) -> (machine, effects).

It owns every decision about starting, readiness, stopping, killing and restarting, and touches nothing: the
supervisor feeds it what happened and carries out what it asks for. Deadlines count on the monotonic clock, so that a
jump of the wall clock neither kills nor spares a server; the wall clock only dates what people read.

Facts behind the rules (seen on vLLM 0.32.0): while the engine initialises, one SIGTERM is often lost, a second one
ends it; once it serves, SIGTERM ends it, after `--shutdown-timeout` seconds of draining at most; an exit that nobody
asked for may have the code 0; engine and workers survive a killed API server in its session.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from console.core.lifecycle_events import (
    Effect,
    Event,
    Exited,
    Gone,
    HealthBad,
    HealthOk,
    InFlight,
    Launch,
    Moving,
    Now,
    PeerLost,
    PhaseSeen,
    Remains,
    RestartRequested,
    Spawned,
    SpawnFailed,
    Stalled,
    StopRequested,
    Tick,
    Timing,
    Waiting,
)
from console.core.models import (
    OVER_STATES,
    Diagnosis,
    PhaseTime,
    ServerState,
    ServerStatus,
)
from console.core.profile import RestartPolicy
from console.core.retry import HANG, NODE_LOST, Attempts, classify, plan_restart

__all__ = [
    "HEALTH_GRACE_S",
    "READY_TIMEOUT",
    "Effect",
    "Event",
    "Exited",
    "Gone",
    "HealthBad",
    "HealthOk",
    "InFlight",
    "Launch",
    "Machine",
    "Moving",
    "Now",
    "PeerLost",
    "PhaseSeen",
    "Remains",
    "RestartRequested",
    "SpawnFailed",
    "Spawned",
    "Stalled",
    "StopRequested",
    "Tick",
    "Timing",
    "Waiting",
    "adopted",
    "describe_exit",
    "initial",
    "step",
    "wants_restart",
]

HEALTH_GRACE_S = 10.0
"""`/health` may fail for this long before a ready server counts as unhealthy."""
TERM_AGAIN_S = 3.0
"""Between SIGTERMs while the engine has not come up."""
UNHEALTHY_RESTART_S = 60.0
"""Unhealthy for longer, a server is restarted where the policy says so: one whose API process is starved by other
work answers again by then."""
CUT_KILL_S = 5.0
"""A drain shorter than vLLM was told of at its start (`--shutdown-timeout`) is one that it does not keep to, and a
second SIGTERM changes nothing for it (0.32): so long after the end of the drain it gets SIGKILL."""
CUT_SLACK_S = 1.5
"""Requests are counted once a second, so a drain that ends so close to its limit counts as cut off."""
HANG_KILL_S = 5.0
"""A server that hangs gets so long between SIGTERM and SIGKILL: it has nothing that it could finish."""

READY_TIMEOUT = Diagnosis(
    title="The server was not ready in time",
    cause="ready-timeout",
    remedy="If the log shows it still getting on, raise supervise.ready_timeout_s; if not, see where it stood.",
)


class StopPlan(msgspec.Struct, frozen=True, kw_only=True):
    """A stop under way; times on the monotonic clock."""

    serving: bool
    """It had come up, so it drains and one SIGTERM is enough."""
    drain_until_s: float
    kill_at_s: float
    begun_s: float
    last_term_s: float
    drained: bool = False
    """There were requests to wait for."""
    terms: int = 1
    killed: bool = False
    restart: bool = False
    outcome: ServerState = ServerState.STOPPED
    reason: str = ""


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """The whole state."""

    timing: Timing
    status: ServerStatus = ServerStatus()
    alive: bool = False
    """The server's first process runs."""
    cleaned: bool = True
    """It is proven that nothing of the last attempt is left."""
    stop: StopPlan | None = None
    ready_deadline_s: float = 0.0
    bad_since_s: float | None = None
    stalled: Stalled | None = None
    unhealthy_since_s: float | None = None
    phase_since_s: float | None = None
    ready_since_s: float | None = None
    retry_at_s: float | None = None
    why: str = ""
    """Why the last attempt ended, while `status.reason` says what is waited for."""
    unwanted: bool = False
    """Somebody asked to stop while leftovers of the last attempt were being ended."""
    attempts: Attempts = Attempts()
    proven: bool = False
    """An attempt of this run was ready."""

    @property
    def over(self) -> bool:
        """Nothing runs, nothing is left, nothing is planned."""
        return self.status.state in OVER_STATES and self.cleaned and self.retry_at_s is None and self.stop is None


Step: TypeAlias = tuple[Machine, tuple[Effect, ...]]


def initial(timing: Timing) -> Machine:
    """A machine that has done nothing yet."""
    return Machine(timing=timing)


def adopted(timing: Timing, pid: int, now: Now, started_s: float | None) -> Machine:
    """A machine for a server that runs already, whose supervisor was lost. Readiness is found out anew."""
    status = ServerStatus(
        state=ServerState.STARTING,
        since_s=now.wall_s,
        started_s=started_s if started_s is not None else now.wall_s,
        pid=pid,
        reason="its supervisor was lost; taken over",
    )
    return Machine(
        timing=timing,
        status=status,
        alive=True,
        cleaned=False,
        ready_deadline_s=now.mono_s + timing.ready_timeout_s,
    )


def describe_exit(code: int | None) -> str:
    """An exit status in words."""
    if code is None:
        return "ended (its exit code is not known)"
    if code < 0:
        name = _SIGNALS.get(-code, f"signal {-code}")
        return f"was killed by {name}"
    return f"exited with code {code}"


_SIGNALS = {1: "SIGHUP", 2: "SIGINT", 3: "SIGQUIT", 6: "SIGABRT", 9: "SIGKILL", 11: "SIGSEGV", 15: "SIGTERM"}


def step(machine: Machine, event: Event, now: Now) -> Step:
    """What follows from one event. Events that make no sense in a state change nothing."""
    match event:
        case Launch():
            return _spawn(machine, now) if machine.over else (machine, ())
        case Spawned(pid=pid):
            status = msgspec.structs.replace(machine.status, pid=pid)
            return msgspec.structs.replace(machine, status=status, alive=True), ()
        case SpawnFailed(reason=reason):
            failed = _enter(machine, ServerState.FAILED, now, reason=reason)
            return msgspec.structs.replace(failed, alive=False, cleaned=True), ()
        case PhaseSeen():
            return _phase(machine, event, now), ()
        case HealthOk():
            return _healthy(machine, now), ()
        case HealthBad(reason=reason):
            return _unhealthy(machine, reason, now), ()
        case Stalled():
            return _stalled(machine, event, now), ()
        case Moving():
            return _moving(machine, now), ()
        case PeerLost(reason=reason, own=own):
            return _peer_lost(machine, reason, own, now)
        case Waiting(reason=reason):
            return _waiting(machine, reason), ()
        case InFlight(count=count):
            return _in_flight(machine, count), ()
        case Exited():
            return _exited(machine, event, now)
        case Gone():
            return _gone(machine, now)
        case Remains(pids=pids):
            return _remains(machine, pids)
        case StopRequested(drain_timeout_s=drain, reason=reason):
            return _begin_stop(machine, now, drain=drain, restart=False, reason=reason)
        case RestartRequested(drain_timeout_s=drain):
            return _begin_stop(machine, now, drain=drain, restart=True)
        case Tick():
            return _tick(machine, now)


def _enter(machine: Machine, state: ServerState, now: Now, *, reason: str = "") -> Machine:
    status = msgspec.structs.replace(machine.status, state=state, since_s=now.wall_s, reason=reason, deadline_s=None)
    return msgspec.structs.replace(machine, status=status)


def _spawn(machine: Machine, now: Now) -> Step:
    timeout = machine.timing.ready_timeout_s
    status = ServerStatus(
        state=ServerState.STARTING,
        since_s=now.wall_s,
        started_s=now.wall_s,
        deadline_s=None if machine.timing.told_ready else now.wall_s + timeout,
    )
    fresh = msgspec.structs.replace(
        machine,
        status=status,
        alive=False,
        cleaned=False,
        stop=None,
        ready_deadline_s=now.mono_s + timeout,
        bad_since_s=None,
        stalled=None,
        unhealthy_since_s=None,
        phase_since_s=None,
        ready_since_s=None,
        retry_at_s=None,
        why="",
        unwanted=False,
    )
    return fresh, (Effect.SPAWN,)


_COMING_UP = frozenset({ServerState.STARTING, ServerState.LOADING})


def _phase(machine: Machine, event: PhaseSeen, now: Now) -> Machine:
    status = machine.status
    if status.state not in _COMING_UP:
        return machine
    since = machine.phase_since_s
    phases = status.phases
    if status.phase is not event.phase:
        if status.phase is not None and since is not None:
            phases = (*phases, PhaseTime(phase=status.phase, seconds=now.mono_s - since))
        since = now.mono_s
    status = msgspec.structs.replace(
        status,
        state=ServerState.LOADING,
        since_s=status.since_s if status.state is ServerState.LOADING else now.wall_s,
        phase=event.phase,
        phase_detail=event.detail,
        progress=event.progress,
        phases=phases,
    )
    return msgspec.structs.replace(machine, status=status, phase_since_s=since)


def _healthy(machine: Machine, now: Now) -> Machine:
    state = machine.status.state
    if state in _COMING_UP and machine.alive:
        ready = _enter(machine, ServerState.READY, now)
        phases = ready.status.phases
        if ready.status.phase is not None and machine.phase_since_s is not None:
            phases = (*phases, PhaseTime(phase=ready.status.phase, seconds=now.mono_s - machine.phase_since_s))
        status = msgspec.structs.replace(
            ready.status, ready_s=now.wall_s, phase=None, phase_detail="", progress=None, phases=phases
        )
        return msgspec.structs.replace(
            ready, status=status, bad_since_s=None, phase_since_s=None, ready_since_s=now.mono_s, proven=True
        )
    if state is ServerState.UNHEALTHY and machine.stalled is None:
        machine = _enter(machine, ServerState.READY, now)
    return msgspec.structs.replace(machine, bad_since_s=None)


def _unhealthy(machine: Machine, reason: str, now: Now) -> Machine:
    if machine.status.state is not ServerState.READY:
        return machine
    since = machine.bad_since_s if machine.bad_since_s is not None else now.mono_s
    machine = msgspec.structs.replace(machine, bad_since_s=since)
    if now.mono_s - since >= HEALTH_GRACE_S:
        machine = _become_unhealthy(machine, f"/health: {reason}", now)
    return machine


def _become_unhealthy(machine: Machine, reason: str, now: Now) -> Machine:
    machine = _enter(machine, ServerState.UNHEALTHY, now, reason=reason)
    if machine.timing.restart is RestartPolicy.NEVER:
        return machine
    sure = machine.stalled is not None and machine.stalled.sure
    wait = 0.0 if sure else UNHEALTHY_RESTART_S
    status = msgspec.structs.replace(machine.status, deadline_s=now.wall_s + wait)
    return msgspec.structs.replace(machine, status=status, unhealthy_since_s=now.mono_s - UNHEALTHY_RESTART_S + wait)


def _stalled(machine: Machine, event: Stalled, now: Now) -> Machine:
    if machine.status.state not in {ServerState.READY, ServerState.UNHEALTHY}:
        return machine
    before = machine.stalled
    machine = msgspec.structs.replace(machine, stalled=event)
    if before is None or event.sure is not before.sure:
        machine = _become_unhealthy(machine, event.reason, now)
    return machine


def _moving(machine: Machine, now: Now) -> Machine:
    if machine.stalled is None:
        return machine
    machine = msgspec.structs.replace(machine, stalled=None)
    if machine.status.state is ServerState.UNHEALTHY:
        machine = _enter(machine, ServerState.READY, now)
    return machine


def _peer_lost(machine: Machine, reason: str, own: Diagnosis | None, now: Now) -> Step:
    if not machine.alive or machine.stop is not None:
        return machine, ()
    outcome = ServerState.FAILED if machine.status.ready_s is None else ServerState.CRASHED
    status = msgspec.structs.replace(machine.status, diagnosis=own or NODE_LOST)
    alone = msgspec.structs.replace(machine, status=status)
    kill_after_s = min(HANG_KILL_S, machine.timing.stop_timeout_s)
    return _stop(alone, now, drain=0.0, outcome=outcome, reason=reason, kill_after_s=kill_after_s)


def _waiting(machine: Machine, reason: str) -> Machine:
    if machine.alive or machine.cleaned:
        return machine
    status = msgspec.structs.replace(machine.status, reason=f"{machine.why}; {reason}" if machine.why else reason)
    return msgspec.structs.replace(machine, status=status)


def _exited(machine: Machine, event: Exited, now: Now) -> Step:
    if not machine.alive:
        return machine, ()
    status = msgspec.structs.replace(machine.status, exit_code=event.code)
    machine = msgspec.structs.replace(machine, status=status, alive=False)
    if machine.stop is not None:
        return _count_cut(machine, machine.stop, now), (Effect.CHECK_GONE,)
    serving = status.ready_s is not None
    outcome = ServerState.CRASHED if serving else ServerState.FAILED
    how = "while it served" if serving else "before it was ready"
    why = f"vllm serve {describe_exit(event.code)} {how}"
    machine = _enter(machine, outcome, now, reason=why)
    status = msgspec.structs.replace(machine.status, diagnosis=event.diagnosis)
    # Engine and workers outlive a killed API server, so the rest of the session goes at once.
    return msgspec.structs.replace(machine, status=status, why=why), (Effect.KILL_GROUP, Effect.CHECK_GONE)


def _count_cut(machine: Machine, plan: StopPlan, now: Now) -> Machine:
    """How many requests the end of the server cut off: those last seen, if it did not end before its limit."""
    status = machine.status
    if not plan.serving or not plan.drained:
        return machine
    in_time = now.mono_s < plan.drain_until_s - CUT_SLACK_S and not plan.killed
    cut = 0 if in_time else status.in_flight or 0
    status = msgspec.structs.replace(status, cut=cut, in_flight=None)
    if cut:
        waited_s = now.mono_s - plan.begun_s
        text = f"{cut} {'request was' if cut == 1 else 'requests were'} cut off after {waited_s:.0f} s"
        plan = msgspec.structs.replace(plan, reason="; ".join(filter(None, (plan.reason, text))))
    return msgspec.structs.replace(machine, status=status, stop=plan)


def _in_flight(machine: Machine, count: int | None) -> Machine:
    status = msgspec.structs.replace(machine.status, in_flight=count)
    plan = machine.stop
    if plan is not None and count and not plan.drained:
        plan = msgspec.structs.replace(plan, drained=True)
    return msgspec.structs.replace(machine, status=status, stop=plan)


def _gone(machine: Machine, now: Now) -> Step:
    if machine.alive or machine.cleaned:
        return machine, ()
    machine = msgspec.structs.replace(machine, cleaned=True)
    plan = machine.stop
    if plan is not None:
        machine = msgspec.structs.replace(machine, stop=None)
        if plan.restart:
            return _spawn(machine, now)
        machine = _enter(machine, plan.outcome, now, reason=plan.reason)
        if plan.outcome is ServerState.STOPPED:
            return machine, ()
        machine = msgspec.structs.replace(machine, why=plan.reason)
    if machine.retry_at_s is not None or machine.unwanted:
        return machine, ()
    return _after_failure(machine, now), ()


def wants_restart(machine: Machine) -> bool:
    """Whether a start may follow once nothing is left of the last attempt."""
    if machine.stop is not None:
        return machine.stop.restart or machine.stop.outcome is not ServerState.STOPPED
    return machine.retry_at_s is not None or (
        machine.timing.restart is not RestartPolicy.NEVER and not machine.unwanted
    )


def _after_failure(machine: Machine, now: Now) -> Machine:
    status = machine.status
    served = status.state is ServerState.CRASHED
    plan = plan_restart(
        machine.timing.restart,
        classify(status.diagnosis, served=served, proven=machine.proven),
        machine.attempts,
        now.mono_s,
        served_s=now.mono_s - machine.ready_since_s if machine.ready_since_s is not None else None,
        clean_exit=status.exit_code == 0 and status.diagnosis is None,
    )
    status = msgspec.structs.replace(
        status,
        reason="; ".join(filter(None, (machine.why or status.reason, plan.reason))),
        deadline_s=None if plan.wait_s is None else now.wall_s + plan.wait_s,
        restart=plan.number or None,
    )
    retry_at_s = None if plan.wait_s is None else now.mono_s + plan.wait_s
    return msgspec.structs.replace(machine, status=status, attempts=plan.attempts, retry_at_s=retry_at_s)


def _remains(machine: Machine, pids: tuple[int, ...]) -> Step:
    if machine.alive or machine.cleaned:
        return machine, ()
    machine = _waiting(machine, f"waiting for its processes to end: {', '.join(map(str, pids))}")
    return machine, (Effect.KILL_GROUP, Effect.CHECK_GONE)


def _begin_stop(machine: Machine, now: Now, *, drain: float | None, restart: bool, reason: str = "") -> Step:
    if machine.stop is not None:
        return _again(machine, now, drain=drain, restart=restart)
    if machine.status.state in OVER_STATES:
        return _begin_anew(machine, now) if restart else (_give_up(machine, now), ())
    return _stop(machine, now, drain=drain, restart=restart, reason=reason)


def _begin_anew(machine: Machine, now: Now) -> Step:
    """Start now what is over or waits for a restart; what was tried before no longer counts."""
    machine = msgspec.structs.replace(machine, retry_at_s=now.mono_s, attempts=Attempts(), unwanted=False)
    return _tick(machine, now)


def _give_up(machine: Machine, now: Now) -> Machine:
    """Plan no restart any more."""
    if machine.retry_at_s is None:
        return msgspec.structs.replace(machine, unwanted=True)
    machine = msgspec.structs.replace(machine, retry_at_s=None)
    return _enter(machine, ServerState.STOPPED, now, reason=f"{machine.why}; not restarted, as it was asked to stop")


def _stop(
    machine: Machine,
    now: Now,
    *,
    drain: float | None = None,
    restart: bool = False,
    outcome: ServerState = ServerState.STOPPED,
    reason: str = "",
    kill_after_s: float | None = None,
) -> Step:
    serving = machine.status.ready_s is not None
    limit = machine.timing.drain_timeout_s if drain is None else drain
    drain_until = now.mono_s + (limit if serving else 0.0)
    plan = StopPlan(
        serving=serving,
        drain_until_s=drain_until,
        kill_at_s=drain_until + (_patience_s(machine) if kill_after_s is None else kill_after_s),
        begun_s=now.mono_s,
        last_term_s=now.mono_s,
        restart=restart,
        outcome=outcome,
        reason=reason,
    )
    machine = _enter(machine, ServerState.STOPPING, now, reason=reason)
    status = msgspec.structs.replace(machine.status, deadline_s=now.wall_s + (drain_until - now.mono_s))
    machine = msgspec.structs.replace(machine, status=status, stop=plan)
    return machine, (Effect.TERMINATE,) if machine.alive else (Effect.CHECK_GONE,)


def _patience_s(machine: Machine) -> float:
    """How long a server may take to end after its drain. One behind a head has no requests, and its workers wait in a
    collective for a head that is gone: vLLM itself gives that up after ten seconds (0.32)."""
    limit_s = machine.timing.stop_timeout_s
    return min(HANG_KILL_S, limit_s) if machine.timing.told_ready else limit_s


def _again(machine: Machine, now: Now, *, drain: float | None, restart: bool) -> Step:
    """A second request while it stops: the last word on restarting counts, and the shorter drain."""
    plan = machine.stop
    assert plan is not None  # noqa: S101 - told by the caller
    limit = now.mono_s + (machine.timing.drain_timeout_s if drain is None else drain)
    until = min(plan.drain_until_s, limit)
    plan = msgspec.structs.replace(
        plan,
        restart=restart,
        drain_until_s=until,
        kill_at_s=min(plan.kill_at_s, until + _patience_s(machine)),
    )
    return msgspec.structs.replace(machine, stop=plan), ()


def _tick(machine: Machine, now: Now) -> Step:
    if machine.stop is not None:
        return _tick_stop(machine, machine.stop, now)
    if machine.retry_at_s is not None and machine.cleaned and now.mono_s >= machine.retry_at_s:
        return _spawn(machine, now)
    late = now.mono_s >= machine.ready_deadline_s and not machine.timing.told_ready
    if machine.status.state in _COMING_UP and late:
        reason = f"not ready within {machine.timing.ready_timeout_s:.0f} s"
        status = msgspec.structs.replace(machine.status, diagnosis=READY_TIMEOUT)
        failed = msgspec.structs.replace(machine, status=status)
        return _stop(failed, now, drain=0.0, outcome=ServerState.FAILED, reason=reason)
    since = machine.unhealthy_since_s
    if (
        machine.status.state is ServerState.UNHEALTHY
        and since is not None
        and now.mono_s - since >= UNHEALTHY_RESTART_S
    ):
        status = msgspec.structs.replace(machine.status, diagnosis=HANG)
        hung = msgspec.structs.replace(machine, status=status)
        return _stop(
            hung,
            now,
            drain=0.0,
            outcome=ServerState.CRASHED,
            reason=f"it hung: {machine.status.reason}",
            kill_after_s=min(HANG_KILL_S, machine.timing.stop_timeout_s),
        )
    return machine, ()


def _tick_stop(machine: Machine, plan: StopPlan, now: Now) -> Step:
    if not machine.alive:
        return machine, ()
    if now.mono_s >= plan.kill_at_s:
        if plan.killed:
            return machine, ()
        plan = msgspec.structs.replace(plan, killed=True)
        return msgspec.structs.replace(machine, stop=plan), (Effect.KILL_GROUP,)
    drained = plan.serving and plan.terms == 1 and now.mono_s >= plan.drain_until_s
    lost = not plan.serving and now.mono_s - plan.last_term_s >= TERM_AGAIN_S
    if drained or lost:
        plan = msgspec.structs.replace(plan, terms=plan.terms + 1, last_term_s=now.mono_s)
        if drained and now.mono_s - plan.begun_s < machine.timing.drain_timeout_s and machine.status.in_flight:
            plan = msgspec.structs.replace(plan, kill_at_s=min(plan.kill_at_s, now.mono_s + CUT_KILL_S))
        return msgspec.structs.replace(machine, stop=plan), (Effect.TERMINATE,)
    return machine, ()
