"""Rules about the host and its price: money spent on nothing, a busy CPU, memory nearly full."""

from __future__ import annotations

from console.core.hints.phrases import (
    LOW_UTILIZATION,
    low_utilization,
    on_gpus,
    queue_words,
    utilization_words,
)
from console.core.hints.rule import Finding, Rule
from console.core.hints.setting import GIB, Setting
from console.core.hints.window import Window
from console.core.hints.words import duration, percent, plural
from console.core.models import Level

__all__ = ["HOST_CPU", "HOST_MEMORY", "IDLE_HOLD_S", "IDLE_SPEND"]

IDLE_HOLD_S = 600.0
HOST_CPU_BUSY = 90.0
HOST_MEMORY_FULL = 0.95


def judge_idle(window: Window, setting: Setting, held_s: float) -> Finding | None:
    """Nothing runs, waits or was produced, and the machine costs money."""
    price = setting.usd_per_hour
    busiest = window.peak(
        lambda point: None if point.running is None or point.waiting is None else point.running + point.waiting
    )
    if not price or busiest is None or busiest > 0:
        return None
    produced = window.growth(lambda point: point.engine.generation_tokens_total if point.engine else None)
    finished = window.growth(lambda point: point.engine.requests_finished_total if point.engine else None)
    if produced or finished:
        return None
    spent = held_s / 3600 * price
    return Finding(
        evidence=(
            f"No request has run or waited for {duration(held_s)}.",
            f"At ${price:.2f} an hour that is ${spent:.2f} for nothing.",
        ),
        gain=f"Stopping the machine saves ${price:.2f} an hour.",
        risk="Clients get no answer until it is started and loaded again. Stopping only vLLM does not stop the bill.",
    )


def judge_host_cpu(window: Window, setting: Setting, held_s: float) -> Finding | None:
    """The host's CPU is busy and the GPUs are not."""
    host = window.mean(lambda point: point.host.cpu_percent if point.host else None)
    running = window.mean(lambda point: point.running)
    if host is None or host < HOST_CPU_BUSY or not running or running < 1 or not low_utilization(window):
        return None
    tree = window.mean(lambda point: point.host.tree_cpu_percent if point.host else None)
    own = "" if tree is None else f" The server's processes use {plural(round(tree / 100, 1), 'core')}."
    return Finding(
        evidence=(
            f"The host's CPU is {host:.0f}% busy.{own}",
            utilization_words(window, setting),
            queue_words(window),
        ),
        gain="More cores, or nothing else on this host: tokenizing, sampling and serving answers run on the CPU.",
        risk="",
    )


def judge_host_memory(window: Window, setting: Setting, held_s: float) -> Finding | None:
    """The host is nearly out of memory."""
    host = window.host
    ratio = window.mean(
        lambda point: (
            point.host.memory_used_bytes / point.host.memory_total_bytes
            if point.host and point.host.memory_used_bytes is not None and point.host.memory_total_bytes
            else None
        )
    )
    if ratio is None or ratio < HOST_MEMORY_FULL or not host.memory_total_bytes:
        return None
    own = "" if host.tree_memory_bytes is None else f" The server's processes hold {host.tree_memory_bytes / GIB:.1f}."
    return Finding(
        evidence=(f"Host memory is {percent(ratio)} used of {host.memory_total_bytes / GIB:.1f} GiB.{own}",),
        gain="End what else uses memory on this host, or drain and move before the kernel kills a worker.",
        risk="Out of memory, the kernel kills a process with SIGKILL; if that is a worker, the whole server ends.",
    )


IDLE_SPEND = Rule(
    id="idle-spend",
    title="Idle and costing money",
    level=Level.WARN,
    topic="idle",
    needs=("queue", "price"),
    window_s=10.0,
    hold_s=IDLE_HOLD_S,
    clear_s=5.0,
    judge=judge_idle,
    looks_at="Ready with nothing running, waiting or produced for ten minutes, at a price in the profile's [cost].",
    proposes="Nothing in the profile: stop the machine.",
    gain="The price per hour.",
    risk="Clients get no answer until it serves again.",
)

HOST_CPU = Rule(
    id="host-cpu",
    title="The host's CPU is the limit",
    level=Level.WARN,
    topic="host-cpu",
    needs=("host-cpu", "utilization", "queue"),
    window_s=20.0,
    hold_s=20.0,
    clear_s=20.0,
    judge=judge_host_cpu,
    applies=on_gpus,
    looks_at=f"Host CPU of 90% or more while the GPUs stay below {LOW_UTILIZATION:.0f}% and requests run.",
    proposes="Nothing in the profile: more cores or fewer neighbours.",
    gain="GPUs that need not wait for the CPU.",
    risk="",
)

HOST_MEMORY = Rule(
    id="host-memory",
    title="Host memory is nearly full",
    level=Level.BAD,
    topic="host-memory",
    needs=("host-memory",),
    window_s=10.0,
    hold_s=15.0,
    clear_s=30.0,
    judge=judge_host_memory,
    looks_at="95% or more of the host's memory in use.",
    proposes="Nothing in the profile: free memory, or drain.",
    gain="The server is not killed.",
    risk="",
)
