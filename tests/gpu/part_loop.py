"""Part 8: a cap that is too low, its hint, and what `apply` makes of it by itself, measured by vLLM's own benchmark."""

from __future__ import annotations

import json
import time
from typing import Any

from tests.gpu import part_profile, records
from tests.gpu.part_hints import firing, firing_all
from tests.gpu.report import Report
from tests.gpu.world import Run, World, until

TITLE = "apply, measure, keep"
KEEPS = part_profile.KEEPS

KEY, CAP, CLIENTS, REQUESTS = "serve.max_num_seqs", 8, 64, 128
CAP_CPU, CLIENTS_CPU, REQUESTS_CPU = 2, 16, 32
HINT_S, APPLY_S, SHAPE = 75.0, 420.0, "random"


def run(world: World, report: Report) -> None:
    """Start low, wait for the hint under load, then let the console try it, measure it and decide."""
    cap, clients, requests = (CAP_CPU, CLIENTS_CPU, REQUESTS_CPU) if world.cpu else (CAP, CLIENTS, REQUESTS)
    server: Run | None = None
    with report.step(f"start with max_num_seqs {cap}") as row:
        part_profile.write(world)
        server = world.ensure(KEEPS, {KEY: cap})
        row["says"] = f"ready after {server.done.seconds:.0f} s"
    if server is None:
        return
    hint: dict[str, Any] | None = None
    with report.step(f"{clients} clients: which hint") as row, world.load(server, clients):
        began = time.monotonic()
        hint = until(lambda: firing(world, server, KEY), min(HINT_S, world.left(HINT_S)), 1.5)
        row["hint"], row["all"] = hint, firing_all(world, server)
        row["snapshot"] = world.status(server).get("snapshot")
        if hint is None:
            row["wrong"] = f"no hint on {KEY}; firing: {[each['id'] for each in row['all']]}"
        else:
            row["says"] = f"{hint['id']} after {time.monotonic() - began:.0f} s: {' '.join(hint['evidence'])}"
    with report.step("apply, measure, keep") as row:
        after = next((each["after"] for each in (hint or {}).get("change", []) if each["key"] == KEY), clients)
        done = world.console(
            "apply", server.id, f"--set={KEY}={after}", "--auto", "--json", "--shape", SHAPE,
            f"--concurrency={clients}", f"--requests={requests}", timeout_s=APPLY_S,
        )  # fmt: skip
        lines = [json.loads(line) for line in done.out.splitlines() if line.startswith("{")]
        row["lines"] = lines[-40:]
        result: dict[str, Any] = next((line for line in reversed(lines) if line.get("type") == "result"), {})
        row["says"] = f"exit {done.code}, kept {result.get('kept')}, gain {result.get('gain')}"
        if done.code:
            row["wrong"] = done.err[-600:]
    with report.step("recording") as row:
        folder = records.keep(world, server, "loop")
        row["says"] = folder.name
