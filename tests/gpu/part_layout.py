"""One part of `python -m tests.gpu.flash`: a shipped profile of several GPUs, from its start to its full load.

On the CPU the same steps are rehearsed with the tiny models: DeepSeek V4's shape for the start and the KV cache, which
a CPU build loads and cannot answer with, and a Llama for the load.
"""

from __future__ import annotations

import sys
import time
from typing import Any, NamedTuple

from console.core.fit import GIB, GPU_MEMORY_GIB
from console.core.fit.caches import CacheSettings, make_plan
from console.core.fit.config import architecture_from_config
from console.core.fit.estimate import parallel_of
from console.core.profile import EngineKind
from console.io import tinymodel
from tests.gpu import balance, layouts, models, plugin, printed, records, smi
from tests.gpu.layouts import Layout
from tests.gpu.predictions import kv_figures, predict
from tests.gpu.report import Report, Skip
from tests.gpu.world import Run, World, metrics, output_rate

__all__ = ["ATTEMPTS", "Attempt", "claimed", "compared", "run", "settings"]

CONCURRENCY = (1, 32, 256)
CONCURRENCY_CPU = (1, 4, 8)
PROMPT, TOKENS = 512, 256
PROMPT_CPU, TOKENS_CPU = 64, 64
SETTLE_S, LOAD_S, IDLE_S = 3.0, 12.0, 5.0
CHAT_S = 150.0
"""The first request of all waits for kernels, 30 s for six layers of V4 on one H200."""
WARM_S, WARM_STEP_S = 150.0, 4.0
COMPILES = "JIT compilation during inference"
"""What vLLM's log says when a request meets a shape whose kernel it has not compiled yet."""
PICTURE_S = 90.0
SAMPLES_LATE_S = 12.0
"""The supervisor writes its samples in groups."""
AFTER_START_S, STOP_S = 100.0, 45.0
"""Of a part's time, kept for what comes after the start: all of it, or no more than the comparison."""
ATTEMPT_MIN_S = 100.0
"""With less than that left for it a further attempt is not begun."""
CONTEXT_CPU = 1024
TOO_SLOW = "ready-timeout"
"""The diagnosis of a start that was given up for its time."""


class Attempt(NamedTuple):
    """A way to start: the next one is tried where it fails."""

    name: str
    changes: dict[str, Any]


ATTEMPTS = (
    Attempt("as shipped", {}),
    Attempt("without speculation", {"serve.speculative_config": ""}),
    Attempt(
        "without speculation and graphs",
        {"serve.speculative_config": "", "serve.enforce_eager": "true", "serve.compilation_config": ""},
    ),
)


def run(
    world: World, report: Report, layout: Layout, *, multicast: bool, start_only: bool = False, given: Any = None
) -> None:
    """All steps. What cannot be done is skipped by name.

    Args:
        given: further settings of the profile.
        multicast: NVLink multicast is left to the libraries.
        start_only: no load after the start.
    """
    with report.step("machine") as row:
        row["gpus"] = smi.query("index", "name", "memory.total", "memory.used")
        for name, arguments in (("topology", ("topo", "-m")), ("nvlink", ("nvlink", "--status"))):
            (world.folder / f"nvidia-smi-{name}.txt").write_text(smi.said(*arguments), encoding="utf-8")
        row["says"] = f"{len(row['gpus'])} GPUs for {layout.gpus}"
        if not world.cpu and len(row["gpus"]) < layout.gpus:
            raise Skip(f"there are {len(row['gpus'])} GPUs, {layout.gpus} are needed")
    if not world.cpu and len(smi.query("index")) < layout.gpus:
        return
    after_s = STOP_S if start_only else AFTER_START_S
    server = start(world, report, layout, after_s, multicast=multicast, given=given or {})
    if server is None:
        return
    with report.step("predicted beside printed") as row:
        compare(world, layout, server, row)
    if start_only:
        return
    if world.cpu:
        world.stop(server)
        server = start_llama(world, report, layout)
        if server is None:
            return
    serve(world, report, layout, server)


