"""The one door for front ends: profiles, engines, runs and live sessions, as protocols.

The real ones are in this package's other modules; tests and the demo give scripted ones.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from console.client.editing import Editing
from console.core.bench import BenchPlan, BenchProgress, BenchResult
from console.core.download import DownloadProgress, DownloadResult
from console.core.errors import EngineError, UsageError
from console.core.fit import FitSummary
from console.core.models import ChatDelta, ChatMessage, ChatOptions, GpuReading, LogPage, ProfileChange
from console.core.preflight import Preflight
from console.core.profile import Profile
from console.core.profile_source import ProfileSource
from console.core.snooze import Snooze
from console.core.suitability import Suitability
from console.core.units import bytes_text
from console.protocol import Happened, History, Pushed, RunInfo

if TYPE_CHECKING:
    from console.core.tune_report import Agree, Step, TuneReport

__all__ = [
    "Attempt",
    "Away",
    "Backend",
    "ChatDelta",
    "ChatMessage",
    "ChatOptions",
    "DownloadOffer",
    "DownloadProgress",
    "DownloadResult",
    "FitSummary",
    "InstallProgress",
    "LaunchPlan",
    "LogPage",
    "LogReader",
    "Lost",
    "MachineInfo",
    "Player",
    "Playing",
    "Preflight",
    "ProfileEntry",
    "ProfileProblem",
    "ProfileSource",
    "Rewound",
    "Session",
    "Suitability",
    "Update",
    "check_here",
    "check_offer",
]


class Info(msgspec.Struct, frozen=True, kw_only=True):
    """Base of the records here."""


class ProfileEntry(Info, frozen=True, kw_only=True):
    """One profile as the picker shows it."""

    name: str
    path: Path
    origin: str
    """`shipped`, `user`, or `user (replaces shipped)`."""
    profile: Profile
    suitability: Suitability
    fit: FitSummary


class ProfileProblem(Info, frozen=True, kw_only=True):
    """A profile that could not be read; its name stays visible."""

    name: str
    path: Path
    errors: tuple[str, ...]
    """One line per mistake: file, key, what was found, what is allowed, the nearest known key."""


class MachineInfo(Info, frozen=True, kw_only=True):
    """What this machine has."""

    gpus: tuple[GpuReading, ...] | None
    gpu_error: str = ""
    """Why there is no GPU figure: no driver, no library, version mismatch."""
    driver_version: str = ""
    cpu_count: int = 0
    memory_total_bytes: int = 0


class LaunchPlan(Info, frozen=True, kw_only=True):
    """What a launch of a profile would do, before it is done."""

    profile_name: str
    profile: Profile
    """With overrides applied."""
    argv: tuple[str, ...]
    env: Mapping[str, str]
    """What is added to the environment; secrets as `•••`."""
    command_line: str
    """`argv` and `env` as one would type it."""
    engine_name: str | None
    """`None` if an engine has to be installed first."""
    engine_version: str | None
    install_offer: str = ""
    """The command that installs a fitting engine, for example `dsv4-console engine install --cpu`; empty where this
    program installs none of its kind."""
    node_rank: int = 0
    """Which machine of several; all but the first have no HTTP server."""
    warnings: tuple[str, ...] = ()


def check_here(profile: Profile) -> None:
    """See that one machine can launch it. Raises UsageError where the profile spans several."""
    nodes = profile.hardware.nodes
    if nodes > 1:
        raise UsageError(
            f"This profile spans {nodes} machines, and a launch starts one",
            f"{profile.profile.title}: {profile.hardware.text}",
            f"Name them as SSH does: --hosts {','.join(f'host{rank}' for rank in range(nodes))}. Without this program: "
            "dsv4-console export systemd|compose|kubernetes PROFILE. To see each one's command: "
            f"--dry-run --node-rank 0 to {nodes - 1}.",
        )


def check_offer(plan: LaunchPlan) -> None:
    """See that a missing engine can be installed.

    Raises:
        EngineError: this program installs none of the kind that the profile asks for.
    """
    if plan.engine_name is None and not plan.install_offer:
        raise EngineError(
            "No engine for this profile is here",
            f"It asks for a {plan.profile.engine.kind.value} build of vLLM {plan.profile.engine.vllm}",
            "Start the console inside vLLM's container image for AMD GPUs, or name its `vllm` command with --engine.",
        )


class Attempt(Info, frozen=True, kw_only=True):
    """What a profile that is in no file yet would be."""

    entry: ProfileEntry
    plan: LaunchPlan | None = None
    problem: str = ""
    """Why there is no plan."""


class InstallProgress(Info, frozen=True, kw_only=True):
    """One step of an engine's installation."""

    step: str
    """In words: `resolving`, `downloading torch 182 MiB`, `checking vllm --version`."""
    fraction: float | None = None


