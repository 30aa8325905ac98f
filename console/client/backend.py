"""The real `Backend`: this machine's profiles, engines, runs and supervisors (see `console.client.api.Backend`)."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import psutil

from console.client import download, preflight
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
    check_here,
)
from console.client.bench import bench_results, run_bench
from console.client.launch import check_port, prepare_run, start_supervisor
from console.client.recovery import recover
from console.client.session import SocketSession, connect
from console.core import versions
from console.core.bench import BenchPlan, BenchProgress, BenchResult
from console.core.command import GENERATED, build_command, shell_line
from console.core.cost import with_price
from console.core.errors import ConsoleError, EngineError, HardwareError, NotRunningError, StateError, UsageError
from console.core.fit import fit
from console.core.ledger import LedgerEntry, expectation, gpu_name, ledger_key, measured_text, newest_match
from console.core.models import GpuReading, NodePlace, ProfileChange, RunInfo
from console.core.nodes import Node
from console.core.overrides import apply_changes, apply_overrides
from console.core.profile import CostSection, Profile, with_metrics_port
from console.core.profile_source import ProfileSource
from console.core.suitability import order_key, suit
from console.core.text import redact
from console.io import engines, ledger, paths, profile_edit, profiles, runs
from console.io.config import read_configuration
from console.io.engines import Engine
from console.io.gpu.nvml import NvmlBackend
from console.io.profiles import Origin, StoredProfile

if TYPE_CHECKING:
    from console.core.tune_report import Agree, Step, TuneReport

__all__ = ["LocalBackend"]

GIB = 2**30
GUARDIAN_S = 15.0
"""A guardian starts a lost supervisor within this, on a starved machine too."""
GUARDIAN_LOOK_S = 0.1


class LocalBackend:
    """Everything on this machine.

    Args:
        engine: the operator's choice on the command line.
        allow_public: they allow an address that others reach without a key.
    """

    def __init__(self, engine: str | None = None, *, allow_public: bool = False) -> None:
        self._explicit_engine = engine
        self._allow_public = allow_public
        self._machine: MachineInfo | None = None

    async def machine(self) -> MachineInfo:
        """What this machine has; asked once."""
        if self._machine is None:
            self._machine = await asyncio.to_thread(_look_at_machine)
        return self._machine

    async def profiles(self) -> tuple[tuple[ProfileEntry, ...], tuple[ProfileProblem, ...]]:
        """Profiles, best suited first, and those that could not be read."""
        machine = await self.machine()
        catalogue = await asyncio.to_thread(profiles.discover)
        known = await asyncio.to_thread(ledger.entries)
        prices = _prices()
        entries = [_entry(stored, with_price(stored.profile, prices), machine, known) for stored in catalogue.profiles]
        entries.sort(key=lambda entry: order_key(entry.name, entry.profile, entry.suitability, entry.fit.verdict))
        problems = tuple(
            ProfileProblem(name=broken.name, path=broken.path, errors=broken.errors) for broken in catalogue.problems
        )
        return tuple(entries), problems

    async def entry(self, name: str, profile: Profile) -> ProfileEntry:
        """One profile as the picker shows it, with `profile` (overrides applied) in place of what its file says."""
        machine = await self.machine()
        stored = await asyncio.to_thread(profiles.load, name)
        return _entry(stored, profile, machine, await asyncio.to_thread(ledger.entries))

    async def plan(self, name: str, overrides: Mapping[str, Any] | None = None, node: Node | None = None) -> LaunchPlan:
        """What a launch would do, on one machine of several. Raises ProfileError, EngineError or StateError."""
        return await asyncio.to_thread(self._plan, name, overrides or {}, node or Node())

    async def preflight(self, plan: LaunchPlan | None = None) -> Preflight:
        """Check a plan, or the machine; every probe has its limit (see `console.io.preflight`)."""
        return await asyncio.to_thread(preflight.run, plan, allow_public=self._allow_public)

    async def replan(self, run_id: str, changes: Sequence[ProfileChange]) -> LaunchPlan:
        """What a launch with the settings of this run and these changes would do."""
        return await asyncio.to_thread(self._replan, run_id, tuple(changes))

    async def save_changes(self, name: str, changes: Sequence[ProfileChange]) -> Path:
        """Write changes into the operator's own profile."""
        return await asyncio.to_thread(profiles.save_user, name, tuple(changes))

    async def profile_source(self, name: str) -> ProfileSource:
        """The file behind a profile."""
        return await asyncio.to_thread(profile_edit.read_source, name)

    async def attempt(self, name: str, profile: Profile) -> Attempt:
        """Judge a profile that is in no file yet."""
        return await asyncio.to_thread(self._attempt, name, profile, await self.machine())

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
        return await asyncio.to_thread(
            profile_edit.write_edited, name, base, tuple(changes), expected=expected, mistakes=mistakes
        )

    async def keep_edit(self, name: str, changes: Sequence[ProfileChange]) -> None:
        """Keep changes that are not saved yet."""
        await asyncio.to_thread(profile_edit.keep_edit, name, tuple(changes))

    async def kept_edit(self, name: str) -> tuple[ProfileChange, ...]:
        """Changes that were never saved."""
        return await asyncio.to_thread(profile_edit.kept_edit, name)

    async def keep_command(self, name: str, line: str) -> Path:
        """Write a command into a file."""
        return await asyncio.to_thread(profile_edit.keep_command, name, line)

    async def experiment(
        self,
        run_id: str,
        changes: Sequence[ProfileChange],
        tell: Callable[[Step], None],
        progress: Callable[[float], None],
        agree: Agree,
    ) -> TuneReport:
        """Try changes on a run (see `console.client.experiment`)."""
        experiment = await asyncio.to_thread(_load_experiment)
        return await experiment(await self.attach(run_id), tuple(changes), tell, progress, agree)

    async def install_engine(self, plan: LaunchPlan, progress: Callable[[InstallProgress], None]) -> LaunchPlan:
        """Install a fitting engine and plan again."""
        section = plan.profile.engine
        await engines.install(
            versions.suggest(section.vllm, engines.RECIPES[section.kind].version),
            section.kind,
            lambda step, fraction: progress(InstallProgress(step=step, fraction=fraction)),
        )
        return await asyncio.to_thread(self._with_engine, plan.profile_name, plan.profile, plan.warnings)

    async def download_offer(self, plan: LaunchPlan) -> DownloadOffer | None:
        """The weights that vLLM would download at its start."""
        return await asyncio.to_thread(download.offer, plan)

    async def download(
        self, plan: LaunchPlan, progress: Callable[[DownloadProgress], None], revision: str | None = None
    ) -> DownloadResult:
        """Download the model of a plan."""
        return await download.download(plan, progress, revision)

    async def bench(
        self,
        run_id: str,
        plan: BenchPlan,
        on_progress: Callable[[BenchProgress], None] | None = None,
        on_result: Callable[[BenchResult], None] | None = None,
    ) -> BenchResult:
        """Measure a run (see `console.client.bench`)."""
        return await run_bench(run_id, plan, on_progress=on_progress, on_result=on_result)

    async def bench_results(self, run_id: str | None = None) -> tuple[BenchResult, ...]:
        """What was measured."""
        return await asyncio.to_thread(bench_results, run_id)

    async def launch(self, plan: LaunchPlan, place: NodePlace | None = None) -> SocketSession:
        """Start a supervisor for this plan, or for this machine's part of a group, and attach to it."""
        if place is None:
            check_here(plan.profile)
        engine = await asyncio.to_thread(self._engine, plan.profile)
        if place is None or place.rank == 0:
            await asyncio.to_thread(check_port, plan.profile)
        gpus = (await self.machine()).gpus
        key = ledger_key(plan.profile, engine.version, gpu_name(plan.profile, gpus))
        expected = expectation(await asyncio.to_thread(ledger.read, key))
        run = await asyncio.to_thread(prepare_run, plan.profile_name, plan.profile, engine, expected, place)
        return await start_supervisor(run)

    async def recover(self) -> tuple[str, ...]:
        """See to runs that lost their supervisor (see `console.client.recovery`); a sentence for each."""
        return await recover()

    async def runs(self) -> tuple[RunInfo, ...]:
        """Runs whose supervisor or server is alive, newest first."""
        found = await asyncio.to_thread(runs.list_runs)
        return tuple(info for _, info in found if runs.is_live(info))

    async def attach(self, run_id: str) -> SocketSession:
        """Attach to a run; a server whose supervisor was lost, or what is left of one, gets a new one first.

        Raises:
            NotRunningError: nothing of it runs any more.
        """
        run, info = await asyncio.to_thread(runs.find_run, run_id)
        deadline = time.monotonic() + GUARDIAN_S
        while True:
            if runs.is_supervised(info):
                with contextlib.suppress(NotRunningError):
                    return await connect(run)
                # It may end just now, or have begun just now; then another one finds out which.
                info = run.read_info()
            if await asyncio.to_thread(runs.is_live, info):
                return await start_supervisor(run)
            if time.monotonic() > deadline or not runs.is_guarded(info):
                break
            await asyncio.sleep(GUARDIAN_LOOK_S)
            info = run.read_info()
        raise NotRunningError(
            "The run is over",
            f"{info.id}: {info.state} {info.reason}".strip(),
            f"Its log: dsv4-console logs {info.id}",
        )

    def _plan(self, name: str, overrides: Mapping[str, Any], node: Node) -> LaunchPlan:
        stored = profiles.load(name)
        profile = apply_overrides(stored.profile, overrides) if overrides else stored.profile
        configuration = read_configuration()
        profile = with_price(profile, configuration.price)
        profile = with_metrics_port(profile, configuration.metrics_port)
        return self._with_engine(stored.name, profile, stored.warnings, node)

    def _attempt(self, name: str, profile: Profile, machine: MachineInfo) -> Attempt:
        stored = StoredProfile(name=name, path=Path(), origin=Origin.USER, profile=profile)
        entry = _entry(stored, with_price(profile, _prices()), machine, ledger.entries())
        try:
            return Attempt(entry=entry, plan=self._with_engine(name, entry.profile, ()))
        except ConsoleError as error:
            return Attempt(entry=entry, problem=str(error))

    def _replan(self, run_id: str, changes: tuple[ProfileChange, ...]) -> LaunchPlan:
        run, info = runs.find_run(run_id)
        return self._with_engine(info.profile_name, apply_changes(run.read_launch().profile, changes), ())

    def _with_engine(
        self, name: str, profile: Profile, warnings: tuple[str, ...], node: Node | None = None
    ) -> LaunchPlan:
        offer = ""
        engine: Engine | None = None
        try:
            engine = self._engine(profile)
        except EngineError as error:
            if self._engine_named(profile):
                raise
            offer = engines.offer(profile.engine)
            warnings = (*warnings, *(error.message.splitlines()))
        directory = _generated_directory(profile.model.id)
        command = build_command(
            profile,
            str(engine.executable) if engine else "vllm",
            str(directory) if directory else None,
            engine.version if engine else None,
            node,
        )
        return LaunchPlan(
            profile_name=name,
            profile=profile,
            argv=command.argv,
            env=redact(command.env),
            command_line=shell_line(command.argv, command.env),
            engine_name=engine.name if engine else None,
            engine_version=engine.version if engine else None,
            install_offer=offer,
            node_rank=node.rank if node is not None else 0,
            warnings=tuple(dict.fromkeys((*warnings, *command.warnings))),
        )

    def _engine(self, profile: Profile) -> Engine:
        return engines.choose(profile.engine, self._explicit_engine, read_configuration().engine)

    def _engine_named(self, profile: Profile) -> bool:
        return bool(profile.engine.name or self._explicit_engine or read_configuration().engine)


