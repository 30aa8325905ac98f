"""`dsv4-console status|logs|stop`: look at a run and end it, from any shell."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections import deque
from typing import Any

import msgspec

from console.cli.output import Output
from console.client.backend import LocalBackend
from console.client.session import connect
from console.core.errors import ExitCode, NotRunningError
from console.core.models import HintState, RunInfo, ServerState, Snapshot
from console.core.units import elapsed_text, latency_text, percent_text, rate_text, ratio_text
from console.io import runs
from console.io.logtail import LogTail
from console.io.runs import RunDir
from console.protocol import Pushed

__all__ = ["logs", "status", "stop"]

FOLLOW_PERIOD_S = 0.2


def status(arguments: argparse.Namespace, output: Output) -> int:
    """What runs: state, figures and hints, or how the last run ended. Exit code 5 if nothing is running."""
    run, info = runs.find_run(arguments.run_name)
    if not runs.is_supervised(info):
        return _status_offline(run, info, output)
    snapshot = asyncio.run(_one_snapshot(run))
    output.data(_headline(info, snapshot))
    for line in _figures(snapshot):
        output.data(f"  {line}")
    for hint in snapshot.hints:
        if hint.state is HintState.FIRING:
            output.data(f"  ▲ {hint.title}: {' '.join(hint.evidence)}")
    output.document(_document(run, info, snapshot))
    return ExitCode.OK


async def _one_snapshot(run: RunDir) -> Snapshot:
    session = await connect(run)
    try:
        async for update in session.updates():
            if isinstance(update, Pushed):
                return update.snapshot
    finally:
        await session.close()
    raise NotRunningError("The supervisor went away while it was asked", run.id)


def _status_offline(run: RunDir, info: RunInfo, output: Output) -> int:
    serving = runs.is_serving(info)
    if serving:
        output.data(f"● {info.id}: the server runs (pid {info.server_pid}) but its supervisor is gone")
        output.say("take it over with: dsv4-console")
    else:
        output.data(f"○ {info.id}: {info.state}" + (f" – {info.reason}" if info.reason else ""))
        output.data(f"  log {run.log_path}")
    output.document(_document(run, info, None))
    return ExitCode.OK if serving else ExitCode.NOT_RUNNING


def _document(run: RunDir, info: RunInfo, snapshot: Snapshot | None) -> dict[str, Any]:
    return {
        "run": msgspec.to_builtins(info),
        "supervised": runs.is_supervised(info),
        "serving": runs.is_serving(info),
        "log": str(run.log_path),
        "snapshot": msgspec.to_builtins(snapshot) if snapshot else None,
    }


def _headline(info: RunInfo, snapshot: Snapshot) -> str:
    state = snapshot.status
    parts = [f"● {str(state.state).upper()}", info.profile_name, info.model, f"vLLM {info.engine_version}"]
    if state.phase is not None:
        parts.append(f"{state.phase} {state.phase_detail}".strip())
    if state.started_s is not None:
        parts.append(elapsed_text(time.time() - state.started_s))
    parts.append(info.url)
    return "  ".join(parts)


def _figures(snapshot: Snapshot) -> list[str]:
    lines = []
    engine = snapshot.engine
    if engine is not None:
        lines.append(
            f"running {engine.running}  waiting {engine.waiting}  KV cache {ratio_text(engine.kv_cache_usage)}"
            f"  output {rate_text(engine.generation_tokens_per_s)}  prompt {rate_text(engine.prompt_tokens_per_s)}"
            + (f"  TTFT p50 {latency_text(engine.ttft.p50_s)}" if engine.ttft else "")
        )
    for gpu in snapshot.gpus or ():
        lines.append(f"GPU {gpu.index}  {percent_text(gpu.util_percent)}  {gpu.name or ''}".rstrip())
    if snapshot.host is not None:
        lines.append(f"CPU {percent_text(snapshot.host.cpu_percent)}")
    lines += [f"{source.name}: {source.error}" for source in snapshot.sources if source.error]
    return lines


def logs(arguments: argparse.Namespace, output: Output) -> int:
    """Print the server's log, from its start or the last lines, and go on with `-f` until the run is over."""
    run, _ = runs.find_run(arguments.run_name)
    if not run.log_path.exists():
        raise NotRunningError("There is no log yet", str(run.log_path))
    tail = LogTail(run.log_path)
    last: deque[tuple[int, str]] = deque(maxlen=arguments.lines)
    while (page := tail.read()).lines:
        numbered = enumerate(page.lines, page.first_line)
        if arguments.lines is None:
            _print_lines(list(numbered), output)
        else:
            last.extend(numbered)
    _print_lines(list(last), output)
    while arguments.follow:
        live = runs.is_live(run.read_info())
        page = tail.read(flush=not live)
        _print_lines(list(enumerate(page.lines, page.first_line)), output)
        if not page.lines:
            if not live:
                break
            time.sleep(FOLLOW_PERIOD_S)
    return ExitCode.OK


def _print_lines(lines: list[tuple[int, str]], output: Output) -> None:
    for number, text in lines:
        output.data(text)
        output.line({"line": number, "text": text})


def stop(arguments: argparse.Namespace, output: Output) -> int:
    """Stop the server and wait until nothing is left of it."""
    run, info = runs.find_run(arguments.run_name)
    if not runs.is_live(info):
        raise NotRunningError("Nothing is running", f"{info.id}: {info.state} {info.reason}".strip())
    final = asyncio.run(_stop(run, arguments.drain_timeout, output))
    output.data(f"{info.id}: {final}")
    output.document({"run": info.id, "state": str(final)})
    return ExitCode.OK if final is ServerState.STOPPED else ExitCode.SERVER_FAILED


async def _stop(run: RunDir, drain_timeout_s: float | None, output: Output) -> ServerState:
    session = await LocalBackend().attach(run.id)
    said: int | None = None
    state = ServerState.STOPPED
    try:
        await session.stop(drain_timeout_s)
        async for update in session.updates():
            if not isinstance(update, Pushed):
                continue
            status = update.snapshot.status
            state = status.state
            if status.in_flight is not None and status.in_flight != said and status.in_flight > 0:
                said = status.in_flight
                output.say(f"waiting for {said} requests in flight")
            if status.over:
                break
    finally:
        await session.close()
    info = run.read_info()
    return ServerState(info.state) if not runs.is_serving(info) else state