class DownloadOffer(Info, frozen=True, kw_only=True):
    """Weights that are not here, or not all of them, and can be downloaded before a launch."""

    model: str
    path: str
    """The cache that they go into."""
    bytes_total: float | None
    """As the profile says."""
    bytes_present: int = 0

    @property
    def text(self) -> str:
        """What is missing, in a sentence."""
        size = f" ({bytes_text(self.bytes_total)})" if self.bytes_total else ""
        how_much = f"has only {bytes_text(self.bytes_present)} here" if self.bytes_present else "is not here"
        return f"{self.model}{size} {how_much}: {self.path}"


class Lost(Info, frozen=True, kw_only=True):
    """The supervisor's line closed."""

    reason: str


class Away(Info, frozen=True, kw_only=True):
    """The way to the run's machine is interrupted, and is being made again. The server knows nothing of it."""

    attempt: int
    """The one that is being made now, from 1."""
    reason: str
    """Why the one before failed, or what broke."""
    remedy: str = ""
    """What the operator can do about it."""
    since_s: float
    """Wall-clock time at which it broke."""


class Rewound(Info, frozen=True, kw_only=True):
    """A replay went to another moment: what was told before no longer holds, and the past is told again."""


Update = History | Pushed | Happened | Lost | Away | Rewound


class Playing(Info, frozen=True, kw_only=True):
    """Where a replay is; moments in Unix time."""

    label: str
    """`REPLAY` or `DEMO`."""
    at_s: float
    begin_s: float
    end_s: float
    local_s: float
    """`at_s` by the clock of the recorded machine: its seconds since 1970 as if they were UTC."""
    speed: int = 1
    paused: bool = False
    ended: bool = False


class Player(Protocol):
    """What a session has as its `player` if it is a recording; a live one has none."""

    @property
    def playing(self) -> Playing: ...

    @property
    def refusal(self) -> str:
        """Why a key that needs a server does nothing."""
        ...

    @property
    def missing(self) -> tuple[str, ...]:
        """A sentence for each thing that the recording does not hold."""
        ...

    def pause(self) -> None:
        """Hold, or go on; at the end begin again."""
        ...

    def faster(self, step: int) -> None:
        """The next speed, or with -1 the one before."""
        ...

    def seek(self, step_s: float) -> None:
        """Move by so many seconds."""
        ...

    def seek_event(self, step: int) -> None:
        """To the next event, or with -1 to the one before."""
        ...

    def restart_play(self) -> None:
        """To the beginning."""
        ...


class LogReader(Protocol):
    """Reads a run's log from its start. Never blocks for new lines."""

    def read(self, bytes_max: int = 262_144) -> LogPage:
        """What came since the last call, at most `bytes_max` bytes; no lines if nothing did."""
        ...

    def skip_to_last(self, bytes_max: int) -> int:
        """Pass over lines so that about `bytes_max` bytes are left to read. Returns how many lines that were."""
        ...

    def close(self) -> None:
        """Let go of the file."""
        ...


class Session(Protocol):
    """A live (or ended) run."""

    @property
    def run(self) -> RunInfo: ...

    def updates(self, history_s: float = 0.0) -> AsyncIterator[Update]:
        """History first, then every snapshot and event; ends after `Lost`.

        Args:
            history_s: seconds of the past whose samples are wanted, a day at most; events come in any case.
        """
        ...

    async def stop(self, drain_timeout_s: float | None = None) -> None:
        """Ask the supervisor to stop the server and itself. Returns once accepted.

        Raises:
            console.core.errors.NotRunningError: nobody answers.
        """
        ...

    async def restart(self, drain_timeout_s: float | None = None) -> None:
        """Ask for a stop and a new start. Returns once accepted."""
        ...

    async def postpone(self) -> None:
        """Postpone the idle deadlines: idle time counts from now on. Returns once accepted.

        Raises:
            console.core.errors.UsageError: the profile sets none.
        """
        ...

    def snoozes(self) -> tuple[Snooze, ...]:
        """Hints of this run that are put aside, as they were when they were last changed here or at the start."""
        ...

    async def snooze(self, new: Snooze) -> tuple[Snooze, ...]:
        """Put a hint aside; gives all that are now. Raises StateError if it could not be written down."""
        ...

    async def wake(self, hint: str) -> tuple[Snooze, ...]:
        """Show the hint with this id again; gives and raises as `snooze`."""
        ...

    def log(self) -> LogReader: ...

    def chat(self, messages: Sequence[ChatMessage], options: ChatOptions) -> AsyncIterator[ChatDelta]:
        """Stream an answer. Closing the iterator stops the request. Errors arrive as a delta with `error`."""
        ...

    async def close(self) -> None:
        """Detach. The server goes on."""
        ...


