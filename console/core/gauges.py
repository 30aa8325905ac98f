"""The supervisor's own metrics for Prometheus: one table of families with type, help and where each is read.

Units are Prometheus' base units (seconds, bytes, ratios from 0 to 1), names end in them. What is unknown has no series:
a gap in a panel is a gap in what was known. Pure; `console.io.exposition` writes the text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Final, NamedTuple

from console.core.models import (
    EngineReading,
    GpuReading,
    HintState,
    HostReading,
    Money,
    Percentiles,
    RunInfo,
    ServerState,
    Snapshot,
    Throttle,
)

__all__ = ["FAMILIES", "PREFIX", "Family", "Kind", "Point", "View"]

PREFIX: Final = "dsv4_console_"
MHZ: Final = 1e6


class Kind(StrEnum):
    """Prometheus' type of a family."""

    GAUGE = "gauge"
    COUNTER = "counter"
    """Its name ends in `_total`."""


class View(NamedTuple):
    """All that a family can be read from."""

    run: RunInfo
    snapshot: Snapshot
    starts: int = 0
    """Starts of the server by this supervisor."""
    clients: int = 0
    records_lost: int = 0


class Point(NamedTuple):
    """One series now. A value of `None` is left out."""

    labels: tuple[str, ...]
    value: float | None


Read = Callable[[View], Iterable[Point]]


class Family(NamedTuple):
    """One metric."""

    name: str
    """Without the prefix."""
    kind: Kind
    help: str
    labels: tuple[str, ...]
    read: Read


def _one(name: str, text: str, value: Callable[[View], float | None], kind: Kind = Kind.GAUGE) -> Family:
    return Family(name, kind, text, (), lambda view: (Point((), value(view)),))


def _gpu(name: str, text: str, value: Callable[[GpuReading], float | None], kind: Kind = Kind.GAUGE) -> Family:
    def read(view: View) -> Iterable[Point]:
        return [Point((str(gpu.index),), value(gpu)) for gpu in view.snapshot.gpus or ()]

    return Family(name, kind, text, ("gpu",), read)


def _engine(name: str, text: str, value: Callable[[EngineReading], float | None], kind: Kind = Kind.GAUGE) -> Family:
    def read(view: View) -> Iterable[Point]:
        return (Point((), value(view.snapshot.engine)),) if view.snapshot.engine else ()

    return Family(name, kind, text, (), read)


def _host(name: str, text: str, value: Callable[[HostReading], float | None]) -> Family:
    def read(view: View) -> Iterable[Point]:
        return (Point((), value(view.snapshot.host)),) if view.snapshot.host else ()

    return Family(name, Kind.GAUGE, text, (), read)


def _latency(name: str, text: str, value: Callable[[EngineReading], Percentiles | None]) -> Family:
    def read(view: View) -> Iterable[Point]:
        found = value(view.snapshot.engine) if view.snapshot.engine else None
        if found is None:
            return ()
        return (Point(("0.5",), found.p50_s), Point(("0.95",), found.p95_s), Point(("0.99",), found.p99_s))

    return Family(name, Kind.GAUGE, f"{text}, over a moving window.", ("quantile",), read)


def _money(view: View) -> Money:
    return view.snapshot.money or Money()


def _ratio(percent: float | None) -> float | None:
    return None if percent is None else percent / 100


def _hertz(mhz: float | None) -> float | None:
    return None if mhz is None else mhz * MHZ


def _info(view: View) -> Iterable[Point]:
    run = view.run
    yield Point((run.id, run.profile_name, run.model, run.engine_version), 1)


def _states(view: View) -> Iterable[Point]:
    return [Point((str(state),), float(view.snapshot.status.state is state)) for state in ServerState]


def _hints(view: View) -> Iterable[Point]:
    return [Point((h.id, str(h.level)), 1) for h in view.snapshot.hints if h.state is HintState.FIRING]


def _firing(view: View) -> float:
    return sum(hint.state is HintState.FIRING for hint in view.snapshot.hints)


def _up_s(view: View) -> float | None:
    status = view.snapshot.status
    serving = status.state in {ServerState.READY, ServerState.UNHEALTHY}
    return view.snapshot.time_s - status.ready_s if serving and status.ready_s is not None else None


