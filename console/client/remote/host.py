"""One machine of several: its runs beside those of others, and a reason in their place while it cannot be asked.

It is asked in the background, so that no machine waits for another. While it is out of reach its runs stay in the
list, as those that were known last; where none is known, one row stands for the machine and has the reason.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

from console.client.api import LaunchPlan, Session
from console.client.remote.backend import RemoteBackend
from console.client.remote.line import Line
from console.client.remote.session import BACKOFF_S, RemoteSession
from console.core.bench import BenchPlan, BenchProgress, BenchResult
from console.core.errors import ConsoleError, NotRunningError, RemoteError
from console.core.hosts import called_here, id_there, is_machine, machine_row
from console.core.models import ProfileChange, RunInfo

if TYPE_CHECKING:
    from console.core.tune_report import Agree, Step, TuneReport

__all__ = ["RemoteHost"]

FIRST_S = 0.5
"""A machine that answers so soon has its runs in the list at once."""
ASK_S = 2.0
"""Between two looks at what runs there."""


class _Session:
    """A session of a run there, under the name that it has here."""

    def __init__(self, inner: RemoteSession) -> None:
        self._inner = inner

    @property
    def run(self) -> RunInfo:
        """The run, as it is called here."""
        return called_here(self._inner.host, self._inner.run)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._inner, name)


class RemoteHost:
    """The runs of one machine, for a list with others (see `console.client.fleet.Member`).

    Args:
        line: to it.
        error: why it is not logged in, where that was tried already; it is told until something else is known.
    """

    def __init__(self, line: Line, error: ConsoleError | None = None) -> None:
        self.host = line.host
        self._line = line
        self._backend = RemoteBackend(line)
        self._known: tuple[RunInfo, ...] | None = None
        self._error = error
        self._answered = asyncio.Event()
        """An answer or an error has come by now."""
        if error is not None:
            self._answered.set()
        self._asking: asyncio.Task[None] | None = None

    async def runs(self) -> tuple[RunInfo, ...]:
        """What is known of its runs by now, or the row that stands for it."""
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask(), name=f"ask {self.host}")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FIRST_S):
                    await self._answered.wait()
        if self._known is not None and (self._known or self._error is None):
            return tuple(called_here(self.host, run) for run in self._known)
        return (machine_row(self.host),)

    async def attach(self, run_id: str) -> Session:
        """Attach to a run there.

        Raises:
            RemoteError: there is no way to it; for the row that stands for the machine, the reason.
            NotRunningError: it does not run there.
        """
        return await self._attach(run_id, with_log=True)

    async def look(self, run_id: str) -> Session:
        """As `attach`, for its figures alone: the log stays there."""
        return await self._attach(run_id, with_log=False)

    async def _attach(self, run_id: str, *, with_log: bool) -> Session:
        if is_machine(run_id):
            await self._answered.wait()
            if self._error is None and not with_log:
                await asyncio.Event().wait()  # it has answered: the row is about to go, and who looks at it with it
            raise self._error or NotRunningError("Nothing is running", f"on {self.host}")
        return cast("Session", _Session(await self._backend.open(id_there(run_id), with_log=with_log)))

    async def replan(self, run_id: str, changes: Sequence[ProfileChange]) -> LaunchPlan:
        """What a launch there with these changes would do."""
        return await self._backend.replan(id_there(run_id), changes)

    async def experiment(
        self,
        run_id: str,
        changes: Sequence[ProfileChange],
        tell: Callable[[Step], None],
        progress: Callable[[float], None],
        agree: Agree,
    ) -> TuneReport:
        """Try changes on a run there."""
        return await self._backend.experiment(id_there(run_id), changes, tell, progress, agree)

    async def bench(
        self,
        run_id: str,
        plan: BenchPlan,
        on_progress: Callable[[BenchProgress], None] | None = None,
        on_result: Callable[[BenchResult], None] | None = None,
    ) -> BenchResult:
        """Measure a run there, from its own machine."""
        return await self._backend.bench(id_there(run_id), plan, on_progress, on_result)

    async def bench_results(self, run_id: str) -> tuple[BenchResult, ...]:
        """What was measured there."""
        return await self._backend.bench_results(id_there(run_id))

    async def close(self) -> None:
        """Ask no longer, and hang up; servers there go on."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)
        await self._line.close()

    async def _ask(self) -> None:
        """Keep what is known of it up to date."""
        failures = 0
        while True:
            try:
                self._known, self._error = await self._backend.runs(), None
                failures = 0
            except ConsoleError as error:
                self._error = error
            except OSError as error:
                self._error = RemoteError(f"No connection to {self.host}", str(error))
            self._answered.set()
            failures += self._error is not None
            await asyncio.sleep(BACKOFF_S[min(failures, len(BACKOFF_S)) - 1] if failures else ASK_S)
