"""Watches an endpoint that this console did not start, read-only and over HTTP, and gives sessions of it.

`/health` and `/metrics` are read once a second with what the supervisor's sampler reads them with; `/version` and
`/v1/models` when it is first reached and now and then. An endpoint that does not answer is asked less and less often.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, Protocol

import msgspec

from console.core.errors import ConsoleError
from console.core.hints.unprofiled import WatchedHints
from console.core.metrics import EngineMetrics, Families
from console.core.metrics.table import RUNNING
from console.core.models import (
    EngineReading,
    EventRecord,
    Hint,
    HintState,
    Level,
    RunInfo,
    Sample,
    ServerState,
    ServerStatus,
    Snapshot,
    SourceStatus,
)
from console.core.watching import WATCH, Trouble, WatchTarget, trouble_words
from console.io.http import Health, HttpError, ServedModel
from console.io.prometheus import ExpositionReader, MetricsError
from console.protocol import Happened, History, Pushed

__all__ = ["Endpoint", "Pace", "WatchHttp"]

REFUSED: Final = (401, 403)
NOT_FOUND: Final = 404
NOT_SEEN: Final = "not seen over HTTP"
"""Of GPUs and machine: both are read where they are."""
ENGINE_DEAD: Final = 503
EVENTS_KEPT: Final = 1_000
SAMPLES_KEPT: Final = 3_700
"""An hour at one a second, as many as the charts hold."""


class Pace(NamedTuple):
    """How often an endpoint is asked, in seconds."""

    tick_s: float = 1.0
    """Between two snapshots, whether or not it is asked."""
    deadline_s: float = 2.0
    """Of each call."""
    stale_s: float = 5.0
    """Older figures count as unknown."""
    backoff_s: float = 2.0
    """After the first failure; twice as long after each further one."""
    backoff_max_s: float = 30.0
    identity_s: float = 60.0
    """Between two looks at version and models, which change only with a new server."""


class WatchHttp(Protocol):
    """The part of `HttpClient` that is used here."""

    async def health(self, base_url: str, timeout_s: float, api_key: str | None) -> Health: ...

    async def metrics(self, base_url: str, timeout_s: float, api_key: str | None) -> str: ...

    async def version(self, base_url: str, api_key: str | None, timeout_s: float) -> str: ...

    async def models(self, base_url: str, api_key: str | None, timeout_s: float) -> tuple[ServedModel, ...]: ...


class _TroubleError(Exception):
    """It cannot be watched as it should be; `said` is a sentence about what the call brought."""

    def __init__(self, trouble: Trouble, said: str) -> None:
        super().__init__(said)
        self.trouble, self.said = trouble, said


class Endpoint:
    """One endpoint: what is known of it, its past since it is watched, and those who want to be told.

    Args:
        target: where it is.
        http: shared by all endpoints; the caller closes it.
        pace: replaced in tests.
        clock: seconds that never go back.
        wall: wall-clock time (Unix).
        environment: where the API key is.
    """

    def __init__(
        self,
        target: WatchTarget,
        http: WatchHttp,
        *,
        pace: Pace | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self.target = target
        self._http = http
        self._pace = pace or Pace()
        self._clock, self._wall = clock, wall
        self._environment = environment
        self.run = RunInfo(
            id=target.id,
            profile_name=target.name,
            profile_title=target.url,
            url=target.url,
            created_s=wall(),
            usd_per_hour=target.usd_per_hour,
            state=ServerState.UNHEALTHY,
            reason="not asked yet",
        )
        self.samples: deque[Sample] = deque(maxlen=SAMPLES_KEPT)
        self.events: deque[EventRecord] = deque(maxlen=EVENTS_KEPT)
        self.snapshot: Snapshot | None = None
        self.asked = 0
        """How often it was asked, for those who measure."""
        self._seq = 0
        self._status = ServerStatus(state=ServerState.UNHEALTHY, since_s=wall(), reason="not asked yet")
        self._trouble: Trouble | None = None
        self._firing: frozenset[str] = frozenset()
        self._failures = 0
        self._next_s = self._identified_s = clock()
        self._identified = False
        self._note = ""
        """Why its model is not known, while its figures are."""
        self._good_s: dict[str, float] = {}
        self._errors: dict[str, str | None] = {"metrics": None, "health": None}
        self._reading: EngineReading | None = None
        self._renew()

    @property
    def api_key(self) -> str | None:
        """From the environment, at the moment of asking; `None` where no variable is named or it is empty."""
        name = self.target.key_env
        return (self._environment.get(name) or None) if name is not None else None

    def _renew(self) -> None:
        """Begin with fresh counters, as for a server that may be another one by now."""
        self._reader = ExpositionReader()
        self._engine = EngineMetrics(max_model_len=self.run.max_model_len)
        self._hints = WatchedHints(
            self.run.model,
            max_model_len=self.run.max_model_len,
            usd_per_hour=self.target.usd_per_hour,
            engine_version=self.run.engine_version or None,
        )

    async def tick(self) -> tuple[Pushed | Happened, ...]:
        """Ask if it is time, and give what there is to tell. Never raises for what the endpoint does."""
        told: list[Pushed | Happened] = []
        if self._clock() >= self._next_s:
            self.asked += 1
            await self._ask()
        status = self._judge()
        if (status.state, status.reason) != (self._status.state, self._status.reason):
            told.append(self._state_event(status))
        self._status = status
        sample = Sample(time_s=self._wall(), state=status.state, engine=self._fresh())
        self.samples.append(sample)
        hints = self._hints.update(sample)
        told += self._hint_events(hints)
        self._seq += 1
        self.snapshot = Snapshot(
            seq=self._seq,
            time_s=sample.time_s,
            status=status,
            engine=sample.engine,
            sources=self._sources(),
            hints=hints,
        )
        self.run = msgspec.structs.replace(self.run, state=str(status.state), reason=status.reason)
        return (*told, Pushed(snapshot=self.snapshot))

    def history(self, history_s: float) -> History:
        """What was seen in the last `history_s` seconds of watching."""
        since = self._wall() - history_s
        return History(
            samples=tuple(sample for sample in self.samples if sample.time_s >= since), events=tuple(self.events)
        )

    async def _ask(self) -> None:
        try:
            await self._read()
        except _TroubleError as error:
            self._trouble, self._failures = error.trouble, self._failures + 1
            self._errors["health"] = trouble_words(error.trouble, self.target, error.said)
            self._errors["metrics"] = None
            wait = min(self._pace.backoff_s * 2 ** min(self._failures - 1, 10), self._pace.backoff_max_s)
            self._next_s = self._clock() + wait
        else:
            if self._trouble is not None:
                self._trouble = None
            self._failures = 0
            self._next_s = self._clock()

    async def _read(self) -> None:
        """One look. Raises _TroubleError where it cannot be watched."""
        key, url, deadline = self.api_key, self.target.url, self._pace.deadline_s
        health = await self._http.health(url, deadline, key)
        if health.status is None:
            raise _TroubleError(Trouble.UNREACHABLE, health.error)
        if health.status in REFUSED:
            raise _TroubleError(Trouble.KEY, health.error)
        if health.status == NOT_FOUND:
            raise _TroubleError(Trouble.FOREIGN, f"/health: {health.error}")
        self._errors["health"] = None if health.ok else health.error
        self._good_s |= {"health": self._clock()} if health.ok else {}
        if self._failures:
            # It may be another server by now.
            self._identified = False
        if health.ok and (not self._identified or self._clock() - self._identified_s >= self._pace.identity_s):
            await self._identify(key)
        if health.status == ENGINE_DEAD:
            # A dead engine's API server goes on showing the last figures: they are no longer true.
            self._reading, self._errors["metrics"] = None, None
            return
        await self._read_metrics(key)

    async def _read_metrics(self, key: str | None) -> None:
        try:
            body = await self._http.metrics(self.target.url, self._pace.deadline_s, key)
            families = self._reader.read(body)
        except HttpError as error:
            if error.status in REFUSED:
                raise _TroubleError(Trouble.KEY, f"/metrics: {error.title}") from error
            if error.status == NOT_FOUND:
                raise _TroubleError(Trouble.FOREIGN, f"/metrics: {error.title}") from error
            self._errors["metrics"] = error.title
        except MetricsError as error:
            raise _TroubleError(Trouble.FOREIGN, str(error)) from error
        else:
            if not self.run.model:
                self.run = msgspec.structs.replace(self.run, model=_model_of(families))
            self._reading = self._engine.feed(families, self._clock())
            self._good_s["metrics"], self._errors["metrics"] = self._clock(), None

    async def _identify(self, key: str | None) -> None:
        """Ask what it is. What does not answer here leaves the figures as they are."""
        url, deadline = self.target.url, self._pace.deadline_s
        before = (self.run.engine_version, self.run.model, self.run.max_model_len)
        version, model, longest, self._note = "", "", None, ""
        with contextlib.suppress(ConsoleError):
            version = await self._http.version(url, key, deadline)
        try:
            served = await self._http.models(url, key, deadline)
        except HttpError as error:
            if error.status in REFUSED:
                self._note = f"/v1: {trouble_words(Trouble.KEY, self.target, error.title)}"
        else:
            model, longest = (served[0].id, served[0].max_model_len) if served else ("", None)
        first, self._identified, self._identified_s = not self._identified, True, self._clock()
        if first or (version, model, longest) != before:
            self.run = msgspec.structs.replace(
                self.run, engine_version=version, model=model, max_model_len=longest, engine_name=f"vLLM {version}"
            )
            self._renew()

    def _judge(self) -> ServerStatus:
        error = self._errors["health"]
        state = ServerState.READY if error is None else ServerState.UNHEALTHY
        reason = error or self._note
        since_s = self._status.since_s if state is self._status.state else self._wall()
        return ServerStatus(state=state, since_s=since_s, reason=reason)

    def _fresh(self) -> EngineReading | None:
        good = self._good_s.get("metrics")
        return self._reading if good is not None and self._clock() - good <= self._pace.stale_s else None

    def _sources(self) -> tuple[SourceStatus, ...]:
        now = self._clock()
        found = []
        for name, error in self._errors.items():
            good = self._good_s.get(name)
            age_s = None if good is None else now - good
            found.append(SourceStatus(name=name, ok=error is None, age_s=age_s, error=error))
        found += [SourceStatus(name=name, ok=False, error=NOT_SEEN) for name in ("gpu", "host")]
        if self._trouble is not None:
            found.append(SourceStatus(name=WATCH, ok=False, error=str(self._trouble)))
        return tuple(found)

    def _state_event(self, status: ServerStatus) -> Happened:
        level = Level.OK if status.state is ServerState.READY else Level.WARN
        text = f"{self._status.state} → {status.state}" + (f": {status.reason}" if status.reason else "")
        return self._event("state", text, level)

    def _hint_events(self, hints: tuple[Hint, ...]) -> list[Happened]:
        firing = [hint for hint in hints if hint.state is HintState.FIRING]
        news = [hint for hint in firing if hint.id not in self._firing]
        self._firing = frozenset(hint.id for hint in firing)
        return [self._event("hint", f"{hint.title}: {' '.join(hint.evidence)}", hint.level) for hint in news]

    def _event(self, kind: str, text: str, level: Level) -> Happened:
        event = EventRecord(time_s=self._wall(), kind=kind, text=text, level=level)
        self.events.append(event)
        return Happened(event=event)

    async def sleep(self, begun_s: float) -> None:
        """Until the next tick is due, given when the last one began; never not at all, which would starve others."""
        tick_s = self._pace.tick_s
        await asyncio.sleep(max(tick_s / 10, begun_s + tick_s - self._clock()))


def _model_of(families: Families) -> str:
    """The model's name, as its metrics are labelled: `/v1/models` may want a key where these do not."""
    return next((name for point in families.get(RUNNING, ()) if (name := point.labels.get("model_name"))), "")
