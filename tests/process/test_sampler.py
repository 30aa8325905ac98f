from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from console.core.errors import HardwareError
from console.core.models import GpuReading, HostReading, SourceStatus
from console.io.gpu.fake import FakeGpuBackend, idle_gpus
from console.io.http import Health, HttpError
from console.io.worker import Worker, WorkerBusyError
from console.supervisor.sampler import HostSource, Sampler, Timing

METRICS = (Path(__file__).parent.parent / "data" / "metrics" / "metrics-after-bench.txt").read_text()
URL = "http://127.0.0.1:8000"
FAST = Timing(period_s=0.01, deadline_s=0.2, stale_s=0.5, backoff_s=0.05, absent_s=0.05)
REFUSED = Health(False, None, "connection refused")
HEALTHY = Health(True, 200, "")


class Server:
    """`/health` and `/metrics` as a test wants them."""

    def __init__(self, health: Health = HEALTHY, metrics: str | HttpError | None = METRICS) -> None:
        self.answer = health
        self.text = metrics
        """`None` hangs."""
        self.asked_metrics = 0

    async def health(self, base_url: str, timeout_s: float) -> Health:
        return self.answer

    async def metrics(self, base_url: str, timeout_s: float) -> str:
        self.asked_metrics += 1
        if self.text is None:
            await asyncio.Event().wait()
        if isinstance(self.text, HttpError):
            raise self.text
        assert self.text is not None
        return self.text


class Host:
    def __init__(self) -> None:
        self.pids: list[int | None] = []

    def read(self, session_pid: int | None = None) -> HostReading:
        self.pids.append(session_pid)
        return HostReading(cpu_percent=12.0)


async def test_gpus_of_another_server_on_the_machine_are_not_this_ones() -> None:
    sampler = Sampler(FakeGpuBackend([idle_gpus(8)]), Server(), host=Host(), timing=FAST, visible="4,5,6,7")
    await sampler.start()
    try:
        async with asyncio.timeout(30):
            while sampler.latest().gpus is None:
                await asyncio.sleep(0.01)
        assert [gpu.index for gpu in sampler.latest().gpus or ()] == [4, 5, 6, 7]
    finally:
        await sampler.stop()


class HungGpus(FakeGpuBackend):
    """Reads hang until `driver` is set."""

    def __init__(self) -> None:
        super().__init__([idle_gpus(1)])
        self.driver = threading.Event()
        self.reads = 0

    def read_all(self) -> tuple[GpuReading, ...]:
        self.reads += 1
        self.driver.wait()
        return super().read_all()


async def until(condition: Callable[[], object], limit_s: float = 10.0) -> None:
    async with asyncio.timeout(limit_s):
        while not condition():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def sampling(
    gpu: FakeGpuBackend | None = None,
    server: Server | None = None,
    host: HostSource | None = None,
    on_health: Callable[[bool, int | None, str], None] | None = None,
    timing: Timing = FAST,
) -> AsyncIterator[Sampler]:
    sampler = Sampler(
        gpu or FakeGpuBackend([idle_gpus(2)]), server or Server(), on_health, host=host or Host(), timing=timing
    )
    await sampler.start()
    try:
        yield sampler
    finally:
        await sampler.stop()


def source(sampler: Sampler, name: str) -> SourceStatus:
    return next(status for status in sampler.latest().sources if status.name == name)


async def test_all_four_are_read() -> None:
    host = Host()
    async with sampling(host=host) as sampler:
        sampler.set_target(URL, 4711)
        await until(lambda: sampler.latest().engine)
        await until(lambda: 4711 in host.pids)
        latest = sampler.latest()
        assert latest.gpus == idle_gpus(2)
        assert latest.host == HostReading(cpu_percent=12.0)
        assert latest.engine is not None
        assert latest.engine.generation_tokens_total == 1280
        assert [status.name for status in latest.sources] == ["gpu", "host", "metrics", "health"]
        for status in latest.sources:
            assert status.ok
            assert status.error is None
            assert status.age_s is not None
            assert status.age_s < FAST.stale_s


