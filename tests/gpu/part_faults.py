"""Part 5: faults on a GPU, made on purpose: diagnosis, exit, time, and whether the GPU's memory is free again.

Faults that need little of the GPU are made side by side; those that need all of it come after, one by one.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from tests.gpu import records, smi
from tests.gpu.report import Report, Skip
from tests.gpu.world import Run, World, is_running, session_members, until

TITLE = "faults"

SIDE_BY_SIDE = 3
START_S, NOTICE_S, FREE_S, HOLD_S = 150.0, 45.0, 30.0, 40.0
START_CPU_S = 300.0
CLIENTS, TOKENS = 8, 6000
"""Requests that are still in flight when the fault comes."""
DRAIN_S = 5.0
OVER = {"stopped", "failed", "crashed"}
SMALL: dict[str, Any] = {"max_num_seqs": 16, "enforce_eager": True, "gpu_memory_utilization": 0.2}
SMALL_KV = {"kv_cache_memory_bytes": 2 * 2**30}
"""A size that is given is not measured, so that servers side by side are not in each other's way."""


class Start(NamedTuple):
    """A launch that must fail."""

    name: str
    shape: str
    serve: Mapping[str, Any]
    settings: Mapping[str, Any] = {}
    extra: Mapping[str, Any] = {}
    alone: bool = False
    """It needs the whole GPU."""
    held_share: float = 0.0
    """Share of the GPU's memory that another process holds meanwhile."""
    on_cpu: bool = True


STARTS = (
    Start("TP 2 in a profile of one GPU", "llama-1b", SMALL, {"serve.tensor_parallel_size": 2}),
    Start(
        "TP 2 on one GPU", "llama-1b", SMALL, {"serve.tensor_parallel_size": 2, "hardware.count": 2},
        on_cpu=False,
    ),
    Start("context above the model", "llama-1b", SMALL, {"serve.max_model_len": 1_000_000}, SMALL_KV),
    Start(
        "context above the memory", "llama-1b", SMALL, {"serve.max_model_len": 131_072},
        {"kv_cache_memory_bytes": 2**30}, on_cpu=False,
    ),
    Start("weights too large", "llama-too-large", {"enforce_eager": True}, alone=True, on_cpu=False),
    Start(
        "memory held by another process", "llama-1b", SMALL | {"gpu_memory_utilization": 0.9}, alone=True,
        held_share=0.6, on_cpu=False,
    ),
)  # fmt: skip


def run(world: World, report: Report) -> None:
    """All of them, each with a row of its own."""
    starts = [(each, f"gpu-fault-{number}") for number, each in enumerate(STARTS) if world.fault in each.name]
    faults: list[Callable[[], None]] = [
        partial(serving, world, report, name, f"gpu-kill-{number}", act)
        for number, (name, act) in enumerate(ACTS.items())
        if world.fault in name
    ]
    faults += [partial(starting, world, report, each, profile) for each, profile in starts if not each.alone]
    pool = concurrent.futures.ThreadPoolExecutor(1 if world.cpu else SIDE_BY_SIDE)
    try:
        for future in [pool.submit(fault) for fault in faults]:
            future.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    with report.step("memory after the faults side by side") as row:
        free(world, row)
    for each, profile in starts:
        if each.alone:
            starting(world, report, each, profile)


def starting(world: World, report: Report, fault: Start, profile: str) -> None:
    """Launch, and see what is said."""
    with report.step(fault.name) as row:
        if world.cpu and not fault.on_cpu:
            raise Skip("needs a GPU")
        world.profile(profile, fault.shape, serve=fault.serve, extra=fault.extra)
        with holder(world, fault.held_share, row):
            run = world.launch(profile, fault.settings, world.left(START_CPU_S if world.cpu else START_S))
            row["launch"] = failed = records.failure(run)
            world.stop(run)
        records.keep(world, run, profile) if run.folder.exists() else None
        said = failed["title"] or " ".join(run.done.err.split())[-300:]
        row["says"] = f"exit {failed['exit']} in {failed['command_seconds']} s: {failed['cause']}: {said}"
        if failed["exit"] == 0:
            row["wrong"] = "it came up"
        elif run.folder.exists() and not failed["cause"]:
            row["wrong"] = "cause not known"
        if run.blocked:
            row["says"] = f"refused: {' '.join(run.blocked.split())[:250]} – forced: {row['says']}"
        if fault.alone:
            free(world, row)


