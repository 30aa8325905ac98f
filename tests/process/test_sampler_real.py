"""The sampler and the chat against a real vLLM on the CPU."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from console.core.models import ChatMessage, ChatOptions, EngineReading
from console.io.chat import stream_chat
from console.io.gpu.nvml import NvmlBackend
from console.io.http import HttpClient
from console.io.process import session_members
from console.supervisor.sampler import Sampler

REQUESTS, PROMPT_TOKENS, ANSWER_TOKENS = 200, 64, 100

pytestmark = [
    pytest.mark.real,
    pytest.mark.timeout(600),
]


async def until(condition: Callable[[], object], limit_s: float) -> None:
    async with asyncio.timeout(limit_s):
        while not condition():
            await asyncio.sleep(0.1)


@asynccontextmanager
async def serving(vllm: Path, tmp_path: Path, model: Path) -> AsyncIterator[tuple[str, int]]:
    """A server and its session, which is gone afterwards."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = tmp_path / "server.log"
    options = ["--load-format", "dummy", "--enforce-eager", "--max-model-len", "1024", "--max-num-seqs", "4"]
    with log.open("wb") as output:
        server = subprocess.Popen(
            [
                vllm,
                "serve",
                model,
                *options,
                "--host",
                "127.0.0.1",
                "--port",
                str(port),
                "--served-model-name",
                "tiny",
            ],
            env=os.environ | {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1"},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield f"http://127.0.0.1:{port}", server.pid
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            await until(lambda: server.poll() is not None and not session_members(server.pid), 60)
        except TimeoutError:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()
            raise


async def bench(vllm: Path, url: str, model: Path, tmp_path: Path) -> dict[str, int]:
    """Load the server with requests of known length and return what the client counted."""
    process = await asyncio.create_subprocess_exec(
        *(str(vllm), "bench", "serve", "--base-url", url, "--model", "tiny", "--tokenizer", str(model)),
        *("--dataset-name", "random", "--random-input-len", str(PROMPT_TOKENS), "--ignore-eos"),
        *("--random-output-len", str(ANSWER_TOKENS), "--num-prompts", str(REQUESTS), "--max-concurrency", "16"),
        *("--save-result", "--result-dir", str(tmp_path), "--result-filename", "bench.json"),
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    assert await process.wait() == 0
    return dict(json.loads((tmp_path / "bench.json").read_text()))


async def test_a_real_server_under_load(tmp_path: Path, cpu_engine: Path) -> None:
    from console.io.tinymodel import make_model

    model = make_model(tmp_path / "model")
    http = HttpClient()
    changes: list[tuple[bool, int | None, str]] = []
    sampler = Sampler(NvmlBackend(), http, lambda *change: changes.append(change))
    seen: list[EngineReading] = []

    def engine() -> EngineReading:
        reading = sampler.latest().engine
        if reading is None:
            return seen[-1]  # on a starved machine a scrape may be too old to count; the next one does
        if not seen or seen[-1] is not reading:
            seen.append(reading)
        return reading

    await sampler.start()
    async with serving(cpu_engine / "bin" / "vllm", tmp_path, model) as (url, pid):
        sampler.set_target(url, pid)
        await until(lambda: sampler.latest().engine, 180)
        assert changes[-1] == (True, 200, "")
        assert {error for ok, _, error in changes if not ok} <= {"connection refused", "no answer within 1.8 s"}
        assert engine().generation_tokens_total == 0
        assert engine().kv_cache_tokens

        client = asyncio.create_task(bench(cpu_engine / "bin" / "vllm", url, model, tmp_path))
        await until(lambda: engine() and client.done(), 180)
        counted = client.result()
        await until(lambda: engine().requests_finished_total == REQUESTS, 10)
        last = engine()
        assert counted["completed"] == REQUESTS
        assert last.generation_tokens_total == counted["total_output_tokens"] == REQUESTS * ANSWER_TOKENS
        assert last.prompt_tokens_total == counted["total_input_tokens"]
        assert last.ttft is not None
        assert last.ttft.count == REQUESTS
        assert last.itl is not None
        assert last.itl.count == REQUESTS * (ANSWER_TOKENS - 1)
        assert last.mean_generation_tokens == ANSWER_TOKENS
        assert last.mean_prompt_tokens == counted["total_input_tokens"] / REQUESTS
        assert max(reading.running or 0 for reading in seen) == 4
        assert max(reading.waiting or 0 for reading in seen) > 4
        assert max(reading.generation_tokens_per_s or 0 for reading in seen) > 100
        assert max(reading.kv_cache_usage or 0 for reading in seen) > 0
        host = sampler.latest().host
        assert host is not None
        assert host.tree_processes
        assert host.tree_processes >= 2

        await chat_and_stop(url, http, engine)
    await until(lambda: not changes[-1][0], 10)
    await until(lambda: sampler.latest().engine is None, 15)
    await sampler.stop()
    await http.close()


async def chat_and_stop(url: str, http: HttpClient, engine: Callable[[], EngineReading]) -> None:
    """An answer with its counts, one that is too long, and one that is stopped on the way."""
    before = engine().generation_tokens_total
    hello = (ChatMessage(role="user", content="hello"),)
    ask = ChatOptions(max_tokens=24, extra={"ignore_eos": True})
    deltas = [delta async for delta in stream_chat(url, "tiny", hello, ask, client=http)]
    last = deltas[-1]
    assert (last.error, last.completion_tokens, last.finish_reason) == ("", 24, "length")
    assert last.ttft_s is not None
    assert 0 < last.ttft_s < last.elapsed_s
    await until(lambda: (engine().generation_tokens_total or 0) == (before or 0) + 24, 10)

    (refused,) = [delta async for delta in stream_chat(url, "tiny", hello, ChatOptions(max_tokens=5000), client=http)]
    assert "1024" in refused.error
    (unknown,) = [delta async for delta in stream_chat(url, "other", hello, ChatOptions(), client=http)]
    assert "other" in unknown.error
    (served,) = await http.models(url)
    assert (served.id, served.max_model_len) == ("tiny", 1024)

    long = ChatOptions(max_tokens=900, extra={"ignore_eos": True})
    async with aclosing(stream_chat(url, "tiny", hello, long, client=http)) as stream:
        await anext(stream)
    closing = engine()
    await until(lambda: engine() is not closing and engine().running == 0, 10)
    # vLLM 0.32 does not count an aborted request as finished, so its tokens tell that it was cut short.
    stopped = engine().generation_tokens_total
    settled = engine()
    await until(lambda: engine() is not settled, 10)
    assert engine().generation_tokens_total == stopped
    assert (before or 0) + 24 < (stopped or 0) < (before or 0) + 24 + 900
    assert engine().requests_finished_total == REQUESTS + 1
