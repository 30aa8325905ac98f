"""Several servers at once: one row for each run or watched endpoint, worst first, and what they come to together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from itertools import pairwise

import msgspec

from console.core.gpuchoice import VISIBLE
from console.core.hosts import is_machine, machine_of
from console.core.models import HintState, Level, RunInfo, ServerState, Snapshot
from console.core.watching import Trouble, is_watched, trouble_of

__all__ = [
    "STALE_S",
    "FleetDocument",
    "FleetRow",
    "FleetState",
    "FleetTotals",
    "gpus_text",
    "row_of",
    "totals_of",
    "worst_first",
]

STALE_S = 5.0
"""Figures that are older, in seconds, are not shown as if they were of now."""


class FleetState(StrEnum):
    """How a server is, in a word; from worst to best."""

    CRASHED = "crashed"
    FAILED = "failed"
    LOST = "lost"
    """Its supervisor does not answer."""
    UNREACHABLE = "unreachable"
    UNHEALTHY = "unhealthy"
    KEY = "wants a key"
    FOREIGN = "not a vLLM"
    STALE = "stale"
    """It is said to be up, and its figures are old."""
    STOPPING = "stopping"
    LOADING = "loading"
    STARTING = "starting"
    ASKING = "asking"
    """Nothing was heard of it yet."""
    READY = "ready"
    STOPPED = "stopped"


ORDER = {state: place for place, state in enumerate(FleetState)}
TROUBLES = {
    Trouble.UNREACHABLE: FleetState.UNREACHABLE,
    Trouble.KEY: FleetState.KEY,
    Trouble.FOREIGN: FleetState.FOREIGN,
}


class FleetRow(msgspec.Struct, frozen=True, kw_only=True):
    """One server. `None` is unknown, and is neither drawn nor counted as zero."""

    id: str
    """By which it is attached to."""
    host: str = ""
    """Its machine, as `--host` named it; empty for this one and for what is watched."""
    is_machine: bool = False
    """No server: this machine is out of reach, and it is not known what runs there."""
    name: str
    url: str
    watched: bool
    """This console did not start it and can only look."""
    state: FleetState
    why: str = ""
    """Why it is in this state, in a sentence."""
    model: str = ""
    gpus: tuple[int, ...] | None = None
    """Indices on its machine."""
    running: int | None = None
    waiting: int | None = None
    kv_cache_usage: float | None = None
    """0 to 1."""
    generation_tokens_per_s: float | None = None
    ttft_p95_s: float | None = None
    usd_per_hour: float | None = None
    hints: tuple[str, ...] | None = None
    """Ids of those that fire; `None` where nothing was judged."""
    hints_level: Level | None = None
    """Of the worst of them."""
    age_s: float | None = None
    """Since its newest snapshot; `None` if there was none."""


class FleetTotals(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over the rows that know a figure; `None` where none does."""

    servers: int
    machines_away: int
    """Machines of which it is not known what runs there; none of them is in `servers`."""
    ready: int
    gpus: int | None
    running: int | None
    waiting: int | None
    generation_tokens_per_s: float | None
    usd_per_hour: float | None
    hints: int
    without_figures: int
    """Rows that had none of running, waiting and output to add."""
    without_price: int


class FleetDocument(msgspec.Struct, frozen=True, kw_only=True):
    """What `dsv4-console fleet --json` prints."""

    rows: tuple[FleetRow, ...]
    """Worst first."""
    totals: FleetTotals


def row_of(run: RunInfo, snapshot: Snapshot | None, *, age_s: float | None, lost: str = "", away: str = "") -> FleetRow:
    """One server as its newest snapshot has it.

    Args:
        age_s: seconds since that snapshot came.
        lost: why nobody tells of it any more; empty while somebody does.
        away: why there is no way to its machine; empty while there is one.
    """
    state, why = (FleetState.UNREACHABLE, away) if away else _state(run, snapshot, age_s, lost)
    base = FleetRow(
        id=run.id,
        host=machine_of(run.id),
        is_machine=is_machine(run.id),
        name=run.profile_name,
        url=run.url,
        watched=is_watched(run),
        state=state,
        why=why,
        model=run.model,
        gpus=_gpus(run, snapshot),
        usd_per_hour=run.usd_per_hour,
        age_s=age_s,
    )
    if snapshot is None or lost or away or (age_s is not None and age_s > STALE_S):
        return base
    engine = snapshot.engine
    firing = [hint for hint in snapshot.hints if hint.state is HintState.FIRING]
    return msgspec.structs.replace(
        base,
        running=engine.running if engine else None,
        waiting=engine.waiting if engine else None,
        kv_cache_usage=engine.kv_cache_usage if engine else None,
        generation_tokens_per_s=engine.generation_tokens_per_s if engine else None,
        ttft_p95_s=engine.ttft.p95_s if engine and engine.ttft else None,
        hints=tuple(hint.id for hint in firing) if snapshot.hints or engine is not None else None,
        hints_level=max((hint.level for hint in firing), key=list(Level).index, default=None),
    )


