"""Whether watching slows vLLM: output tok/s of `vllm bench serve` with and without the console, in pairs."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.measure import Spread
from tests.benchmarks.world import Run, Unavailable, World

__all__ = ["throughput"]

BENCH_S = 300.0


def throughput(world: World, quick: bool) -> None:
    """Alternating pairs on one and the same real server, `cpu-smoke`.

    With: the supervisor runs and the UI is attached. Without: no UI, and the supervisor is held still by SIGSTOP.
    Which comes first changes from pair to pair.
    """
    pairs, prompts = (2, 160) if quick else (6, 400)
    with world.running("cpu-smoke", world.engine) as run:
        bench(world, run, prompts)
        taken: dict[bool, list[float]] = {True: [], False: []}
        for pair in range(pairs):
            for watched in (True, False) if pair % 2 else (False, True):
                with attached(world) if watched else held(run):
                    taken[watched].append(bench(world, run, prompts))
        for watched, title in ((False, "without the console"), (True, "with the console")):
            print(f"  {title:<22} {Spread(tuple(taken[watched])).text('tok/s')}")
        ratios = Spread(tuple(w / wo for w, wo in zip(taken[True], taken[False], strict=True)))
        print(f"  {'ratio of each pair':<22} {ratios.text('×', 3)}")


@contextlib.contextmanager
def attached(world: World) -> Iterator[None]:
    """The UI on this run."""
    terminal = world.terminal(*world.console)
    try:
        terminal.wait_painted(30)
        yield
    finally:
        terminal.close()


@contextlib.contextmanager
def held(run: Run) -> Iterator[None]:
    """The supervisor still."""
    os.kill(run.supervisor_pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(run.supervisor_pid, signal.SIGCONT)


def bench(world: World, run: Run, prompts: int) -> float:
    """Output tokens per second under eight clients, 64 tokens in and 100 out."""
    place = run.argv.index("serve")
    vllm, model = run.argv[:place], run.argv[place + 1]
    served = run.argv[run.argv.index("--served-model-name") + 1] if "--served-model-name" in run.argv else model
    result = world.scratch / "bench.json"
    command = [
        *vllm, "bench", "serve", "--base-url", run.url, "--model", served, "--tokenizer", model,
        "--dataset-name", "random", "--random-input-len", "64", "--random-output-len", "100", "--ignore-eos",
        "--num-prompts", str(prompts), "--max-concurrency", "8", "--disable-tqdm", "--save-result",
        "--result-dir", str(world.scratch), "--result-filename", result.name,
    ]  # fmt: skip
    env = world.env | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        command, env=env, capture_output=True, text=True, timeout=BENCH_S, check=False, cwd=world.scratch
    )
    if done.returncode or not Path(result).exists():
        raise Unavailable(f"vllm bench serve (exit {done.returncode}): {done.stderr.strip()[-400:]}")
    return float(json.loads(result.read_text())["output_throughput"])
