"""Rules about the host and its price: money spent on nothing, a busy CPU, memory nearly full."""

from __future__ import annotations

from console.core.hints import addresses
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
from console.core.hints.words import duration, percent, plural, tokens
from console.core.idle import idle_limits, warn_after_s
from console.core.models import Level, Money

__all__ = ["HOST_CPU", "HOST_MEMORY", "IDLE_HOLD_S", "IDLE_SPEND", "OPEN_FILES"]

IDLE_HOLD_S = 600.0
HOST_CPU_BUSY = 90.0
HOST_MEMORY_FULL = 0.95
FILES_FULL = 0.8


def judge_idle(window: Window, setting: Setting, held_s: float) -> Finding | None:
    """Nothing runs, waits or was produced, and the machine costs money."""
    price = setting.usd_per_hour
    if setting.money is not None:
        return judge_idle_clock(setting.money, setting)
    busiest = window.peak(
        lambda point: None if point.running is None or point.waiting is None else point.running + point.waiting
    )
    if not price or busiest is None or busiest > 0:
        return None
    produced = window.output_tokens
    finished = window.growth(lambda point: point.engine.requests_finished_total if point.engine else None)
    if produced or finished:
        return None
    return idle_finding(held_s, price)


def judge_idle_clock(money: Money, setting: Setting) -> Finding | None:
    """The same by the ledger's idle time, which tells the console's own requests and a postponed deadline apart."""
    price, limits = setting.usd_per_hour, idle_limits(setting.profile.supervise)
    if not price or money.idle_counted_s is None or money.idle_counted_s < (warn_after_s(limits) or IDLE_HOLD_S):
        return None
    return idle_finding(money.idle_s or 0.0, price, money.idle_stop_in_s)


def idle_finding(idle_s: float, price: float, stop_in_s: float | None = None) -> Finding:
    """What so many idle seconds cost, and when they end by themselves."""
    stop = () if stop_in_s is None else (f"The server is stopped in {duration(stop_in_s)} unless a request comes.",)
    return Finding(
        evidence=(
            f"No request has run or waited for {duration(idle_s)}.",
            f"At ${price:.2f} an hour that is ${idle_s / 3600 * price:.2f} for nothing.",
            *stop,
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
        gain="More cores, or nothing else on this host: tokenizing, scheduling and serving answers run on the CPU. "
        "vLLM asks for two physical cores and one for each GPU at the least.",
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


def judge_files(window: Window, setting: Setting, held_s: float) -> Finding | None:
    """The server's file descriptors are nearly used up: each connection takes one."""
    host = window.host
    count, limit = host.tree_open_files, host.tree_open_files_limit
    if count is None or not limit or count < FILES_FULL * limit:
        return None
    return Finding(
        evidence=(f"vLLM's API process has {tokens(count)} of {tokens(limit)} file descriptors open.",),
        gain="Raise the limit before the start (ulimit -n 65536, or LimitNOFILE= in the unit): beyond it new "
        "connections are refused.",
        risk="Left alone, clients get no connection while the server looks healthy. Connections that clients never "
        "close fill any limit.",
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
    looks_at=(
        "Ready with nothing running, waiting or produced for ten minutes, or the profile's supervise.idle_warn_s, at a "
        "price in the profile's [cost]."
    ),
    proposes="Nothing in the profile: stop the machine.",
    gain="The price per hour.",
    risk="Clients get no answer until it serves again.",
    doc=addresses.METRICS,
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
    doc=addresses.CPU_RESOURCES,
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
    doc=addresses.OUT_OF_MEMORY,
)

OPEN_FILES = Rule(
    id="open-files",
    title="File descriptors are running out",
    level=Level.BAD,
    topic="open-files",
    needs=("open-files",),
    window_s=10.0,
    hold_s=10.0,
    clear_s=30.0,
    judge=judge_files,
    looks_at="80% or more of the file descriptors that vLLM's API process may open.",
    proposes="Nothing in the profile: the limit of the shell or of the unit.",
    gain="Connections that are not refused.",
    risk="",
    doc=addresses.FILES,
)
