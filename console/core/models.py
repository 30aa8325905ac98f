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
    "EventRecord",
    "GpuReading",
    "Hint",
    "HintState",
    "HostReading",
    "Level",
    "LogPage",
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


class GpuReading(Data, frozen=True, kw_only=True):
    """One GPU at one moment."""

    index: int
    name: str | None = None
    uuid: str | None = None
    util_percent: float | None = None
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    power_w: float | None = None
    power_limit_w: float | None = None
    temperature_c: float | None = None


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


class Percentiles(Data, frozen=True, kw_only=True):
    """A latency over a moving window, in seconds."""

    p50_s: float | None = None
    p95_s: float | None = None
    p99_s: float | None = None
    count: int = 0
    """Observations in the window."""


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
    log_bytes: int = 0
    """Size of `server.log` at this tick."""


class Sample(Data, frozen=True, kw_only=True):
    """The figures of one tick as the run directory keeps them."""

    time_s: float
    state: ServerState
    gpus: tuple[GpuReading, ...] | None = None
    host: HostReading | None = None
    engine: EngineReading | None = None


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
    """`state`, `phase`, `hint`, `source`, `stop`, `note`."""
    text: str
    level: Level = Level.INFO
    data: dict[str, Any] = {}


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
    state: str = "starting"
    """Last known `ServerState`."""
    reason: str = ""
    diagnosis: Diagnosis | None = None
    """Why it failed, if it did."""
    expected: tuple[PhaseTime, ...] = ()
    """How long each phase took in earlier starts like this one, here; empty if there were none."""
    expected_ready_s: float | None = None
    """Seconds to ready in those."""


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
