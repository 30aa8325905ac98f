"""A scripted `Backend` and `Session`: profiles, plans, snapshots, log lines and chat answers as a test gives them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from console.client.api import (
    Attempt,
    ChatDelta,
    ChatMessage,
    ChatOptions,
    DownloadOffer,
    DownloadProgress,
    DownloadResult,
    FitSummary,
    InstallProgress,
    LaunchPlan,
    LogPage,
    Lost,
    MachineInfo,
    Preflight,
    ProfileEntry,
    ProfileProblem,
    ProfileSource,
    Suitability,
    Update,
)
from console.core.bench import BenchPlan, BenchPoint, BenchProgress, BenchResult
from console.core.errors import ConflictError, ConsoleError, NotRunningError, ProfileError
from console.core.models import (
    EngineReading,
    GpuProcess,
    GpuReading,
    Hint,
    HostReading,
    Money,
    Percentiles,
    Phase,
    PhaseTime,
    ProfileChange,
    Sample,
    ServerState,
    ServerStatus,
    Snapshot,
    SourceStatus,
    Spend,
)
from console.core.overrides import apply_changes
from console.core.profile import (
    CostSection,
    EngineKind,
    EngineSection,
    Evidence,
    HardwareSection,
    ModelSection,
    Profile,
    ProfileSection,
    ServeSection,
)
from console.core.profile_form import literal, open_draft
from console.core.snooze import Snooze, with_it, without
from console.core.tune_report import Agree, Step, TuneReport
from console.protocol import History, Pushed, RunInfo

GIB = 1024**3
NOW_S = 1_795_000_000.0

RUN = RunInfo(
    id="20261118-120000-flash-4xh200",
    profile_name="flash-4xh200",
    profile_title="DeepSeek V4 Flash on four H200",
    model="deepseek-ai/DeepSeek-V4-Flash",
    url="http://127.0.0.1:8000",
    argv=("vllm", "serve", "deepseek-ai/DeepSeek-V4-Flash", "--tensor-parallel-size", "4", "--max-num-seqs", "32"),
    engine_name="cuda-0.33.0",
    engine_version="0.33.0",
    created_s=NOW_S - 6200,
    usd_per_hour=14.76,
    max_num_seqs=32,
    max_model_len=131_072,
    state="ready",
)
CPU_RUN = replace(
    RUN,
    id="20261118-130000-cpu-smoke",
    profile_name="cpu-smoke",
    profile_title="Tiny model on the CPU",
    model="tiny",
    engine_name="cpu-0.32.0",
    engine_version="0.32.0",
    usd_per_hour=None,
    max_num_seqs=8,
    max_model_len=1024,
    created_s=NOW_S - 200,
)


def gpu(index: int, util: float | None = 62.0, **changes: Any) -> GpuReading:
    """One H200."""
    reading = GpuReading(
        index=index,
        name="H200",
        uuid=f"GPU-{index}",
        util_percent=util,
        memory_used_bytes=128 * GIB,
        memory_total_bytes=141 * GIB,
        power_w=512.0,
        power_limit_w=700.0,
        temperature_c=61.0,
        memory_free_bytes=12 * GIB,
        memory_util_percent=38.0,
        memory_temperature_c=72.0,
        temperature_limit_c=90.0,
        sm_clock_mhz=1980.0,
        sm_clock_max_mhz=1980.0,
        memory_clock_mhz=3201.0,
        throttle=(),
        ecc_corrected=0,
        ecc_uncorrected=0,
        rows_remapped=0,
        row_remap_pending=False,
        row_remap_failed=False,
        pcie_rx_bytes_per_s=210e6,
        pcie_tx_bytes_per_s=95e6,
        pcie_generation=5,
        pcie_generation_max=5,
        pcie_width=16,
        pcie_width_max=16,
        nvlink_rx_bytes_per_s=18e9,
        nvlink_tx_bytes_per_s=18e9,
        nvlink_active=18,
        nvlink_count=18,
        mig=False,
        processes=(GpuProcess(pid=4311 + index, name=f"VLLM::Worker_TP{index}", memory_bytes=127 * GIB, own=True),),
    )
    return replace(reading, **changes)


def gpus(count: int, util: float = 62.0) -> tuple[GpuReading, ...]:
    """So many H200."""
    return tuple(gpu(i, util + (i % 3) - 1, power_w=505.0 + 3 * i, temperature_c=60.0 + i % 4) for i in range(count))


HOST = HostReading(
    cpu_percent=18.0,
    cpu_count=64,
    memory_used_bytes=212 * GIB,
    memory_total_bytes=1007 * GIB,
    tree_cpu_percent=540.0,
    tree_memory_bytes=61 * GIB,
    tree_processes=7,
)
BUSY = EngineReading(
    kv_cache_usage=0.71,
    kv_cache_tokens=1_912_000,
    running=32,
    waiting=41,
    prompt_tokens_per_s=9810.0,
    generation_tokens_per_s=2134.0,
    ttft=Percentiles(p50_s=1.8, p95_s=3.9, p99_s=4.2, count=812),
    itl=Percentiles(p50_s=0.018, p95_s=0.042, p99_s=0.051, count=90_000),
    preemptions_total=0,
    prefix_cache_hit_rate=0.45,
    requests_finished_total=4821,
    mean_prompt_tokens=2310.0,
    mean_generation_tokens=402.0,
)
IDLE = EngineReading(
    kv_cache_usage=0.0,
    kv_cache_tokens=1_912_000,
    running=0,
    waiting=0,
    prompt_tokens_per_s=0.0,
    generation_tokens_per_s=0.0,
    preemptions_total=0,
    requests_finished_total=0,
)
RAISE = Hint(
    id="raise-max-num-seqs",
    title="Raise max_num_seqs 32 → 64",
    evidence=("For 3 min: GPU 62% while 41 wait, 32 of 32 slots busy, KV 71%, no preemption.",),
    change=(ProfileChange(key="serve.max_num_seqs", before=32, after=64),),
    gain="more tok/s, TTFT down: room for about 38 more at the lengths seen",
    risk="ITL goes up; more KV cache in use",
    held_s=180,
)
MONEY = Money(
    usd_per_hour=14.76,
    seconds={Spend.LOADING: 80.0, Spend.SERVING: 4700.0, Spend.IDLE: 1420.0},
    total_s=6200.0,
    usd={Spend.LOADING: 0.33, Spend.SERVING: 19.27, Spend.IDLE: 5.82},
    total_usd=25.42,
    output_tokens=13_200_000,
    usd_per_million=1.93,
    usd_per_million_now=1.92,
)
READY = ServerStatus(
    state=ServerState.READY, since_s=NOW_S - 6120, started_s=NOW_S - 6200, ready_s=NOW_S - 6120, pid=4242
)
SOURCES = tuple(SourceStatus(name=name, age_s=0.4) for name in ("gpu", "host", "metrics", "health"))


def snapshot(**changes: Any) -> Snapshot:
    """A busy server on four H200, with these changes."""
    whole = Snapshot(
        seq=1,
        time_s=NOW_S,
        status=READY,
        gpus=gpus(4),
        host=HOST,
        engine=BUSY,
        sources=SOURCES,
        hints=(RAISE,),
        money=MONEY,
    )
    return replace(whole, **changes)


def loading(phase: Phase, elapsed_s: float = 75.0, **changes: Any) -> ServerStatus:
    """A start that has come to this phase, 10 s per phase before it."""
    done = tuple(PhaseTime(phase=p, seconds=10.0) for p in Phase if list(Phase).index(p) < list(Phase).index(phase))
    status = ServerStatus(
        state=ServerState.LOADING if done else ServerState.STARTING,
        since_s=NOW_S - elapsed_s,
        started_s=NOW_S - elapsed_s,
        phase=phase,
        phases=done,
        deadline_s=NOW_S + 3000,
        pid=4242,
    )
    return replace(status, **changes)


def history(seconds: int = 300, count: int = 4, gap: range = range(120, 150)) -> History:
    """Five minutes of a load that rises and waves, with a gap in which nothing was known."""
    samples = []
    for i in range(seconds):
        if i in gap:
            continue
        rise = min(i / 90, 1.0)
        wave = 0.5 + 0.5 * math.sin(i / 17)
        engine = replace(
            BUSY,
            kv_cache_usage=rise * (0.55 + 0.16 * wave),
            generation_tokens_per_s=rise * (1500 + 700 * wave),
            running=round(rise * (24 + 8 * wave)),
        )
        samples.append(
            Sample(
                time_s=NOW_S - seconds + i,
                state=ServerState.READY,
                gpus=gpus(count, rise * (40 + 25 * wave)) if count else None,
                host=replace(HOST, cpu_percent=10 + 30 * wave),
                engine=engine,
            )
        )
    return History(samples=tuple(samples))


LOG_LINES = (
    "(APIServer pid=4242) INFO 11-23 12:00:01 [api_utils.py:286] non-default args: {'max_num_seqs': 32}",
    "(EngineCore pid=4300) INFO 11-23 12:00:09 [core.py:133] Initializing a V1 LLM engine (v0.33.0)",
    "(Worker_TP0 pid=4311) INFO 11-23 12:00:40 [base_loader.py:82] Loading weights took 22.10 seconds",
    "(EngineCore pid=4300) INFO 11-23 12:01:10 [kv_cache_utils.py:2327] GPU KV cache size: 1,912,000 tokens",
    "(APIServer pid=4242) INFO 11-23 12:01:20 [entry.py:140] Starting vLLM server on http://127.0.0.1:8000",
    "(APIServer pid=4242) WARNING 11-23 12:01:33 [launcher.py:88] slow client, 2 s behind",
    '(APIServer pid=4242) INFO:     127.0.0.1:40512 - "POST /v1/chat/completions HTTP/1.1" 200 OK',
)


class FakeLog:
    """A log in memory."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines
        self.at = 0
        self.closed = False
        self.skipped = 0

    def skip_to_last(self, bytes_max: int) -> int:
        """As the real one: pass over what is further back."""
        rest = self.lines[self.at :]
        size = sum(len(line) + 1 for line in rest)
        skipped = 0
        while size > bytes_max:
            size -= len(rest[skipped]) + 1
            skipped += 1
        self.at += skipped
        self.skipped += skipped
        return skipped

    def read(self, bytes_max: int = 262_144) -> LogPage:
        """As the real one: what came since, bounded."""
        first = self.at
        size = 0
        out = []
        while self.at < len(self.lines) and size < bytes_max:
            out.append(self.lines[self.at])
            size += len(self.lines[self.at]) + 1
            self.at += 1
        skipped, self.skipped = (self.skipped, 0) if out else (0, self.skipped)
        return LogPage(lines=tuple(out), offset=self.at, first_line=first + 1, skipped=skipped)

    def close(self) -> None:
        """Let go."""
        self.closed = True


