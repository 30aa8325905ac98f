"""A backend with nothing but recordings: it attaches to them, and refuses all that needs a server, with the reason."""

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
from console.client.replay import ReplaySession, refused
from console.core.bench import BenchPlan, BenchProgress, BenchResult
from console.core.models import ProfileChange
from console.core.profile import Profile
from console.protocol import RunInfo

if TYPE_CHECKING:
    from console.core.tune_report import Agree, Step, TuneReport

__all__ = ["ReplayBackend"]


class ReplayBackend:
    """A backend with this one session, which refuses everything that acts (see `console.client.api.Backend`)."""

    def __init__(self, session: ReplaySession) -> None:
        self._session = session

    async def machine(self) -> MachineInfo:
        """Of the machine here nothing is asked."""
        return MachineInfo(gpus=None, gpu_error="a recording is played")

    async def profiles(self) -> tuple[tuple[ProfileEntry, ...], tuple[ProfileProblem, ...]]:
        """None: nothing can be launched."""
        return (), ()

    async def plan(self, name: str, overrides: Mapping[str, Any] | None = None) -> LaunchPlan:
        """Raises UsageError."""
        raise refused()

    async def preflight(self, plan: LaunchPlan | None = None) -> Preflight:
        """Raises UsageError."""
        raise refused()

    async def replan(self, run_id: str, changes: Sequence[ProfileChange]) -> LaunchPlan:
        """Raises UsageError."""
        raise refused()

    async def save_changes(self, name: str, changes: Sequence[ProfileChange]) -> Path:
        """Raises UsageError."""
        raise refused()

    async def profile_source(self, name: str) -> ProfileSource:
        """Raises UsageError."""
        raise refused()

    async def attempt(self, name: str, profile: Profile) -> Attempt:
        """Raises UsageError."""
        raise refused()

    async def save_profile(
        self,
        name: str,
        base: str,
        changes: Sequence[ProfileChange],
        *,
        expected: str | None,
        mistakes: bool = False,
    ) -> Path:
        """Raises UsageError."""
        raise refused()

    async def keep_edit(self, name: str, changes: Sequence[ProfileChange]) -> None:
        """Raises UsageError."""
        raise refused()

    async def kept_edit(self, name: str) -> tuple[ProfileChange, ...]:
        """Raises UsageError."""
        raise refused()

    async def keep_command(self, name: str, line: str) -> Path:
        """Raises UsageError."""
        raise refused()

    async def install_engine(self, plan: LaunchPlan, progress: Callable[[InstallProgress], None]) -> LaunchPlan:
        """Raises UsageError."""
        raise refused()

    async def download_offer(self, plan: LaunchPlan) -> DownloadOffer | None:
        """Raises UsageError."""
        raise refused()

    async def download(
        self, plan: LaunchPlan, progress: Callable[[DownloadProgress], None], revision: str | None = None
    ) -> DownloadResult:
        """Raises UsageError."""
        raise refused()

    async def launch(self, plan: LaunchPlan) -> Session:
        """Raises UsageError."""
        raise refused()

    async def experiment(
        self,
        run_id: str,
        changes: Sequence[ProfileChange],
        tell: Callable[[Step], None],
        progress: Callable[[float], None],
        agree: Agree,
    ) -> TuneReport:
        """Raises UsageError."""
        raise refused()

    async def bench(
        self,
        run_id: str,
        plan: BenchPlan,
        on_progress: Callable[[BenchProgress], None] | None = None,
        on_result: Callable[[BenchResult], None] | None = None,
    ) -> BenchResult:
        """Raises UsageError."""
        raise refused()

    async def bench_results(self, run_id: str | None = None) -> tuple[BenchResult, ...]:
        """A recording has none."""
        return ()

    async def recover(self) -> tuple[str, ...]:
        """Nothing is touched."""
        return ()

    async def runs(self) -> tuple[RunInfo, ...]:
        """The recording."""
        return (self._session.run,)

    async def attach(self, run_id: str) -> Session:
        """The recording."""
        return self._session
