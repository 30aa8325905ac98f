"""`dsv4-console profiles fit`: does it fit, what holds the memory, and how many requests of which length."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

import msgspec

from console.cli.launch import overrides_from
from console.cli.output import Output
from console.client.api import FitSummary, MachineInfo
from console.client.backend import LocalBackend
from console.core.errors import ExitCode, UsageError
from console.core.fit import GIB, GPU_MEMORY_GIB, Architecture, fit
from console.core.fit.config import NotKnown, architecture_from_config, parts_from_tensors
from console.core.fit.tradeoff import KV_TYPES, TradeRow, trade_table
from console.core.profile import EngineKind, HardwareSection, ModelSection, Profile, ProfileSection, ServeSection
from console.core.suitability import same_gpu
from console.io.checkpoint import read_checkpoint

__all__ = ["fit_profile", "spread", "table_lines"]

WIDTH = 78
"""Reads on a terminal of 80 columns."""


def fit_profile(arguments: argparse.Namespace, output: Output) -> int:
    """Print the fit of a profile or of a model directory. Exit code 0 whatever the verdict; 2 if it cannot be read."""
    backend = LocalBackend()
    machine = asyncio.run(backend.machine())
    directory = Path(arguments.name).expanduser()
    architecture: Architecture | None = None
    why = ""
    measured = ""
    if directory.is_dir():
        profile, architecture, why = _from_directory(directory, arguments, machine)
    else:
        profile, measured = asyncio.run(_from_profile(backend, arguments))
    profile = spread(profile, arguments.gpu, arguments.count)
    memory = _memory(profile, machine, arguments.gpu)
    host = machine.memory_total_bytes / GIB or None
    summary = fit(
        profile,
        gpu_memory_gib=memory,
        host_memory_gib=host,
        architecture=architecture,
        context=arguments.context,
    )
    summary = msgspec.structs.replace(
        summary, basis=(*summary.basis, *([f"unknown: {why}"] if why else [])), measured=measured
    )
    rows = trade_table(profile, memory, host, architecture=architecture)
    hardware = profile.hardware.text
    output.data(f"{arguments.name} on {hardware}")
    for line in _lines(summary, hardware):
        output.data(line)
    for line in table_lines(rows):
        output.data(line)
    output.document({"name": arguments.name, "hardware": hardware, **msgspec.to_builtins(summary), "table": rows})
    return ExitCode.OK


async def _from_profile(backend: LocalBackend, arguments: argparse.Namespace) -> tuple[Profile, str]:
    plan = await backend.plan(arguments.name, overrides_from(arguments.show_overrides))
    entry = await backend.entry(arguments.name, plan.profile)
    changed = arguments.gpu or arguments.count or arguments.context
    return plan.profile, "" if changed else entry.fit.measured


def _from_directory(
    directory: Path, arguments: argparse.Namespace, machine: MachineInfo
) -> tuple[Profile, Architecture | None, str]:
    """A profile that serves a directory on the GPUs named or found: tensor parallel over all of them."""
    checkpoint = read_checkpoint(directory)
    parts = parts_from_tensors(checkpoint.tensors) if checkpoint.tensors else None
    architecture: Architecture | None = None
    why = ""
    try:
        architecture = architecture_from_config(checkpoint.config, parts)
    except NotKnown as error:
        why = str(error)
    gpus = machine.gpus or ()
    if not arguments.gpu and not gpus:
        raise UsageError(
            "Which GPU?",
            "this machine has none that can be read",
            f"Name one: --gpu {next(iter(GPU_MEMORY_GIB))} --count 8",
        )
    count = arguments.count or (1 if arguments.gpu else len(gpus))
    profile = Profile(
        profile=ProfileSection(title=directory.name),
        model=ModelSection(id=str(directory), weights_gb=checkpoint.size_bytes / 1e9 if checkpoint.tensors else None),
        hardware=HardwareSection(gpu=arguments.gpu or (gpus[0].name or "GPU").removeprefix("NVIDIA "), count=count),
        serve=ServeSection(tensor_parallel_size=count),
    )
    return profile, architecture, why


def spread(profile: Profile, gpu: str | None, count: int | None) -> Profile:
    """The profile on other hardware: tensor parallelism takes up the change, or data parallelism if it has no TP.

    Raises:
        UsageError: the GPU is not known, the count does not divide, or the profile is for the CPU build.
    """
    hardware, serve = profile.hardware, profile.serve
    if profile.engine.kind is EngineKind.CPU and (gpu or count):
        raise UsageError("This profile runs on the CPU", "--gpu and --count are for GPUs", "Choose another profile.")
    if gpu is not None:
        known = next((name for name in GPU_MEMORY_GIB if same_gpu(name, gpu)), None)
        if known is None:
            raise UsageError(f"No such GPU: {gpu}", "", "Known: " + ", ".join(GPU_MEMORY_GIB))
        hardware = HardwareSection(gpu=known, count=hardware.count or 1, nodes=hardware.nodes)
    if count is not None and hardware.nodes > 1:
        raise UsageError(
            "--count is for profiles of one machine",
            f"this one spans {hardware.nodes}",
            "Change its layout: --set hardware.count=… --set serve.tensor_parallel_size=…",
        )
    if count is not None and count != hardware.count:
        tp, dp, pp = serve.tensor_parallel_size or 1, serve.data_parallel_size or 1, serve.pipeline_parallel_size or 1
        fixed = pp if tp == 1 and dp > 1 else dp * pp
        if count % fixed:
            raise UsageError(
                f"{count} GPUs do not divide by {fixed}",
                f"data parallel size {dp} × pipeline parallel size {pp}",
                "Change those too: --set serve.data_parallel_size=1",
            )
        field = "data_parallel_size" if tp == 1 and dp > 1 else "tensor_parallel_size"
        serve = msgspec.structs.replace(serve, **{field: count // fixed})
        hardware = msgspec.structs.replace(hardware, count=count)
    return msgspec.structs.replace(profile, hardware=hardware, serve=serve)


def _memory(profile: Profile, machine: MachineInfo, asked: str | None) -> float | None:
    """Of one GPU here, if it is the one that is meant; else the table's counts."""
    found = [
        gpu.memory_total_bytes / GIB
        for gpu in machine.gpus or ()
        if gpu.memory_total_bytes and same_gpu(profile.hardware.gpu, gpu.name or "")
    ]
    if found:
        return min(found)
    return GPU_MEMORY_GIB[profile.hardware.gpu] if asked else None