def _state(run: RunInfo, snapshot: Snapshot | None, age_s: float | None, lost: str) -> tuple[FleetState, str]:
    if lost:
        return FleetState.LOST, lost
    if snapshot is None:
        return FleetState.ASKING, ""
    status = snapshot.status
    trouble = trouble_of(snapshot.sources)
    if trouble is not None:
        return TROUBLES[trouble], status.reason
    if age_s is not None and age_s > STALE_S:
        return FleetState.STALE, f"nothing was heard for {age_s:.0f} s"
    metrics = next((each for each in snapshot.sources if each.name == "metrics"), None)
    if status.state is ServerState.READY and snapshot.engine is None and metrics is not None and metrics.error:
        return FleetState.STALE, f"metrics: {metrics.error}"
    return FleetState(status.state.value), status.reason


def _gpus(run: RunInfo, snapshot: Snapshot | None) -> tuple[int, ...] | None:
    """Those that its profile leaves to it, else those on which its processes are seen."""
    named = run.env.get(VISIBLE)
    if named:
        parts = [part.strip() for part in named.split(",")]
        if all(part.isdecimal() for part in parts):
            return tuple(sorted(map(int, parts)))
    held = [
        gpu.index
        for gpu in (snapshot.gpus if snapshot else None) or ()
        if any(process.own for process in gpu.processes or ())
    ]
    return tuple(held) or None


def gpus_text(gpus: Sequence[int] | None) -> str:
    """`0-3`, `0,2,5-7`; empty where none is known."""
    if not gpus:
        return ""
    starts = [gpus[0], *(after for before, after in pairwise(gpus) if after != before + 1)]
    ends = [*(before for before, after in pairwise(gpus) if after != before + 1), gpus[-1]]
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in zip(starts, ends, strict=True))


def worst_first(rows: Iterable[FleetRow]) -> tuple[FleetRow, ...]:
    """By state, then by the worst hint, how many fire, and name: figures that move each second move no row."""

    def key(row: FleetRow) -> tuple[int, int, int, str, str, str]:
        level = -1 if row.hints_level is None else list(Level).index(row.hints_level)
        return ORDER[row.state], -level, -len(row.hints or ()), row.host, row.name, row.id

    return tuple(sorted(rows, key=key))


def totals_of(rows: Sequence[FleetRow]) -> FleetTotals:
    """What all of them come to."""
    machines_away = sum(row.is_machine for row in rows)
    rows = [row for row in rows if not row.is_machine]

    def known(read: Callable[[FleetRow], float | None]) -> float | None:
        values = [value for row in rows if (value := read(row)) is not None]
        return sum(values) if values else None

    def whole(read: Callable[[FleetRow], float | None]) -> int | None:
        value = known(read)
        return None if value is None else round(value)

    return FleetTotals(
        servers=len(rows),
        machines_away=machines_away,
        ready=sum(row.state is FleetState.READY for row in rows),
        gpus=whole(lambda row: None if row.gpus is None else len(row.gpus)),
        running=whole(lambda row: row.running),
        waiting=whole(lambda row: row.waiting),
        generation_tokens_per_s=known(lambda row: row.generation_tokens_per_s),
        usd_per_hour=known(lambda row: row.usd_per_hour),
        hints=sum(len(row.hints or ()) for row in rows),
        without_figures=sum(
            row.running is None and row.waiting is None and row.generation_tokens_per_s is None for row in rows
        ),
        without_price=sum(row.usd_per_hour is None for row in rows),
    )
