"""A backend that changes nothing, whatever the screen above it asks for.

By lists of what only reads, not of what changes: a call that is new here is refused until somebody has judged it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

from console.client.api import Backend, Session
from console.core.errors import UsageError

__all__ = ["BACKEND_READS", "REMEDY", "SESSION_READS", "read_only", "refusal"]

BACKEND_READS = frozenset(
    {
        "machine",
        "profiles",
        "plan",
        "preflight",
        "replan",
        "download_offer",
        "bench_results",
        "runs",
        "profile_source",
        "attempt",
        "kept_edit",
        "keep_command",
    }
)
"""A command that is copied goes into a file of this operator, as text to look at."""
SESSION_READS = frozenset(
    {"run", "updates", "log", "player", "refusal", "snoozes", "log_there", "host", "hosts", "close"}
)
STREAMS = frozenset({"chat"})
"""Calls that are iterated over, not awaited."""
REMEDY = "Start it without --readonly, and without `readonly` in config.toml."


def refusal(what: str = "") -> UsageError:
    """Why something is not done."""
    return UsageError("This console is read-only", what, REMEDY)


class _Guard:
    """Passes on what reads; everything else is refused when it is called."""

    def __init__(self, inner: Any, reads: frozenset[str]) -> None:
        self._inner = inner
        self._reads = reads

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        found = getattr(self._inner, name)
        if name in self._reads:
            return found
        return _refused_stream(name) if name in STREAMS else _refused(name)


class _GuardedBackend(_Guard):
    async def attach(self, run_id: str) -> Session:
        return cast("Session", _Guard(await self._inner.attach(run_id), SESSION_READS))

    async def look(self, run_id: str) -> Session:
        """As `attach`, where only figures are wanted and the backend knows the difference."""
        look = getattr(self._inner, "look", self._inner.attach)
        return cast("Session", _Guard(await look(run_id), SESSION_READS))

    async def recover(self) -> tuple[str, ...]:
        """A run that lost its supervisor stays as it is: giving it a new one is a change."""
        return ()


def _refused(name: str) -> Callable[..., Awaitable[Any]]:
    async def refuse(*_arguments: Any, **_named: Any) -> Any:
        raise refusal(name)

    return refuse


def _refused_stream(name: str) -> Callable[..., AsyncIterator[Any]]:
    async def refuse(*_arguments: Any, **_named: Any) -> AsyncIterator[Any]:
        nothing: Any
        for nothing in ():
            yield nothing  # makes it a stream, which is iterated over
        raise refusal(name)

    return refuse


def read_only(backend: Backend) -> Backend:
    """This backend, for looking only."""
    return cast("Backend", _GuardedBackend(backend, BACKEND_READS))
