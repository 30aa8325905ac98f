"""What a benchmark must know of a run: its engine's command, its tokenizer and where that is, its context, its price.

Apart from the plans of rows, because all of it is read from how the server was launched, before the first row.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from console.core.bench import BenchPoint, Shape
from console.core.bench_serve import tokenizer_options
from console.core.bench_shapes import Load
from console.core.errors import ConsoleError, EngineError, NotRunningError
from console.core.models import ProfileChange, RunInfo, Snapshot
from console.core.overrides import diff
from console.io import hubcache, profiles
from console.io.bench import run_point
from console.io.engines import Engine
from console.io.preflight import cache_of
from console.io.runs import LaunchSpec

if TYPE_CHECKING:
    from console.io.http import HttpClient

__all__ = ["Target", "api_key", "changes", "context_tokens", "machine_text", "target_of"]


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A server to measure."""

    engine: Engine
    url: str
    model: str
    """As it is served."""
    tokenizer: str
    """Directory or repository."""
    options: tuple[str, ...]
    """Of `vllm bench serve`, for this tokenizer."""
    env: dict[str, str]
    usd_per_hour: float | None

    async def measure(
        self,
        shape: Shape,
        load: Load,
        *,
        concurrency: int,
        requests: int,
        seed: int,
        on_progress: Callable[[float], None],
    ) -> BenchPoint:
        """One row of `vllm bench serve`; see `run_point`."""
        return await run_point(
            self.engine,
            url=self.url,
            model=self.model,
            tokenizer=self.tokenizer,
            shape=shape,
            concurrency=concurrency,
            requests=requests,
            seed=seed,
            on_progress=on_progress,
            api_key=api_key(),
            load=load,
            options=self.options,
            env=self.env,
        )


def target_of(info: RunInfo, spec: LaunchSpec) -> Target:
    """Of a run, as it was launched.

    Raises:
        EngineError: the engine's command is gone.
    """
    executable = Path(spec.argv[0])
    if not executable.is_file():
        raise EngineError(
            "The engine of this run is gone", str(executable), "Install it again: dsv4-console engine install"
        )
    tokenizer = _tokenizer(spec.argv)
    return Target(
        engine=Engine(
            name=info.engine_name, kind=spec.profile.engine.kind, version=info.engine_version, executable=executable
        ),
        url=spec.url,
        model=spec.model,
        tokenizer=tokenizer,
        options=tokenizer_options(spec.argv),
        env=_environment(spec, tokenizer),
        usd_per_hour=info.usd_per_hour,
    )


def api_key() -> str | None:
    """The server's key, where it wants one: as everywhere in this program it comes by the environment alone."""
    return os.environ.get("VLLM_API_KEY")


async def context_tokens(target: Target) -> int | None:
    """How many tokens one request may have, as the server itself says.

    Raises:
        NotRunningError: it does not answer.
    """
    client = (await asyncio.to_thread(_load_client))()
    try:
        served = await client.models(target.url, api_key())
    except ConsoleError as error:
        raise NotRunningError(
            "The server does not answer",
            f"{target.url}/v1/models: {error.title} {error.message}".strip(),
            "If it wants a key, set VLLM_API_KEY. Otherwise look at it: dsv4-console status",
        ) from error
    finally:
        await client.close()
    return next((model.max_model_len for model in served if model.id == target.model), None)


def changes(spec: LaunchSpec, name: str) -> tuple[ProfileChange, ...]:
    """How the settings of a launch differ from the profile of this name; nothing where that is gone."""
    with contextlib.suppress(ConsoleError):
        return diff(profiles.load(name).profile, spec.profile)
    return ()


def machine_text(snapshot: Snapshot | None) -> str:
    """For example `8×NVIDIA H200`, or the number of the CPU's cores."""
    gpus = snapshot.gpus if snapshot else None
    if gpus:
        return f"{len(gpus)}×{next((gpu.name for gpu in gpus if gpu.name), 'GPU')}"
    count = (snapshot.host.cpu_count if snapshot and snapshot.host else None) or os.cpu_count()
    return f"CPU, {count} cores"


def _tokenizer(argv: tuple[str, ...]) -> str:
    """What `--tokenizer` says, else the model, which stands after `serve`."""
    for index, part in enumerate(argv):
        if part == "--tokenizer" and index + 1 < len(argv):
            return argv[index + 1]
        if part.startswith("--tokenizer="):
            return part.partition("=")[2]
    return argv[2]


def _environment(spec: LaunchSpec, tokenizer: str) -> dict[str, str]:
    """What the launch added, and the cache that the server reads; no network where the tokenizer is in that."""
    cache = cache_of(spec.profile)
    env = {**spec.env, "HF_HUB_CACHE": str(cache)}
    if hubcache.repository_path(cache, tokenizer).is_dir():
        env["HF_HUB_OFFLINE"] = "1"
    return env


def _load_client() -> type[HttpClient]:
    """httpx takes a third of a second to import: never on the event loop."""
    from console.io.http import HttpClient

    return HttpClient