@contextlib.contextmanager
def holder(world: World, share: float, row: dict[str, Any]) -> Any:
    """Another process with so much of the GPU's memory."""
    if not share:
        yield
        return
    total_mib = smi.number((smi.query("memory.total") or [{}])[0].get("memory.total")) or 0.0
    said = world.folder / "holder.txt"
    child = world.spawn(
        [sys.executable, str(Path(__file__).with_name("hold.py")), f"{share * total_mib / 1024:.1f}"], said
    )
    try:
        until(lambda: "holding" in said.read_text(encoding="utf-8") or child.poll() is not None, HOLD_S)
        row["holder"], row["by_pid"] = said.read_text(encoding="utf-8")[-300:], smi.by_pid()
        yield
    finally:
        child.kill()
        child.wait()


def serving(
    world: World, report: Report, name: str, profile: str, act: Callable[[World, Run, dict[str, Any]], None]
) -> None:
    """Bring a server up, put it under load, do it harm."""
    with report.step(name) as row:
        world.profile(profile, "llama-1b", serve=SMALL, extra=SMALL_KV)
        run = world.launch(profile, ready_s=world.left(START_CPU_S if world.cpu else START_S))
        if not run.ready:
            records.keep(world, run, profile)
            raise Skip(f"it did not come up: {records.failure(run)}")
        session = run.info["server_pid"]
        with world.load(run, CLIENTS, tokens=700 if world.cpu else TOKENS) as answered:
            time.sleep(5.0)
            members = session_members(session)
            row["memory_mib"] = {pid: mib for pid, mib in smi.by_pid().items() if pid in members}
            row["in_flight"] = ((world.status(run).get("snapshot") or {}).get("engine") or {}).get("running")
            began = time.monotonic()
            act(world, run, row)
            row["over"] = until(lambda: run.reload().get("state") in OVER, NOTICE_S, 0.1)
            row["over_seconds"] = round(time.monotonic() - began, 2)
            until(lambda: not session_members(session), FREE_S, 0.1)
            row["gone_seconds"] = round(time.monotonic() - began, 2)
            row["left"] = session_members(session)
            row["memory_left_mib"] = {pid: mib for pid, mib in smi.by_pid().items() if pid in members}
            until(lambda: not is_running(run.info.get("supervisor_pid")), FREE_S, 0.1)
        row["answered"] = answered
        row["end"] = end = records.failure(run)
        row["events"] = run.events()[-20:]
        world.stop(run)
        records.keep(world, run, profile)
        row["says"] = (
            f"{end['state']} after {row['over_seconds']} s, processes gone after {row['gone_seconds']} s, "
            f"{sum(row['memory_mib'].values()):.0f} → {sum(row['memory_left_mib'].values()):.0f} MiB: "
            f"{end['cause'] or ''} {end['title'] or end['reason'] or ''}"
        )
        if not row["over"] or row["left"] or row["memory_left_mib"]:
            row["wrong"] = f"left: {row['left']}, {row['memory_left_mib']}, state {end['state']}"


def kill_core(world: World, run: Run, row: dict[str, Any]) -> None:
    """SIGKILL to the engine core alone."""
    for pid in session_members(run.info["server_pid"]):
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            if "EngineCore" in process.name() or "EngineCore" in " ".join(process.cmdline()):
                row["killed"] = f"{pid} {process.name()}"
                process.kill()
                return
    raise Skip("no process calls itself EngineCore")


def kill_server(world: World, run: Run, row: dict[str, Any]) -> None:
    """SIGKILL to the first process."""
    row["killed"] = run.info["server_pid"]
    os.kill(run.info["server_pid"], signal.SIGKILL)


def stop(world: World, run: Run, row: dict[str, Any]) -> None:
    """The console's `stop`, which does not wait for requests as long as these take."""
    done = world.console("stop", run.id, f"--drain-timeout={DRAIN_S:g}", timeout_s=100.0)
    row["stop"] = {"exit": done.code, "seconds": round(done.seconds, 1), "said": (done.out + done.err)[-800:]}


def free(world: World, row: dict[str, Any]) -> None:
    """Whether the GPU holds no more than at the start."""
    took, used = smi.wait_free(world.memory_before_mib, FREE_S)
    row["memory_before_mib"], row["memory_after_mib"], row["free_seconds"] = world.memory_before_mib, used, took
    row["says"] = f"{row.get('says', '')} GPU memory {world.memory_before_mib:.0f} → {used:.0f} MiB".strip()
    if took is None:
        row["wrong"] = f"{row.get('wrong', '')} memory is not free".strip()


ACTS: dict[str, Callable[[World, Run, dict[str, Any]], None]] = {
    "engine core killed": kill_core,
    "API server killed": kill_server,
    "stop with requests in flight": stop,
}
"""What is done to a server under load."""