class FakeSession:
    """A run whose updates, log and answers are pushed by the test."""

    def __init__(self, run: RunInfo = RUN, updates: Sequence[Update] = (), log: Sequence[str] = LOG_LINES) -> None:
        self._run = run
        self.queue: asyncio.Queue[Update] = asyncio.Queue()
        for update in updates:
            self.queue.put_nowait(update)
        self.log_lines = list(log)
        self.stops: list[float | None] = []
        self.restarts = 0
        self.postponed = 0
        self.put_aside: tuple[Snooze, ...] = ()
        self.closed = False
        self.asked: list[tuple[ChatMessage, ...]] = []
        self.chosen: list[ChatOptions] = []
        self.answer: list[ChatDelta] = [
            ChatDelta(text="Hello", ttft_s=0.12, elapsed_s=0.12),
            ChatDelta(text=" there.", elapsed_s=0.2),
            ChatDelta(done=True, finish_reason="stop", elapsed_s=0.3, prompt_tokens=9, completion_tokens=5),
        ]
        self.hold: asyncio.Event | None = None
        """If set, an answer waits for it before its last piece."""
        self.chat_closed = 0
        self.refuse: ConsoleError | None = None

    @property
    def run(self) -> RunInfo:
        """The launch."""
        return self._run

    def push(self, *updates: Update | Snapshot) -> None:
        """Deliver these."""
        for update in updates:
            self.queue.put_nowait(Pushed(snapshot=update) if isinstance(update, Snapshot) else update)

    async def updates(self, history_s: float = 0.0) -> AsyncIterator[Update]:
        """Everything pushed; ends after `Lost`."""
        while True:
            update = await self.queue.get()
            yield update
            if isinstance(update, Lost):
                return

    async def stop(self, drain_timeout_s: float | None = None) -> None:
        """Note the wish."""
        if self.refuse:
            raise self.refuse
        self.stops.append(drain_timeout_s)

    async def restart(self, drain_timeout_s: float | None = None) -> None:
        """Note the wish."""
        if self.refuse:
            raise self.refuse
        self.restarts += 1

    async def postpone(self) -> None:
        """Note the wish."""
        if self.refuse:
            raise self.refuse
        self.postponed += 1

    def snoozes(self) -> tuple[Snooze, ...]:
        """Put aside."""
        return self.put_aside

    async def snooze(self, new: Snooze) -> tuple[Snooze, ...]:
        """Put aside."""
        if self.refuse:
            raise self.refuse
        self.put_aside = with_it(self.put_aside, new)
        return self.put_aside

    async def wake(self, hint: str) -> tuple[Snooze, ...]:
        """Put aside no more."""
        if self.refuse:
            raise self.refuse
        self.put_aside = without(self.put_aside, hint)
        return self.put_aside

    def log(self) -> FakeLog:
        """The log from its start."""
        return FakeLog(self.log_lines)

    async def chat(self, messages: Sequence[ChatMessage], options: ChatOptions) -> AsyncIterator[ChatDelta]:
        """The scripted answer."""
        self.asked.append(tuple(messages))
        self.chosen.append(options)
        try:
            for delta in self.answer:
                if delta.done and self.hold is not None:
                    await self.hold.wait()
                await asyncio.sleep(0)
                yield delta
        finally:
            self.chat_closed += 1

    async def close(self) -> None:
        """Detach."""
        self.closed = True


