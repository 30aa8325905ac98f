"""The sampler and the chat against a real vLLM on the CPU."""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import socket
import subprocess
from bisect import bisect_left
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from statistics import quantiles
from typing import Any

import pytest

from console.core.metrics import Families
from console.core.models import ChatMessage, ChatOptions, EngineReading, Percentiles
from console.core.profile import TargetsSection
from console.io.chat import stream_chat
from console.io.gpu.nvml import NvmlBackend
from console.io.http import HttpClient
from console.io.process import session_members
from console.io.prometheus import ExpositionReader
from console.supervisor.sampler import Sampler

REQUESTS, PROMPT_TOKENS, ANSWER_TOKENS = 200, 64, 100
MODEL_LEN, RUNNING_MAX = 1024, 4
CALM = {"requests": 60, "answer_tokens": 20, "rate": 4.0}
"""So little that neither the API server nor the client is the limit: both then see the same latencies."""
LAG_S = 0.1
"""HTTP, tokenizer and the client's own loop lie between the server's clock and the client's; more on busy cores."""
TTFT_TARGET_S = 0.04
"""A bound of vLLM's histogram, so that its share needs no interpolation."""

pytestmark = [
    pytest.mark.real,
    pytest.mark.alone,
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
    options = ["--load-format", "dummy", "--enforce-eager", "--max-model-len", str(MODEL_LEN)]
    options += ["--max-num-seqs", str(RUNNING_MAX)]
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


async def bench(
    vllm: Path, url: str, model: Path, tmp_path: Path, *, requests: int, answer_tokens: int, rate: float = math.inf
) -> dict[str, Any]:
    """Load the server with requests of known length and return what the client counted and measured.

    `rate` is requests per second; no more than 16 are in flight.
    """
    process = await asyncio.create_subprocess_exec(
        *(str(vllm), "bench", "serve", "--base-url", url, "--model", "tiny", "--tokenizer", str(model)),
        *("--dataset-name", "random", "--random-input-len", str(PROMPT_TOKENS), "--ignore-eos"),
        *("--random-output-len", str(answer_tokens), "--num-prompts", str(requests), "--max-concurrency", "16"),
        *("--request-rate", str(rate)),
        *("--save-result", "--save-detailed", "--result-dir", str(tmp_path), "--result-filename", "bench.json"),
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
    targets = TargetsSection(ttft_s=TTFT_TARGET_S, tpot_s=10.0)
    sampler = Sampler(
        NvmlBackend(), http, lambda *change: changes.append(change), targets=targets, max_model_len=MODEL_LEN
    )
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

        vllm = cpu_engine / "bin" / "vllm"
        client = asyncio.create_task(bench(vllm, url, model, tmp_path, requests=REQUESTS, answer_tokens=ANSWER_TOKENS))
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
        check_figures(last, seen, counted)
        host = sampler.latest().host
        assert host is not None
        assert host.tree_processes
        assert host.tree_processes >= 2

        await chat_and_stop(url, http, engine)
        await check_outcomes(url, http, engine)
        await calm(vllm, url, model, tmp_path, http)
    await until(lambda: not changes[-1][0], 10)
    await until(lambda: sampler.latest().engine is None, 15)
    await sampler.stop()
    await http.close()


def check_figures(last: EngineReading, seen: Sequence[EngineReading], counted: dict[str, Any]) -> None:
    """What is known of the load is what the reading says, to the request and the token."""
    assert last.finished_by_reason is not None
    assert {name: count for name, count in last.finished_by_reason.items() if count} == {"length": REQUESTS}
    assert last.length_capped_share == 1
    assert last.http_errors_by_status == {"4xx": 0, "5xx": 0}
    assert last.admission_rejections_total == 0
    assert last.prompt_lengths is not None
    assert (last.prompt_lengths.count, last.prompt_lengths.mean) == (REQUESTS, counted["total_input_tokens"] / REQUESTS)
    assert last.generation_lengths is not None
    assert (last.generation_lengths.count, last.generation_lengths.mean) == (REQUESTS, ANSWER_TOKENS)
    # vLLM's bounds are 1, 2, 5, 10 … : 100 tokens lie in the bucket up to 100, 64 and a few in the same one.
    assert max(counted["input_lens"]) <= 100
    assert (last.longest_prompt_tokens, last.longest_generation_tokens) == (100, ANSWER_TOKENS)
    assert last.longest_context_tokens == 100 + ANSWER_TOKENS
    for latency in (last.tpot, last.e2e, last.queue, last.prefill, last.decode):
        assert latency is not None
        assert latency.count == REQUESTS
    assert last.prefill_share is not None
    assert 0 < last.prefill_share < 0.5
    assert last.iteration_tokens_mean is not None
    assert last.iteration_tokens_mean > 1
    assert last.running_peak == RUNNING_MAX
    assert last.waiting_peak == max(reading.waiting or 0 for reading in seen)
    assert all((r.waiting_capacity or 0) + (r.waiting_deferred or 0) == r.waiting for r in seen)
    assert last.busy_s > 0
    assert (last.prefix_caching, last.cache_dtype) == (True, "auto")
    assert (last.block_size or 0) > 0
    assert (last.engines, last.by_engine, last.imbalance, last.resets_total) == (1, (), None, 0)
    assert (last.spec_acceptance_rate, last.flops_per_gpu_per_s) == (None, None)
    assert last.prompt_share_by_source is not None
    assert sum(last.prompt_share_by_source.values()) == pytest.approx(1)


async def calm(vllm: Path, url: str, model: Path, tmp_path: Path, http: HttpClient) -> None:
    """Percentiles under a load that a sampler sees from its first request to its last."""
    targets = TargetsSection(ttft_s=TTFT_TARGET_S, tpot_s=10.0)
    sampler = Sampler(NvmlBackend(), http, lambda *_: None, targets=targets, max_model_len=MODEL_LEN)
    await sampler.start()
    sampler.set_target(url, None)
    await until(lambda: sampler.latest().engine, 30)
    counted = await bench(vllm, url, model, tmp_path, **CALM)
    # The last one is over, not only begun: its first token is counted before the rest of it.
    await until(lambda: (each := sampler.latest().engine) and each.e2e and each.e2e.count == CALM["requests"], 10)
    last = sampler.latest().engine
    assert last is not None
    check_percentiles(last, counted, bounds_of(ExpositionReader().read(await http.metrics(url, 5.0))))
    await sampler.stop()


def bounds_of(families: Families) -> dict[str, tuple[float, ...]]:
    """Bucket bounds of each histogram of the exposition, its +Inf left out."""
    return {
        name: tuple(float(p.labels["le"]) for p in points if p.suffix == "_bucket" and p.labels["le"] != "+Inf")
        for name, points in families.items()
    }


def check_percentiles(last: EngineReading, counted: dict[str, Any], bounds: dict[str, tuple[float, ...]]) -> None:
    """A histogram knows a percentile to the bucket that it falls in, and the client sees each token a little later."""
    itls = [[float(gap) for gap in gaps] for gaps in counted["itls"]]
    later = CALM["answer_tokens"] - 1
    measured: dict[str, tuple[Percentiles | None, list[float]]] = {
        "vllm:time_to_first_token_seconds": (last.ttft, [float(ttft) for ttft in counted["ttfts"]]),
        "vllm:request_time_per_output_token_seconds": (last.tpot, [sum(gaps) / later for gaps in itls]),
        "vllm:e2e_request_latency_seconds": (
            last.e2e,
            [float(ttft) + sum(gaps) for ttft, gaps in zip(counted["ttfts"], itls, strict=True)],
        ),
    }
    for name, (read, values) in measured.items():
        assert read is not None
        assert len(values) == read.count == CALM["requests"]
        cuts = quantiles(values, n=100, method="inclusive")
        for shown, client in ((read.p50_s, cuts[49]), (read.p95_s, cuts[94]), (read.p99_s, cuts[98])):
            assert shown is not None
            low, high = bucket(shown, bounds[name])
            assert low - (high - low) <= client <= 2 * high - low + LAG_S, f"{name}: {shown} read, {client} measured"
    goodput = last.goodput
    assert goodput is not None
    assert goodput.share_max == goodput.ttft_share
    assert goodput.share_min == pytest.approx(goodput.share_max)
    # The client sees a first token later than the server, by no more than the lag.
    ttfts = [float(ttft) for ttft in counted["ttfts"]]
    assert TTFT_TARGET_S in bounds["vllm:time_to_first_token_seconds"]
    low, high = (sum(ttft <= TTFT_TARGET_S + late for ttft in ttfts) / len(ttfts) for late in (0.0, LAG_S))
    assert low <= goodput.share_max <= high
    assert goodput.tpot_share == 1


def bucket(value: float, bounds: Sequence[float]) -> tuple[float, float]:
    """Bounds of the bucket that a value falls in."""
    index = bisect_left(bounds, value)
    return (bounds[index - 1] if index else 0.0), bounds[index]


async def check_outcomes(url: str, http: HttpClient, engine: Callable[[], EngineReading]) -> None:
    """An answer that stops by itself, and the errors of the chat before."""
    hello = (ChatMessage(role="user", content="hello"),)
    any_token = ChatOptions(max_tokens=24, extra={"stop_token_ids": list(range(512))})
    deltas = [delta async for delta in stream_chat(url, "tiny", hello, any_token, client=http)]
    assert (deltas[-1].error, deltas[-1].finish_reason) == ("", "stop")
    await until(lambda: engine().requests_finished_total == REQUESTS + 2, 10)
    reasons = engine().finished_by_reason
    assert reasons is not None
    assert (reasons["length"], reasons["stop"], reasons["error"]) == (REQUESTS + 1, 1, 0)
    # One answer was asked to be too long, one of a model that is not there.
    assert engine().http_errors_by_status == {"4xx": 2, "5xx": 0}


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
