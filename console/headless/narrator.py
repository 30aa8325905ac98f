"""Turns snapshots and events into lines for people and objects for programs.

Separate from `follow`, which decides: this only tells.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from console.core.ledger import time_left_s
from console.core.models import (
    Diagnosis,
    EngineReading,
    EventRecord,
    Hint,
    HintState,
    Money,
    RunInfo,
    ServerState,
    ServerStatus,
    Snapshot,
)
from console.core.money_words import amount_text, idle_text, summary_text
from console.core.retry import RESTARTS_MAX
from console.core.units import elapsed_text, latency_text, percent_text, rate_text, ratio_text
from console.headless.failure import failure_lines, set_options

__all__ = ["Narrator"]

Say = Callable[[str], None]
Emit = Callable[[dict[str, Any]], None]

DETAIL_PAUSE_S = 1.0
"""Between two lines of one phase, where what it does changes."""
PROGRESS_PAUSE_S = 5.0
"""Between two lines of one phase, where only its share changes."""
STILL_S = 30.0
"""After so long without news a phase says that it goes on."""
DRAIN_PAUSE_S = 1.0
"""Between two counts of requests that are waited for."""
IDLE_SAID_AT_S = (600.0, 60.0, 30.0, 10.0)
"""How long before the stop of an idle server its countdown is told."""

_FIGURES_IN = frozenset({ServerState.READY, ServerState.UNHEALTHY})


class Narrator:
    """Says what is new since the last snapshot.

    Args:
        run: what was launched.
        log_path: the server's log, for the operator to open.
        say: prints a line for people.
        emit: prints an object for programs; `None` where there are none.
        interval_s: seconds between lines with figures while it serves.
        again: the command that launched it, to propose it with a change.
        clock: monotonic seconds.
        wall: seconds since 1970.
    """

    def __init__(
        self,
        run: RunInfo,
        log_path: str,
        *,
        say: Say,
        emit: Emit | None,
        interval_s: float,
        again: str = "",
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._run = run
        self._log_path = log_path
        self._say = say
        self._emit = emit
        self._interval_s = interval_s
        self._again = again
        self._clock = clock
        self._wall = wall
        self._began_s = clock()
        self._status: ServerStatus | None = None
        self._phase_since_s = 0.0
        self._phase_said: ServerStatus | None = None
        self._phase_said_s = 0.0
        self._figures_next_s = 0.0
        self._planned_said: float | None = None
        self._drain_said: int | None = None
        self._drain_next_s = 0.0
        self._hints: dict[str, Hint] = {}
        self._money: Money | None = None
        self.was_ready = False

    def begin(self) -> None:
        """Say what was launched, and where its log is."""
        run = self._run
        self._say(f"run {run.id}: {run.model} by {run.engine_name} (vLLM {run.engine_version}) at {run.url}")
        self._say(f"log {self._log_path}")
        if run.expected_ready_s is not None:
            self._say(f"ready after about {elapsed_text(run.expected_ready_s)}, as measured here before")
        self._send("run", run=run.id, url=run.url, log=self._log_path, expected_ready_s=run.expected_ready_s)

    def event(self, event: EventRecord) -> None:
        """Pass on what happened; people read most of it from the states."""
        self._send("event", event=msgspec.to_builtins(event))
        if event.kind in ("note", "drain", "xid", "idle", "trial"):
            self.note(event.text)

    def note(self, text: str) -> None:
        """Say something that no snapshot tells."""
        self._tell(text, "note", text=text)

    def signal(self, name: str, *, first: bool) -> None:
        """Say that a signal was heard and what it does."""
        serving = self._status is not None and self._status.ready_s is not None
        drains = "; requests in flight may finish, the same again cuts them off" if serving else ""
        self.note(f"{name}: stopping the server{drains}" if first else f"{name} again: not waiting for requests")

    def detached(self) -> None:
        """Say that the server is left to its supervisor."""
        self._say(f"it goes on serving. See: dsv4-console status · stop it: dsv4-console stop {self._run.id}")

    def snapshot(self, snapshot: Snapshot) -> None:
        """Say what is new in a snapshot."""
        before, status = self._status, snapshot.status
        self._status = status
        if before is None or before.state is not status.state:
            self._state(status)
        if status.state is ServerState.LOADING:
            self._loading(status)
        elif status.state is ServerState.STOPPING:
            self._draining(status)
        elif status.state in _FIGURES_IN:
            self._figures(snapshot)
        self._planned(status)
        self._count_down(snapshot.money)
        self._say_hints(snapshot.hints)

    def summary(self) -> None:
        """Say what the whole run took and cost."""
        if self._money is not None:
            self._say(f"this run: {summary_text(self._money)}")
            self._send("summary", money=msgspec.to_builtins(self._money))

    def _count_down(self, money: Money | None) -> None:
        """The time left to the stop of an idle server, at a few moments."""
        before, self._money = self._money, money
        if before is None or money is None or not money.idle_warned:
            return
        was_s, left_s = before.idle_stop_in_s, money.idle_stop_in_s
        if was_s is not None and left_s is not None and any(left_s <= at_s < was_s for at_s in IDLE_SAID_AT_S):
            self._tell(f"{idle_text(money)} (postpone: dsv4-console keep {self._run.id})", "idle", left_s=left_s)

    def _planned(self, status: ServerStatus) -> None:
        """A restart that is planned, once, with what can be done about it."""
        if status.restart is None or status.deadline_s is None or status.deadline_s == self._planned_said:
            return
        self._planned_said = status.deadline_s
        left_s = max(0.0, status.deadline_s - self._wall())
        run = self._run.id
        self._tell(
            f"restart {status.restart} of {RESTARTS_MAX} in {elapsed_text(left_s)}"
            f" (now: dsv4-console restart {run} · give up: dsv4-console stop {run})",
            "restart",
            number=status.restart,
            of=RESTARTS_MAX,
            left_s=left_s,
        )

    def failure(self, diagnosis: Diagnosis | None) -> None:
        """Say why it failed in three lines: cause, remedy, where in the log; and the change to try, if there is one."""
        reason = self._status.reason if self._status else ""
        for line in failure_lines(diagnosis, self._log_path, reason=reason, command=self._again):
            self._say(f"  {line}")
        data = msgspec.to_builtins(diagnosis) if diagnosis else None
        self._send("failure", diagnosis=data, log=self._log_path)

    def _send(self, kind: str, /, **data: Any) -> None:
        if self._emit:
            self._emit({"type": kind, "elapsed_s": round(self._clock() - self._began_s, 3), **data})

    def _tell(self, text: str, kind: str, /, **data: Any) -> None:
        self._say(f"[{elapsed_text(self._clock() - self._began_s):>6}] {text}")
        self._send(kind, **data)

    def _state(self, status: ServerStatus) -> None:
        state, run = status.state, self._run
        reason = f": {status.reason}" if status.reason else ""
        self._figures_next_s = self._clock() + min(self._interval_s, 1.0)
        data: dict[str, Any] = {"state": str(state), "reason": status.reason, "url": run.url, "run": run.id}
        text = f"{state}{reason}"
        match state:
            case ServerState.LOADING:
                # Its phases say more.
                self._phase_said = None
                self._send("state", **data)
                return
            case ServerState.READY:
                again = " again" if self.was_ready else ""
                self.was_ready = True
                text = f"ready{again}: {run.url}/v1  model {run.model}"
            case ServerState.STARTING if status.pid is not None:
                text += f", pid {status.pid}"
            case ServerState.STOPPING:
                self._drain_said = None
            case ServerState.FAILED | ServerState.CRASHED:
                data["exit_code"] = status.exit_code
                if not status.over and status.diagnosis is not None:
                    text += f" – {status.diagnosis.title}"
            case _:
                pass
        self._tell(text, "state", **data)

    def _loading(self, status: ServerStatus) -> None:
        if status.phase is None:
            return
        now, said = self._clock(), self._phase_said
        pause_s = 0.0
        if said is None or said.phase is not status.phase:
            self._phase_since_s = now
        elif said.phase_detail != status.phase_detail:
            moving = status.progress is not None and 0 < status.progress < 1
            pause_s = PROGRESS_PAUSE_S if moving else DETAIL_PAUSE_S
        elif said.progress != status.progress:
            pause_s = PROGRESS_PAUSE_S
        else:
            pause_s = STILL_S
        if pause_s and now - self._phase_said_s < pause_s:
            return
        self._phase_said, self._phase_said_s = status, now
        share = f" {ratio_text(status.progress)}" if status.progress is not None and status.progress < 1 else ""
        detail = f": {status.phase_detail}" if status.phase_detail else ""
        still = f" (for {elapsed_text(now - self._phase_since_s)})" if pause_s >= STILL_S else ""
        left_s = time_left_s(self._run.expected, status, self._wall())
        left = f", about {elapsed_text(left_s)} left" if left_s is not None else ""
        self._tell(
            f"{status.phase}{share}{detail}{still}{left}",
            "phase",
            phase=str(status.phase),
            detail=status.phase_detail,
            progress=status.progress,
            left_s=left_s,
        )

    def _draining(self, status: ServerStatus) -> None:
        count, now = status.in_flight, self._clock()
        if not count or count == self._drain_said or now < self._drain_next_s:
            return
        self._drain_said, self._drain_next_s = count, now + DRAIN_PAUSE_S
        left_s = None if status.deadline_s is None else max(0.0, status.deadline_s - self._wall())
        limit = f", at most {elapsed_text(left_s)} more" if left_s else ""
        requests = "1 request" if count == 1 else f"{count} requests"
        self._tell(f"draining: {requests} in flight{limit}", "drain", in_flight=count, left_s=left_s)

    def _figures(self, snapshot: Snapshot) -> None:
        now = self._clock()
        why = next((source.error for source in snapshot.sources if source.name == "metrics"), None)
        # Without a reason for their absence the figures are about to come.
        if now < self._figures_next_s or (snapshot.engine is None and not why):
            return
        self._figures_next_s = now + self._interval_s
        parts = [f"no figures from the engine: {why}"] if snapshot.engine is None else _engine_figures(snapshot.engine)
        if snapshot.gpus:
            known = [gpu.util_percent for gpu in snapshot.gpus if gpu.util_percent is not None]
            parts.append(f"GPU {percent_text(sum(known) / len(known) if known else None)}")
        if snapshot.host is not None:
            parts.append(f"CPU {percent_text(snapshot.host.cpu_percent)}")
        if snapshot.money is not None and snapshot.money.total_usd is not None:
            parts.append(f"spent {amount_text(snapshot.money.total_usd)}")
        self._tell("  ".join(parts), "status", snapshot=msgspec.to_builtins(snapshot))

    def _say_hints(self, hints: Iterable[Hint]) -> None:
        firing = {hint.id: hint for hint in hints if hint.state is HintState.FIRING}
        for name, hint in firing.items():
            if name not in self._hints:
                self._tell(f"hint: {hint.title}", "hint", hint=msgspec.to_builtins(hint))
                for evidence in hint.evidence:
                    self._say(f"           {evidence}")
                change = set_options(hint.change)
                for label, text in (("change", change), ("gain", hint.gain), ("risk", hint.risk)):
                    if text:
                        self._say(f"           {label}: {text}")
        for name, hint in self._hints.items():
            if name not in firing:
                self._tell(f"no longer: {hint.title}", "hint-over", id=name)
        self._hints = firing


def _engine_figures(engine: EngineReading) -> list[str]:
    parts = [
        f"running {_count(engine.running)}",
        f"waiting {_count(engine.waiting)}",
        f"KV cache {ratio_text(engine.kv_cache_usage)}",
        f"output {_tokens(engine.generation_tokens_per_s)}",
        f"prompt {_tokens(engine.prompt_tokens_per_s)}",
    ]
    if engine.ttft is not None and engine.ttft.p50_s is not None:
        parts.append(f"TTFT p50 {latency_text(engine.ttft.p50_s)}")
    return parts


def _tokens(value: float | None) -> str:
    return rate_text(value).replace("/s", " tok/s")


def _count(value: int | None) -> str:
    return "–" if value is None else str(value)
