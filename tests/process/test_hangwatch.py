"""The canary and the silence of `/metrics`, with a server that answers as the test wants."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import msgspec
import pytest

from console.core import lifecycle
from console.core.lifecycle import Timing
from console.io.gpu.fake import FakeGpuBackend
from console.io.http import HttpClient
from console.io.runs import LaunchSpec
from console.supervisor import hangwatch
from console.supervisor.hangwatch import HangWatch
from console.supervisor.sampler import Sampler
from console.supervisor.sampler import Timing as SamplerTiming
from tests.process.test_supervisor import PROFILE

URL = "http://127.0.0.1:8000"
PID = 2**22 + 1
"""Above the largest pid there is."""


class Answers:
    """What the server answers to which path: a status, or `None` for never."""

    def __init__(self) -> None:
        self.completions: int | None = 200
        self.metrics: int | None = 200
        self.running = 0
        self.asked: list[dict[str, object]] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        status: int | None = 200
        if request.url.path == "/v1/completions":
            self.asked.append(msgspec.json.decode(request.content))
            status = self.completions
        elif request.url.path == "/metrics":
            status = self.metrics
        if status is None:
            await asyncio.Event().wait()
        text = f'vllm:num_requests_running{{engine="0"}} {self.running}\n' if request.url.path == "/metrics" else "{}"
        return httpx.Response(status or 500, text=text)


class Case:
    def __init__(self, watch: HangWatch, answers: Answers, notes: list[str]) -> None:
        self.watch, self.answers, self.notes = watch, answers, notes

    async def until(self, check: Callable[[lifecycle.Stalled | lifecycle.Moving], object]) -> str:
        async with asyncio.timeout(20.0):
            while not check(verdict := self.watch.look(PID)):
                await asyncio.sleep(0.01)
        return verdict.reason if isinstance(verdict, lifecycle.Stalled) else ""


def stalled(verdict: lifecycle.Stalled | lifecycle.Moving) -> bool:
    return isinstance(verdict, lifecycle.Stalled)


def moving(verdict: lifecycle.Stalled | lifecycle.Moving) -> bool:
    return isinstance(verdict, lifecycle.Moving)


@asynccontextmanager
async def case(tmp_path: Path, **timing: float) -> AsyncIterator[Case]:
    answers, notes = Answers(), list[str]()
    http = HttpClient(httpx.MockTransport(answers))
    fast = SamplerTiming(period_s=0.02, deadline_s=0.3, stale_s=0.5)
    sampler = Sampler(FakeGpuBackend(((),)), http, timing=fast)
    sampler.set_target(URL, None)
    spec = LaunchSpec(
        argv=("vllm",), env={}, cwd=str(tmp_path), url=URL, timing=Timing(**timing), profile=PROFILE, model="m"
    )
    watch = HangWatch(spec, http, sampler, notes.append)
    await sampler.start()
    try:
        async with asyncio.timeout(20.0):
            while sampler.marks is None:
                await asyncio.sleep(0.01)
        yield Case(watch, answers, notes)
    finally:
        await watch.close()
        await sampler.stop()
        await http.close()


async def test_a_canary_finds_an_idle_hang_and_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hangwatch, "CANARY_TIMEOUT_S", 0.3)
    async with case(tmp_path, canary_s=0.1) as c:
        await c.until(lambda _: len(c.answers.asked) >= 2)
        assert c.answers.asked[0] == {"model": "m", "prompt": "1", "max_tokens": 1}
        assert moving(c.watch.look(PID))
        c.answers.completions = None
        assert "a request for one token was not answered within" in await c.until(stalled)
        c.answers.completions = 200
        await c.until(moving)
        c.answers.completions = 503
        assert "the engine is dead (HTTP 503)" in await c.until(stalled)


async def test_a_busy_server_gets_no_canary_and_none_is_sent_unasked(tmp_path: Path) -> None:
    async with case(tmp_path, canary_s=0.05) as c:
        await c.until(lambda _: c.answers.asked)
        c.answers.running = 1
        await asyncio.sleep(0.3)
        c.watch.look(PID)
        count = len(c.answers.asked)
        for _ in range(30):
            c.watch.look(PID)
            await asyncio.sleep(0.01)
        assert len(c.answers.asked) <= count + 1
    async with case(tmp_path) as c:
        for _ in range(30):
            assert moving(c.watch.look(PID))
            await asyncio.sleep(0.01)
        assert not c.answers.asked


async def test_a_server_that_takes_no_completions_is_left_in_peace(tmp_path: Path) -> None:
    async with case(tmp_path, canary_s=0.05) as c:
        c.answers.completions = 404
        await c.until(lambda _: c.notes)
        assert c.notes == ["no more canary requests: the server has no such address (HTTP 404) on /v1/completions"]
        assert moving(c.watch.look(PID))


@pytest.mark.parametrize("status", [None, 500])
async def test_metrics_that_stop_answering(tmp_path: Path, status: int | None) -> None:
    async with case(tmp_path, hang_timeout_s=0.6) as c:
        await c.until(moving)
        c.answers.metrics = status
        assert "/metrics has not answered for" in await c.until(stalled)
        c.answers.metrics = 200
        await c.until(moving)


async def test_no_limit_looks_for_no_hang(tmp_path: Path) -> None:
    async with case(tmp_path, hang_timeout_s=0.0) as c:
        c.answers.running = 3
        for _ in range(50):
            assert moving(c.watch.look(PID))
            await asyncio.sleep(0.01)
