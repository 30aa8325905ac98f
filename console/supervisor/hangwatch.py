"""Gathers the evidence that a server hangs: its figures, its processes, and a canary request while it is idle.

`console.core.liveness` says what the figures mean; this asks for what they do not show. Found at the latest, with t
for `supervise.hang_timeout_s` and c for `supervise.canary_s`: a hang under load after t + 2 s; a stopped process, busy
or idle, after 14 s; an idle hang with the canary on after c + 32 s.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from urllib.parse import urljoin

from console.core import lifecycle, liveness
from console.core.liveness import STOPPED_GRACE_S, Watch
from console.io import process
from console.io.http import HttpClient, HttpError, status_sentence
from console.io.runs import LaunchSpec
from console.supervisor.sampler import Sampler

__all__ = ["CANARY_TIMEOUT_S", "HangWatch"]

CANARY_TIMEOUT_S = 30.0
"""One token of an idle server takes milliseconds; a kernel compiled for it, seconds."""
OWN_SEEN_S = 5.0
"""So long after its end a canary may still be news in the figures: a scrape a second, and late ones."""
STOPPED_CHECK_S = 2.0
"""Between two looks at the states of the processes: each reads all of /proc."""

Note = Callable[[str], None]


class HangWatch:
    """Watches one server after the other.

    Args:
        spec: what runs, and how it is to be watched.
        http: carries the canary. The caller closes it.
        sampler: has the figures.
        note: tells the operator something, once.
    """

    def __init__(self, spec: LaunchSpec, http: HttpClient, sampler: Sampler, note: Note) -> None:
        self._spec = spec
        self._http = http
        self._sampler = sampler
        self._note = note
        self._watch = Watch()
        self._pid: int | None = None
        self._stopped: tuple[tuple[int, str], ...] = ()
        self._stopped_since_s: float | None = None
        self._stopped_looked_s = 0.0
        self._canary: asyncio.Task[None] | None = None
        self._canary_at_s = 0.0
        self._canary_error = ""
        self._canary_over_s: float | None = None
        self._canary_possible = spec.timing.canary_s > 0

    def watch(self, spec: LaunchSpec) -> None:
        """From the next server on, watch by these settings."""
        self._spec = spec
        self._canary_possible = spec.timing.canary_s > 0

    def look(self, pid: int) -> lifecycle.Stalled | lifecycle.Moving:
        """What is to be said now of the server whose session `pid` leads. Takes some milliseconds at most."""
        now_s = time.monotonic()
        if pid != self._pid:
            self._begin(pid, now_s)
        self._watch = liveness.look(self._watch, self._sampler.marks, now_s)
        self._see_stopped(pid, now_s)
        self._send_canary(now_s)
        return self._judge(now_s)

    @property
    def own_requests(self) -> int:
        """Canaries that the server's figures may hold now, in flight or just finished: 0 or 1."""
        if self._canary is None:
            return 0
        over_s = self._canary_over_s
        return int(not self._canary.done() or (over_s is not None and time.monotonic() - over_s < OWN_SEEN_S))

    async def close(self) -> None:
        """Give up a canary that is under way."""
        if self._canary is not None:
            self._canary.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._canary

    def _begin(self, pid: int, now_s: float) -> None:
        self._pid, self._watch = pid, Watch()
        self._stopped, self._stopped_since_s, self._stopped_looked_s = (), None, now_s
        self._canary_error, self._canary_at_s = "", now_s + self._spec.timing.canary_s

    def _judge(self, now_s: float) -> lifecycle.Stalled | lifecycle.Moving:
        limit_s = self._spec.timing.hang_timeout_s
        stopped_s = now_s - self._stopped_since_s if self._stopped_since_s is not None else 0.0
        stopped = ""
        if stopped_s >= STOPPED_GRACE_S:
            names = ", ".join(f"{name} (pid {pid})" for pid, name in self._stopped)
            stopped = f"stopped by a signal or a debugger: {names}"
        if limit_s > 0:
            health = self._sampler.health
            error = next((source.error for source in self._sampler.latest().sources if source.name == "metrics"), None)
            reason = liveness.standstill(self._watch, limit_s) or liveness.metrics_lost(
                self._watch, now_s, limit_s, health_ok=health is not None and health.ok, error=error
            )
            if reason:
                return lifecycle.Stalled("; ".join(filter(None, (reason, stopped))))
        if self._canary_error:
            return lifecycle.Stalled("; ".join(filter(None, (self._canary_error, stopped))))
        if stopped:
            # It may be going on the next moment, so it is acted on only as late as on a standstill.
            return lifecycle.Stalled(stopped, sure=0 < limit_s <= stopped_s)
        return lifecycle.Moving()

    def _see_stopped(self, pid: int, now_s: float) -> None:
        if now_s - self._stopped_looked_s < STOPPED_CHECK_S:
            return
        self._stopped_looked_s = now_s
        self._stopped = process.stopped_members(pid)
        if not self._stopped:
            self._stopped_since_s = None
        elif self._stopped_since_s is None:
            self._stopped_since_s = now_s

    def _send_canary(self, now_s: float) -> None:
        marks = self._sampler.marks
        busy = any(values[0] > 0 for values in (marks or {}).values())
        if not self._canary_possible or (self._canary is not None and not self._canary.done()):
            return
        if busy:
            self._canary_at_s, self._canary_error = now_s + self._spec.timing.canary_s, ""
        elif now_s >= self._canary_at_s:
            self._canary_at_s = now_s + self._spec.timing.canary_s
            self._canary = asyncio.create_task(self._ask(self._pid), name="canary")

    async def _ask(self, pid: int | None) -> None:
        error = ""
        payload = {"model": self._spec.model, "prompt": "1", "max_tokens": 1}
        try:
            async with asyncio.timeout(CANARY_TIMEOUT_S):
                url = urljoin(self._spec.url, "/v1/completions")
                async with self._http.post(url, payload, os.environ.get("VLLM_API_KEY")) as reply:
                    await reply.body()
                    status = reply.status
        except TimeoutError:
            error = f"a request for one token was not answered within {CANARY_TIMEOUT_S:.0f} s while nothing else ran"
        except HttpError as failure:
            error = f"a request for one token failed: {failure.title}"
        else:
            if 400 <= status < 500:
                self._canary_possible = False
                self._note(f"no more canary requests: {status_sentence(status)} on /v1/completions")
            elif status != 200:
                error = f"a request for one token failed: {status_sentence(status)}"
        self._canary_over_s = time.monotonic()
        if pid == self._pid:
            self._canary_error = error
