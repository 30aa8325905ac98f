"""`dsv4-console watch`: a run as a stream, one line or one JSON document per tick, until it is over."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import time
from collections.abc import Callable

from console.cli import tasks
from console.cli.output import Output
from console.cli.runs import document, offline_state
from console.client.api import Session
from console.core.errors import ConsoleError, ExitCode, NotRunningError
from console.core.models import LIVE_STATES, HintState, ServerState, Snapshot
from console.core.units import UNKNOWN, latency_text, percent_text, rate_text, ratio_text
from console.io import runs
from console.io.runs import RunDir
from console.protocol import Pushed

__all__ = ["tick_line", "watch"]

REATTACH_TIMEOUT_S = 30.0
"""A supervisor that was lost has a successor within seconds; so long it is waited for."""
REATTACH_PAUSE_S = 0.5
SLACK_S = 0.1
"""A tick that comes so much early still counts for its period."""


def watch(arguments: argparse.Namespace, output: Output) -> int:
    """Stream a run until it is over. Exit code 0 if it was stopped, 1 if it failed or crashed, 5 if nothing runs."""
    run, info = runs.find_run(arguments.run_name)
    if not runs.is_live(info):
        reason = f"{info.id}: {info.state} {info.reason}".strip()
        raise NotRunningError("Nothing is running", reason, "How it ended: dsv4-console status")
    state = tasks.run(_watch(run, arguments.watch_period_s, output))
    return ExitCode.OK if state in {ServerState.STOPPED, *LIVE_STATES} else ExitCode.SERVER_FAILED


async def _watch(run: RunDir, period_s: float, output: Output) -> str:
    """Returns the last state."""
    tell = _Teller(run, period_s, output)
    while (session := await _attach(run)) is not None:
        try:
            if await tell.follow(session):
                break
        finally:
            await session.close()
        output.say("note: the supervisor went away; looking for its successor")
    return tell.end()


async def _attach(run: RunDir) -> Session | None:
    """A session with its supervisor, also a new one; `None` if the run is over or none comes."""
    from console.client.backend import LocalBackend

    until_s = time.monotonic() + REATTACH_TIMEOUT_S
    while True:
        try:
            return await LocalBackend().attach(run.id)
        except NotRunningError:
            if not await asyncio.to_thread(lambda: runs.is_live(run.read_info())):
                return None
        except ConsoleError:
            if time.monotonic() > until_s:
                raise
        if time.monotonic() > until_s:
            return None
        await asyncio.sleep(REATTACH_PAUSE_S)


class _Teller:
    """Prints ticks: at most one per period, and each change of state at once."""

    def __init__(self, run: RunDir, period_s: float, output: Output, clock: Callable[[], float] = time.monotonic):
        self._run = run
        self._period_s = period_s
        self._output = output
        self._clock = clock
        self._next_s = 0.0
        self._state: ServerState | None = None
        self._over = False

    async def follow(self, session: Session) -> bool:
        """Print until the run is over (true) or the line is lost."""
        async with contextlib.aclosing(session.updates()) as updates:  # type: ignore[type-var]
            async for update in updates:
                if isinstance(update, Pushed):
                    self._tick(update.snapshot)
                    if self._over:
                        return True
        return False

    def _tick(self, snapshot: Snapshot) -> None:
        status = snapshot.status
        self._over = status.over
        if status.state is self._state and self._clock() < self._next_s - SLACK_S and not status.over:
            return
        self._state = status.state
        self._next_s = self._clock() + self._period_s
        self._output.data(tick_line(snapshot))
        if self._output.json:
            self._output.line(document(self._run, self._run.read_info(), str(status.state), snapshot))

    def end(self) -> str:
        """Say how it ended where no supervisor could. Returns the last state."""
        if self._over and self._state is not None:
            return str(self._state)
        info = self._run.read_info()
        state = offline_state(info)
        self._output.data(f"{info.id}: {state}" + (f" – {info.reason}" if info.reason else ""))
        if self._output.json:
            self._output.line(document(self._run, info, state, None))
        return state


def tick_line(snapshot: Snapshot) -> str:
    """One tick in less than a terminal's width, as far as its state tells."""
    status, engine = snapshot.status, snapshot.engine
    parts = [time.strftime("%H:%M:%S", time.localtime(snapshot.time_s)), f"{str(status.state).upper():<9}"]
    if status.phase is not None:
        share = f" {ratio_text(status.progress)}" if status.progress is not None else ""
        parts.append(f"{status.phase}{share} {status.phase_detail}".rstrip())
    if engine is not None:
        parts += [
            f"run {UNKNOWN if engine.running is None else engine.running}",
            f"wait {UNKNOWN if engine.waiting is None else engine.waiting}",
            f"KV {ratio_text(engine.kv_cache_usage)}",
            f"out {rate_text(engine.generation_tokens_per_s)}",
        ]
        if engine.ttft is not None and engine.ttft.p95_s is not None:
            parts.append(f"TTFT p95 {latency_text(engine.ttft.p95_s)}")
    known = [gpu.util_percent for gpu in snapshot.gpus or () if gpu.util_percent is not None]
    if known:
        parts.append(f"GPU {percent_text(sum(known) / len(known))}")
    elif snapshot.host is not None:
        parts.append(f"CPU {percent_text(snapshot.host.cpu_percent)}")
    if firing := [hint.id for hint in snapshot.hints if hint.state is HintState.FIRING]:
        parts.append(f"▲ {' '.join(firing)}")
    if status.reason:
        parts.append(f"({status.reason})")
    return "  ".join(parts)