def _throttles(view: View) -> Iterable[Point]:
    for gpu in view.snapshot.gpus or ():
        if gpu.throttle is not None:
            for reason in Throttle:
                yield Point((str(gpu.index), str(reason)), float(reason in gpu.throttle))


def _finished(view: View) -> Iterable[Point]:
    engine = view.snapshot.engine
    counts = engine.finished_by_reason if engine else None
    return [Point((reason,), count) for reason, count in (counts or {}).items()]


FAMILIES: Final[tuple[Family, ...]] = (
    Family("run_info", Kind.GAUGE, "Always 1; says what runs.", ("run", "profile", "model", "engine_version"), _info),
    Family("server_state", Kind.GAUGE, "1 for the state that the server is in, else 0.", ("state",), _states),
    _one("server_uptime_seconds", "Since it was ready; no series while it is not.", _up_s),
    _one("server_starts_total", "Starts of the server by this supervisor.", lambda view: view.starts, Kind.COUNTER),
    _one(
        "server_restart_planned",
        "Number of the restart that waits; 0 if none does.",
        lambda view: view.snapshot.status.restart or 0,
    ),
    _one("hints_firing", "Hints that have something to say.", _firing),
    Family("hint_firing", Kind.GAUGE, "1 for each hint that has something to say.", ("hint", "level"), _hints),
    _one("price_usd_per_hour", "Price of the machine; no series without one.", lambda view: view.run.usd_per_hour),
    Family(
        "spent_seconds_total",
        Kind.COUNTER,
        "Seconds of the run by what they went into.",
        ("state",),
        lambda view: [Point((str(spend),), seconds) for spend, seconds in _money(view).seconds.items()],
    ),
    Family(
        "cost_usd_total",
        Kind.COUNTER,
        "Dollars of the run by what they went into; no series without a price.",
        ("state",),
        lambda view: [Point((str(spend),), usd) for spend, usd in (_money(view).usd or {}).items()],
    ),
    _one(
        "run_output_tokens_total",
        "Output tokens since the launch, over all restarts of the server.",
        lambda view: _money(view).output_tokens,
        Kind.COUNTER,
    ),
    _one(
        "cost_usd_per_million_output_tokens",
        "All dollars since the launch per million output tokens.",
        lambda view: _money(view).usd_per_million,
    ),
    _one(
        "cost_usd_per_million_output_tokens_now",
        "The same over the last minute; no series while nothing is made.",
        lambda view: _money(view).usd_per_million_now,
    ),
    _one("idle_seconds", "Since the last request was seen.", lambda view: _money(view).idle_s),
    _one("idle_stop_in_seconds", "Until it is stopped as idle.", lambda view: _money(view).idle_stop_in_s),
    _gpu("gpu_utilization_ratio", "Share of the time in which a kernel ran.", lambda gpu: _ratio(gpu.util_percent)),
    _gpu("gpu_memory_used_bytes", "Memory in use.", lambda gpu: gpu.memory_used_bytes),
    _gpu("gpu_memory_size_bytes", "Memory in all.", lambda gpu: gpu.memory_total_bytes),
    _gpu("gpu_power_watts", "Power drawn.", lambda gpu: gpu.power_w),
    _gpu("gpu_power_limit_watts", "Power cap.", lambda gpu: gpu.power_limit_w),
    _gpu("gpu_temperature_celsius", "Temperature of the chip.", lambda gpu: gpu.temperature_c),
    _gpu("gpu_memory_temperature_celsius", "Temperature of its memory.", lambda gpu: gpu.memory_temperature_c),
    _gpu("gpu_sm_clock_hertz", "Clock of its processors.", lambda gpu: _hertz(gpu.sm_clock_mhz)),
    Family("gpu_throttled", Kind.GAUGE, "1 for each reason that holds its clocks down.", ("gpu", "reason"), _throttles),
    _gpu("gpu_ecc_corrected_total", "Memory errors corrected.", lambda gpu: gpu.ecc_corrected, Kind.COUNTER),
    _gpu("gpu_ecc_uncorrected_total", "Memory errors not corrected.", lambda gpu: gpu.ecc_uncorrected, Kind.COUNTER),
    _gpu("gpu_rows_remapped", "Rows of memory that were replaced for good.", lambda gpu: gpu.rows_remapped),
    _gpu("gpu_pcie_receive_bytes_per_second", "Into the GPU over PCIe.", lambda gpu: gpu.pcie_rx_bytes_per_s),
    _gpu("gpu_pcie_transmit_bytes_per_second", "Out of the GPU over PCIe.", lambda gpu: gpu.pcie_tx_bytes_per_s),
    _gpu("gpu_nvlink_receive_bytes_per_second", "Into the GPU over NVLink.", lambda gpu: gpu.nvlink_rx_bytes_per_s),
    _gpu("gpu_nvlink_transmit_bytes_per_second", "Out of the GPU over NVLink.", lambda gpu: gpu.nvlink_tx_bytes_per_s),
    _gpu("gpu_nvlinks_active", "NVLinks that are up.", lambda gpu: gpu.nvlink_active),
    _gpu("gpu_xid", "Last Xid error since the supervisor started.", lambda gpu: gpu.xid),
    _engine("kv_cache_usage_ratio", "KV cache in use.", lambda engine: engine.kv_cache_usage),
    _engine("kv_cache_size_tokens", "Size of the KV cache.", lambda engine: engine.kv_cache_tokens),
    _engine("requests_running", "Requests in the batch.", lambda engine: engine.running),
    _engine("requests_waiting", "Requests in the queue.", lambda engine: engine.waiting),
    _engine("prompt_tokens_per_second", "Prompt tokens read.", lambda engine: engine.prompt_tokens_per_s),
    _engine("generation_tokens_per_second", "Tokens written.", lambda engine: engine.generation_tokens_per_s),
    _engine("prompt_tokens_total", "Prompt tokens read.", lambda engine: engine.prompt_tokens_total, Kind.COUNTER),
    _engine("generation_tokens_total", "Tokens written.", lambda engine: engine.generation_tokens_total, Kind.COUNTER),
    _engine(
        "requests_finished_total",
        "Requests that are done.",
        lambda engine: engine.requests_finished_total,
        Kind.COUNTER,
    ),
    Family(
        "requests_finished_by_reason_total", Kind.COUNTER, "Requests that are done, by reason.", ("reason",), _finished
    ),
    _engine(
        "preemptions_total", "Requests put back for want of KV cache.", lambda e: e.preemptions_total, Kind.COUNTER
    ),
    _engine("prefix_cache_hit_ratio", "Prompt tokens found in the cache.", lambda engine: engine.prefix_cache_hit_rate),
    _engine("spec_acceptance_ratio", "Drafted tokens that were accepted.", lambda engine: engine.spec_acceptance_rate),
    _latency("time_to_first_token_seconds", "Time to the first token", lambda engine: engine.ttft),
    _latency("inter_token_latency_seconds", "Time between tokens", lambda engine: engine.itl),
    _latency("time_per_output_token_seconds", "Time per output token of a request", lambda engine: engine.tpot),
    _latency("end_to_end_latency_seconds", "From arrival to the last token", lambda engine: engine.e2e),
    _latency("queue_time_seconds", "Time in the queue", lambda engine: engine.queue),
    _host("host_cpu_ratio", "Use of all cores together.", lambda host: _ratio(host.cpu_percent)),
    _host("host_memory_used_bytes", "Memory in use.", lambda host: host.memory_used_bytes),
    _host("host_memory_size_bytes", "Memory in all.", lambda host: host.memory_total_bytes),
    _host("server_memory_bytes", "Memory of the server's processes.", lambda host: host.tree_memory_bytes),
    _host("server_processes", "Processes of the server.", lambda host: host.tree_processes),
    Family(
        "source_up",
        Kind.GAUGE,
        "1 while a source of figures answers.",
        ("source",),
        lambda view: [Point((source.name,), float(source.ok)) for source in view.snapshot.sources],
    ),
    Family(
        "source_age_seconds",
        Kind.GAUGE,
        "Since the last good answer of a source.",
        ("source",),
        lambda view: [Point((source.name,), source.age_s) for source in view.snapshot.sources],
    ),
    _one("log_bytes", "Size of the server's log.", lambda view: view.snapshot.log_bytes),
    _one("front_ends", "Front ends that are attached.", lambda view: view.clients),
    _one(
        "records_lost_total",
        "Samples and events that could not be written.",
        lambda view: view.records_lost,
        Kind.COUNTER,
    ),
    _one("snapshot_time_seconds", "When these figures were taken (Unix).", lambda view: view.snapshot.time_s),
)
