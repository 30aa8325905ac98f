"""What a supervisor leaves behind for the one after it, and how that one goes on.

The machine is saved before its effects are carried out, together with them, and again after. So a supervisor that is
killed at any moment leaves either a plan not yet acted on, which its successor carries out, or one that is under way.
Carrying an effect out twice does no harm, but for starting a server: there the successor looks first whether it runs.

Times on the monotonic clock stay valid, since Linux counts it from the boot for all processes alike.
"""

from __future__ import annotations

import msgspec

from console.core.lifecycle import Effect, Machine, Now, Step
from console.core.models import OVER_STATES, TrialStatus
from console.core.trial import Trial

__all__ = ["CLOCK_SLACK_S", "Saved", "resume"]

CLOCK_SLACK_S = 1.0
"""A saved moment may lie so far ahead of now; further means that the machine was booted since."""


class Saved(msgspec.Struct, frozen=True, kw_only=True):
    """`state.json`."""

    machine: Machine
    saved_s: float
    """Monotonic time."""
    pending: tuple[Effect, ...] = ()
    """Asked for by the machine, perhaps not carried out."""
    gpu_memory_before: tuple[int | None, ...] = ()
    """Bytes used on each GPU before the server was started."""
    trial: Trial | None = None
    """Settings that are being tried."""
    last_trial: TrialStatus | None = None
    """How the last trial ended."""


def resume(saved: Saved, now: Now, *, pid: int | None) -> Step | None:
    """The machine as the lost supervisor left it, and the effects with which its successor begins.

    Args:
        saved: what was left.
        now: this moment.
        pid: leader of the server's session, dead or alive; `None` if there is neither a leader nor a member.

    Returns:
        `None` if what was saved belongs to an earlier boot, or knows nothing of a server that is there.
    """
    machine, pending = saved.machine, saved.pending
    if saved.saved_s > now.mono_s + CLOCK_SLACK_S or machine.status.started_s is None:
        return None
    if Effect.SPAWN in pending and pid is not None:
        status = msgspec.structs.replace(machine.status, pid=pid)
        return msgspec.structs.replace(machine, status=status, alive=True), ()
    if machine.alive or machine.cleaned or Effect.SPAWN in pending:
        return machine, pending
    over = machine.status.state in OVER_STATES
    return machine, (Effect.KILL_GROUP, Effect.CHECK_GONE) if over else (Effect.CHECK_GONE,)
