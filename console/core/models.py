"""The frozen data that travels between layers: readings, states, hints, diagnoses and the snapshot.

Units stand last in a name. `None` means unknown and is never drawn or counted as zero.
Structs are msgspec's, so that the protocol, the run directory and `--json` write the very same fields.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

__all__ = [
    "LIVE_STATES",
    "OVER_STATES",
    "PHASES",
    "ChatDelta",
    "ChatMessage",
    "ChatOptions",
    "Diagnosis",
    "EngineReading",
    "EngineShare",
    "EventRecord",
    "Goodput",
    "GpuProcess",
    "GpuReading",
    "GroupSample",
    "Hint",
    "HintState",
    "HostReading",
    "Lengths",
    "Level",
    "LogPage",
    "Money",
    "NodeFigures",
    "NodePlace",
    "Percentiles",
    "Phase",
    "PhaseTime",
    "ProfileChange",
    "RunInfo",
    "Sample",
    "ServerState",
    "ServerStatus",
    "Snapshot",
    "SourceStatus",
    "Spend",
    "Throttle",
    "TrialPhase",
    "TrialStatus",
]


class Data(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of all frozen records."""


class ServerState(StrEnum):
    """Where a server is in its life."""

    STOPPED = "stopped"
    STARTING = "starting"
    LOADING = "loading"
    READY = "ready"
    UNHEALTHY = "unhealthy"
    STOPPING = "stopping"
    FAILED = "failed"
    """Died before it was ever ready."""
    CRASHED = "crashed"
    """Died after it was ready, unasked."""


LIVE_STATES = frozenset(
    {
        ServerState.STARTING,
        ServerState.LOADING,
        ServerState.READY,
        ServerState.UNHEALTHY,
        ServerState.STOPPING,
    }
)
OVER_STATES = frozenset({ServerState.STOPPED, ServerState.FAILED, ServerState.CRASHED})


class Phase(StrEnum):
    """Parts of a start, in order, as the server's log shows them."""

    CONFIG = "config"
    DOWNLOAD = "download"
    WEIGHTS = "weights"
    COMPILE = "compile"
    MEMORY = "memory"
    GRAPHS = "graphs"
    SERVER = "server"


PHASES: tuple[Phase, ...] = tuple(Phase)


class Level(StrEnum):
    """How much a thing matters."""

    OK = "ok"
    INFO = "info"
    WARN = "warn"
    BAD = "bad"


class Throttle(StrEnum):
    """Why a GPU's clocks are below what they could be, in NVML's own reasons (`nvmlClocksEventReason…`)."""

    IDLE = "idle"
    APPLICATION_CLOCKS = "application clocks"
    POWER_CAP = "power cap"
    HW_SLOWDOWN = "hardware slowdown"
    SYNC_BOOST = "sync boost"
    SW_THERMAL = "thermal slowdown"
    HW_THERMAL = "hardware thermal slowdown"
    POWER_BRAKE = "power brake"
    DISPLAY_CLOCKS = "display clocks"


class GpuProcess(Data, frozen=True, kw_only=True):
    """One process that computes on a GPU."""

    pid: int
    name: str | None = None
    memory_bytes: int | None = None
    own: bool = False
    """Whether it belongs to the server of this run."""