def _look_at_machine() -> MachineInfo:
    gpus: tuple[GpuReading, ...] | None = None
    trouble = driver = ""
    backend = NvmlBackend()
    try:
        backend.open()
        gpus = backend.read_all()
        driver = backend.driver_version() or ""
    except HardwareError as error:
        trouble = f"{error.title}: {error.message}" if error.message else error.title
    finally:
        backend.close()
    return MachineInfo(
        gpus=gpus,
        gpu_error=trouble,
        driver_version=driver,
        cpu_count=psutil.cpu_count() or 0,
        memory_total_bytes=psutil.virtual_memory().total,
    )


def _entry(
    stored: StoredProfile, profile: Profile, machine: MachineInfo, known: tuple[LedgerEntry, ...]
) -> ProfileEntry:
    memory = [gpu.memory_total_bytes for gpu in machine.gpus or () if gpu.memory_total_bytes]
    summary = fit(
        profile,
        gpu_memory_gib=min(memory) / GIB if memory else None,
        host_memory_gib=machine.memory_total_bytes / GIB,
    )
    before = newest_match(known, ledger_key(profile, "", gpu_name(profile, machine.gpus)), any_engine=True)
    if before is not None:
        summary = msgspec.structs.replace(summary, measured=measured_text(before, summary))
    return ProfileEntry(
        name=stored.name,
        path=stored.path,
        origin=str(stored.origin),
        profile=profile,
        suitability=suit(profile, machine.gpus),
        fit=summary,
    )


def _load_experiment() -> Callable[..., Coroutine[Any, Any, TuneReport]]:
    """It brings httpx along, which only those who measure pay for."""
    from console.client.experiment import experiment

    return experiment


def _prices() -> Mapping[str, CostSection]:
    """The user's prices. A mistake in the configuration hides no profile; a launch will name it."""
    try:
        return read_configuration().price
    except (StateError, UsageError):
        return {}


def _generated_directory(model_id: str) -> Path | None:
    """Where a model made by this program will be, without making it."""
    if not model_id.startswith(GENERATED):
        return None
    return paths.generated_models_dir() / model_id.removeprefix(GENERATED)
