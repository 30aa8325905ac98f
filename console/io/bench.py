"""Runs one row of a benchmark: `vllm bench serve` of the engine's own environment, as a child that leaves nothing.

The engine's command is used because it is what published figures are measured with, and because it counts tokens with
the model's own tokenizer. Nothing of it is imported.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from console.core.bench import BenchPoint, Shape
from console.core.bench_serve import STARTING, arguments, failure_of, fraction, point_of
from console.core.bench_shapes import LOADS, Load
from console.core.errors import EngineError
from console.core.text import Redactor, clean
from console.io.child import Child
from console.io.engines import Engine, clean_environment
from console.io.secrets import known_secrets

__all__ = ["POINT_TIMEOUT_S", "run_point"]

POINT_TIMEOUT_S = 2 * 3600.0
"""One row, from the start of its process to its end."""
CONNECT_TIMEOUT_S = 2.0
RESULT_BYTES_MAX = 64 * 1024 * 1024
"""vLLM writes one latency per request: 20 bytes each."""
QUIETLY = {
    "PYTHONUNBUFFERED": "1",
    "NO_COLOR": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
}


async def run_point(
    engine: Engine,
    *,
    url: str,
    model: str,
    tokenizer: str,
    shape: Shape,
    concurrency: int,
    requests: int,
    seed: int,
    on_progress: Callable[[float], None] | None = None,
    api_key: str | None = None,
    load: Load | None = None,
    options: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    timeout_s: float = POINT_TIMEOUT_S,
) -> BenchPoint:
    """Measure one load at one concurrency. The columns of GPU, KV cache, power and price are left to the caller.

    Args:
        engine: whose `vllm` is run.
        url: of the server, without a path.
        model: as the server names it.
        tokenizer: directory or repository; a directory is read without any network access.
        shape: of the requests.
        concurrency: requests in flight at once.
        requests: of this row.
        seed: of the prompts. The same seed sends the same prompts, which a warm prefix cache answers faster.
        on_progress: told 0 to 1.
        api_key: of the server; it travels by the child's environment.
        load: the shape's lengths where the server needs smaller ones (`console.core.bench_shapes.fitted`).
        options: more of `vllm bench serve`, for example `--tokenizer-mode`.
        env: added to this process's environment, for example `HF_HOME`.
        timeout_s: for the whole row.

    Cancelling interrupts the child, then kills its session; none of its processes is left.

    Raises:
        console.core.errors.ConsoleError: it failed; title, last lines and remedy are in it.
    """
    wanted = load or LOADS[shape]
    with tempfile.TemporaryDirectory(prefix="dsv4-bench-") as folder:
        argv = (
            str(engine.executable),
            *arguments(
                wanted,
                url=url,
                model=model,
                tokenizer=tokenizer,
                concurrency=concurrency,
                requests=requests,
                seed=seed,
                result_dir=folder,
                result_name="result.json",
                more=options,
            ),
        )
        began_s: list[float] = []

        def hear(line: str) -> None:
            if STARTING in line:
                began_s.append(time.time())
            done = fraction(line, requests)
            if done is not None and on_progress is not None:
                on_progress(done)

        try:
            child = await Child.start(argv, env=_environment(url, tokenizer, api_key, env or {}), cwd=Path(folder))
        except OSError as error:
            raise EngineError(
                "The engine's command cannot be run",
                f"{engine.executable}: {error.strerror}",
                "Choose another engine with --engine, or install one: dsv4-console engine install",
            ) from error
        redact = Redactor((*known_secrets(), *((api_key,) if api_key else ())))

        def failed(what: str) -> Exception:
            said = [redact(clean(line)) for line in child.tail]
            return failure_of(said, url=url, model=model, tokenizer=tokenizer, what=what)

        try:
            code = await child.run(hear, timeout_s)
        except TimeoutError as error:
            raise failed(f"no result after {timeout_s:.0f} s") from error
        if code:
            raise failed(f"signal {-code}" if code < 0 else f"exit code {code}")
        try:
            data = await asyncio.to_thread(_read, Path(folder) / "result.json")
            # Its end is known to a fraction of a second even where the line of its start went missing.
            guess_s = time.time()
            point = point_of(data, shape=shape, concurrency=concurrency, seed=seed, started_s=guess_s)
        except (OSError, ValueError) as error:
            raise failed(f"it left no result ({error})") from error
        if not point.completed:
            raise failed(f"none of {requests} requests succeeded")
        if point.failed and not await _listens(url):
            raise failed(f"{point.failed} of {requests} requests failed")
        started_s = began_s[-1] if began_s else guess_s - point.duration_s
        return msgspec.structs.replace(point, started_s=started_s)


def _environment(url: str, tokenizer: str, api_key: str | None, more: Mapping[str, str]) -> dict[str, str]:
    """vLLM's client sends `OPENAI_API_KEY`, which may be a key for somebody else, and obeys proxies."""
    env = clean_environment() | dict(more) | QUIETLY
    env.pop("OPENAI_API_KEY", None)
    if api_key:
        env["OPENAI_API_KEY"] = api_key
    if Path(tokenizer).is_dir():
        env["HF_HUB_OFFLINE"] = "1"
    host = urlsplit(url).hostname or ""
    for name in ("NO_PROXY", "no_proxy"):
        env[name] = ",".join(part for part in (os.environ.get(name, ""), host) if part)
    return env


def _read(path: Path) -> bytes:
    """The file's content.

    Raises:
        OSError: it is not there, or cannot be read.
        ValueError: it is larger than any result.
    """
    with path.open("rb") as file:
        data = file.read(RESULT_BYTES_MAX + 1)
    if len(data) > RESULT_BYTES_MAX:
        raise ValueError(f"more than {RESULT_BYTES_MAX} bytes")
    return data


async def _listens(url: str) -> bool:
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            _, writer = await asyncio.open_connection(parts.hostname, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True