class GpuReading(Data, frozen=True, kw_only=True):
    """One GPU at one moment. What its driver does not answer is `None`."""

    index: int
    name: str | None = None
    uuid: str | None = None
    util_percent: float | None = None
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    power_w: float | None = None
    power_limit_w: float | None = None
    temperature_c: float | None = None
    memory_free_bytes: int | None = None
    memory_util_percent: float | None = None
    """Share of the time in which its memory was read or written."""
    memory_temperature_c: float | None = None
    temperature_limit_c: float | None = None
    """From here on the hardware slows down."""
    sm_clock_mhz: float | None = None
    sm_clock_max_mhz: float | None = None
    memory_clock_mhz: float | None = None
    throttle: tuple[Throttle, ...] | None = None
    ecc_corrected: int | None = None
    """Since the driver was loaded."""
    ecc_uncorrected: int | None = None
    rows_remapped: int | None = None
    """Rows of memory that were replaced for good."""
    row_remap_pending: bool | None = None
    row_remap_failed: bool | None = None
    pages_pending: bool | None = None
    """Whether pages wait to be retired (before the A100)."""
    pcie_rx_bytes_per_s: float | None = None
    pcie_tx_bytes_per_s: float | None = None
    pcie_generation: int | None = None
    pcie_generation_max: int | None = None
    pcie_width: int | None = None
    pcie_width_max: int | None = None
    nvlink_rx_bytes_per_s: float | None = None
    nvlink_tx_bytes_per_s: float | None = None
    nvlink_active: int | None = None
    """Links that are up, of `nvlink_count`."""
    nvlink_count: int | None = None
    mig: bool | None = None
    processes: tuple[GpuProcess, ...] | None = None
    xid: int | None = None
    """The last Xid error since the supervisor started; `None` if there was none or it cannot be read."""
    xid_s: float | None = None
    """Wall-clock time (Unix) of that."""


class HostReading(Data, frozen=True, kw_only=True):
    """The machine and the server's process tree at one moment."""

    cpu_percent: float | None = None
    """All cores together: 0 to 100."""
    cpu_count: int | None = None
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    tree_cpu_percent: float | None = None
    """Of one core, as `top` counts it: 250 is two and a half cores."""
    tree_memory_bytes: int | None = None
    """Proportional or resident memory of the server's processes, shared pages counted once where known."""
    tree_processes: int | None = None
    tree_open_files: int | None = None
    """File descriptors of the server's API process, where clients are connected."""
    tree_open_files_limit: int | None = None
    """Its soft limit (`RLIMIT_NOFILE`)."""
    network_interface: str | None = None
    """The network interface that moves most now, without the loopback."""
    network_rx_bytes_per_s: float | None = None
    """What comes in through it. RDMA (InfiniBand, RoCE) is not counted by the kernel."""
    network_tx_bytes_per_s: float | None = None
    network_speed_bytes_per_s: float | None = None
    """Of its link in one direction; `None` where its driver tells none."""


class Percentiles(Data, frozen=True, kw_only=True):
    """A latency over a moving window, in seconds."""

    p50_s: float | None = None
    p95_s: float | None = None
    p99_s: float | None = None
    count: int = 0
    """Observations in the window."""
    mean_s: float | None = None
    """Exact, where percentiles are known to the bucket that they fall in."""
    lowest_bound_s: float | None = None
    """Upper bound of the lowest bucket: of a percentile below it no more is known than that."""


class Lengths(Data, frozen=True, kw_only=True):
    """Lengths of requests over a moving window, in tokens."""

    mean: float | None = None
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    count: int = 0
    """Requests in the window."""


class Goodput(Data, frozen=True, kw_only=True):
    """Requests over a moving window that met the profile's targets.

    Two histograms do not tell which request met both targets, so each figure is a range.
    """

    share_min: float
    """0 to 1."""
    share_max: float
    per_s_min: float
    per_s_max: float
    ttft_share: float | None = None
    """0 to 1: first tokens of the window that came in time; `None` without that target or without one."""
    tpot_share: float | None = None
    """The same of finished requests and their time per output token."""


class EngineShare(Data, frozen=True, kw_only=True):
    """One of several engines (data parallel)."""

    engine: str
    """Its label in `/metrics`."""
    running: int | None = None
    waiting: int | None = None
    kv_cache_usage: float | None = None
    generation_tokens_per_s: float | None = None