def start(world: World, report: Report, layout: Layout, after_s: float, *, multicast: bool, given: Any) -> Run | None:
    """The first attempt that comes up.

    Args:
        after_s: of the part's time, kept for what comes after it.
    """
    for attempt in ATTEMPTS if layout.starts and not world.cpu else ATTEMPTS[:1]:
        limit_s = world.left(3600.0) - after_s
        with report.step(f"start {attempt.name}") as row:
            if attempt is not ATTEMPTS[0] and limit_s < ATTEMPT_MIN_S:
                raise Skip(f"{limit_s:.0f} s are left for it")
            row["settings"] = settings(world, layout, multicast=multicast) | given | attempt.changes
            server = world.launch("cpu-smoke" if world.cpu else layout.profile, row["settings"], ready_s=limit_s)
            tell(world, layout, server, row)
            records.keep(world, server, f"{layout.key}-{attempt.name.replace(' ', '-')}")
            if server.ready and layout.starts:
                return server
            world.stop(server)
            smi.wait_free(world.memory_before_mib, 20.0)
        if row.get("launch", {}).get("cause") == TOO_SLOW:
            # What it has compiled so far is kept, so that the next part gets further; other settings would not help.
            return None
    return None


def tell(world: World, layout: Layout, server: Run, row: dict[str, Any]) -> None:
    """How a start ended, and whether it was to end so."""
    row["launch"] = said = records.failure(server)
    row["phases"], row["printed"] = phases(world, server), printed.read(server.log())._asdict()
    parts = ", ".join(f"{name} {seconds:.1f}" for name, seconds in row["phases"].items())
    row["says"] = f"ready in {server.done.seconds:.0f} s: {parts}" if server.ready else f"failed: {said['title']}"
    if server.blocked:
        row["says"] += f"; refused unforced: {' '.join(server.blocked.split())[:300]}"
    why = f"{said['cause']}: {said['log_line']}" if said["cause"] else f"no diagnosis: {said['narration']}"
    if server.ready and not layout.starts:
        row["wrong"] = "it should not have started"
    elif not server.ready and (layout.starts or not said["cause"]):
        row["wrong"] = f"it {'should' if layout.starts else 'should not'} have started; {why}"


def settings(world: World, layout: Layout, *, multicast: bool) -> dict[str, Any]:
    """What the launch changes of the profile; on the CPU, what turns `cpu-smoke` into the layout."""
    if not world.cpu:
        search = f"{plugin.write(world.home / 'plugins')}:{world.env['PYTHONPATH']}"
        env = {"PYTHONPATH": search, "VLLM_DEEP_GEMM_WARMUP": "skip"}
        env |= {} if multicast else layouts.WITHOUT_MULTICAST
        changes = layouts.changes(layout, models.make(layout.shape, world.models))
        return changes | {f"env.{name}": value for name, value in env.items()}
    return on_cpu(world, layout, "tiny-v4") | {"serve.kv_cache_dtype": "fp8", "serve.block_size": 256}


def on_cpu(world: World, layout: Layout, shape: str) -> dict[str, Any]:
    """Two processes of one core each, spread as the layout is."""
    serve = layouts.shipped(layout).serve
    spread = "data_parallel_size" if serve.data_parallel_size else "tensor_parallel_size"
    return {
        "model.id": str(models.make(shape, world.models)),
        "model.architecture": "",
        "serve.max_model_len": CONTEXT_CPU,
        f"serve.{spread}": 2,
        "env.VLLM_CPU_OMP_THREADS_BIND": "0|1",
    }


def start_llama(world: World, report: Report, layout: Layout) -> Run | None:
    """The server that a rehearsal puts under load."""
    with report.step("start of a model that a CPU can answer with") as row:
        server = world.launch("cpu-smoke", on_cpu(world, layout, "tiny"), ready_s=world.left(3600.0))
        row["launch"], row["phases"] = records.failure(server), phases(world, server)
        row["says"] = f"ready in {server.done.seconds:.0f} s"
        if server.ready:
            return server
        row["wrong"] = f"{row['launch']['cause']}: {row['launch']['log_line']} {row['launch']['narration']}"
    return None


def phases(world: World, server: Run) -> dict[str, float]:
    """Seconds of each phase of a start."""
    status = (world.status(server).get("snapshot") or {}).get("status") or {}
    return {each["phase"]: round(each["seconds"], 1) for each in status.get("phases", [])}


