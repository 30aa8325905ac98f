"""`dsv4-console --profile NAME`: starts a supervisor, narrates what it does and stops it, without a terminal UI.

The narrator is only a front end: when its terminal vanishes it leaves, and the server goes on under its supervisor.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable
from typing import Any

import msgspec

from console.client.api import Lost, Session
from console.core.errors import ExitCode
from console.core.lifecycle import READY_TIMEOUT
from console.core.models import (
    Diagnosis,
    EventRecord,
    HintState,
    Phase,
    ServerState,
    ServerStatus,
    Snapshot,
)
from console.core.units import elapsed_text, latency_text, percent_text, rate_text, ratio_text
from console.protocol import Happened, History, Pushed

__all__ = ["Narrator", "follow"]

Say = Callable[[str], None]
Emit = Callable[[dict[str, Any]], None]


class Narrator:
    """Turns snapshots and events into lines for people (`say`) or objects for programs (`emit`)."""

    def __init__(self, session: Session, log_path: str, *, say: Say, emit: Emit | None, interval_s: float) -> None:
        self._session = session
        self._log_path = log_path
        self._say = say
        self._emit = emit
        self._interval_s = interval_s
        self._began_s = time.monotonic()
        self._status: ServerStatus | None = None
        self._phase: Phase | None = None
        self._said_detail = ""
        self._next_line_s = 0.0
        self._hints: set[str] = set()
        self.was_ready = False

    @property
    def status(self) -> ServerStatus | None:
        """The newest status."""
        return self._status

    def event(self, event: EventRecord) -> None:
        """Pass on what happened, for programs only: people read it from the states."""
        if self._emit:
            self._emit({"type": "event", **msgspec.to_builtins(event)})

    def snapshot(self, snapshot: Snapshot) -> None:
        """Say what is new in a snapshot."""
        before, status = self._status, snapshot.status
        self._status = status
        if before is None or before.state is not status.state:
            self._state(status)
        if status.state is ServerState.LOADING:
            self._loading(status)
        if status.state in {ServerState.READY, ServerState.UNHEALTHY, ServerState.STOPPING}:
            self._line(snapshot)
        self._say_hints(snapshot)

    def _elapsed(self) -> str:
        return elapsed_text(time.monotonic() - self._began_s)

    def _tell(self, text: str, kind: str, **data: Any) -> None:
        self._say(f"[{self._elapsed():>7}] {text}")
        if self._emit:
            self._emit({"type": kind, "elapsed_s": round(time.monotonic() - self._began_s, 3), **data})

    def _state(self, status: ServerStatus) -> None:
        state = status.state
        run = self._session.run
        data = {"state": str(state), "reason": status.reason, "url": run.url, "run": run.id}
        match state:
            case ServerState.READY:
                self.was_ready = True
                self._tell(f"ready: {run.url}/v1  model {run.model}", "state", **data)
            case ServerState.STOPPING:
                why = f": {status.reason}" if status.reason else ""
                count = f", {status.in_flight} requests in flight" if status.in_flight else ""
                self._tell(f"stopping{why}{count}", "state", **data)
            case ServerState.FAILED | ServerState.CRASHED:
                self._tell(f"{state}: {status.reason}", "state", **data, exit_code=status.exit_code)
            case ServerState.STARTING:
                self._tell(
                    f"starting {run.profile_name} with {run.engine_name}, pid {status.pid or '–'}", "state", **data
                )
            case ServerState.LOADING:
                pass
            case _:
                self._tell(f"{state}{': ' + status.reason if status.reason else ''}", "state", **data)

    def _loading(self, status: ServerStatus) -> None:
        if status.phase is None or (status.phase is self._phase and status.phase_detail == self._said_detail):
            return
        done = status.progress is not None and 0 < status.progress < 1
        if status.phase is self._phase and done and time.monotonic() < self._next_line_s:
            return
        self._phase, self._said_detail = status.phase, status.phase_detail
        self._next_line_s = time.monotonic() + 2.0
        share = f" {ratio_text(status.progress)}" if status.progress is not None and done else ""
        detail = f": {status.phase_detail}" if status.phase_detail else ""
        self._tell(
            f"loading {status.phase}{share}{detail}",
            "phase",
            phase=str(status.phase),
            detail=status.phase_detail,
            progress=status.progress,
        )

    def _line(self, snapshot: Snapshot) -> None:
        if time.monotonic() < self._next_line_s or snapshot.engine is None:
            return
        self._next_line_s = time.monotonic() + self._interval_s
        engine = snapshot.engine
        parts = [
            f"running {_count(engine.running)}",
            f"waiting {_count(engine.waiting)}",
            f"KV cache {ratio_text(engine.kv_cache_usage)}",
            f"output {rate_text(engine.generation_tokens_per_s)}",
            f"prompt {rate_text(engine.prompt_tokens_per_s)}",
        ]
        if engine.ttft is not None and engine.ttft.p50_s is not None:
            parts.append(f"TTFT p50 {latency_text(engine.ttft.p50_s)}")
        if snapshot.gpus:
            known = [gpu.util_percent for gpu in snapshot.gpus if gpu.util_percent is not None]
            parts.append(f"GPU {percent_text(sum(known) / len(known) if known else None)}")
        if snapshot.host is not None:
            parts.append(f"CPU {percent_text(snapshot.host.cpu_percent)}")
        self._tell("  ".join(parts), "status", snapshot=msgspec.to_builtins(snapshot))

    def _say_hints(self, snapshot: Snapshot) -> None:
        firing = {hint.id: hint for hint in snapshot.hints if hint.state is HintState.FIRING}
        for name in firing.keys() - self._hints:
            hint = firing[name]
            change = "; ".join(f"{c.key}: {c.before} → {c.after}" for c in hint.change)
            text = f"hint: {hint.title}" + (f" ({change})" if change else "")
            self._tell(text, "hint", hint=msgspec.to_builtins(hint))
            for evidence in hint.evidence:
                self._say(f"          {evidence}")
        self._hints = set(firing)

    def failure(self, diagnosis: Diagnosis | None) -> None:
        """Three lines on why it failed: cause, remedy, where the full log is."""
        if diagnosis is None:
            self._say(f"  cause:  not found in the log; {self._status.reason if self._status else ''}")
            self._say("  remedy: read the end of the log")
        else:
            where = f" (line {diagnosis.line}: {diagnosis.text.splitlines()[0]})" if diagnosis.text else ""
            self._say(f"  cause:  {diagnosis.title}{where}")
            for line in diagnosis.text.splitlines()[1:] if diagnosis.cause is None else ():
                self._say(f"          {line}")
            change = "; ".join(f"--set {c.key}={c.after}" for c in diagnosis.change)
            self._say(f"  remedy: {diagnosis.remedy}{f' ({change})' if change else ''}")
        self._say(f"  log:    {self._log_path}")
        if self._emit:
            data = msgspec.to_builtins(diagnosis) if diagnosis else None
            self._emit({"type": "failure", "diagnosis": data, "log": self._log_path})


async def follow(session: Session, narrator: Narrator, *, until_ready: bool, drain_timeout_s: float | None) -> ExitCode:
    """Narrate a session until it ends (or, with `until_ready`, is ready), stopping it on SIGINT and SIGTERM.

    SIGHUP, a terminal that went away, only ends the narration. Returns the exit code of the command.
    """
    loop = asyncio.get_running_loop()
    got: list[signal.Signals] = []
    task = asyncio.current_task()

    def on_stop(number: signal.Signals) -> None:
        got.append(number)
        # The first signal drains; a second one means now.
        wait = drain_timeout_s if len(got) == 1 else 0.0
        loop.create_task(_stop(session, wait))  # noqa: RUF006 - it is awaited by the end of the session

    def on_hangup() -> None:
        got.append(signal.SIGHUP)
        if task is not None:
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_stop, number)
    loop.add_signal_handler(signal.SIGHUP, on_hangup)
    try:
        return await _narrate(session, narrator, got, until_ready=until_ready)
    except asyncio.CancelledError:
        if signal.SIGHUP in got:
            return ExitCode.OK
        raise
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.remove_signal_handler(number)
        await session.close()


async def _stop(session: Session, drain_timeout_s: float | None) -> None:
    with contextlib.suppress(Exception):  # it may be gone already, which the narration says
        await session.stop(drain_timeout_s)


async def _narrate(session: Session, narrator: Narrator, got: list[signal.Signals], *, until_ready: bool) -> ExitCode:
    async for update in session.updates():
        match update:
            case Pushed(snapshot=snapshot):
                narrator.snapshot(snapshot)
                code = _ended(snapshot.status, narrator, got)
                if code is not None:
                    return code
                if until_ready and snapshot.status.state is ServerState.READY:
                    return ExitCode.OK
            case Happened(event=event):
                narrator.event(event)
            case History():
                pass
            case Lost(reason=reason):
                narrator._say(f"lost the supervisor: {reason}; the server goes on. See: dsv4-console status")
    return ExitCode.SERVER_FAILED


def _ended(status: ServerStatus, narrator: Narrator, got: list[signal.Signals]) -> ExitCode | None:
    """The exit code if this status is the end."""
    if not status.over or status.started_s is None:
        return None
    if status.state is ServerState.STOPPED:
        if narrator.was_ready or not got:
            return ExitCode.OK
        return ExitCode.INTERRUPTED if got[0] is signal.SIGINT else ExitCode.TERMINATED
    narrator.failure(status.diagnosis)
    late = status.diagnosis is not None and status.diagnosis.cause == READY_TIMEOUT.cause
    return ExitCode.NOT_READY if late else ExitCode.SERVER_FAILED


def _count(value: int | None) -> str:
    return "–" if value is None else str(value)