class EngineReading(Data, frozen=True, kw_only=True):
    """vLLM's own figures at one moment, summed or averaged over its engines (data parallel)."""

    kv_cache_usage: float | None = None
    """0 to 1."""
    kv_cache_tokens: int | None = None
    """Size of the KV cache."""
    running: int | None = None
    waiting: int | None = None
    prompt_tokens_per_s: float | None = None
    generation_tokens_per_s: float | None = None
    ttft: Percentiles | None = None
    itl: Percentiles | None = None
    preemptions_total: int | None = None
    preemptions_per_s: float | None = None
    prefix_cache_hit_rate: float | None = None
    """0 to 1 over the window; `None` while nothing was looked up."""
    requests_finished_total: int | None = None
    prompt_tokens_total: int | None = None
    generation_tokens_total: int | None = None
    mean_prompt_tokens: float | None = None
    """Mean prompt length of requests finished in the window."""
    mean_generation_tokens: float | None = None
    engines: int = 1
    tpot: Percentiles | None = None
    """Time per output token, per request."""
    e2e: Percentiles | None = None
    """From arrival to the last token."""
    queue: Percentiles | None = None
    prefill: Percentiles | None = None
    decode: Percentiles | None = None
    prefill_share: float | None = None
    """0 to 1: prefill's part of the time that requests of the window spent in prefill and decode."""
    waiting_capacity: int | None = None
    """Of `waiting`, those that wait for KV cache or a place in the batch."""
    waiting_deferred: int | None = None
    spec_acceptance_rate: float | None = None
    """0 to 1: accepted of drafted tokens over the window."""
    spec_accepted_length: float | None = None
    """Mean tokens per step with its drafts: 1 is no gain."""
    spec_acceptance_by_position: tuple[float, ...] | None = None
    admission_rejections_total: int | None = None
    finished_by_reason: dict[str, int] | None = None
    """Since the server started: `stop`, `length`, `abort`, `error`, `repetition`."""
    http_errors_by_status: dict[str, int] | None = None
    """Since the server started: answers of `/v1` with `4xx` and `5xx`."""
    prompt_lengths: Lengths | None = None
    generation_lengths: Lengths | None = None
    length_capped_share: float | None = None
    """0 to 1: answers of the window that ended at their limit of tokens."""
    longest_context_tokens: int | None = None
    """Upper bound of the longest prompt plus the longest answer since the server started."""
    iteration_tokens_mean: float | None = None
    """Tokens per scheduler step."""
    goodput: Goodput | None = None
    """`None` while the profile has no `[targets]`."""
    by_engine: tuple[EngineShare, ...] = ()
    """Empty where there is one engine."""
    imbalance: float | None = None
    """Busiest engine's requests over the mean of all; 1 is even."""
    resets_total: int = 0
    """How often a counter fell back since this server is watched."""
    prefix_caching: bool | None = None
    cache_dtype: str | None = None
    block_size: int | None = None
    requests_per_s: float | None = None
    """Requests finished over the window."""
    running_peak: int | None = None
    """Most at once since this server is watched, as is `waiting_peak`."""
    waiting_peak: int | None = None
    busy_s: float = 0.0
    """Seconds of watching in which requests ran; `idle_s` in which none did."""
    idle_s: float = 0.0
    generation_tokens_per_busy_s: float | None = None
    """Mean while requests ran, since this server is watched."""
    prompt_tokens_per_busy_s: float | None = None
    prefix_cache_hit_rate_total: float | None = None
    """0 to 1, since the server started."""
    external_cache_hit_rate: float | None = None
    """0 to 1 over the window: what a KV connector (host memory, another machine) had of what it was asked for."""
    prompt_share_by_source: dict[str, float] | None = None
    """0 to 1 over the window: `local_compute`, `local_cache_hit`, `external_kv_transfer`."""
    longest_prompt_tokens: int | None = None
    """Upper bound since the server started, as is `longest_generation_tokens`."""
    longest_generation_tokens: int | None = None
    flops_per_gpu_per_s: float | None = None
    """vLLM's own estimate; only with `--enable-mfu-metrics`."""
    memory_bytes_per_gpu_per_s: float | None = None
    """Read and written, as estimated with that flag."""
    step_tokens_max: int | None = None
    """Tokens that one step may take, where the log says that drafts leave fewer than `max_num_batched_tokens`."""
    kernels_compiled_total: int | None = None
    """Kernels that one process began to compile since it serves, by the log; `None` where no log is read."""
    kernel_compiling: str | None = None
    """Name of one that is not done."""