def entry(
    name: str,
    title: str,
    hardware: HardwareSection,
    rank: int,
    text: str,
    fit: FitSummary,
    *,
    evidence: Evidence = Evidence.RECIPE,
    model: str = "deepseek-ai/DeepSeek-V4-Flash",
    cost: float | None = None,
    **about: Any,
) -> ProfileEntry:
    """One profile of the picker."""
    kind = EngineKind.CPU if hardware.count == 0 else EngineKind.CUDA
    profile = Profile(
        profile=ProfileSection(title=title, evidence=evidence, **about),
        model=ModelSection(id=model, precision="FP4 experts + FP8" if hardware.count else ""),
        hardware=hardware,
        serve=ServeSection(max_num_seqs=32, tensor_parallel_size=hardware.count or None),
        engine=EngineSection(kind=kind),
        cost=CostSection(usd_per_hour=cost, source="list price" if cost else "", date="2026-11" if cost else ""),
    )
    return ProfileEntry(
        name=name,
        path=Path(f"/profiles/{name}.toml"),
        origin="shipped",
        profile=profile,
        suitability=Suitability(rank=rank, text=text),
        fit=fit,
    )


def table_text(data: Mapping[str, Any]) -> str:
    """A table of tables as TOML."""
    return "".join(
        f"[{name}]\n" + "".join(f"{key} = {literal(value)}\n" for key, value in table.items())
        for name, table in data.items()
    )


