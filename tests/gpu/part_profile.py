"""Part 2: one profile from launch to full load, its figures beside `nvidia-smi`, its prediction beside vLLM's log."""

from __future__ import annotations

import sys
import time
from typing import Any

from tests.gpu import chart, records, smi
from tests.gpu.predict import predict
from tests.gpu.report import Report, Skip
from tests.gpu.world import Run, World, metrics, output_rate

TITLE = "a profile for one GPU: phases, figures, prediction"
KEEPS = "gpu-llama-8b"

FULL_CLIENTS, LIGHT_CLIENTS = 128, 1
IDLE_S, LIGHT_S, FULL_S, PICTURE_S = 8.0, 12.0, 40.0, 90.0
SAMPLES_LATE_S = 12.0
"""The supervisor writes its samples in groups."""


def write(world: World) -> str:
    """This part's profile."""
    return world.profile(KEEPS, "llama-8b", serve={"max_num_seqs": 256, "gpu_memory_utilization": 0.9})


def start(world: World) -> Run:
    """A ready server of this part's profile, with CUDA graphs as an operator would run it."""
    for run in world.live():
        if run.profile == KEEPS:
            return world.ensure(KEEPS)
    write(world)
    return world.ensure(KEEPS)


def run(world: World, report: Report) -> None:
    """Start, idle, light load, full load, then the comparisons."""
    run: Run | None = None
    with report.step("start") as row:
        try:
            run = start(world)
        finally:
            newest = world.newest()
            if newest is not None:
                row["launch"] = records.failure(newest)
                records.keep(world, newest, "start")
                if newest.blocked:
                    row["wrong"] = f"refused unforced: {' '.join(newest.blocked.split())[:400]}"
        state = world.status(run)["snapshot"]["status"]
        row["phases"] = {each["phase"]: round(each["seconds"], 1) for each in state.get("phases", [])}
        row["ready_seconds"] = round(state["ready_s"] - state["started_s"], 1)
        row["events"] = run.events()
        row["says"] = f"ready in {row['ready_seconds']} s: " + ", ".join(f"{k} {v}" for k, v in row["phases"].items())
    if run is None:
        return
    with report.step("prediction beside the log") as row:
        predict(world, run, "llama-8b", row)
    with report.step("ledger of measured starts") as row:
        files = [path for path in world.home.glob("state/*/ledger/*") if path.is_file()]
        row["files"] = {str(path.relative_to(world.home)): path.read_text(encoding="utf-8")[-3000:] for path in files}
        if not files:
            raise Skip("this console keeps none, or has written none yet")
        row["says"] = ", ".join(f"{name}: {text.split()!r:.200}" for name, text in row["files"].items())
    recorder = smi.Recorder(world.folder)
    began = time.time()
    try:
        load(world, run, report)
    finally:
        time.sleep(1.0)
        recorder.stop()
    with report.step("figures beside nvidia-smi") as row:
        time.sleep(SAMPLES_LATE_S)
        samples = [sample for sample in run.samples() if sample["time_s"] >= began]
        row["samples"], row["readings"] = len(samples), len(recorder.rows())
        compared = smi.compare_series(samples, recorder.rows())
        row["table"] = [each._asdict() for each in compared]
        lines = [
            "| figure | pairs | console, mean | nvidia-smi, mean | mean difference | largest |",
            "|---|---|---|---|---|---|",
        ]
        lines += ["| " + " | ".join(map(str, each)) + " |" for each in compared]
        (world.folder / "figures.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
        row["says"] = " · ".join(
            f"{each.figure}: {each.console_mean} / {each.smi_mean} (±{each.difference_mean})" for each in compared
        )
        if not compared:
            raise Skip(f"{len(samples)} samples, no reading of nvidia-smi to compare")
    with report.step("recordings") as row:
        folder = records.keep(world, run, "full-load")
        row["chart_points"] = records.timeline(run, folder / "timeline.csv")
        chart.main(folder / "timeline.csv", world.out / "pictures" / "load.svg")
        row["says"] = f"{sum(file.stat().st_size for file in folder.iterdir()) // 1024} KiB"


def load(world: World, run: Run, report: Report) -> None:
    """Idle, light and full, with `/metrics` of each, and the picture under full load."""
    folder = world.out / "recordings" / "metrics"
    folder.mkdir(parents=True, exist_ok=True)
    with report.step("idle") as row:
        time.sleep(IDLE_S)
        (folder / "idle.txt").write_text(metrics(run.url), encoding="utf-8")
        row["says"] = figures(world, run, row)
    for name, clients, seconds in (("light load", LIGHT_CLIENTS, LIGHT_S), ("full load", FULL_CLIENTS, FULL_S)):
        with report.step(name) as row, world.load(run, clients) as answered:
            time.sleep(3.0)
            row["output_tokens_per_s"] = round(output_rate(run.url, seconds - 3.0), 1)
            (folder / f"{name.partition(' ')[0]}.txt").write_text(metrics(run.url), encoding="utf-8")
            row["says"] = f"{clients} clients: {row['output_tokens_per_s']} tok/s; {figures(world, run, row)}"
            if clients == FULL_CLIENTS:
                picture(world, run, report)
            row["answered"] = answered


def figures(world: World, run: Run, row: dict[str, Any]) -> str:
    """What `status` says now."""
    row["snapshot"] = snapshot = world.status(run).get("snapshot") or {}
    gpu, engine = (snapshot.get("gpus") or [{}])[0], snapshot.get("engine") or {}
    return (
        f"console: {gpu.get('util_percent')} % GPU, {gpu.get('power_w')} W, {gpu.get('temperature_c')} °C, "
        f"KV {engine.get('kv_cache_usage')}, running {engine.get('running')}, "
        f"{engine.get('generation_tokens_per_s')} tok/s"
    )


def picture(world: World, run: Run, report: Report) -> None:
    """The dashboard as SVG."""
    with report.step("picture of the dashboard") as row:
        folder = world.out / "pictures"
        folder.mkdir(exist_ok=True)
        done = world.run(
            [sys.executable, "-m", "tests.gpu.picture", run.id, world.vllm, str(folder)], PICTURE_S, "picture"
        )
        row["screen"] = done.out[-6000:]
        row["says"] = f"exit {done.code}; {', '.join(path.name for path in sorted(folder.glob('*.svg')))}"
        if done.code:
            row["wrong"] = done.err.strip()[-500:]
