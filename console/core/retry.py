"""Whether a server that ended by itself is started again, after which wait, and when that is given up.

A failure is of one of three classes. A configuration that cannot work is never tried again: it would only cost the
same minutes, at the price of the machine, and hide its message. What may pass by itself, and what broke a server that
had worked, is tried again with growing waits, as far as the profile's policy and the caps allow.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

from console.core.models import Diagnosis
from console.core.profile import RestartPolicy

__all__ = [
    "BY_CAUSE",
    "HANG",
    "LINK_LOST",
    "MISSED",
    "NODE_LOST",
    "RESTARTS_MAX",
    "RESTART_WINDOW_S",
    "START_WINDOW_S",
    "Attempts",
    "FailureClass",
    "Plan",
    "classify",
    "plan_restart",
]

BACKOFF_S: Final = 2.0
"""First wait; doubles with each attempt that counts."""
BACKOFF_MAX_S: Final = 60.0
RESTARTS_MAX: Final = 5
"""More restarts than this within the window, or as many failed starts in a row however long they took, are the end."""
RESTART_WINDOW_S: Final = 600.0
START_WINDOW_S: Final = 60.0
"""A server that crashes earlier after being ready has failed to start: what kills it comes with the first requests
(compilation of a kernel, memory of the first large batch), and would come again."""


class FailureClass(StrEnum):
    """What may come of trying again."""

    CONFIGURATION = "configuration"
    """It cannot work as it is."""
    TRANSIENT = "transient"
    """It may pass by itself: a network, a port or memory that is about to be free."""
    RUNTIME = "runtime"
    """It had worked, and broke."""


HANG: Final = Diagnosis(
    title="The server hung",
    cause="hang",
    why="It was alive, but had stopped working on its requests.",
    remedy="Look for Xid lines in `dmesg -T` and for a worker that printed nothing lately; with NCCL_DEBUG=INFO in "
    "[env] the next one tells more.",
)

NODE_LOST: Final = Diagnosis(
    title="Another machine of its group has gone",
    cause="node-lost",
    why="A server over several machines serves nobody without one of them.",
    remedy="The machine that is named shows why: its own log, or the network to it.",
)

LINK_LOST: Final = Diagnosis(
    title="The machines of the group do not reach each other",
    cause="link-lost",
    why="Each of them missed another, and none has said anything else was wrong with it.",
    remedy="The network between them: cables, switches, firewalls, and the interface that [network] names.",
)

MISSED: Final = frozenset({NODE_LOST.cause, "rank-lost"})
"""Causes that say no more than that another machine has gone. Under load the connections of a collective break in the
moment in which a worker dies, so that vLLM often ends on the other machine first (seen on 0.32 with gloo)."""

_CONFIGURATION, _TRANSIENT, _RUNTIME = FailureClass

BY_CAUSE: Final[dict[str, FailureClass]] = {
    "hang": _RUNTIME,
    "node-lost": _TRANSIENT,
    "ready-timeout": _CONFIGURATION,
    "port-in-use": _TRANSIENT,
    "memory-taken": _TRANSIENT,
    "nccl-watchdog": _TRANSIENT,
    "nccl-system": _TRANSIENT,
    "nccl-error": _TRANSIENT,
    "rpc-timeout": _TRANSIENT,
    "disk-full": _CONFIGURATION,
    "too-many-files": _CONFIGURATION,
    "triton-missing": _CONFIGURATION,
    "xid": _RUNTIME,
    "model-gated": _CONFIGURATION,
    "model-not-found": _CONFIGURATION,
    "model-offline": _CONFIGURATION,
}
"""Causes whose class does not follow from their stage."""

_BY_STAGE: Final[dict[str, FailureClass]] = {
    "arguments": _CONFIGURATION,
    "config": _CONFIGURATION,
    "download": _TRANSIENT,
    "start": _CONFIGURATION,
    "load": _CONFIGURATION,
    "memory": _CONFIGURATION,
    "run": _RUNTIME,
    "request": _RUNTIME,
    "exit": _RUNTIME,
}
_MAY_BE_HELD: Final = frozenset({"load", "memory"})
"""Stages whose failures are those of memory that another process holds, if the same start has worked before."""


def classify(diagnosis: Diagnosis | None, *, served: bool, proven: bool) -> FailureClass:
    """The class of a failure.

    Args:
        diagnosis: what the log says.
        served: the server was ready before it ended.
        proven: an earlier attempt of this run was ready, so the configuration works.
    """
    if served:
        return FailureClass.RUNTIME
    cause = diagnosis.cause if diagnosis is not None else None
    if cause is None:
        # A first start that fails for an unknown reason: nothing says that it could ever work.
        return FailureClass.RUNTIME if proven else FailureClass.CONFIGURATION
    stage = _stage_of(cause)
    if proven and stage in _MAY_BE_HELD and cause not in BY_CAUSE:
        return FailureClass.TRANSIENT
    return BY_CAUSE.get(cause) or _BY_STAGE.get(stage, FailureClass.CONFIGURATION)


def _stage_of(cause: str) -> str:
    # The table compiles all its patterns, which only a failure is worth.
    from console.core.failures import FAILURES

    return next((str(row.stage) for row in FAILURES if row.id == cause), "")


class Attempts(msgspec.Struct, frozen=True):
    """What counts against the caps. Times on the monotonic clock."""

    ends_s: tuple[float, ...] = ()
    failed_starts: int = 0
    """In a row."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What follows from a failure."""

    attempts: Attempts
    wait_s: float | None = None
    """`None`: it is not started again."""
    number: int = 0
    reason: str = ""
    """Why not, or which restart it is; may be empty."""


def plan_restart(
    policy: RestartPolicy,
    kind: FailureClass,
    attempts: Attempts,
    now_s: float,
    *,
    served_s: float | None,
    clean_exit: bool,
) -> Plan:
    """Decide.

    Args:
        policy: the profile's.
        kind: class of the failure.
        attempts: those before this one.
        now_s: monotonic time.
        served_s: how long it was ready; `None` if it never was.
        clean_exit: it ended with code 0, and its log shows no failure.
    """
    if policy is RestartPolicy.NEVER:
        return Plan(attempts=attempts)
    if clean_exit and policy is RestartPolicy.ON_FAILURE:
        return Plan(attempts=attempts, reason="not restarted: it ended in good order, and the policy is on-failure")
    if kind is FailureClass.CONFIGURATION:
        return Plan(attempts=attempts, reason="not restarted: it would fail the same way again")
    steady = served_s is not None and served_s >= START_WINDOW_S
    failed = 0 if steady else attempts.failed_starts + 1
    ends = (*(end for end in attempts.ends_s if now_s - end < RESTART_WINDOW_S), now_s)
    after = Attempts(ends, failed)
    if failed > RESTARTS_MAX:
        return Plan(attempts=after, reason=f"{failed} failed starts in a row: given up")
    if len(ends) > RESTARTS_MAX:
        return Plan(attempts=after, reason=f"{len(ends)} crashes in {RESTART_WINDOW_S / 60:.0f} min: given up")
    number = max(failed, len(ends))
    wait_s = min(BACKOFF_S * 2 ** (number - 1), BACKOFF_MAX_S)
    return Plan(attempts=after, wait_s=wait_s, number=number, reason=f"restart {number} of {RESTARTS_MAX}")