class SourceStatus(Data, frozen=True, kw_only=True):
    """How fresh one source of figures is."""

    name: str
    """`gpu`, `host`, `metrics` or `health`."""
    ok: bool = True
    age_s: float | None = None
    """Seconds since its last good answer; `None` if there was none yet."""
    error: str | None = None


class ProfileChange(Data, frozen=True, kw_only=True):
    """One difference between two profiles."""

    key: str
    """Dotted: `serve.max_num_seqs`."""
    before: Any = None
    after: Any = None


class HintState(StrEnum):
    """Whether a rule has something to say."""

    FIRING = "firing"
    UNJUDGED = "unjudged"
    """Something that the rule needs is missing; `missing` says what."""


class Hint(Data, frozen=True, kw_only=True):
    """What one rule says now."""

    id: str
    title: str
    level: Level = Level.WARN
    state: HintState = HintState.FIRING
    evidence: tuple[str, ...] = ()
    """Sentences with figures and how long they held."""
    change: tuple[ProfileChange, ...] = ()
    gain: str = ""
    risk: str = ""
    held_s: float = 0.0
    missing: str = ""
    doc: str = ""
    """Address of the documentation behind it."""


class Diagnosis(Data, frozen=True, kw_only=True):
    """Why a server failed, as its log shows it."""

    title: str
    cause: str | None = None
    """Id of the known failure, `None` if it is not known."""
    why: str = ""
    """What lies behind it, in a sentence; empty where the title says all."""
    remedy: str = ""
    line: int | None = None
    """Line in the log, counted from 1."""
    text: str = ""
    """That line, and for an unknown failure its block."""
    change: tuple[ProfileChange, ...] = ()
    """The profile difference that is the remedy, if one is."""


class PhaseTime(Data, frozen=True, kw_only=True):
    """How long one phase of a start took."""

    phase: Phase
    seconds: float


class ServerStatus(Data, frozen=True, kw_only=True):
    """The server as the supervisor sees it."""

    state: ServerState = ServerState.STOPPED
    since_s: float = 0.0
    """Wall-clock time (Unix) of the last change of state."""
    started_s: float | None = None
    """Wall-clock time at which the present attempt began."""
    ready_s: float | None = None
    """Wall-clock time at which it first answered `/health`."""
    phase: Phase | None = None
    phase_detail: str = ""
    """What the log says inside the phase, for example `shard 3/46`."""
    progress: float | None = None
    """0 to 1 inside the phase, where the log tells."""
    phases: tuple[PhaseTime, ...] = ()
    """Phases that are over."""
    pid: int | None = None
    exit_code: int | None = None
    """As `subprocess` gives it: negative for a signal."""
    reason: str = ""
    """Why it is in this state, in one sentence."""
    diagnosis: Diagnosis | None = None
    in_flight: int | None = None
    """Requests running and waiting while it drains."""
    cut: int | None = None
    """Requests that were still in flight when the last stop ended them; `None` if it had none to wait for."""
    deadline_s: float | None = None
    """Wall-clock time at which the present step gives up (ready timeout, drain limit, wait before a restart)."""
    restart: int | None = None
    """Number of the restart that is planned for `deadline_s`, of `console.core.retry.RESTARTS_MAX`."""
    over: bool = False
    """Nothing runs, nothing is left, nothing is planned."""


class Spend(StrEnum):
    """What the time of a run goes into, and so its money."""

    DOWNLOADING = "downloading"
    LOADING = "loading"
    SERVING = "serving"
    """Ready, with requests in flight."""
    IDLE = "idle"
    """Ready, with none."""
    HUNG = "hung"
    """Unhealthy."""
    DOWN = "down"
    """Stopping, crashed, failed, or waiting for a restart."""
    UNWATCHED = "unwatched"
    """No supervisor was there, or it was ready and gave no figures."""


