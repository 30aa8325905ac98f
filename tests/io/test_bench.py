"""One row of a benchmark with a scripted `vllm`: what it is told, what is read of it, and what is left of it."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from console.core.bench import BenchPoint, Shape
from console.core.errors import ConsoleError, EngineError, NotRunningError, ServerFailedError, UsageError
from console.io import child
from console.io.bench import run_point
from console.io.engines import Engine
from console.io.process import process_start_s
from tests.fakes import bench as fake


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    monkeypatch.setenv("FAKE_PIDS", str(tmp_path / "pids"))
    monkeypatch.setenv("FAKE_CALLS", str(tmp_path / "calls"))
    return fake.engine(tmp_path / "engine")


async def point(
    engine: Engine,
    *,
    url: str = "http://127.0.0.1:1",
    on_progress: Callable[[float], None] | None = None,
    api_key: str | None = None,
    tokenizer: str = "org/model",
    timeout_s: float = 60.0,
) -> BenchPoint:
    return await run_point(
        engine,
        url=url,
        model="tiny",
        tokenizer=tokenizer,
        shape=Shape.CODE,
        concurrency=8,
        requests=20,
        seed=7,
        on_progress=on_progress,
        api_key=api_key,
        timeout_s=timeout_s,
    )


def pids(tmp_path: Path) -> list[int]:
    return [int(part) for part in (tmp_path / "pids").read_text().split()]


async def gone(tmp_path: Path) -> None:
    async with asyncio.timeout(10):
        while any(process_start_s(pid) is not None for pid in pids(tmp_path)):
            await asyncio.sleep(0.02)


async def test_a_row(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "for-somebody-else")
    heard: list[float] = []
    before_s = time.time()
    row = await point(engine, on_progress=heard.append, api_key="mine")
    assert (row.shape, row.concurrency, row.seed, row.completed, row.failed) == (Shape.CODE, 8, 7, 20, 0)
    assert (row.ttft_p50_s, row.itl_p99_s, row.e2e_p99_s) == (0.02, 0.04, 0.04)
    assert before_s <= row.started_s <= time.time()
    assert heard == [index / 20 for index in range(21)]
    told = json.loads((tmp_path / "calls").read_text())
    argv = told["argv"]
    assert argv[:2] == ["bench", "serve"]
    said = dict(zip(argv[2::2], argv[3::2], strict=False))
    assert said["--random-prefix-len"] == "4915"
    assert said["--random-input-len"] == str(8192 - 4915)
    assert told["env"]["OPENAI_API_KEY"] == "mine"
    assert told["env"]["NO_PROXY"].endswith("127.0.0.1")
    assert told["env"]["HF_HUB_OFFLINE"] is None


async def test_a_local_tokenizer_needs_no_network_and_no_key_is_none(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "for-somebody-else")
    await point(engine, tokenizer=str(tmp_path))
    told = json.loads((tmp_path / "calls").read_text())
    assert told["env"]["HF_HUB_OFFLINE"] == "1"
    assert told["env"]["OPENAI_API_KEY"] is None


@pytest.mark.parametrize(
    ("mode", "kind", "title", "text"),
    [
        ("exit", ServerFailedError, "The benchmark failed", "ValueError: something is odd"),
        ("module", EngineError, "The engine lacks what its benchmark needs", "pandas"),
        ("killed", ServerFailedError, "The benchmark failed", "signal 9"),
        ("garbage", ServerFailedError, "The benchmark failed", "it left no result (not JSON"),
        ("silent", ServerFailedError, "The benchmark failed", "it left no result"),
        ("none", NotRunningError, "No server answers", "none of 20 requests succeeded"),
        ("unknown-model", UsageError, "The server does not serve this model", "tiny"),
        ("key", UsageError, "The server refuses the key", "VLLM_API_KEY"),
        ("some", ServerFailedError, "The server failed during the benchmark", "2 of 20 requests failed"),
    ],
)
async def test_what_goes_wrong_is_named(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, mode: str, kind: type[ConsoleError], title: str, text: str
) -> None:
    monkeypatch.setenv("FAKE_BENCH", mode)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen, so that no other program can
        with pytest.raises(kind) as caught:
            await point(engine, url=f"http://127.0.0.1:{nobody.getsockname()[1]}")
    assert caught.value.title == title
    assert text in str(caught.value)
    assert caught.value.fix


async def test_failed_requests_of_a_server_that_lives_are_counted(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_BENCH", "some")
    with socket.create_server(("127.0.0.1", 0)) as server:
        row = await point(engine, url=f"http://127.0.0.1:{server.getsockname()[1]}")
    assert (row.completed, row.failed) == (18, 2)


@pytest.mark.parametrize("mode", ["hang", "stubborn"])
async def test_cancelling_leaves_no_process(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setenv("FAKE_BENCH", mode)
    monkeypatch.setattr(child, "INTERRUPT_WAIT_S", 0.3)
    begun = asyncio.Event()
    task = asyncio.create_task(point(engine, on_progress=lambda done: begun.set()))
    async with asyncio.timeout(30):
        await asyncio.wait({task, asyncio.create_task(begun.wait())}, return_when=asyncio.FIRST_COMPLETED)
        while not (tmp_path / "pids").exists() or len(pids(tmp_path)) < 2:
            assert not task.done()
            await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await gone(tmp_path)


async def test_a_row_has_a_time(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_BENCH", "hang")
    monkeypatch.setattr(child, "INTERRUPT_WAIT_S", 0.3)
    with pytest.raises(ServerFailedError, match="The benchmark failed") as caught:
        await point(engine, timeout_s=3)
    assert "no result after 3 s" in str(caught.value)
    if (tmp_path / "pids").exists():
        await gone(tmp_path)


async def test_a_process_that_the_benchmark_leaves_is_ended(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_BENCH", "leaves")
    monkeypatch.setattr(child, "REST_WAIT_S", 0.3)
    assert (await point(engine)).completed == 20
    await gone(tmp_path)


async def test_a_defect_in_who_listens_ends_the_benchmark(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_BENCH", "hang")

    def fail(done: float) -> None:
        raise RuntimeError("a defect")

    with pytest.raises(RuntimeError, match="a defect"):
        await point(engine, on_progress=fail)
    if (tmp_path / "pids").exists():
        await gone(tmp_path)


async def test_a_command_that_cannot_run(engine: Engine) -> None:
    engine.executable.chmod(0o600)
    if os.access(engine.executable, os.X_OK):
        pytest.skip("may execute anything")
    with pytest.raises(EngineError, match="cannot be run"):
        await point(engine)
