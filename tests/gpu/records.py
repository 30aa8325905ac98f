"""Test data from a run: its log, metrics, samples and events, cut to size, with nothing of the machine in them."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterable
from pathlib import Path

from tests.gpu.world import ROOT, Run, World

__all__ = ["cleaned", "failure", "keep", "timeline"]

LOG_HEAD, LOG_TAIL = 500, 200
"""Lines of a log that are kept."""
SAMPLES_MAX = 600
UUID = re.compile(r"GPU-[0-9a-f]{8}-[0-9a-f-]{27}")


def cleaned(text: str, world: World) -> str:
    """With plain names in place of this machine's paths, host name and GPU ids."""
    engine = Path(world.vllm).absolute().parent.parent
    places = {
        str(world.home): "/srv/console",
        str(world.out): "/srv/out",
        str(engine): "/opt/engine",
        str(ROOT): "/srv/src",
    }
    for path, plain in sorted(places.items(), key=lambda pair: -len(pair[0])):
        text = text.replace(path, plain)
    text = re.sub(rf"\b{re.escape(socket.gethostname())}\b", "gpu-host", text)
    return UUID.sub("GPU-00000000-0000-0000-0000-000000000000", text)


def keep(world: World, run: Run, name: str) -> Path:
    """Write a run's log, events and samples to `recordings/NAME/`."""
    folder = world.out / "recordings" / name
    folder.mkdir(parents=True, exist_ok=True)
    lines = run.log().splitlines()
    if len(lines) > LOG_HEAD + LOG_TAIL:
        lines = [*lines[:LOG_HEAD], f"[{len(lines) - LOG_HEAD - LOG_TAIL} lines left out]", *lines[-LOG_TAIL:]]
    write(folder / "server.log", lines, world)
    for file, most in (
        ("events.jsonl", 10_000),
        ("run.json", 10_000),
        ("supervisor.log", 500),
    ):
        if (run.folder / file).exists():
            text = (run.folder / file).read_text(encoding="utf-8", errors="replace")
            write(folder / file, text.splitlines()[:most], world)
    write(folder / "samples.jsonl", [json.dumps(sample) for sample in run.samples()[:SAMPLES_MAX]], world)
    return folder


def write(path: Path, lines: Iterable[str], world: World) -> None:
    """Write cleaned lines."""
    path.write_text(cleaned("\n".join(lines), world) + "\n", encoding="utf-8")


def timeline(run: Run, path: Path) -> int:
    """Time, utilization, power, GPU memory, KV use, running, waiting and output rate as CSV: what a chart needs."""
    lines = ["time_s,util_percent,power_w,memory_used_bytes,kv_cache_usage,running,waiting,generation_tokens_per_s"]
    samples = run.samples()
    for sample in samples:
        gpu, engine = (sample.get("gpus") or [{}])[0], sample.get("engine") or {}
        cells = [round(sample["time_s"] - samples[0]["time_s"], 2)]
        cells += [gpu.get(key) for key in ("util_percent", "power_w", "memory_used_bytes")]
        cells += [engine.get(key) for key in ("kv_cache_usage", "running", "waiting", "generation_tokens_per_s")]
        lines.append(",".join("" if cell is None else f"{cell:g}" for cell in cells))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return len(samples)


def failure(run: Run) -> dict[str, object]:
    """How a launch or a run ended, as the console says it."""
    info = run.reload()
    diagnosis = info.get("diagnosis") or {}
    return {
        "exit": run.done.code,
        "command_seconds": round(run.done.seconds, 1),
        "state": info.get("state"),
        "reason": info.get("reason"),
        "cause": diagnosis.get("cause"),
        "title": diagnosis.get("title"),
        "remedy": diagnosis.get("remedy"),
        "change": diagnosis.get("change"),
        "log_line": diagnosis.get("text", "")[:400],
        "preflight": run.blocked.strip()[-1500:],
        "narration": run.done.err.strip()[-1500:],
    }