def compare(world: World, layout: Layout, server: Run, row: dict[str, Any]) -> None:
    """Both, and the verdicts on what is said of the KV cache."""
    figures = printed.read(server.log())
    version = str(server.info.get("engine_version") or "")
    row["printed"], row["engine_version"] = figures._asdict(), version
    row["table"] = compared(layout, figures, version) if not world.cpu else {}
    row["fit_command"] = world.console("profiles", "fit", layout.profile).out[-4000:]
    row["verdicts"] = claimed(layout, figures, version, cpu=world.cpu)
    row["parallel"] = "TP2/DP2 on the CPU" if world.cpu else layout.key
    (world.out / "recordings" / "metrics").mkdir(parents=True, exist_ok=True)
    path = world.out / "recordings" / "metrics" / f"{layout.key}-ready.txt"
    path.write_text(metrics(server.url), encoding="utf-8")
    errors = [f"{name}: {each['predicted']} / {each['printed']}" for name, each in row["table"].items()]
    verdicts = [f"{name}: {each['verdict']} (×{each['ratio']})" for name, each in row["verdicts"].items()]
    row["says"] = " · ".join((*errors, *verdicts, f"KV tokens {figures.of('kv_tokens')}"))
    if figures.multicast_lines:
        row["says"] += f" · of multicast: {figures.multicast_lines[0]}"


def compared(layout: Layout, figures: printed.Printed, version: str) -> dict[str, dict[str, float | None]]:
    """Predicted and printed, for the GPU memory of the console's table."""
    found = predict(layout, version, GPU_MEMORY_GIB["H200"])
    summary = found.fit
    return printed.table(
        (
            ("weights per GPU, GiB (fit)", summary.weights_gib_per_gpu, figures.most("weights_gib")),
            ("weights per GPU, GiB (tensors)", round(found.logged_gib, 2), figures.most("weights_gib")),
            ("KV cache per GPU, GiB", summary.kv_gib_per_gpu, figures.least("kv_gib")),
            ("KV tokens of one engine", summary.kv_tokens, figures.least("kv_tokens")),
            ("maximum concurrency of one engine", summary.max_concurrency, figures.least("concurrency")),
            ("engines", float(summary.engines), float(len(figures.of("kv_tokens")))),
        )
    )


def claimed(layout: Layout, figures: printed.Printed, version: str, *, cpu: bool) -> dict[str, Any]:
    """Verdicts, from the memory that was printed; independent of how well that was predicted."""
    kv_gib = figures.least("kv_gib")
    if kv_gib is None:
        return {}
    parallel = parallel_of(layouts.shipped(layout))
    if not cpu:
        tokens = kv_figures(predict(layout, version), kv_gib, version).kv_tokens
        return printed.judge(figures, {"tp": parallel.tp, "dp": parallel.dp}, tokens)
    known = architecture_from_config(tinymodel.SHAPES["tiny-v4"])
    # The CPU build schedules one step at a time.
    given = CacheSettings(kv_dtype="fp8", kind=EngineKind.CPU, steps_in_flight=1)
    tokens = make_plan(known, given).tokens(kv_gib * GIB, CONTEXT_CPU)
    return printed.judge(figures, {"tp": min(2, parallel.tp), "dp": min(2, parallel.dp)}, tokens)


def serve(world: World, report: Report, layout: Layout, server: Run) -> None:
    """Chat, load at each concurrency with a picture, balance, and the end."""
    with report.step("chat") as row:
        done = world.console("chat", "Say something.", "--run", server.id, "--max-tokens", "16", timeout_s=CHAT_S)
        row["answer"], row["says"] = done.out[:500], f"exit {done.code}, {len(done.out)} characters"
        if done.code:
            row["wrong"] = done.err.strip()[-400:]
    steps = CONCURRENCY_CPU if world.cpu else CONCURRENCY
    for clients in steps[::-1]:
        with report.step(f"warm-up with {clients} clients") as row:
            warm(world, server, clients, row)
    windows: dict[str, tuple[float, float]] = {}
    with report.step("idle") as row:
        began = time.time()
        time.sleep(IDLE_S)
        windows["idle"] = (began, time.time())
        row["says"] = f"{IDLE_S:.0f} s"
    for clients in steps:
        with report.step(f"{clients} clients") as row:
            windows[f"{clients} clients"] = load(world, layout, server, clients, row)
    with report.step("balance and NVLink") as row:
        time.sleep(min(SAMPLES_LATE_S, world.left(SAMPLES_LATE_S)))
        samples = server.samples()
        row["by_gpu"] = {name: balance.by_gpu(samples, *window) for name, window in windows.items()}
        folder = records.keep(world, server, layout.key)
        row["chart_points"] = balance.timeline(samples, folder / "gpus.csv")
        row["says"] = " · ".join(text for name, gpus in row["by_gpu"].items() if (text := said_of(name, gpus)))
        if not row["says"]:
            raise Skip("no sample has a GPU")
    with report.step("stop") as row:
        stopped = world.stop(server)
        row["says"] = f"exit {stopped.code} in {stopped.seconds:.1f} s" if stopped else "was gone already"


