"""`dsv4-console engine install|list|remove`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from console.cli import tasks
from console.cli.output import Output, Steps
from console.core import versions
from console.core.errors import ExitCode, UsageError
from console.core.models import RunInfo
from console.core.profile import EngineKind
from console.io import engines, paths, runs
from console.io.engines import Engine
from console.io.engines.recipe import engine_name

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
    version = versions.normal(arguments.engine_version or engines.RECIPES[kind].version)
    if arguments.force and version:
        _refuse_if_used(engine_name(kind, version))
    engine = tasks.run(engines.install(arguments.engine_version, kind, Steps(output), arguments.force))
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
    name = arguments.name
    _refuse_if_used(name)
    known = {engine.name for engine in engines.list_engines()}
    # A name that is not there is the engines' own error; there is nothing to ask about then.
    if name in known and not arguments.sure:
        nobody = UsageError("Nobody can be asked here", f"whether to delete {name}", "Add --yes.")
        if not output.ask(f"Delete the engine {name}?", default=False, otherwise=nobody):
            output.say("kept")
            return ExitCode.OK
    engines.remove(name)
    output.say(f"removed {name}")
    output.document({"removed": name})
    return ExitCode.OK


def _refuse_if_used(name: str) -> None:
    """Raises UsageError if live runs use this engine, however they named it."""
    folder = paths.engines_dir() / name

    def uses(info: RunInfo) -> bool:
        return info.engine_name == name or (bool(info.argv) and Path(info.argv[0]).is_relative_to(folder))

    if users := [info.id for _, info in runs.list_runs() if runs.is_live(info) and uses(info)]:
        raise UsageError(
            "The engine is in use", f"{name} by {', '.join(users)}", f"First: dsv4-console stop {users[0]}"
        )
