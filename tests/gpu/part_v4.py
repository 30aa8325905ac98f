"""Part 3: DeepSeek V4's own architecture, cut to the first layers, with dummy weights and an FP8 KV cache."""

from __future__ import annotations

import time

from tests.gpu import plugin, records, smi
from tests.gpu.predict import predict
from tests.gpu.report import Report, Skip
from tests.gpu.world import Run, World, output_rate

TITLE = "a model of DeepSeek V4's shape"

READY_S = {"v4-flash-fp8": 420.0, "v4-flash-fp4": 420.0}
"""Kernels are compiled on the first start: 220 s were not enough on an H100."""
CLIENTS, TOKENS, PROMPT, LOAD_S = 8, 400, 600, 15.0
SETTINGS = {
    "kv_cache_dtype": "fp8",
    "block_size": 256,
    "max_model_len": 32_768,
    "max_num_seqs": 32,
    "gpu_memory_utilization": 0.9,
    "enforce_eager": True,
}


def run(world: World, report: Report) -> None:
    """Try FP8 experts; where those do not serve, the released checkpoint's FP4 experts."""
    settings = SETTINGS | ({"max_model_len": 1024} if world.cpu else {})
    for shape, ready_s in READY_S.items():
        served: Run | None = None
        with report.step(f"{shape}: start") as row:
            if world.left(ready_s) < 60.0:
                raise Skip("no time left")
            env = {"VLLM_DEEP_GEMM_WARMUP": "skip", "PYTHONPATH": str(plugin.write(world.home / "plugins"))}
            name = world.profile(f"gpu-{shape}", shape, serve=settings, env=env)
            run = world.launch(name, ready_s=world.left(ready_s) - 20.0)
            row["launch"] = records.failure(run)
            records.keep(world, run, shape)
            row["says"] = f"ready in {run.done.seconds:.0f} s" if run.ready else f"failed: {row['launch']['title']}"
            if run.blocked:
                row["wrong"] = f"refused unforced: {' '.join(run.blocked.split())[:400]}"
            if run.ready:
                served = run
            else:
                row["wrong"] = f"cause {row['launch']['cause']}: {row['launch']['log_line']}"
        if served is None:
            world.stop(run)
            smi.wait_free(world.memory_before_mib, 20.0)
            continue
        serve(world, report, served, shape)
        return


def serve(world: World, report: Report, run: Run, shape: str) -> None:
    """What it does once it serves."""
    with report.step(f"{shape}: prediction beside the log") as row:
        predict(world, run, shape, row)
    with report.step(f"{shape}: chat") as row:
        done = world.console("chat", "Say something.", "--run", run.id, "--max-tokens", "16", timeout_s=90.0)
        row["answer"], row["err"] = done.out[:500], done.err[-500:]
        row["says"] = f"exit {done.code}, {len(done.out)} characters"
        if done.code:
            row["wrong"] = done.err.strip()[-400:]
    with report.step(f"{shape}: load") as row, world.load(run, CLIENTS, tokens=TOKENS, prompt=PROMPT) as answered:
        time.sleep(5.0)
        row["output_tokens_per_s"] = round(output_rate(run.url, LOAD_S), 1)
        row["snapshot"] = world.status(run).get("snapshot") or {}
        engine = row["snapshot"].get("engine") or {}
        row["says"] = (
            f"{CLIENTS} clients: {row['output_tokens_per_s']} tok/s, KV {engine.get('kv_cache_usage')} "
            f"of {engine.get('kv_cache_tokens')} tokens, running {engine.get('running')}"
        )
        row["answered"] = answered
    with report.step(f"{shape}: stop") as row:
        done = world.stop(run)
        row["says"] = f"exit {done.code} in {done.seconds:.1f} s" if done else "was gone already"
        records.keep(world, run, shape)
