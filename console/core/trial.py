"""A trial of other settings as a pure state machine: which settings are to serve, and what to do for that now.

A trial has numbered settings: 0 is what served before, 1 and up are what the client wants tried, one after another.
`wanted` says which are to serve, `running` which the server started last has; the supervisor restarts the server
until both agree. So nothing depends on steps being seen in order, and a supervisor that takes over in the middle goes
on from what is so.

Only a word of the operator's (`keep`) makes tried settings stay. Everything else goes back to 0 by itself: the client
that asked went away, its lease ran out, the tried settings did not start or crashed, a restart was asked for, or
the supervisor was lost. A stop ends the trial without another start.
"""

from __future__ import annotations

from enum import Enum

import msgspec

from console.core.lifecycle import Machine
from console.core.models import OVER_STATES, ProfileChange, ServerState, TrialPhase, TrialStatus

__all__ = [
    "LEASE_S",
    "LEASE_S_MAX",
    "OLD",
    "Do",
    "Trial",
    "another",
    "begin",
    "hold",
    "keep_refusal",
    "left",
    "look",
    "outcome",
    "status_of",
    "stopped",
    "taken_over",
    "turn_back",
]

OLD = 0
LEASE_S = 60.0
"""A client that has not been heard of for so long is taken for lost. It says that it is there three times as often."""
LEASE_S_MAX = 600.0


class Do(Enum):
    """What the supervisor must do for a trial."""

    NOTHING = "nothing"
    RESTART = "restart"
    """End the server after its requests, and start what `wanted` says."""
    END = "end"
    """The trial is over: what served before serves again, or was stopped."""


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """A trial under way. Times on the monotonic clock."""

    id: str
    change: tuple[ProfileChange, ...]
    """How the settings that are tried differ from those before the trial."""
    owner: int | None
    """Number of the client that asked; `None` after it went away."""
    lease_s: float
    lease_until_s: float
    wanted: int = 1
    running: int = OLD
    highest: int = 1
    """The newest settings' number."""
    why: str = ""
    """Why it goes back."""
    stopped: bool = False
    """Somebody asked to stop the server."""


def begin(trial_id: str, change: tuple[ProfileChange, ...], owner: int, lease_s: float, now_s: float) -> Trial:
    """A trial that has done nothing yet."""
    lease_s = min(max(lease_s, 1.0), LEASE_S_MAX)
    return Trial(id=trial_id, change=change, owner=owner, lease_s=lease_s, lease_until_s=now_s + lease_s)


def another(trial: Trial, change: tuple[ProfileChange, ...], now_s: float) -> Trial:
    """The same trial with the next settings to try."""
    number = trial.highest + 1
    return msgspec.structs.replace(
        trial, change=change, wanted=number, highest=number, lease_until_s=now_s + trial.lease_s
    )


def hold(trial: Trial, now_s: float) -> Trial:
    """Its client is there."""
    return msgspec.structs.replace(trial, lease_until_s=now_s + trial.lease_s)


def turn_back(trial: Trial, why: str) -> Trial:
    """What served before is to serve again. The first reason counts."""
    if trial.wanted == OLD:
        return trial
    return msgspec.structs.replace(trial, wanted=OLD, why=why)


def left(trial: Trial, client: int) -> Trial:
    """A client went away."""
    if trial.owner != client:
        return trial
    return msgspec.structs.replace(turn_back(trial, "whoever tried them went away without a word"), owner=None)


def stopped(trial: Trial, why: str) -> Trial:
    """The server is to stop, so nothing is started any more."""
    return msgspec.structs.replace(turn_back(trial, why), stopped=True)


def taken_over(trial: Trial) -> Trial:
    """Another supervisor goes on with it. Its client's line is lost, so what served before is to serve again."""
    return msgspec.structs.replace(turn_back(trial, "the supervisor was lost in the middle of it"), owner=None)


def keep_refusal(trial: Trial | None, machine: Machine) -> str:
    """Why the settings that are tried cannot be kept now; empty if they can."""
    if trial is None:
        return "no settings are being tried"
    if trial.wanted == OLD:
        return f"they were taken back already: {trial.why}"
    if trial.running != trial.wanted or machine.status.state is not ServerState.READY:
        return "the server is not ready with them"
    return ""


def look(trial: Trial, machine: Machine, now_s: float) -> tuple[Trial, Do]:
    """What is to be done now. Asked again after everything that happens."""
    if trial.wanted != OLD and now_s >= trial.lease_until_s:
        trial = turn_back(trial, f"whoever tried them was not heard of for {trial.lease_s:.0f} s")
    if trial.wanted != OLD and trial.wanted == trial.running and machine.over:
        trial = turn_back(trial, machine.status.reason or f"the server is {machine.status.state}")
    if trial.stopped:
        return trial, Do.END if machine.over else Do.NOTHING
    if trial.running != trial.wanted:
        return trial, Do.NOTHING if _will_start(machine) else Do.RESTART
    settled = machine.over or (machine.status.state is ServerState.READY and machine.stop is None)
    return trial, Do.END if trial.wanted == OLD and settled else Do.NOTHING


def _will_start(machine: Machine) -> bool:
    """A start is planned, and will be one of what is wanted by then."""
    return machine.retry_at_s is not None or (machine.stop is not None and machine.stop.restart)


def status_of(trial: Trial, machine: Machine) -> TrialStatus:
    """The trial as front ends see it."""
    return TrialStatus(
        id=trial.id, change=trial.change, number=trial.highest, phase=_phase(trial, machine), why=trial.why
    )


def _phase(trial: Trial, machine: Machine) -> TrialPhase:
    if trial.wanted == OLD:
        return TrialPhase.REVERTING
    if trial.running != trial.wanted:
        return TrialPhase.DRAINING
    serves = machine.status.state in (ServerState.READY, ServerState.UNHEALTHY)
    return TrialPhase.SERVING if serves else TrialPhase.STARTING


def outcome(trial: Trial, machine: Machine, *, kept: bool) -> TrialStatus:
    """How a trial ended."""
    phase = TrialPhase.KEPT if kept else TrialPhase.REVERTED
    why = trial.why
    if not kept and not trial.stopped and machine.status.state in OVER_STATES:
        phase = TrialPhase.LOST
        why = f"{why}; and then what served before did not start: {machine.status.reason}"
    return TrialStatus(id=trial.id, change=trial.change, number=trial.highest, phase=phase, why=why)