def profile_text(profile: Profile) -> str:
    """A profile as a file of it."""
    return "# Shipped.\n" + table_text(msgspec.to_builtins(profile))


FIT = FitSummary(
    weights_gib_per_gpu=39.5,
    kv_gib_per_gpu=84.2,
    reserve_gib_per_gpu=9.6,
    total_gib_per_gpu=141.0,
    kv_bytes_per_token=23_400.0,
    kv_tokens=3_860_000,
    verdict="fits",
    basis=("weights: 158 GB on disk / 4 GPUs (derived)", "KV: 61 layers, compressed (derived from the model card)"),
)
NO_FIT = FitSummary(
    weights_gib_per_gpu=82.0, reserve_gib_per_gpu=8.0, total_gib_per_gpu=80.0, verdict="does not fit", basis=()
)
ENTRIES = (
    entry(
        "flash-4xh200",
        "DeepSeek V4 Flash, native FP4+FP8, on four H200",
        HardwareSection(gpu="H200", count=4, memory_gib=141.0),
        0,
        "fits: 4 × H200",
        FIT,
        cost=14.76,
        use="Most tokens per dollar for one team; contexts up to 128k.",
        description="The released checkpoint as it is. Experts in FP4, attention in FP8; tensor parallel over four.",
        sources=("https://docs.vllm.ai/recipes", "https://huggingface.co/deepseek-ai/DeepSeek-V4-Flash"),
    ),
    entry(
        "flash-2xh200",
        "DeepSeek V4 Flash on two H200",
        HardwareSection(gpu="H200", count=2, memory_gib=141.0),
        1,
        "fits with a change: uses 2 of 4",
        replace(FIT, weights_gib_per_gpu=79.0, kv_gib_per_gpu=46.0, kv_tokens=2_100_000, verdict="tight"),
        evidence=Evidence.DERIVED,
        cost=7.38,
    ),
    entry(
        "flash-8xh100",
        "DeepSeek V4 Flash FP8 on eight H100",
        HardwareSection(gpu="H100", count=8, memory_gib=80.0),
        3,
        "needs 8 × H100, found 4 × H200",
        replace(FIT, total_gib_per_gpu=80.0, kv_gib_per_gpu=31.0),
        evidence=Evidence.REPORTED,
        prefer="flash-4xh200",
    ),
    entry(
        "v3-int4-8xa100",
        "DeepSeek V3 INT4 on eight A100",
        HardwareSection(gpu="A100", count=8, memory_gib=80.0),
        3,
        "needs 8 × A100, found 4 × H200",
        NO_FIT,
        evidence=Evidence.UNVERIFIED,
        model="deepseek-ai/DeepSeek-V3",
    ),
    entry(
        "cpu-smoke",
        "A tiny generated model on the CPU",
        HardwareSection(),
        0,
        "fits: needs no GPU",
        FitSummary(verdict="fits", basis=("62 kB of weights made on this machine",)),
        evidence=Evidence.MEASURED,
        model="generated:tiny",
        use="To see the whole console work in half a minute, on any machine.",
    ),
)
PROBLEMS = (
    ProfileProblem(
        name="my-flash",
        path=Path("/home/me/.config/dsv4-console/profiles/my-flash.toml"),
        errors=(
            "my-flash.toml: serve.max_num_seq: unknown key; nearest is serve.max_num_seqs",
            "my-flash.toml: serve.gpu_memory_utilization: found 1.4, allowed is more than 0 up to 1",
        ),
    ),
)
MACHINE = MachineInfo(gpus=gpus(4), driver_version="580.65", cpu_count=64, memory_total_bytes=1007 * GIB)
NO_GPU = MachineInfo(gpus=None, gpu_error="no NVIDIA driver", cpu_count=2, memory_total_bytes=15 * GIB)


