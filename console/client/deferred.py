"""The real backend, loaded when it is first asked for something: the screen paints before that.

Separate, because importing `LocalBackend` costs as much as painting the first screen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from console.client.api import (
    Attempt,
    DownloadOffer,
    DownloadProgress,
    DownloadResult,
    InstallProgress,
    LaunchPlan,
    MachineInfo,
    Preflight,
    ProfileEntry,
    ProfileProblem,
    ProfileSource,
    Session,
)
from console.core.bench import BenchPlan, BenchProgress, BenchResult
from console.core.models import ProfileChange
from console.core.profile import Profile
from console.protocol import RunInfo

if TYPE_CHECKING:
    from console.client.backend import LocalBackend
    from console.core.tune_report import Agree, Step, TuneReport

__all__ = ["DeferredBackend"]


class DeferredBackend:
    """A `Backend` that passes everything on to a `LocalBackend` (see there for what is raised)."""

    def __init__(self, engine: str | None = None, *, allow_public: bool = False) -> None:
        self._engine = engine
        self._allow_public = allow_public
        self._local: LocalBackend | None = None
        self._loading = asyncio.Lock()

    async def _backend(self) -> LocalBackend:
        async with self._loading:
            if self._local is None:
                self._local = await asyncio.to_thread(_load, self._engine, self._allow_public)
        return self._local

    async def machine(self) -> MachineInfo:
        """What this machine has."""
        return await (await self._backend()).machine()

    async def profiles(self) -> tuple[tuple[ProfileEntry, ...], tuple[ProfileProblem, ...]]:
        """Profiles, best suited first, and those that could not be read."""
        return await (await self._backend()).profiles()

    async def plan(self, name: str, overrides: Mapping[str, Any] | None = None) -> LaunchPlan:
        """What a launch would do."""
        return await (await self._backend()).plan(name, overrides)

    async def preflight(self, plan: LaunchPlan | None = None) -> Preflight:
        """Check a plan, or the machine."""
        return await (await self._backend()).preflight(plan)

    async def replan(self, run_id: str, changes: Sequence[ProfileChange]) -> LaunchPlan:
        """What a launch with the settings of this run and these changes would do."""
        return await (await self._backend()).replan(run_id, changes)

    async def save_changes(self, name: str, changes: Sequence[ProfileChange]) -> Path:
        """Write changes into the operator's own profile."""
        return await (await self._backend()).save_changes(name, changes)

    async def profile_source(self, name: str) -> ProfileSource:
        """The file behind a profile."""
        return await (await self._backend()).profile_source(name)

    async def attempt(self, name: str, profile: Profile) -> Attempt:
        """Judge a profile that is in no file yet."""
        return await (await self._backend()).attempt(name, profile)

    async def save_profile(
        self,
        name: str,
        base: str,
        changes: Sequence[ProfileChange],
        *,
        expected: str | None,
        mistakes: bool = False,
    ) -> Path:
        """Write an edited profile as the operator's own."""
        return await (await self._backend()).save_profile(name, base, changes, expected=expected, mistakes=mistakes)

    async def keep_edit(self, name: str, changes: Sequence[ProfileChange]) -> None:
        """Keep changes that are not saved yet."""
        await (await self._backend()).keep_edit(name, changes)

    async def kept_edit(self, name: str) -> tuple[ProfileChange, ...]:
        """Changes that were never saved."""
        return await (await self._backend()).kept_edit(name)

    async def keep_command(self, name: str, line: str) -> Path:
        """Write a command into a file."""
        return await (await self._backend()).keep_command(name, line)

    async def experiment(
        self,
        run_id: str,
        changes: Sequence[ProfileChange],
        tell: Callable[[Step], None],
        progress: Callable[[float], None],
        agree: Agree,
    ) -> TuneReport:
        """Try changes on a run."""
        return await (await self._backend()).experiment(run_id, changes, tell, progress, agree)

    async def install_engine(self, plan: LaunchPlan, progress: Callable[[InstallProgress], None]) -> LaunchPlan:
        """Install a fitting engine and plan again."""
        return await (await self._backend()).install_engine(plan, progress)

    async def download_offer(self, plan: LaunchPlan) -> DownloadOffer | None:
        """The weights that vLLM would download at its start."""
        return await (await self._backend()).download_offer(plan)

    async def download(
        self, plan: LaunchPlan, progress: Callable[[DownloadProgress], None], revision: str | None = None
    ) -> DownloadResult:
        """Download the model of a plan."""
        return await (await self._backend()).download(plan, progress, revision)

    async def bench(
        self,
        run_id: str,
        plan: BenchPlan,
        on_progress: Callable[[BenchProgress], None] | None = None,
        on_result: Callable[[BenchResult], None] | None = None,
    ) -> BenchResult:
        """Measure a run."""
        return await (await self._backend()).bench(run_id, plan, on_progress, on_result)

    async def bench_results(self, run_id: str | None = None) -> tuple[BenchResult, ...]:
        """What was measured."""
        return await (await self._backend()).bench_results(run_id)

    async def launch(self, plan: LaunchPlan) -> Session:
        """Start a supervisor for this plan and attach to it."""
        return await (await self._backend()).launch(plan)

    async def recover(self) -> tuple[str, ...]:
        """See to runs that lost their supervisor."""
        return await (await self._backend()).recover()

    async def runs(self) -> tuple[RunInfo, ...]:
        """Runs whose supervisor or server is alive, newest first."""
        return await (await self._backend()).runs()

    async def attach(self, run_id: str) -> Session:
        """Attach to a run."""
        return await (await self._backend()).attach(run_id)


def _load(engine: str | None, allow_public: bool) -> LocalBackend:
    from console.client.backend import LocalBackend

    return LocalBackend(engine, allow_public=allow_public)
