"""A `Backend` on another machine: every method is a call of the far end there (see `console.client.remote.far`)."""

from __future__ import annotations

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
from console.client.remote.line import Line
from console.client.remote.session import RemoteSession
from console.core.bench import BenchPlan, BenchProgress, BenchResult
from console.core.models import ProfileChange
from console.core.profile import Profile
from console.protocol import RunInfo

if TYPE_CHECKING:
    from console.core.tune_report import Agree, Step, TuneReport

__all__ = ["RemoteBackend"]


class RemoteBackend:
    """Profiles, engines and runs there. Everything raises RemoteError while there is no line.

    Args:
        line: to that machine.
    """

    def __init__(self, line: Line) -> None:
        self._line = line

    async def machine(self) -> MachineInfo:
        """What that machine has."""
        found: MachineInfo = await self._line.call("machine")
        return found

    async def profiles(self) -> tuple[tuple[ProfileEntry, ...], tuple[ProfileProblem, ...]]:
        """Profiles there, best suited to that machine first."""
        found: tuple[tuple[ProfileEntry, ...], tuple[ProfileProblem, ...]] = await self._line.call("profiles")
        return found

    async def plan(self, name: str, overrides: Mapping[str, Any] | None = None) -> LaunchPlan:
        """What a launch there would do."""
        found: LaunchPlan = await self._line.call("plan", name=name, overrides=overrides)
        return found

    async def preflight(self, plan: LaunchPlan | None = None) -> Preflight:
        """Check a plan, or that machine."""
        found: Preflight = await self._line.call("preflight", plan=plan)
        return found

    async def replan(self, run_id: str, changes: Sequence[ProfileChange]) -> LaunchPlan:
        """What a launch with the settings of this run and these changes would do."""
        found: LaunchPlan = await self._line.call("replan", run_id=run_id, changes=changes)
        return found

    async def save_changes(self, name: str, changes: Sequence[ProfileChange]) -> Path:
        """Write changes into the operator's own profile, there."""
        found: Path = await self._line.call("save_changes", name=name, changes=changes)
        return found

    async def profile_source(self, name: str) -> ProfileSource:
        """The file behind a profile."""
        found: ProfileSource = await self._line.call("profile_source", name=name)
        return found

    async def attempt(self, name: str, profile: Profile) -> Attempt:
        """Judge a profile that is in no file yet."""
        found: Attempt = await self._line.call("attempt", name=name, profile=profile)
        return found

    async def save_profile(
        self,
        name: str,
        base: str,
        changes: Sequence[ProfileChange],
        *,
        expected: str | None,
        mistakes: bool = False,
    ) -> Path:
        """Write an edited profile as the operator's own, there."""
        found: Path = await self._line.call(
            "save_profile", name=name, base=base, changes=changes, expected=expected, mistakes=mistakes
        )
        return found

    async def keep_edit(self, name: str, changes: Sequence[ProfileChange]) -> None:
        """Keep changes that are not saved yet, there."""
        await self._line.call("keep_edit", name=name, changes=changes)

    async def kept_edit(self, name: str) -> tuple[ProfileChange, ...]:
        """Changes that were never saved."""
        found: tuple[ProfileChange, ...] = await self._line.call("kept_edit", name=name)
        return found

    async def keep_command(self, name: str, line: str) -> Path:
        """Write a command into a file: here, where whoever copies it is."""
        from console.client.backend import LocalBackend

        return await LocalBackend().keep_command(name, line)

    async def experiment(
        self,
        run_id: str,
        changes: Sequence[ProfileChange],
        tell: Callable[[Step], None],
        progress: Callable[[float], None],
        agree: Agree,
    ) -> TuneReport:
        """Try changes on a run. The far end holds the trial: if the line ends, what served before comes back."""
        found: TuneReport = await self._line.call(
            "experiment", run_id=run_id, changes=changes, tell=tell, progress=progress, agree=agree
        )
        return found

    async def install_engine(self, plan: LaunchPlan, progress: Callable[[InstallProgress], None]) -> LaunchPlan:
        """Install a fitting engine there and plan again."""
        found: LaunchPlan = await self._line.call("install_engine", plan=plan, progress=progress)
        return found

    async def download_offer(self, plan: LaunchPlan) -> DownloadOffer | None:
        """The weights that vLLM would download at its start."""
        found: DownloadOffer | None = await self._line.call("download_offer", plan=plan)
        return found

    async def download(
        self, plan: LaunchPlan, progress: Callable[[DownloadProgress], None], revision: str | None = None
    ) -> DownloadResult:
        """Download the model of a plan, there."""
        found: DownloadResult = await self._line.call("download", plan=plan, progress=progress, revision=revision)
        return found

    async def bench(
        self,
        run_id: str,
        plan: BenchPlan,
        on_progress: Callable[[BenchProgress], None] | None = None,
        on_result: Callable[[BenchResult], None] | None = None,
    ) -> BenchResult:
        """Measure a run, from its own machine."""
        found: BenchResult = await self._line.call(
            "bench", run_id=run_id, plan=plan, on_progress=on_progress, on_result=on_result
        )
        return found

    async def bench_results(self, run_id: str | None = None) -> tuple[BenchResult, ...]:
        """What was measured there."""
        found: tuple[BenchResult, ...] = await self._line.call("bench_results", run_id=run_id)
        return found

    async def launch(self, plan: LaunchPlan) -> Session:
        """Start a supervisor there and attach to it."""
        return await RemoteSession.open(self._line, await self._line.call("start", plan=plan))

    async def recover(self) -> tuple[str, ...]:
        """See to runs there that lost their supervisor."""
        found: tuple[str, ...] = await self._line.call("recover")
        return found

    async def runs(self) -> tuple[RunInfo, ...]:
        """Runs there that are alive, newest first."""
        found: tuple[RunInfo, ...] = await self._line.call("runs")
        return found

    async def attach(self, run_id: str) -> Session:
        """Attach to a run there, by its id or its profile."""
        return await self.open(run_id)

    async def look(self, run_id: str) -> Session:
        """As `attach`, for its figures alone: the log stays there."""
        return await self.open(run_id, with_log=False)

    async def open(self, run_id: str, *, with_log: bool = True) -> RemoteSession:
        """A session of a run there; see `RemoteSession.open`."""
        found = await self._line.call("find", name=run_id)
        reach = await self._line.call("reach", run_id=found)
        return await RemoteSession.open(self._line, reach, with_log=with_log)
