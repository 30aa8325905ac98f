"""What `vllm bench serve` is told, and what it says: its arguments, its progress, its result and its failures.

Text in, data out; the process itself is `console.io.bench`. The options used here are the same in vLLM 0.23, 0.25,
0.26, 0.28, 0.30, 0.32 and 0.33 (`vllm/benchmarks/serve.py` and `datasets/datasets.py` of each were read).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from console.core.bench import BenchPoint, Shape
from console.core.bench_shapes import Load
from console.core.errors import ConsoleError, EngineError, NotRunningError, ServerFailedError, UsageError

__all__ = [
    "FAILURES",
    "STARTING",
    "Failure",
    "arguments",
    "failure_of",
    "fraction",
    "point_of",
    "tokenizer_options",
]

PERCENTILES = "50,99"
METRICS = "ttft,tpot,itl,e2el"
STARTING = "Starting main benchmark run"
"""Printed when the first request of the row is about to be sent."""
PROGRESS = re.compile(r"(\d+)/(\d+) \[")
"""tqdm's line: `12%|█▎   | 25/200 [00:01<00:07, 23.50it/s]`."""
SAID_LINES = 6
"""Lines of the output that an error repeats."""
NOISE = re.compile(r"^\s*(\d+%\||\^+$|~|File \"|Traceback|During handling|The above exception)|^\s{4,}")
"""Lines that tell an operator nothing: progress, and the frames of a traceback."""


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """One known way in which the benchmark fails."""

    pattern: str
    """Regular expression, searched in the output; the first row that matches wins."""
    error: type[ConsoleError]
    title: str
    remedy: str
    """`{url}`, `{model}`, `{tokenizer}` and `{found}` (the pattern's first group) are filled in."""


FAILURES: tuple[Failure, ...] = (
    Failure(
        pattern=r"No module named '([\w.]+)'|install vllm\[bench\]|Please install (\w+)",
        error=EngineError,
        title="The engine lacks what its benchmark needs",
        remedy="Install {found} into the engine's environment, or another engine: dsv4-console engine install",
    ),
    Failure(
        pattern=r"unrecognized arguments|invalid choice: 'bench'|error: argument",
        error=EngineError,
        title="This vLLM does not know an option of the benchmark",
        remedy="vLLM 0.23 to 0.33 are known to work. Serve with one of them: dsv4-console engine install",
    ),
    Failure(
        pattern=(
            r"(?i)can't load tokenizer|not a valid model identifier|not a local folder|LocalEntryNotFoundError"
            r"|couldn't connect to .*huggingface|offline mode is enabled"
        ),
        error=EngineError,
        title="The tokenizer is not here",
        remedy="The benchmark counts tokens with {tokenizer}. Download it: dsv4-console download PROFILE",
    ),
    Failure(
        pattern=r"Too many open files",
        error=EngineError,
        title="Too many open files for so many clients",
        remedy="Raise the limit where you start the console (`ulimit -n 65536`), or ask for fewer clients.",
    ),
    Failure(
        pattern=r"Error \d+: Unauthorized",
        error=UsageError,
        title="The server refuses the key",
        remedy="Set VLLM_API_KEY where you start the console to the key that the server was started with.",
    ),
    Failure(
        pattern=r"Error \d+: Not Found",
        error=UsageError,
        title="The server does not serve this model",
        remedy="It was asked for {model}. `dsv4-console status` shows what {url} serves.",
    ),
    Failure(
        pattern=r"Error \d+: Bad Request",
        error=UsageError,
        title="The server refuses the requests",
        remedy="Most often prompt and answer are longer than its --max-model-len: choose a shorter shape.",
    ),
    Failure(
        pattern=r"ServerDisconnected|Connection reset|Response payload is not completed|Error \d+: Internal Server",
        error=ServerFailedError,
        title="The server failed during the benchmark",
        remedy="`dsv4-console diagnose last` looks for the cause in its log.",
    ),
    Failure(
        pattern=r"Cannot connect to host|Connect call failed|Connection refused",
        error=NotRunningError,
        title="No server answers",
        remedy="Nothing listens at {url}. Start it, or look at it: dsv4-console status",
    ),
)


