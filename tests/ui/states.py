"""The states that the screen must hold in, as sessions: one table for sizes, goldens and pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from msgspec.structs import replace

from console.client.api import Lost
from console.core.diagnosis import diagnose
from console.core.models import (
    Diagnosis,
    Hint,
    HintState,
    Level,
    Phase,
    PhaseTime,
    ProfileChange,
    ServerState,
    ServerStatus,
    SourceStatus,
)
from tests.fakes.backend import (
    BUSY,
    CPU_RUN,
    HOST,
    IDLE,
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
    base = {"gpus": None, "hints": (), "host": replace(HOST, cpu_percent=62.0, cpu_count=2)}
    return attached(history(count=0), snapshot(**base | changes), run=CPU_RUN)[0]


STATES: dict[str, Callable[[], FakeBackend]] = {
    "picker": lambda: FakeBackend(problems=PROBLEMS),
    "picker-no-gpu": lambda: FakeBackend(machine=NO_GPU, engine=None),
    "picker-empty": lambda: FakeBackend(entries=()),
    "busy": lambda: attached(history(), snapshot())[0],
    "idle": lambda: attached(snapshot(engine=IDLE, gpus=gpus(4, 1.0), hints=()))[0],
    "no-gpu": _on_cpu,
    "hints-many": lambda: attached(history(), snapshot(hints=MANY))[0],
    "hint-unjudged": lambda: attached(history(), snapshot(hints=(UNJUDGED,)))[0],
    "gpus-16": lambda: attached(history(count=16), snapshot(gpus=gpus(16)))[0],
    "gpu-silent": lambda: attached(
        snapshot(
            gpus=(
                gpu(0),
                gpu(1, None, memory_used_bytes=None, power_w=None, temperature_c=None),
                gpu(2, temperature_c=91.0),
            )
        )
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
