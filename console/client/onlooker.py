"""What sessions have in common that only look: a recording, an endpoint that somebody else started."""

from __future__ import annotations

from abc import ABC, abstractmethod

from console.core.errors import UsageError
from console.core.snooze import Snooze, with_it, without

__all__ = ["Onlooker"]


class Onlooker(ABC):
    """It acts on no server, and puts hints aside for as long as one looks: there is no directory to write to."""

    _snoozes: tuple[Snooze, ...] = ()

    @abstractmethod
    def _refused(self) -> UsageError:
        """What whoever asks for a change is told."""

    async def stop(self, drain_timeout_s: float | None = None) -> None:
        """Raises UsageError: it is no server of this console's."""
        raise self._refused()

    async def restart(self, drain_timeout_s: float | None = None) -> None:
        """Raises UsageError: it is no server of this console's."""
        raise self._refused()

    async def postpone(self) -> None:
        """Raises UsageError: nobody here counts its idle time."""
        raise self._refused()

    def snoozes(self) -> tuple[Snooze, ...]:
        """What was put aside in this session."""
        return self._snoozes

    async def snooze(self, new: Snooze) -> tuple[Snooze, ...]:
        """Put a hint aside."""
        self._snoozes = with_it(self._snoozes, new)
        return self._snoozes

    async def wake(self, hint: str) -> tuple[Snooze, ...]:
        """Show a hint again."""
        self._snoozes = without(self._snoozes, hint)
        return self._snoozes