def _lines(summary: FitSummary, hardware: str) -> list[str]:
    from console.tui.paint import plain
    from console.tui.widgets.fit_bar import fit_lines

    return [plain(line) for line in fit_lines(summary, WIDTH, hardware, True)]


def table_lines(rows: tuple[TradeRow, ...]) -> list[str]:
    """Contexts down, KV cache types across: requests at once, and GiB of one request on one GPU."""
    if not rows:
        return []
    by_place = {(row.context, row.kv_type): row for row in rows}
    windows = any(_differs(row) for row in rows)
    lines = [
        "",
        "Requests at once, over all engines, and GiB of KV cache of one request per GPU",
        "   context" + "".join(f"  {name.upper() + ' at once':>17} {'GiB each':>13}" for name in KV_TYPES),
    ]
    for context in dict.fromkeys(row.context for row in rows):
        lines.append(f"{context:>10,}" + "".join(f"  {_cells(by_place[context, name])}" for name in KV_TYPES))
    if windows:
        lines.append("  a … b: as vLLM counts, with full steps in flight for each … while all decode")
    if any(row.max_concurrency is not None and row.max_concurrency < 1 for row in rows):
        lines.append("  below 1: vLLM does not start with a context of this length")
    for reason in dict.fromkeys(row.reason for row in rows if row.reason):
        lines.append(f"  {reason}")
    return lines


def _differs(row: TradeRow) -> bool:
    worst, best = row.max_concurrency, row.concurrency_while_decoding
    return worst is not None and best is not None and best > worst * 1.05


def _cells(row: TradeRow) -> str:
    at_once, each = _count(row.max_concurrency), _gib(row.gib_per_request)
    if row.reason and row.gib_per_request is None:
        at_once, each = "n/a", ""
    elif _differs(row):
        at_once = f"{at_once} … {_count(row.concurrency_while_decoding)}"
        each = f"{each} … {_gib(row.gib_while_decoding)}"
    return f"{at_once:>17} {each:>13}"


def _count(value: float | None) -> str:
    return "–" if value is None else f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def _gib(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
