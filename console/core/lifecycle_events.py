"""What the lifecycle machine is told, and what it asks for: events, effects, limits and the two clocks.

Separate from the rules (`lifecycle.py`), which use them; everybody else takes them from there.
"""

from __future__ import annotations

from enum import Enum
from typing import TypeAlias

import msgspec

from console.core.liveness import HANG_TIMEOUT_S
from console.core.models import Diagnosis, Phase
from console.core.profile import RestartPolicy

__all__ = [
    "Effect",
    "Event",
    "Exited",
    "Gone",
    "HealthBad",
    "HealthOk",
    "InFlight",
    "Launch",
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
]


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of one run, in seconds, from the profile's `[supervise]`."""

    ready_timeout_s: float = 3600.0
    drain_timeout_s: float = 30.0
    stop_timeout_s: float = 30.0
    restart: RestartPolicy = RestartPolicy.NEVER
    hang_timeout_s: float = HANG_TIMEOUT_S
    canary_s: float = 0.0
    told_ready: bool = False
    """Whether it is ready shows elsewhere, and so does when it is late: it has no HTTP server."""


class Now(msgspec.Struct, frozen=True):
    """One moment on both clocks, in seconds."""

    mono_s: float
    wall_s: float


class Launch(msgspec.Struct, frozen=True):
    """Start for the first time."""


class Spawned(msgspec.Struct, frozen=True):
    """The process runs."""

    pid: int


class SpawnFailed(msgspec.Struct, frozen=True):
    """The process could not be started."""

    reason: str


class PhaseSeen(msgspec.Struct, frozen=True):
    """The log shows where the start is."""

    phase: Phase
    detail: str = ""
    progress: float | None = None


class HealthOk(msgspec.Struct, frozen=True):
    """`/health` answered 200."""


class HealthBad(msgspec.Struct, frozen=True):
    """`/health` did not answer 200."""

    reason: str


class Stalled(msgspec.Struct, frozen=True):
    """There is evidence that it hangs."""

    reason: str
    sure: bool = True
    """It has been watched for long enough to act on it."""


class Moving(msgspec.Struct, frozen=True):
    """There is no such evidence any more."""


class PeerLost(msgspec.Struct, frozen=True):
    """Another machine of its group has gone, so that it can serve nobody any more.

    `own` is what its own log says, where that is a known cause: then the other has gone because of it.
    """

    reason: str
    own: Diagnosis | None = None


class Waiting(msgspec.Struct, frozen=True):
    """Between two attempts something has to pass first."""

    reason: str


class InFlight(msgspec.Struct, frozen=True):
    """Requests running and waiting."""

    count: int | None


class Exited(msgspec.Struct, frozen=True):
    """The server's first process ended."""

    code: int | None
    diagnosis: Diagnosis | None = None


class Gone(msgspec.Struct, frozen=True):
    """No process of the server's session is left."""


class Remains(msgspec.Struct, frozen=True):
    """Some processes of the session are still there."""

    pids: tuple[int, ...]


class StopRequested(msgspec.Struct, frozen=True):
    """Somebody wants it stopped."""

    drain_timeout_s: float | None = None
    reason: str = ""
    """Why, where no person asked."""


class RestartRequested(msgspec.Struct, frozen=True):
    """Somebody wants it stopped and started again."""

    drain_timeout_s: float | None = None


class Tick(msgspec.Struct, frozen=True):
    """Time went on."""


Event: TypeAlias = (
    Launch
    | Spawned
    | SpawnFailed
    | PhaseSeen
    | HealthOk
    | HealthBad
    | Stalled
    | Moving
    | PeerLost
    | Waiting
    | InFlight
    | Exited
    | Gone
    | Remains
    | StopRequested
    | RestartRequested
    | Tick
)


class Effect(Enum):
    """What the supervisor must do now."""

    SPAWN = "spawn"
    TERMINATE = "terminate"
    """SIGTERM to the server's first process."""
    KILL_GROUP = "kill-group"
    """SIGKILL to every process of the server's session."""
    CHECK_GONE = "check-gone"
    """Look for processes of the session and answer `Gone` or `Remains`."""