async def test_without_a_server_there_is_nothing_to_complain_about() -> None:
    server = Server()
    async with sampling(server=server) as sampler:
        await until(lambda: sampler.latest().gpus)
        await until(lambda: sampler.latest().host)
        latest = sampler.latest()
        assert latest.engine is None
        assert sampler.health is None
        for status in latest.sources[2:]:
            assert (status.ok, status.age_s, status.error) == (True, None, None)
        assert server.asked_metrics == 0


async def test_a_driver_that_hangs_delays_nobody() -> None:
    gpus = HungGpus()
    async with sampling(gpu=gpus) as sampler:
        sampler.set_target(URL, None)
        await until(lambda: source(sampler, "gpu").error)
        await until(lambda: "has not come back" in (source(sampler, "gpu").error or ""))
        latest = sampler.latest()
        assert latest.gpus is None
        assert latest.host
        assert latest.engine
        assert gpus.reads == 1
        gpus.driver.set()
        await until(lambda: sampler.latest().gpus)
        assert source(sampler, "gpu").error is None


async def test_stopping_leaves_a_hung_driver_behind() -> None:
    gpus = HungGpus()
    async with sampling(gpu=gpus) as sampler:
        await until(lambda: gpus.reads)
        started_s = time.monotonic()
        await sampler.stop()
        assert time.monotonic() - started_s < 5
    gpus.driver.set()


async def test_gpus_that_are_absent_are_tried_again() -> None:
    absent = HardwareError("No NVIDIA driver found", "…", "…")
    async with sampling(gpu=FakeGpuBackend([idle_gpus(1)], open_errors=[absent, absent])) as sampler:
        await until(lambda: source(sampler, "gpu").error)
        status = source(sampler, "gpu")
        assert (status.ok, status.error, status.age_s) == (False, "No NVIDIA driver found", None)
        assert sampler.latest().gpus is None
        await until(lambda: sampler.latest().gpus)
        assert source(sampler, "gpu").ok


async def test_absent_gpus_are_left_in_peace() -> None:
    class Absent(FakeGpuBackend):
        tries = 0

        def open(self) -> None:
            self.tries += 1
            raise HardwareError("No NVIDIA driver found")

    gpus, host = Absent([()]), Host()
    async with sampling(gpu=gpus, host=host, timing=FAST._replace(absent_s=60.0)):
        await until(lambda: len(host.pids) > 20)
        assert gpus.tries == 1


async def test_a_lost_driver_is_opened_again() -> None:
    gone = HardwareError("GPU lost")
    async with sampling(gpu=FakeGpuBackend([idle_gpus(1), gone, gone, idle_gpus(1)])) as sampler:
        await until(lambda: source(sampler, "gpu").error == "GPU lost")
        assert sampler.latest().gpus == idle_gpus(1)  # Not yet stale.
        await until(lambda: source(sampler, "gpu").ok)


async def test_gpus_that_keep_failing_are_read_less_often() -> None:
    class Failing(FakeGpuBackend):
        reads = 0

        def read_all(self) -> tuple[GpuReading, ...]:
            self.reads += 1
            raise HardwareError("GPU lost")

    gpus, host = Failing([()]), Host()
    async with sampling(gpu=gpus, host=host, timing=FAST._replace(backoff_s=60.0)):
        await until(lambda: len(host.pids) > 30)
        assert gpus.reads == FAST.failures_max


async def test_a_stale_engine_reading_becomes_unknown_and_recovers() -> None:
    server = Server()
    async with sampling(server=server) as sampler:
        sampler.set_target(URL, None)
        await until(lambda: sampler.latest().engine)
        server.text = HttpError("connection lost")
        await until(lambda: source(sampler, "metrics").error == "connection lost")
        assert sampler.latest().engine is not None
        await until(lambda: sampler.latest().engine is None)
        age_s = source(sampler, "metrics").age_s
        assert age_s is not None
        assert age_s > FAST.stale_s
        server.text = METRICS
        await until(lambda: sampler.latest().engine)
        assert source(sampler, "metrics").ok


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (None, "no answer within 0.2 s"),
        ("<html>", "without any vLLM metric"),
        ("vllm:num_requests_running {", "no number"),
    ],
)
async def test_metrics_that_fail_leave_the_rest_alone(text: str | None, error: str) -> None:
    async with sampling(server=Server(metrics=text)) as sampler:
        sampler.set_target(URL, None)
        await until(lambda: re.search(error, source(sampler, "metrics").error or ""))
        assert sampler.latest().engine is None
        assert source(sampler, "health").ok
        assert source(sampler, "host").ok