class Money(Data, frozen=True, kw_only=True):
    """What a run has cost so far, by what its time went into."""

    usd_per_hour: float | None = None
    missing: str = ""
    """Why there are no dollars, and what to do; empty where there is a price."""
    seconds: dict[Spend, float] = {}
    total_s: float = 0.0
    usd: dict[Spend, float] | None = None
    total_usd: float | None = None
    output_tokens: int | None = None
    """Made since the launch, over all restarts of the server."""
    usd_per_million: float | None = None
    """All dollars since the launch per million output tokens."""
    usd_per_million_now: float | None = None
    """The same over the last minute; `None` while nothing is made."""
    idle_s: float | None = None
    """Since the last request was seen; `None` unless it is ready and that is known."""
    idle_usd: float | None = None
    """Spent in `idle_s`."""
    idle_counted_s: float | None = None
    """Of `idle_s`, what counts towards the idle deadlines: the time since they were last postponed."""
    idle_warned: bool = False
    """The profile's warning time is over."""
    idle_stop_in_s: float | None = None
    """Until it is stopped as idle; `None` while nothing counts down."""


class TrialPhase(StrEnum):
    """Where a trial of other settings is."""

    DRAINING = "draining"
    """The server before it finishes its requests."""
    STARTING = "starting"
    SERVING = "serving"
    """The settings that are tried serve."""
    REVERTING = "reverting"
    KEPT = "kept"
    REVERTED = "reverted"
    """What served before serves again, or was stopped on request."""
    LOST = "lost"
    """What served before did not start again."""


class TrialStatus(Data, frozen=True, kw_only=True):
    """A trial of other settings, under way or the last one of this run."""

    id: str
    """By which its files in the run's directory are named."""
    change: tuple[ProfileChange, ...] = ()
    number: int = 1
    """Of the settings that are tried, counted in this trial."""
    phase: TrialPhase
    why: str = ""
    """Why it went back."""


class NodeFigures(Data, frozen=True, kw_only=True):
    """One machine of a group at one tick, in the group's snapshot (see `console.core.groupview`)."""

    host: str
    """As the operator named it."""
    status: ServerStatus = ServerStatus()
    """Of its own part."""
    words: str = ""
    """How it is."""
    gpus: tuple[GpuReading, ...] | None = None
    """The last that it told, numbered over all machines of the group; `None` as in `Snapshot`."""
    first_gpu: int = 0
    """What its driver calls GPU 0 has this number in the group."""
    gpu_error: str = ""
    """Why its figures of GPUs are old, or are missing."""
    reading: HostReading | None = None
    silent_s: float | None = None
    """It is cut off from here for so long: its figures are as old. `None` while it is heard."""
    silent_why: str = ""
    expected: tuple[PhaseTime, ...] = ()
    """As in `RunInfo`, of its own starts."""


class Snapshot(Data, frozen=True, kw_only=True):
    """Everything known at one tick."""

    seq: int
    time_s: float
    """Wall-clock time (Unix)."""
    status: ServerStatus
    gpus: tuple[GpuReading, ...] | None = None
    """`None` where NVML is absent or failing; empty where there is a driver and no GPU."""
    host: HostReading | None = None
    engine: EngineReading | None = None
    sources: tuple[SourceStatus, ...] = ()
    hints: tuple[Hint, ...] = ()
    money: Money | None = None
    log_bytes: int = 0
    """Size of `server.log` at this tick."""
    trial: TrialStatus | None = None
    """The newest trial of other settings; `None` if there was none."""
    nodes: tuple[NodeFigures, ...] = ()
    """The machines, in the order of their ranks, if it is one of a group; `gpus` are then those that are heard."""


class Sample(Data, frozen=True, kw_only=True):
    """The figures of one tick as the run directory keeps them, or of several merged (see `console.core.sampling`)."""

    time_s: float
    """Wall-clock time (Unix); of merged ones the last one's."""
    state: ServerState
    gpus: tuple[GpuReading, ...] | None = None
    host: HostReading | None = None
    engine: EngineReading | None = None
    count: int = 1
    """Ticks that were merged into this."""
    span_s: float = 0.0
    """Seconds from the first of them to the last."""


class GroupSample(Sample, frozen=True, kw_only=True):
    """One tick of a group, for rules that look at several machines. It is kept nowhere."""

    nodes: tuple[NodeFigures, ...] = ()
    """Those that are heard."""


