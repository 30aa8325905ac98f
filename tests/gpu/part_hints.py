"""Part 4: a sequence cap far too low, its hint, what the hint's change gains, and a KV cache too small for its load."""

from __future__ import annotations

import time
from typing import Any

from tests.gpu import records
from tests.gpu.report import Report, Skip
from tests.gpu.world import Run, World, counter, output_rate, until

TITLE = "hints under real load"

NAME, KEY = "gpu-hints", "serve.max_num_seqs"
CLIENTS, HINT_S, RATE_S, SETTLE_S = 64, 75.0, 12.0, 8.0
BLOCKS = 2000
"""32,000 tokens: room for 64 short requests, not for 64 long ones."""
BLOCKS_CPU = 80
FULL_S = 60.0


def run(world: World, report: Report) -> None:
    """The whole story of one operator."""
    serve = {"max_num_seqs": 2, "enforce_eager": True, "num_gpu_blocks_override": BLOCKS_CPU if world.cpu else BLOCKS}
    world.profile(NAME, "llama-8b", serve=serve)
    first = second = None
    after: int | None = None
    before_rate = 0.0
    with report.step("start with max_num_seqs 2") as row:
        first = world.ensure(NAME)
        row["says"] = f"ready after {first.done.seconds:.0f} s"
    if first is None:
        return
    with report.step(f"{CLIENTS} clients: which hint") as row, world.load(first, CLIENTS) as answered:
        began = time.monotonic()
        hint = until(lambda: firing(world, first, KEY), min(HINT_S, world.left(HINT_S)), 1.5)
        row["hint"], row["all"] = hint, firing_all(world, first)
        before_rate = output_rate(first.url, RATE_S)
        row["output_tokens_per_s"], row["answered"] = round(before_rate, 1), answered
        row["snapshot"] = world.status(first).get("snapshot")
        if not hint:
            row["wrong"] = f"no hint on {KEY} within {HINT_S:.0f} s; firing: {[each['id'] for each in row['all']]}"
        else:
            after = next(each["after"] for each in hint["change"] if each["key"] == KEY)
            row["says"] = (
                f"{hint['id']} after {time.monotonic() - began - RATE_S:.0f} s: {' '.join(hint['evidence'])} "
                f"→ {KEY} {after}; {before_rate:.0f} tok/s"
            )
    finish(world, first, "hint-sequence-cap")
    with report.step("apply the hint and start again") as row:
        second = world.ensure(NAME, {KEY: after or CLIENTS})
        row["says"] = f"{KEY} {after or CLIENTS}, ready after {second.done.seconds:.0f} s"
    if second is None:
        return
    with report.step("gain") as row, world.load(second, CLIENTS) as answered:
        time.sleep(SETTLE_S)
        rate = output_rate(second.url, RATE_S)
        row["output_tokens_per_s"], row["ratio"] = round(rate, 1), round(rate / before_rate, 2) if before_rate else None
        row["hints_now"], row["answered"] = firing_all(world, second), answered
        row["says"] = f"{before_rate:.0f} → {rate:.0f} tok/s: ×{row['ratio']}"
    with report.step("KV cache too small") as row:
        saturate(world, second, row)
    finish(world, second, "hint-kv-cache")


def saturate(world: World, run: Run, row: dict[str, Any]) -> None:
    """Long answers, until requests are thrown out and a hint says so."""
    name = "vllm:num_preemptions_total"
    began, before = time.monotonic(), counter(run.url, name)
    with world.load(run, CLIENTS, tokens=700 if world.cpu else 1500, prompt=200) as answered:
        hint = until(lambda: firing(world, run, "", "kv"), min(FULL_S, world.left(FULL_S)), 1.5)
        row["hint"], row["all"], row["answered"] = hint, firing_all(world, run), answered
        row["preemptions"] = counter(run.url, name) - before
        row["snapshot"] = snapshot = world.status(run).get("snapshot") or {}
    engine = snapshot.get("engine") or {}
    row["says"] = (
        f"{row['preemptions']:.0f} preemptions, KV {engine.get('kv_cache_usage')}, waiting {engine.get('waiting')}"
    )
    if hint:
        row["says"] += f"; {hint['id']} after {time.monotonic() - began:.0f} s: {' '.join(hint['evidence'])}"
    else:
        row["wrong"] = f"no hint on the KV cache; firing: {[each['id'] for each in row['all']]}"


def finish(world: World, run: Run, name: str) -> None:
    """Stop it, so that all samples are written, and keep them."""
    world.stop(run)
    folder = records.keep(world, run, name)
    records.timeline(run, folder / "timeline.csv")


def firing_all(world: World, run: Run) -> list[dict[str, Any]]:
    """Hints that fire now."""
    hints = (world.status(run).get("snapshot") or {}).get("hints", [])
    return [hint for hint in hints if hint.get("state", "firing") == "firing"]


def firing(world: World, run: Run, key: str, word: str = "") -> dict[str, Any] | None:
    """A hint that fires, proposes a change of `key` (any, if empty) and has `word` in its id."""
    if not world.newest():
        raise Skip("the server is gone")
    for hint in firing_all(world, run):
        if word in hint["id"] and (not key or any(each["key"] == key for each in hint.get("change", []))):
            return hint
    return None