def warm(world: World, server: Run, clients: int, row: dict[str, Any]) -> None:
    """So many requests in flight, until it answers and compiles no more, so that what is measured is serving."""
    tokens, prompt = (TOKENS_CPU, PROMPT_CPU) if world.cpu else (TOKENS, PROMPT)
    before, began = server.log().count(COMPILES), time.monotonic()
    until_s = began + world.left(WARM_S)
    rates: list[float] = []
    row["output_tokens_per_s"] = rates
    with world.load(server, clients, tokens=tokens, prompt=prompt):
        compiled = before
        while time.monotonic() < until_s:
            rates.append(round(output_rate(server.url, WARM_STEP_S), 1))
            last, compiled = compiled, server.log().count(COMPILES)
            if compiled == last and min(rates[-2:]) > 0.0 and len(rates) > 1:
                break
    row["says"] = f"{time.monotonic() - began:.0f} s, {compiled - before} kernels compiled meanwhile, {rates[-1]} tok/s"


def said_of(name: str, gpus: dict[int, dict[str, float | None]]) -> str:
    """Smallest to largest of the figures that show an imbalance."""
    parts = []
    for title in ("utilization, %", "power, W", "NVLink out, MB/s"):
        if (both := balance.spread(gpus, title)) is not None:
            parts.append(f"{title} {both[0]:,.0f} to {both[1]:,.0f}")
    return f"{name}: {', '.join(parts)}" if parts else ""


def load(world: World, layout: Layout, server: Run, clients: int, row: dict[str, Any]) -> tuple[float, float]:
    """So many requests in flight; returns when that was (Unix times), without the ramp."""
    tokens, prompt = (TOKENS_CPU, PROMPT_CPU) if world.cpu else (TOKENS, PROMPT)
    with world.load(server, clients, tokens=tokens, prompt=prompt) as answered:
        time.sleep(SETTLE_S)
        began = time.time()
        row["output_tokens_per_s"] = round(output_rate(server.url, LOAD_S), 1)
        row["snapshot"] = snapshot = world.status(server).get("snapshot") or {}
        ended = time.time()
        row["pictures"] = picture(world, layout, server, clients)
        engine = snapshot.get("engine") or {}
        row["says"] = (
            f"{row['output_tokens_per_s']} tok/s, running {engine.get('running')}, waiting {engine.get('waiting')}, "
            f"KV {engine.get('kv_cache_usage')}, TTFT p95 {p95(engine, 'ttft')}, TPOT p95 {p95(engine, 'tpot')}, "
            f"imbalance {engine.get('imbalance')}; {len(row['pictures'])} pictures"
        )
        row["answered"] = answered
    return began, ended


def p95(engine: dict[str, Any], name: str) -> str:
    """A percentile as `status` has it, in seconds."""
    value = (engine.get(name) or {}).get("p95_s")
    return "–" if value is None else f"{value:.3g} s"


def picture(world: World, layout: Layout, server: Run, clients: int) -> list[str]:
    """The dashboard under this load, as SVG and text."""
    folder = world.out / "pictures" / f"{layout.key}-{clients}"
    folder.mkdir(parents=True, exist_ok=True)
    world.run(
        [sys.executable, "-m", "tests.gpu.picture", server.id, world.vllm, str(folder)], PICTURE_S, f"picture {clients}"
    )
    return [path.name for path in sorted(folder.glob("*.svg"))]
