"""Measuring the settings that serve: warm-up, then repeats of one load with `vllm bench serve`.

What measures is a protocol, so that the loop around it can be tested with scripted figures.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from typing import Protocol
from urllib.parse import urljoin

from console.client.bench_target import Target, api_key, context_tokens, target_of
from console.client.bench_watch import Watch
from console.client.session import connect
from console.core.bench import BenchPoint
from console.core.bench_shapes import Load, fitted
from console.core.errors import ConsoleError
from console.core.models import RunInfo
from console.core.tuning import Workload
from console.io import runs
from console.io.http import HttpClient, HttpError
from console.io.runs import LaunchSpec

__all__ = ["BenchMeasure", "Measure"]

WARM_UP_TOKENS = 32
"""Answered to each request of the warm-up."""
WARM_UP_TIMEOUT_S = 300.0
TOKEN_IDS = (100, 1000)
"""Any vocabulary has them."""


class Measure(Protocol):
    """Measures the server of a run."""

    async def warm_up(self, info: RunInfo, spec: LaunchSpec) -> None:
        """Send what a server has to have seen before it is fast."""
        ...

    async def repeat(self, info: RunInfo, spec: LaunchSpec, seed: int, progress: Callable[[float], None]) -> BenchPoint:
        """Measure once.

        Raises:
            console.core.errors.ConsoleError: it could not be measured.
        """
        ...


class BenchMeasure:
    """Measures with the benchmark of the engine that serves.

    Args:
        workload: what is sent.
    """

    def __init__(self, workload: Workload) -> None:
        self._workload = workload

    async def warm_up(self, info: RunInfo, spec: LaunchSpec) -> None:
        """As many requests at once as the load has, as long as its prompts. A refusal is left to the measurement."""
        load = await self._load(info, await asyncio.to_thread(target_of, info, spec))
        numbers = random.Random(0)  # noqa: S311 - prompts, no secrets
        http = HttpClient()

        async def one(seed: int) -> None:
            prompt = [numbers.randrange(*TOKEN_IDS) for _ in range(load.input_tokens)]
            payload = {
                "model": spec.model,
                "prompt": prompt,
                "max_tokens": min(WARM_UP_TOKENS, load.output_tokens),
                "ignore_eos": True,
                "seed": seed,
            }
            url = urljoin(spec.url, "/v1/completions")
            async with http.post(url, payload, api_key()) as reply:
                await reply.body()

        try:
            async with asyncio.timeout(WARM_UP_TIMEOUT_S):
                await asyncio.gather(*(one(seed) for seed in range(self._workload.concurrency)), return_exceptions=True)
        except (TimeoutError, HttpError):
            pass
        finally:
            await http.close()

    async def repeat(self, info: RunInfo, spec: LaunchSpec, seed: int, progress: Callable[[float], None]) -> BenchPoint:
        """One row of `vllm bench serve`, with what the console saw meanwhile where the supervisor answers."""
        work, target = self._workload, await asyncio.to_thread(target_of, info, spec)
        watch: Watch | None = None
        with contextlib.suppress(ConsoleError):
            run, _ = await asyncio.to_thread(runs.find_run, info.id)
            watch = Watch(await connect(run))
        try:
            point = await target.measure(
                work.shape,
                await self._load(info, target),
                concurrency=work.concurrency,
                requests=work.requests,
                seed=seed,
                on_progress=progress,
            )
            return point if watch is None else (await watch.columns(point, target.usd_per_hour))[0]
        finally:
            if watch is not None:
                await watch.close()

    async def _load(self, info: RunInfo, target: Target) -> Load:
        """The shape's lengths, or those that the server's context can take."""
        return fitted(self._workload.shape, info.max_model_len or await context_tokens(target))[0]
