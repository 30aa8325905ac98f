"""`dsv4-console engine install|list|remove`."""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import Any

from console.cli.output import Output
from console.core.errors import ExitCode, UsageError
from console.core.profile import EngineKind
from console.io import engines, runs
from console.io.engines import Engine

__all__ = ["install", "list_engines", "remove"]


def _describe(engine: Engine) -> dict[str, Any]:
    return {
        "name": engine.name,
        "kind": str(engine.kind),
        "version": engine.version,
        "executable": str(engine.executable),
        "origin": engine.origin,
    }


def install(arguments: argparse.Namespace, output: Output) -> int:
    """Make an environment with one vLLM version in it."""
    kind = EngineKind.CPU if arguments.cpu else EngineKind.CUDA
    said = ""

    def progress(step: str, fraction: float | None) -> None:
        nonlocal said
        if step != said:
            said = step
            output.say(f"{'' if fraction is None else f'{fraction:4.0%} '}{step}")

    engine = asyncio.run(engines.install(arguments.engine_version, kind, progress, arguments.force))
    output.data(f"{engine.name}  vLLM {engine.version}  {engine.executable}")
    output.document(_describe(engine))
    return ExitCode.OK


def list_engines(_arguments: argparse.Namespace, output: Output) -> int:
    """Installed engines, and a `vllm` on PATH."""
    found = list(engines.list_engines())
    on_path = engines.find_on_path()
    if on_path is not None:
        found.append(on_path)
    for engine in found:
        output.data(f"{engine.name:<24} {engine.kind:<5} vLLM {engine.version:<14} {engine.executable}")
    if not found:
        output.say("no engine is installed; run: dsv4-console engine install (or: engine install --cpu)")
    output.document({"engines": [_describe(engine) for engine in found]})
    return ExitCode.OK


def remove(arguments: argparse.Namespace, output: Output) -> int:
    """Delete an engine that no run uses, after asking."""
    users = [info.id for _, info in runs.list_runs() if runs.is_live(info) and info.engine_name == arguments.name]
    if users:
        raise UsageError("The engine is in use", f"by {', '.join(users)}", "Stop it first: dsv4-console stop")
    if not arguments.yes:
        if not sys.stdin.isatty():
            raise UsageError("Nobody can be asked here", f"whether to delete {arguments.name}", "Add --yes.")
        output.say(f"Delete the engine {arguments.name}? [y/N] ")
        if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
            output.say("kept")
            return ExitCode.OK
    engines.remove(arguments.name)
    output.say(f"removed {arguments.name}")
    output.document({"removed": arguments.name})
    return ExitCode.OK