class FakeBackend:
    """Profiles, plans and runs as given. `sessions` are what attach and launch hand out, by run id or profile."""

    def __init__(
        self,
        *,
        entries: Sequence[ProfileEntry] = ENTRIES,
        problems: Sequence[ProfileProblem] = (),
        machine: MachineInfo = MACHINE,
        runs: Sequence[RunInfo] = (),
        sessions: Mapping[str, FakeSession] | None = None,
        engine: str | None = "cuda-0.33.0",
    ) -> None:
        self.entries = tuple(entries)
        self.problems = tuple(problems)
        self._machine = machine
        self._runs = tuple(runs)
        self.sessions = dict(sessions or {})
        self.engine = engine
        self.launched: list[LaunchPlan] = []
        self.saved: list[tuple[str, tuple[ProfileChange, ...]]] = []
        self.texts: dict[str, str] = {}
        """Files of the operator's own profiles, by name."""
        self.attempts: list[Profile] = []
        self.edits: dict[str, tuple[ProfileChange, ...]] = {}
        """Changes that were never saved."""
        self.commands: list[tuple[str, str]] = []
        self.install_steps: list[InstallProgress] = [
            InstallProgress(step="resolving vllm 0.33.0", fraction=0.1),
            InstallProgress(step="downloading torch 182 MiB", fraction=0.4),
        ]
        self.install_hold: asyncio.Event | None = None
        self.install_cancelled = False
        self.offer: DownloadOffer | None = None
        self.download_steps: list[DownloadProgress] = []
        self.download_hold: asyncio.Event | None = None
        self.download_error: ConsoleError | None = None
        self.downloaded: list[str] = []
        self.launch_error: ConsoleError | None = None
        self.benched: list[tuple[str, BenchPlan]] = []
        self.bench_rows: tuple[BenchPoint, ...] = ()
        self.bench_kept: tuple[BenchResult, ...] = ()
        self.bench_notes: tuple[str, ...] = ()
        self.bench_hold: asyncio.Event | None = None
        self.bench_cancelled = False
        self.bench_error: ConsoleError | None = None
        self.experiments: list[tuple[str, tuple[ProfileChange, ...]]] = []
        self.experiment_steps: list[Step] = []
        self.experiment_hold: asyncio.Event | None = None
        self.experiment_error: ConsoleError | None = None
        self.experiment_report: TuneReport | None = None
        self.reports: list[Preflight] = [Preflight()]
        """What preflight finds, one per call, the last one again and again."""

    async def preflight(self, plan: LaunchPlan | None = None) -> Preflight:
        """The next report."""
        return self.reports.pop(0) if len(self.reports) > 1 else self.reports[0]

    async def machine(self) -> MachineInfo:
        """The machine."""
        return self._machine

    async def profiles(self) -> tuple[tuple[ProfileEntry, ...], tuple[ProfileProblem, ...]]:
        """The profiles."""
        return self.entries, self.problems

    async def plan(self, name: str, overrides: Mapping[str, Any] | None = None) -> LaunchPlan:
        """A plan of the profile."""
        found = next((e for e in self.entries if e.name == name), None)
        if found is None:
            raise ProfileError("No such profile", name)
        argv = (
            "vllm",
            "serve",
            found.profile.model.id,
            "--host",
            "127.0.0.1",
            "--port",
            "8000",
            "--max-num-seqs",
            "32",
        )
        cpu = found.profile.engine.kind is EngineKind.CPU
        return LaunchPlan(
            profile_name=name,
            profile=found.profile,
            argv=argv,
            env={"VLLM_NO_USAGE_STATS": "1"},
            command_line=f"VLLM_NO_USAGE_STATS=1 {' '.join(argv)}",
            engine_name=self.engine,
            engine_version=self.engine.split("-")[-1] if self.engine else None,
            install_offer=f"dsv4-console engine install {'--cpu' if cpu else '0.33.0'}",
        )

    async def replan(self, run_id: str, changes: Sequence[ProfileChange]) -> LaunchPlan:
        """A plan of the run's profile with the changes."""
        run = next(session.run for session in self.sessions.values() if session.run.id == run_id)
        plan = await self.plan(run.profile_name)
        return replace(plan, profile=apply_changes(plan.profile, tuple(changes)))

    async def experiment(
        self,
        run_id: str,
        changes: Sequence[ProfileChange],
        tell: Callable[[Step], None],
        progress: Callable[[float], None],
        agree: Agree,
    ) -> TuneReport:
        """Tell the steps, wait where a test says so, and ask."""
        self.experiments.append((run_id, tuple(changes)))
        for step in self.experiment_steps:
            tell(step)
        progress(0.4)
        if self.experiment_hold is not None:
            await self.experiment_hold.wait()
        if self.experiment_error is not None:
            raise self.experiment_error
        assert self.experiment_report is not None
        return replace(self.experiment_report, kept=await agree(self.experiment_report))

    async def save_changes(self, name: str, changes: Sequence[ProfileChange]) -> Path:
        """Remember what was to be written."""
        self.saved.append((name, tuple(changes)))
        return Path(f"/profiles/{name}.toml")

    def _shipped_text(self, name: str) -> str:
        found = next((entry for entry in ENTRIES if entry.name == name), None)
        return "" if found is None else profile_text(found.profile)

    async def profile_source(self, name: str) -> ProfileSource:
        """The operator's text, else one made from the shipped profile."""
        shipped, text = self._shipped_text(name), self.texts.get(name)
        if text is None and not shipped:
            raise ProfileError("The profile cannot be read", name)
        path = f"/home/me/.config/dsv4-console/profiles/{name}.toml" if text is not None else f"/profiles/{name}.toml"
        return ProfileSource(
            name=name, path=path, own=text is not None, text=shipped if text is None else text, shipped=shipped
        )

    async def attempt(self, name: str, profile: Profile) -> Attempt:
        """Too much for the GPUs above 64 requests at once; the command has the number of them."""
        self.attempts.append(profile)
        fit = NO_FIT if (profile.serve.max_num_seqs or 0) > 64 else FIT
        found = replace(ENTRIES[0], name=name, profile=profile, fit=fit)
        line = f"vllm serve {profile.model.id} --max-num-seqs {profile.serve.max_num_seqs}"
        plan = LaunchPlan(
            profile_name=name,
            profile=profile,
            argv=tuple(line.split()),
            env={},
            command_line=line,
            engine_name=self.engine,
            engine_version="0.33.0",
        )
        return Attempt(entry=found, plan=plan)

    async def save_profile(
        self,
        name: str,
        base: str,
        changes: Sequence[ProfileChange],
        *,
        expected: str | None,
        mistakes: bool = False,
    ) -> Path:
        """Have the profile, as the real one does after reading it again."""
        if self.texts.get(name) != expected:
            raise ConflictError(f"The file of {name} was changed", name, "Nothing was written.")
        draft = open_draft(base, name)
        for change in changes:
            draft = draft.put(change.key, change.after)
        reading = draft.read(name)
        if reading.profile is None and not mistakes:
            raise ProfileError("Cannot use the profile", "\n".join(reading.errors))
        self.texts[name] = table_text(draft.data)
        self.saved.append((name, tuple(changes)))
        path = Path(f"/home/me/.config/dsv4-console/profiles/{name}.toml")
        others = [entry for entry in self.entries if entry.name != name]
        self.problems = tuple(problem for problem in self.problems if problem.name != name)
        if reading.profile is None:
            self.problems += (ProfileProblem(name=name, path=path, errors=reading.errors),)
        else:
            origin = "user (replaces shipped)" if self._shipped_text(name) else "user"
            others.insert(0, replace(ENTRIES[0], name=name, origin=origin, path=path, profile=reading.profile))
        self.entries = tuple(others)
        return path

    async def keep_edit(self, name: str, changes: Sequence[ProfileChange]) -> None:
        """Remember them."""
        self.edits[name] = tuple(changes)

    async def kept_edit(self, name: str) -> tuple[ProfileChange, ...]:
        """What was remembered."""
        return self.edits.get(name, ())

    async def keep_command(self, name: str, line: str) -> Path:
        """Remember it."""
        self.commands.append((name, line))
        return Path(f"/home/me/.local/state/dsv4-console/commands/{name}.sh")

    async def install_engine(self, plan: LaunchPlan, progress: Callable[[InstallProgress], None]) -> LaunchPlan:
        """Tell the steps, wait if told to, and have an engine."""
        try:
            for step in self.install_steps:
                progress(step)
                await asyncio.sleep(0)
            if self.install_hold is not None:
                await self.install_hold.wait()
        except asyncio.CancelledError:
            self.install_cancelled = True
            raise
        self.engine = "cpu-0.32.0"
        return await self.plan(plan.profile_name)

    async def download_offer(self, plan: LaunchPlan) -> DownloadOffer | None:
        """As the test says."""
        return self.offer

    async def download(
        self, plan: LaunchPlan, progress: Callable[[DownloadProgress], None], revision: str | None = None
    ) -> DownloadResult:
        """Tell the steps, wait if told to, fail if told to."""
        for step in self.download_steps:
            progress(step)
            await asyncio.sleep(0)
        if self.download_hold is not None:
            await self.download_hold.wait()
        if self.download_error is not None:
            raise self.download_error
        self.downloaded.append(plan.profile.model.id)
        self.offer = None
        return DownloadResult(
            model=plan.profile.model.id, commit="c0ffee", path="/cache", bytes_total=1, bytes_downloaded=1, seconds=1.0
        )

    async def launch(self, plan: LaunchPlan) -> FakeSession:
        """A session that is starting."""
        if self.launch_error:
            raise self.launch_error
        self.launched.append(plan)
        session = self.sessions.get(plan.profile_name)
        if session is None:
            run = replace(RUN, profile_name=plan.profile_name, state="starting")
            session = FakeSession(run, log=())
            session.push(snapshot(status=loading(Phase.CONFIG), engine=None, hints=()))
            self.sessions[plan.profile_name] = session
        return session

    async def bench(
        self,
        run_id: str,
        plan: BenchPlan,
        on_progress: Callable[[BenchProgress], None] | None = None,
        on_result: Callable[[BenchResult], None] | None = None,
    ) -> BenchResult:
        """The rows of `bench_rows`, one by one, held before each while `bench_hold` is not set."""
        self.benched.append((run_id, plan))
        result = BenchResult(
            id="20261118-121500-chat",
            created_s=NOW_S,
            run_id=run_id,
            profile_name="flash-4xh200",
            model="deepseek-ai/DeepSeek-V4-Flash",
            machine="4×H200",
            input_tokens=1024,
            output_tokens=1024,
            notes=self.bench_notes,
        )
        for index, point in enumerate(self.bench_rows, 1):
            if on_progress is not None:
                on_progress(
                    BenchProgress(row=index, rows=len(self.bench_rows), concurrency=point.concurrency, fraction=0.5)
                )
            try:
                if self.bench_hold is not None:
                    await self.bench_hold.wait()
            except asyncio.CancelledError:
                self.bench_cancelled = True
                raise
            if self.bench_error is not None:
                raise self.bench_error
            result = replace(result, points=(*result.points, point))
            if on_result is not None:
                on_result(result)
        self.bench_kept = (result, *self.bench_kept)
        return result

    async def bench_results(self, run_id: str | None = None) -> tuple[BenchResult, ...]:
        """What was measured."""
        return tuple(result for result in self.bench_kept if run_id in (None, result.run_id))

    async def recover(self) -> tuple[str, ...]:
        """Nothing was lost."""
        return ()

    async def runs(self) -> tuple[RunInfo, ...]:
        """What runs."""
        return self._runs

    async def attach(self, run_id: str) -> FakeSession:
        """A session of this run."""
        if run_id not in self.sessions:
            raise NotRunningError("No such run", run_id)
        return self.sessions[run_id]


def attached(
    *updates: Update | Snapshot, run: RunInfo = RUN, log: Sequence[str] = LOG_LINES
) -> tuple[FakeBackend, FakeSession]:
    """A backend with one run, and its session with these updates."""
    session = FakeSession(run, log=log)
    session.push(*updates)
    return FakeBackend(runs=(run,), sessions={run.id: session}), session