class LogPage(Data, frozen=True, kw_only=True):
    """Lines of a log, cleaned of control characters, and where reading goes on."""

    lines: tuple[str, ...]
    offset: int
    """Byte offset after the last line."""
    first_line: int
    """Number of the first line, counted from 1."""
    skipped: int = 0
    """Lines just before the first that were passed over: dropped from the log, or too many to be read in time."""


class EventRecord(Data, frozen=True, kw_only=True):
    """One line of `events.jsonl`: something that happened, once."""

    time_s: float
    kind: str
    """`state`, `phase`, `hint`, `source`, `stop`, `note`, `xid`."""
    text: str
    level: Level = Level.INFO
    data: dict[str, Any] = {}


class NodePlace(Data, frozen=True, kw_only=True):
    """Which part of a group of machines a run is (see `console.core.group`)."""

    group: str
    """Id of the group, the same on all its machines."""
    attempt: int
    """Number of the group's start, from 1."""
    rank: int
    """0 is the head, which has the HTTP server."""
    hosts: tuple[str, ...]
    """Names of the machines, in the order of their ranks, as the operator gave them."""
    addresses: tuple[str, ...]
    """By which they reach each other, in the same order; empty where one is not known."""
    port: int | None = None
    """TCP port of the head that is open for as long as its server lives; `None` if others reach none."""
    meets: bool = False
    """All others hold connections to that port for as long as their servers live."""

    @property
    def text(self) -> str:
        """This machine in words."""
        return f"node {self.rank} ({self.hosts[self.rank]})"


class RunInfo(Data, frozen=True, kw_only=True):
    """`run.json`: one launch. Environment values that look secret are written as `•••`."""

    id: str
    """Sortable: `20261123-124530-cpu-smoke`."""
    profile_name: str
    profile_title: str = ""
    model: str = ""
    """As clients of the server must name it: the served model name."""
    url: str = ""
    argv: tuple[str, ...] = ()
    env: dict[str, str] = {}
    """Only what the profile and this program added."""
    engine_name: str = ""
    engine_version: str = ""
    created_s: float = 0.0
    """Wall-clock time of the launch."""
    supervisor_pid: int | None = None
    supervisor_start_s: float | None = None
    """Start time of that process since boot, against reuse of its pid."""
    guardian_pid: int | None = None
    """The supervisor's parent, which starts it again if it dies."""
    server_pid: int | None = None
    server_start_s: float | None = None
    server_started_s: float | None = None
    """Wall-clock time at which the server was started last."""
    usd_per_hour: float | None = None
    max_num_seqs: int | None = None
    max_model_len: int | None = None
    ttft_target_s: float | None = None
    """`[targets]` of the profile."""
    tpot_target_s: float | None = None
    state: str = "starting"
    """Last known `ServerState`."""
    reason: str = ""
    diagnosis: Diagnosis | None = None
    """Why it failed, if it did."""
    expected: tuple[PhaseTime, ...] = ()
    """How long each phase took in earlier starts like this one, here; empty if there were none."""
    expected_ready_s: float | None = None
    """Seconds to ready in those."""
    trial: tuple[ProfileChange, ...] = ()
    """How the running server's settings differ from those of the launch while they are tried."""
    place: NodePlace | None = None
    """Of a machine of a group."""


class ChatMessage(Data, frozen=True, kw_only=True):
    """One turn of a conversation."""

    role: str
    """`system`, `user` or `assistant`."""
    content: str


class ChatOptions(Data, frozen=True, kw_only=True):
    """Sampling and length; `None` leaves the choice to the server."""

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    extra: dict[str, Any] = {}
    """Further request fields, for example `chat_template_kwargs`."""


class ChatDelta(Data, frozen=True, kw_only=True):
    """A piece of an answer. The last one has `done`."""

    text: str = ""
    reasoning: str = ""
    done: bool = False
    finish_reason: str | None = None
    ttft_s: float | None = None
    """Known from the first piece on."""
    elapsed_s: float = 0.0
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    error: str = ""
    """What went wrong, for the operator; the answer so far stays."""
    raw: tuple[str, ...] = ()
    """What the server wrote since the piece before, as it was written."""
