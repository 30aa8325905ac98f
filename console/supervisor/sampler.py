"""Reads GPUs, host, `/metrics` and `/health` once a second, each on its own, and keeps the newest of each.

The four never wait for one another: a driver that hangs, a server that does not answer, or a scrape that cannot be
read leaves the other three as they are. What is too old is unknown, and `sources` says why.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Generic, NamedTuple, Protocol, TypeVar

from console.core.errors import ConsoleError, HardwareError
from console.core.gpuchoice import chosen
from console.core.kernels import LogFigures
from console.core.liveness import Marks
from console.core.metrics import EngineMetrics
from console.core.models import EngineReading, GpuReading, HostReading, SourceStatus
from console.core.profile import TargetsSection
from console.core.xid import XidSeen
from console.io.gpu.base import GpuBackend
from console.io.host import HostSampler
from console.io.http import Health
from console.io.prometheus import ExpositionReader, MetricsError
from console.io.worker import Worker, WorkerBusyError

__all__ = ["HostSource", "HttpSource", "Latest", "Sampler", "Timing"]

T = TypeVar("T")

ENGINE_DEAD = 503
log = logging.getLogger(__name__)


class Timing(NamedTuple):
    """How often, and how long at most, in seconds."""

    period_s: float = 1.0
    deadline_s: float = 2.0
    stale_s: float = 5.0
    """An older reading counts as unknown."""
    backoff_s: float = 10.0
    """Period of the GPUs after `failures_max` failures in a row."""
    failures_max: int = 3
    absent_s: float = 60.0
    """Period at which GPUs that cannot be opened are tried again."""


class HttpSource(Protocol):
    """The part of `HttpClient` that is used here."""

    async def health(self, base_url: str, timeout_s: float) -> Health: ...

    async def metrics(self, base_url: str, timeout_s: float) -> str: ...


class HostSource(Protocol):
    """The part of `HostSampler` that is used here."""

    def read(self, session_pid: int | None = None) -> HostReading: ...


class Latest(NamedTuple):
    """The newest of everything; `None` where there is nothing or it is too old."""

    gpus: tuple[GpuReading, ...] | None
    host: HostReading | None
    engine: EngineReading | None
    sources: tuple[SourceStatus, ...]
    """GPU, host, metrics, health, in this order. One that was not asked yet is ok and has no age."""


class NothingToAskError(Exception):
    """There is no server, or it is not ready to be asked."""


class AbsentError(Exception):
    """The GPUs cannot be opened. The message is for the operator."""


class Source(Generic[T]):
    """One source: its newest value, how old that is, and what went wrong last."""

    def __init__(self, name: str, read: Callable[[], Awaitable[T]], timing: Timing, clock: Callable[[], float]) -> None:
        self.name = name
        self.failures = 0
        self.absent = False
        self._read = read
        self._timing = timing
        self._clock = clock
        self._value: T | None = None
        self._good_s: float | None = None
        self._error: str | None = None

    def reset(self) -> None:
        """Forget everything, as for a new server."""
        self.failures, self._value, self._good_s, self._error = 0, None, None, None

    def latest(self) -> T | None:
        """The newest value, if it is not too old."""
        age_s = self._age_s()
        return None if age_s is None or age_s > self._timing.stale_s else self._value

    def status(self) -> SourceStatus:
        """How fresh it is."""
        return SourceStatus(name=self.name, ok=self._error is None, age_s=self._age_s(), error=self._error)

    async def run(self, period_s: Callable[[], float]) -> None:
        """Read for ever."""
        while True:
            started_s = self._clock()
            await self.tick()
            # Sleeping for zero seconds would starve the loop if a read takes longer than its period.
            await asyncio.sleep(max(self._timing.period_s / 10, started_s + period_s() - self._clock()))

    async def tick(self) -> None:
        """Read once. Whatever goes wrong is kept as the error."""
        self.absent = False
        try:
            async with asyncio.timeout(self._timing.deadline_s):
                value = await self._read()
        except NothingToAskError:
            self._error = None
        except AbsentError as error:
            self.absent = True
            self._fail(str(error))
        except TimeoutError:
            self._fail(no_answer(self._timing.deadline_s))
        except WorkerBusyError:
            self._fail("the read before has not come back yet")
        except ConsoleError as error:
            self._fail(error.title)
        except MetricsError as error:
            self._fail(str(error))
        except Exception as error:
            # A defect in one source must not end the watch over the server.
            log.exception("reading %s", self.name)
            self._fail(f"{type(error).__name__}: {error}")
        else:
            self.failures, self._value, self._good_s, self._error = 0, value, self._clock(), None

    def _fail(self, error: str) -> None:
        self.failures += 1
        self._error = error

    def _age_s(self) -> float | None:
        return None if self._good_s is None else self._clock() - self._good_s


class Sampler:
    """Keeps the newest readings of one machine and of the server on it.

    Args:
        gpu: opened, read and closed in a thread of its own.
        http: asked for `/health` and, once that was good, `/metrics`. The caller closes it.
        on_health: called in the event loop when the answer of `/health` differs from the one before.
        targets: `[targets]` of the profile.
        max_model_len: the server's longest context, where known.
        visible: `CUDA_VISIBLE_DEVICES` of the server: the other GPUs of the machine are somebody else's.
        told: gives what the server's log says.
        host: replaced in tests.
        timing: replaced in tests.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        gpu: GpuBackend,
        http: HttpSource,
        on_health: Callable[[bool, int | None, str], None] | None = None,
        *,
        targets: TargetsSection | None = None,
        max_model_len: int | None = None,
        visible: str | None = None,
        told: Callable[[], LogFigures] = LogFigures,
        host: HostSource | None = None,
        timing: Timing | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._gpu = gpu
        self._http = http
        self._host = host or HostSampler()
        self._on_health = on_health
        self._timing = timing or Timing()
        self._clock = clock
        self._gpu_worker, self._host_worker = Worker("gpu"), Worker("host")
        self._gpu_open = False
        self._tasks: list[asyncio.Task[None]] = []
        self._base_url: str | None = None
        self._pid: int | None = None
        self._health: Health | None = None
        self._was_healthy = False
        self._targets = targets or TargetsSection()
        self._max_model_len = max_model_len
        self._visible = visible
        self._told = told
        self._reader, self._engine = ExpositionReader(), self._new_metrics()
        self._gpus_source = Source("gpu", self._read_gpus, self._timing, clock)
        self._host_source = Source("host", self._read_host, self._timing, clock)
        self._metrics_source = Source("metrics", self._read_metrics, self._timing, clock)
        self._health_source = Source("health", self._read_health, self._timing, clock)

    @property
    def health(self) -> Health | None:
        """The newest answer of `/health`; `None` before the first one of this server."""
        return self._health

    @property
    def health_failures(self) -> int:
        """How many bad answers of `/health` came in a row."""
        return self._health_source.failures

    @property
    def marks(self) -> Marks | None:
        """Per engine what moves while it works; `None` while there is no fresh scrape."""
        return self._engine.marks if self._metrics_source.latest() is not None else None

    def set_target(self, base_url: str | None, pid: int | None) -> None:
        """Watch another server (or the same, started anew): forget all about the one before.

        Args:
            base_url: for example `http://127.0.0.1:8000`; `None` while there is no server.
            pid: leader of the server's session.
        """
        self._base_url, self._pid = base_url, pid
        self._health, self._was_healthy = None, False
        self._reader, self._engine = ExpositionReader(), self._new_metrics()
        self._metrics_source.reset()
        self._health_source.reset()

    def take_xids(self) -> tuple[XidSeen, ...]:
        """Xid errors of the GPUs since the last call. Takes no time, also while the driver hangs."""
        return self._gpu.take_xids()

    def measure_by(self, targets: TargetsSection, max_model_len: int | None) -> None:
        """Read the figures of the next server with these targets and this context length."""
        self._targets, self._max_model_len = targets, max_model_len

    def _new_metrics(self) -> EngineMetrics:
        return EngineMetrics(self._targets, self._max_model_len)

    def latest(self) -> Latest:
        """The newest of everything. Takes no time."""
        sources = (self._gpus_source, self._host_source, self._metrics_source, self._health_source)
        return Latest(
            self._gpus_source.latest(),
            self._host_source.latest(),
            self._metrics_source.latest(),
            tuple(source.status() for source in sources),
        )

    async def start(self) -> None:
        """Begin to read. Returns at once."""
        if self._tasks:
            return
        period_s = self._timing.period_s
        self._tasks = [
            asyncio.create_task(self._gpus_source.run(self._gpu_period_s), name="sample gpu"),
            asyncio.create_task(self._host_source.run(lambda: period_s), name="sample host"),
            asyncio.create_task(self._metrics_source.run(lambda: period_s), name="sample metrics"),
            asyncio.create_task(self._health_source.run(lambda: period_s), name="sample health"),
        ]

    async def stop(self) -> None:
        """Stop reading and close the GPUs. A read that hangs is left behind."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        with contextlib.suppress(TimeoutError, WorkerBusyError):
            async with asyncio.timeout(self._timing.deadline_s):
                await self._gpu_worker.run(self._gpu.close)
        self._gpu_open = False
        self._gpu_worker.close()
        self._host_worker.close()

    def _gpu_period_s(self) -> float:
        if self._gpus_source.absent:
            return self._timing.absent_s
        failing = self._gpus_source.failures >= self._timing.failures_max
        return self._timing.backoff_s if failing else self._timing.period_s

    async def _read_gpus(self) -> tuple[GpuReading, ...]:
        return await self._gpu_worker.run(self._gpus_in_thread)

    def _gpus_in_thread(self) -> tuple[GpuReading, ...]:
        if not self._gpu_open:
            try:
                self._gpu.open()
            except HardwareError as error:
                raise AbsentError(error.title) from error
            self._gpu_open = True
        try:
            self._gpu.watch(self._pid)
            return chosen(self._gpu.read_all(), self._visible)
        except HardwareError:
            self._gpu.close()
            self._gpu_open = False
            raise

    async def _read_host(self) -> HostReading:
        pid = self._pid
        return await self._host_worker.run(lambda: self._host.read(pid))

    async def _read_metrics(self) -> EngineReading:
        base_url, engine = self._base_url, self._engine
        # A dead engine's API server goes on showing the last figures: they are no longer true.
        if base_url is None or not self._was_healthy or (self._health and self._health.status == ENGINE_DEAD):
            raise NothingToAskError
        body = await self._http.metrics(base_url, self._timing.deadline_s)
        if engine is not self._engine:
            raise NothingToAskError
        return engine.feed(self._reader.read(body), self._clock(), self._told())

    async def _read_health(self) -> Health:
        base_url, engine = self._base_url, self._engine
        if base_url is None:
            raise NothingToAskError
        try:
            # A little before the deadline of the source, which would lose the answer.
            async with asyncio.timeout(self._timing.deadline_s * 0.95):
                health = await self._http.health(base_url, self._timing.deadline_s * 0.9)
        except TimeoutError:
            health = Health(False, None, no_answer(self._timing.deadline_s))
        if engine is not self._engine:
            raise NothingToAskError
        before, self._health = self._health, health
        self._was_healthy = self._was_healthy or health.ok
        if health != before and self._on_health is not None:
            self._on_health(*health)
        if not health.ok:
            raise ConsoleError(health.error)
        return health


def no_answer(seconds: float) -> str:
    """What is said of a read that took too long."""
    return f"no answer within {seconds:g} s"