def arguments(
    load: Load,
    *,
    url: str,
    model: str,
    tokenizer: str,
    concurrency: int,
    requests: int,
    seed: int,
    result_dir: str,
    result_name: str,
    more: Sequence[str] = (),
) -> tuple[str, ...]:
    """What comes after `vllm` on the command line.

    The random data set sends what is asked for to the token: a shared prefix, then random tokens, and answers of the
    full length, since it makes vLLM ignore the end-of-text token.
    """
    options = {
        "--backend": "openai",
        "--base-url": url,
        "--endpoint": "/v1/completions",
        "--model": model,
        "--tokenizer": tokenizer,
        "--dataset-name": "random",
        "--random-prefix-len": load.prefix_tokens,
        "--random-input-len": load.input_tokens - load.prefix_tokens,
        "--random-output-len": load.output_tokens,
        "--random-range-ratio": "0.0",
        "--num-prompts": requests,
        "--max-concurrency": concurrency,
        "--seed": seed,
        "--temperature": 0,
        "--ready-check-timeout-sec": 0,
        "--percentile-metrics": METRICS,
        "--metric-percentiles": PERCENTILES,
        "--result-dir": result_dir,
        "--result-filename": result_name,
    }
    pairs = tuple(str(part) for pair in options.items() for part in pair)
    return ("bench", "serve", *pairs, "--ignore-eos", "--save-result", *more)


def tokenizer_options(argv: Sequence[str]) -> tuple[str, ...]:
    """Those of a server's arguments that its tokenizer needs, as the benchmark takes them."""
    found: list[str] = []
    for index, part in enumerate(argv):
        name, equals, value = part.partition("=")
        if name == "--tokenizer-mode":
            found += (name, value if equals else "".join(argv[index + 1 : index + 2]))
        elif part == "--trust-remote-code":
            found.append(part)
    return tuple(found)


def fraction(line: str, requests: int) -> float | None:
    """How much of the row is done, 0 to 1, if this line of the output tells."""
    match = PROGRESS.search(line)
    if match is None or int(match[2]) != requests:
        return None
    return int(match[1]) / requests


def point_of(data: bytes, *, shape: Shape, concurrency: int, seed: int, started_s: float) -> BenchPoint:
    """The row that a result file holds. vLLM writes milliseconds, and 0 where it has no figure.

    Raises:
        ValueError: it is not such a file; the message says what is wrong with it.
    """
    try:
        result = json.loads(data, parse_constant=lambda name: None)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from error
    if not isinstance(result, dict):
        raise ValueError(f"a {type(result).__name__} instead of an object")
    return BenchPoint(
        shape=shape,
        concurrency=concurrency,
        seed=seed,
        started_s=started_s,
        duration_s=_number(result, "duration"),
        completed=int(_number(result, "completed")),
        failed=int(_number(result, "failed")) if "failed" in result else 0,
        requests_per_s=_number(result, "request_throughput"),
        output_tokens_per_s=_number(result, "output_throughput"),
        total_tokens_per_s=_number(result, "total_token_throughput"),
        ttft_mean_s=_seconds(result, "mean_ttft_ms"),
        ttft_p50_s=_seconds(result, "median_ttft_ms"),
        ttft_p99_s=_seconds(result, "p99_ttft_ms"),
        tpot_mean_s=_seconds(result, "mean_tpot_ms"),
        tpot_p50_s=_seconds(result, "median_tpot_ms"),
        tpot_p99_s=_seconds(result, "p99_tpot_ms"),
        itl_mean_s=_seconds(result, "mean_itl_ms"),
        itl_p50_s=_seconds(result, "median_itl_ms"),
        itl_p99_s=_seconds(result, "p99_itl_ms"),
        e2e_mean_s=_seconds(result, "mean_e2el_ms"),
        e2e_p99_s=_seconds(result, "p99_e2el_ms"),
    )


def failure_of(lines: Iterable[str], *, url: str, model: str, tokenizer: str, what: str) -> ConsoleError:
    """The error that this output means.

    Args:
        lines: the end of the output, cleaned and without secrets.
        what: how it ended, for example `exit code 1`.
    """
    said = [line.rstrip() for line in lines]
    text = "\n".join(said)
    telling = [line.strip() for line in said if line.strip() and not NOISE.search(line)]
    message = "\n".join([f"vllm bench serve: {what}", *(f"  {line}" for line in telling[-SAID_LINES:])])
    for row in FAILURES:
        if match := re.search(row.pattern, text):
            found = next((group for group in match.groups() if group), "what it names")
            remedy = row.remedy.format(url=url, model=model, tokenizer=tokenizer, found=found)
            return row.error(row.title, message, remedy)
    return ServerFailedError(
        "The benchmark failed", message, "If the lines above do not say why, look at the server: dsv4-console logs"
    )


def _number(result: dict[str, Any], name: str) -> float:
    value = result.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise ValueError(f"{name} is {value!r}")
    return value


def _seconds(result: dict[str, Any], name: str) -> float | None:
    value = result.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        return None
    return value / 1000