class Backend(Editing, Protocol):
    """Everything a front end needs that is not one run."""

    async def machine(self) -> MachineInfo: ...

    async def profiles(self) -> tuple[tuple[ProfileEntry, ...], tuple[ProfileProblem, ...]]:
        """Profiles, best suited to this machine first, and those that could not be read."""
        ...

    async def plan(self, name: str, overrides: Mapping[str, Any] | None = None) -> LaunchPlan:
        """What a launch would do.

        Raises:
            console.core.errors.ProfileError: no such profile, or an override is wrong.
            console.core.errors.EngineError: the engine asked for is not of the profile's versions.
        """
        ...

    async def preflight(self, plan: LaunchPlan | None = None) -> Preflight:
        """Check whether this plan can be launched, or without one the machine. Takes less than two seconds."""
        ...

    async def replan(self, run_id: str, changes: Sequence[ProfileChange]) -> LaunchPlan:
        """What a launch with the settings of this run, its overrides included, and these changes would do.

        Raises:
            console.core.errors.ConsoleError: no such run, or a change does not fit its profile.
        """
        ...

    async def save_changes(self, name: str, changes: Sequence[ProfileChange]) -> Path:
        """Write changes into the operator's own profile of this name; returns its file.

        Raises:
            console.core.errors.ConsoleError: no such profile, a change does not fit it, or it cannot be written.
        """
        ...

    async def experiment(
        self,
        run_id: str,
        changes: Sequence[ProfileChange],
        tell: Callable[[Step], None],
        progress: Callable[[float], None],
        agree: Agree,
    ) -> TuneReport:
        """Measure, restart this run with these changes, measure again; keep them, in the profile too, if `agree`.

        Cancelling goes back to what served before, and so does everything else that ends this process.

        Raises:
            console.core.errors.ConsoleError: it could not begin, or the supervisor was lost.
        """
        ...

    async def install_engine(self, plan: LaunchPlan, progress: Callable[[InstallProgress], None]) -> LaunchPlan:
        """Install what `plan.install_offer` names and plan again. Cancelling leaves nothing half-made."""
        ...

    async def download_offer(self, plan: LaunchPlan) -> DownloadOffer | None:
        """The weights of this plan that vLLM would download at its start; `None` if it would not."""
        ...

    async def download(
        self, plan: LaunchPlan, progress: Callable[[DownloadProgress], None], revision: str | None = None
    ) -> DownloadResult:
        """Download the model of a plan that has an engine. Cancelling keeps what is finished.

        Raises:
            console.core.errors.DownloadError: refused, no space, or broken off; a later call goes on.
        """
        ...

    async def bench(
        self,
        run_id: str,
        plan: BenchPlan,
        on_progress: Callable[[BenchProgress], None] | None = None,
        on_result: Callable[[BenchResult], None] | None = None,
    ) -> BenchResult:
        """Measure a run that is ready. `on_result` is told the rows so far, which cancelling keeps.

        Raises:
            console.core.errors.ConsoleError: not ready, or a row failed; the rows before it are kept.
        """
        ...

    async def bench_results(self, run_id: str | None = None) -> tuple[BenchResult, ...]:
        """What was measured in a run, or in all of them, newest first."""
        ...

    async def launch(self, plan: LaunchPlan) -> Session:
        """Start a supervisor with this plan and attach to it.

        Raises:
            console.core.errors.ConsoleError: port taken, directory not writable, supervisor did not start.
        """
        ...

    async def recover(self) -> tuple[str, ...]:
        """Give runs that lost their supervisor a new one, or write down their end; a sentence for each."""
        ...

    async def runs(self) -> tuple[RunInfo, ...]:
        """Runs whose supervisor or server is alive, newest first."""
        ...

    async def attach(self, run_id: str) -> Session:
        """Attach to a run that `runs` named."""
        ...