async def test_metrics_wait_for_health_and_health_is_told_by_changes() -> None:
    told: list[Health] = []
    server, host = Server(REFUSED), Host()

    def tell(ok: bool, status: int | None, error: str) -> None:
        told.append(Health(ok, status, error))

    async with sampling(server=server, host=host, on_health=tell) as sampler:
        sampler.set_target(URL, None)
        await until(lambda: sampler.health_failures > 3)
        assert server.asked_metrics == 0
        assert source(sampler, "health").error == "connection refused"
        assert source(sampler, "metrics").ok
        server.answer = HEALTHY
        await until(lambda: sampler.latest().engine)
        assert sampler.health_failures == 0
        server.answer = dead = Health(False, 503, "the engine is dead (HTTP 503)")
        await until(lambda: told[-1] == dead)
        asked = server.asked_metrics
        await until(lambda: sampler.health_failures > 5)
        # One scrape may have been under way.
        assert server.asked_metrics <= asked + 1
        assert told == [REFUSED, HEALTHY, dead]
        assert sampler.health == dead


async def test_a_new_server_starts_afresh() -> None:
    told: list[bool] = []
    server = Server()
    async with sampling(server=server, on_health=lambda ok, status, error: told.append(ok)) as sampler:
        sampler.set_target(URL, None)
        await until(lambda: sampler.latest().engine)
        server.answer = REFUSED
        sampler.set_target(URL, None)
        assert sampler.latest().engine is None
        assert sampler.health is None
        await until(lambda: len(told) == 2)
        assert told == [True, False]
        server.answer = HEALTHY
        await until(lambda: sampler.latest().engine)
        sampler.set_target(None, None)
        assert sampler.latest().engine is None


async def test_an_answer_of_the_server_before_is_dropped() -> None:
    class Slow(Server):
        gate = asyncio.Event()

        async def health(self, base_url: str, timeout_s: float) -> Health:
            await self.gate.wait()
            return HEALTHY

    told: list[bool] = []
    server = Slow()
    async with sampling(server=server, on_health=lambda ok, status, error: told.append(ok)) as sampler:
        sampler.set_target(URL, None)
        await until(lambda: any(task.get_name() == "sample health" for task in asyncio.all_tasks()))
        await asyncio.sleep(0)
        sampler.set_target(None, None)
        server.gate.set()
        await until(lambda: source(sampler, "host").age_s is not None)
        assert told == []
        assert sampler.health is None


async def test_a_defect_in_one_source_is_contained(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Host):
        def read(self, session_pid: int | None = None) -> HostReading:
            raise ZeroDivisionError("of course")

    async with sampling(host=Broken()) as sampler:
        sampler.set_target(URL, None)
        await until(lambda: sampler.latest().engine)
        await until(lambda: source(sampler, "host").error == "ZeroDivisionError: of course")
        assert sampler.latest().host is None
    assert "reading host" in caplog.text


async def test_starting_and_stopping_twice_leaves_nothing() -> None:
    before = set(threading.enumerate())
    sampler = Sampler(FakeGpuBackend([idle_gpus(1)]), Server(), host=Host(), timing=FAST)
    await sampler.start()
    await sampler.start()
    await until(lambda: sampler.latest().gpus)
    await sampler.stop()
    await sampler.stop()
    await until(lambda: set(threading.enumerate()) <= before)
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("sample ")]


async def test_worker_refuses_a_second_call_and_passes_errors_on() -> None:
    worker, gate = Worker("test"), threading.Event()
    hung = asyncio.create_task(worker.run(gate.wait))
    await until(lambda: worker.busy)
    with pytest.raises(WorkerBusyError):
        await worker.run(lambda: 1)
    hung.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hung
    assert worker.busy
    gate.set()
    await until(lambda: not worker.busy)
    assert await worker.run(lambda: 1) == 1
    with pytest.raises(ZeroDivisionError):
        await worker.run(lambda: 1 // 0)
    worker.close()
