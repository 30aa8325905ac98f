"""The states that the screen must hold in, as sessions: one table for sizes, goldens and pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from msgspec.structs import replace

from console.client.api import Lost
from console.core.diagnosis import diagnose
from console.core.models import (
    Diagnosis,
    EngineShare,
    EventRecord,
    Goodput,
    Hint,
    HintState,
    Lengths,
    Level,
    Percentiles,
    Phase,
    PhaseTime,
    ProfileChange,
    ServerState,
    ServerStatus,
    SourceStatus,
    Throttle,
)
from console.core.snooze import Snooze
from console.protocol import History
from tests.fakes.backend import (
    BUSY,
    CPU_RUN,
    HOST,
    IDLE,
    MONEY,
    NO_GPU,
    NOW_S,
    PROBLEMS,
    RAISE,
    READY,
    RUN,
    FakeBackend,
    attached,
    gpu,
    gpus,
    history,
    loading,
    snapshot,
)

UNPRICED = replace(
    MONEY,
    usd_per_hour=None,
    missing="no price",
    usd=None,
    total_usd=None,
    usd_per_million=None,
    usd_per_million_now=None,
)
USUAL = (
    PhaseTime(phase=Phase.CONFIG, seconds=10.0),
    PhaseTime(phase=Phase.WEIGHTS, seconds=60.0),
    PhaseTime(phase=Phase.COMPILE, seconds=80.0),
    PhaseTime(phase=Phase.GRAPHS, seconds=40.0),
)
UNJUDGED = Hint(id="idle-cost", title="Idle and costing money", state=HintState.UNJUDGED, missing="a price per hour")
OOM = Diagnosis(
    title="Not enough GPU memory for the KV cache",
    cause="kv-cache-too-small",
    remedy="Lower max_model_len, or raise gpu_memory_utilization.",
    line=3,
    text="ValueError: To serve at least one request with the model's max seq len (131072), 9.12 GiB is needed",
    change=(ProfileChange(key="serve.max_model_len", before=131072, after=32768),),
)
LOGS = Path(__file__).parent.parent / "data" / "logs" / "cpu-0.32.0"


def _recorded(name: str, hidden: str = "\0") -> Diagnosis:
    """What a recorded log tells, without one text."""
    lines = (LOGS / name).read_text(encoding="utf-8").replace(hidden, "…").splitlines()
    found = diagnose(lines, 1)
    assert found is not None
    return found


PARSER = _recorded("fail-reasoning-parser.log")
UNKNOWN = _recorded("ready-then-dies-on-first-request.log", hidden="Disabling Triton")
MANY = (
    RAISE,
    Hint(id="thermal", title="GPU 3 slows itself down", level=Level.BAD, evidence=("83 °C for 40 s.",), held_s=40),
    Hint(
        id="prefix", title="Turn prefix caching on", level=Level.INFO, evidence=("Prompts share 61% of their start.",)
    ),
    UNJUDGED,
)


def _over(state: ServerState, **changes: object) -> ServerStatus:
    return replace(READY, state=state, since_s=NOW_S - 30, over=state is not ServerState.STOPPING, **changes)


def _on_cpu(**changes: object) -> FakeBackend:
    base = {
        "gpus": None,
        "hints": (),
        "money": UNPRICED,
        "host": replace(HOST, cpu_percent=62.0, cpu_count=2),
    }
    return attached(history(count=0), snapshot(**base | changes), run=CPU_RUN)[0]


TELLING = replace(
    BUSY,
    tpot=Percentiles(p50_s=0.019, p95_s=0.044, p99_s=0.055, count=240),
    e2e=Percentiles(p50_s=9.6, p95_s=24.0, p99_s=31.0, count=240),
    queue=Percentiles(p50_s=1.2, p95_s=3.1, p99_s=3.6, count=240, mean_s=1.4, lowest_bound_s=0.3),
    prefill=Percentiles(p50_s=0.15, p95_s=0.8, p99_s=0.9, count=240, mean_s=0.22, lowest_bound_s=0.3),
    decode=Percentiles(p50_s=7.9, p95_s=20.0, p99_s=27.0, count=240),
    prefill_share=0.06,
    waiting_capacity=40,
    waiting_deferred=1,
    spec_acceptance_rate=0.47,
    spec_accepted_length=2.41,
    spec_acceptance_by_position=(0.8, 0.4, 0.2),
    admission_rejections_total=12,
    finished_by_reason={"stop": 4242, "length": 576, "abort": 3, "error": 0},
    http_errors_by_status={"4xx": 7, "5xx": 2},
    prompt_lengths=Lengths(mean=2310.0, p50=1800.0, p95=7400.0, p99=9800.0, count=240),
    generation_lengths=Lengths(mean=402.0, p50=350.0, p95=1900.0, p99=2000.0, count=240),
    length_capped_share=0.12,
    longest_context_tokens=22_000,
    longest_prompt_tokens=20_000,
    longest_generation_tokens=2_000,
    iteration_tokens_mean=412.0,
    goodput=Goodput(share_min=0.31, share_max=0.36, per_s_min=1.24, per_s_max=1.44, ttft_share=0.36, tpot_share=0.95),
    prefix_caching=True,
    cache_dtype="fp8",
    block_size=256,
    requests_per_s=4.0,
    running_peak=32,
    waiting_peak=57,
    busy_s=4900.0,
    idle_s=1200.0,
    generation_tokens_per_busy_s=1980.0,
    prompt_tokens_per_busy_s=8900.0,
    prefix_cache_hit_rate_total=0.48,
    external_cache_hit_rate=0.1,
    prompt_share_by_source={"local_compute": 0.55, "local_cache_hit": 0.45, "external_kv_transfer": 0.0},
    flops_per_gpu_per_s=212e12,
    memory_bytes_per_gpu_per_s=1.9e12,
)
TARGETS = replace(RUN, ttft_target_s=1.0, tpot_target_s=0.05)
TWO = replace(
    TELLING,
    engines=2,
    by_engine=(
        EngineShare(engine="0", running=28, waiting=40, kv_cache_usage=0.97, generation_tokens_per_s=1810.0),
        EngineShare(engine="1", running=4, waiting=1, kv_cache_usage=0.11, generation_tokens_per_s=324.0),
    ),
    imbalance=1.86,
    http_errors_by_status={"4xx": 0, "5xx": 0},
    admission_rejections_total=0,
    waiting_deferred=0,
)

ENDED = EventRecord(time_s=NOW_S - 80, kind="state", text="unhealthy → ready", level=Level.OK)
XID = EventRecord(
    time_s=NOW_S - 90,
    kind="xid",
    text="GPU 2: Xid 94: contained ECC error: only the program that used the memory is lost [pid=4313]. Restart the "
    "server; reset the GPU when there is time.",
    level=Level.BAD,
    data={"gpu": 2, "xid": 94},
)
EVENTS = (
    EventRecord(time_s=NOW_S - 90_000, kind="note", text="launched", level=Level.INFO),
    EventRecord(time_s=NOW_S - 6200, kind="state", text="stopped → starting", level=Level.INFO),
    EventRecord(time_s=NOW_S - 6190, kind="phase", text="config: vLLM 0.33.0", level=Level.INFO),
    EventRecord(time_s=NOW_S - 6170, kind="phase", text="weights: loading", level=Level.INFO),
    EventRecord(time_s=NOW_S - 6120, kind="state", text="loading → ready", level=Level.OK),
    EventRecord(time_s=NOW_S - 2400, kind="restart", text="restart 1 of 5 is planned", level=Level.WARN),
    EventRecord(time_s=NOW_S - 1800, kind="settings", text="other settings are in force from here on"),
    EventRecord(time_s=NOW_S - 200, kind="hint", text=f"{RAISE.title}: {RAISE.evidence[0]}", level=Level.WARN),
    EventRecord(time_s=NOW_S - 120, kind="source", text="metrics: timed out"),
    XID,
    EventRecord(time_s=NOW_S - 85, kind="state", text="ready → unhealthy: no answer for 12 s", level=Level.BAD),
    ENDED,
)
PAST = History(samples=history().samples, events=EVENTS)
SLOW = tuple(
    replace(
        sample,
        engine=replace(
            sample.engine,
            ttft=Percentiles(p95_s=0.5 + 1.2 * (i % 60) / 60, count=9),
            tpot=Percentiles(p95_s=0.03 + 0.03 * (i % 90) / 90, count=9),
        ),
    )
    for i, sample in enumerate(history().samples)
    if sample.engine
)
HALF_HOUR = Snooze(hint=RAISE.id, level=Level.WARN, since_s=NOW_S - 60, until_s=NOW_S + 1740)
START_LOG = (
    "(APIServer pid=4242) INFO 11-18 12:00:01 [api_utils.py:286] vLLM server version 0.33.0, serving model m",
    "(Worker_TP0 pid=4311) INFO 11-18 12:00:10 [gpu_model_runner.py:4000] Starting to load model m...",
    "(Worker_TP0 pid=4311) Loading safetensors checkpoint shards: 100% Completed | 46/46 [00:50<00:00,  1.1s/it]",
    "(Worker_TP0 pid=4311) INFO 11-18 12:01:10 [runner.py:4100] Model loading took 39.50 GiB and 58.1 seconds",
    "(Worker_TP0 pid=4311) INFO 11-18 12:01:30 [monitor.py:34] torch.compile took 22.12 s in total",
    "(EngineCore pid=4300) INFO 11-18 12:01:40 [gpu_worker.py:300] Available KV cache memory: 84.20 GiB",
    "(EngineCore pid=4300) INFO 11-18 12:01:41 [kv_cache_utils.py:2327] GPU KV cache size: 1,912,000 tokens",
)


def _put_aside() -> FakeBackend:
    backend, session = attached(history(), snapshot(hints=MANY))
    session.put_aside = (HALF_HOUR,)
    return backend


STATES: dict[str, Callable[[], FakeBackend]] = {
    "picker": lambda: FakeBackend(problems=PROBLEMS),
    "picker-no-gpu": lambda: FakeBackend(machine=NO_GPU, engine=None),
    "picker-empty": lambda: FakeBackend(entries=()),
    "busy": lambda: attached(history(), snapshot())[0],
    "telling": lambda: attached(history(), snapshot(engine=TELLING), run=TARGETS)[0],
    "two-engines": lambda: attached(history(), snapshot(engine=TWO), run=TARGETS)[0],
    "idle": lambda: attached(snapshot(engine=IDLE, gpus=gpus(4, 1.0), hints=()))[0],
    "idle-warned": lambda: attached(
        snapshot(
            engine=IDLE,
            gpus=gpus(4, 1.0),
            hints=(),
            money=replace(
                MONEY, idle_s=300.0, idle_counted_s=300.0, idle_usd=1.23, idle_warned=True, idle_stop_in_s=1500.0
            ),
        )
    )[0],
    "no-gpu": _on_cpu,
    "hints-many": lambda: attached(history(), snapshot(hints=MANY))[0],
    "hints-snoozed": _put_aside,
    "events": lambda: attached(PAST, snapshot())[0],
    "latencies": lambda: attached(History(samples=SLOW, events=EVENTS), snapshot(engine=TELLING), run=TARGETS)[0],
    "hint-unjudged": lambda: attached(history(), snapshot(hints=(UNJUDGED,)))[0],
    "gpus-16": lambda: attached(history(count=16), snapshot(gpus=gpus(16)))[0],
    "gpus-16-telling": lambda: attached(history(count=16), snapshot(gpus=gpus(16), engine=TWO), run=TARGETS)[0],
    "gpu-silent": lambda: attached(
        snapshot(
            gpus=(
                gpu(0),
                gpu(1, None, memory_used_bytes=None, power_w=None, temperature_c=None),
                gpu(2, temperature_c=91.0),
            )
        )
    )[0],
    "gpu-trouble": lambda: attached(
        history(),
        snapshot(
            gpus=(
                gpu(0, throttle=(Throttle.POWER_CAP,), power_w=699.0, sm_clock_mhz=1605.0),
                gpu(1, nvlink_active=17, pcie_width=8),
                gpu(2, ecc_uncorrected=2, row_remap_pending=True, xid=94, xid_s=NOW_S - 90),
                gpu(3, throttle=(Throttle.SW_THERMAL,), temperature_c=88.0, sm_clock_mhz=1200.0),
            )
        ),
    )[0],
    "stale": lambda: attached(
        history(),
        snapshot(
            sources=(
                SourceStatus(name="gpu", ok=False, age_s=41.0, error="NVML: unknown error"),
                SourceStatus(name="metrics", ok=False, age_s=14.0, error="timed out"),
            )
        ),
    )[0],
    "starting": lambda: attached(snapshot(status=loading(Phase.CONFIG, 4.0), engine=None, hints=(), gpus=gpus(4, 0.0)))[
        0
    ],
    "loading": lambda: attached(
        snapshot(status=loading(Phase.WEIGHTS, phase_detail="shard 31/46", progress=0.67), engine=None, hints=())
    )[0],
    "loading-known": lambda: attached(
        snapshot(status=loading(Phase.WEIGHTS, phase_detail="reading"), engine=None, hints=()),
        run=replace(RUN, expected=USUAL, expected_ready_s=200.0),
    )[0],
    "loading-counted": lambda: attached(
        snapshot(status=loading(Phase.GRAPHS, 130.0, phase_detail="FULL 5/11", progress=5 / 11), engine=None, hints=()),
        run=replace(RUN, expected=USUAL, expected_ready_s=200.0),
        log=START_LOG,
    )[0],
    "loading-graphs": lambda: attached(snapshot(status=loading(Phase.GRAPHS, 95.0), engine=None, hints=()))[0],
    "unhealthy": lambda: attached(
        history(),
        snapshot(status=replace(READY, state=ServerState.UNHEALTHY, reason="/health did not answer for 12 s")),
    )[0],
    "stopping": lambda: attached(
        snapshot(
            status=_over(ServerState.STOPPING, in_flight=7, deadline_s=NOW_S + 22),
            engine=replace(BUSY, running=7, waiting=0),
        )
    )[0],
    "stopped": lambda: attached(
        snapshot(
            status=_over(ServerState.STOPPED, exit_code=0, reason="Stopped as asked."),
            engine=None,
            hints=(),
            gpus=gpus(4, 0.0),
        )
    )[0],
    "failed": lambda: attached(
        snapshot(status=_over(ServerState.FAILED, exit_code=1, diagnosis=OOM), engine=None, hints=())
    )[0],
    "failed-long": lambda: attached(
        snapshot(status=_over(ServerState.FAILED, exit_code=1, diagnosis=PARSER), engine=None, hints=())
    )[0],
    "crashed-unknown": lambda: attached(
        snapshot(status=_over(ServerState.CRASHED, exit_code=0, diagnosis=UNKNOWN), engine=None, hints=())
    )[0],
    "crashed": lambda: attached(
        snapshot(status=_over(ServerState.CRASHED, exit_code=-9, reason="killed by signal 9"), engine=None, hints=())
    )[0],
    "lost": lambda: attached(history(), snapshot(), Lost(reason="connection reset"))[0],
    "unknown": lambda: attached(snapshot(gpus=None, host=None, engine=None, sources=(), hints=()))[0],
}
