"""Which engine a launch uses: the profile's, the operator's, the newest that fits, the one on PATH, or an offer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from console.core import versions
from console.core.errors import EngineError
from console.core.profile import EngineKind, EngineSection
from console.io import paths
from console.io.engines.locate import engine_at, find_on_path
from console.io.engines.records import RECIPES, Engine, install_command
from console.io.engines.store import list_engines

__all__ = ["choose", "offer"]


def choose(section: EngineSection, explicit: str | None = None, configured: str | None = None) -> Engine:
    """The engine for a profile whose `[engine]` is `section`.

    In this order: the name that the profile gives; `explicit` (`--engine`), else `configured` (the configuration's),
    each the name of an installed engine or a path to a `vllm` command or its environment; the newest installed engine
    of the profile's kind and versions; `vllm` on PATH if it is of that kind and those versions. Normally reads a few
    small files; a foreign `vllm` that does not describe its version is run, which may take `locate.ASK_TIMEOUT_S`.

    Raises:
        EngineError: the named engine is not there or of the wrong kind or version, or no engine fits; the fix is the
            command that installs one.
    """
    if problem := versions.range_error(section.vllm):
        raise EngineError("Wrong version range in the profile's [engine].vllm", problem, "Correct the profile.")
    engines = list_engines()
    named = (("the profile's [engine].name", section.name), ("--engine", explicit), ("the configuration", configured))
    for asked_by, text in named:
        if text:
            engine = _named(text, asked_by, section, engines)
            if objection := _objection(engine, section):
                raise EngineError(
                    "The engine does not fit the profile", f"{objection} (from {asked_by})", _fix(section)
                )
            return engine
    fitting = (engine for engine in engines if not _objection(engine, section))
    return next(fitting, None) or _from_path(section, engines)


def offer(section: EngineSection) -> str:
    """The command that installs an engine for this profile, empty where this program installs none of its kind.

    Raises:
        ValueError: its version range is none.
    """
    if section.kind not in RECIPES:
        return ""
    return install_command(section.kind, versions.suggest(section.vllm, RECIPES[section.kind].version))


def _named(text: str, asked_by: str, section: EngineSection, engines: Sequence[Engine]) -> Engine:
    by_name = next((engine for engine in engines if engine.name == text), None)
    if by_name:
        return by_name
    path = Path(text).expanduser()
    if path.exists():
        if at_path := engine_at(path):
            return at_path
        raise EngineError(
            "No vLLM there",
            f"{path} (from {asked_by}) is no `vllm` command that tells its version, and no environment with one",
            "Name an installed engine, a `vllm` command, or the directory of its environment.",
        )
    known = ", ".join(engine.name for engine in engines) or "none"
    raise EngineError(
        "No such engine",
        f"{text!r} (from {asked_by}) is not installed in {paths.engines_dir()}; installed: {known}",
        _fix(section),
    )


def _from_path(section: EngineSection, engines: Sequence[Engine]) -> Engine:
    on_path = find_on_path()
    if on_path and not _objection(on_path, section):
        return on_path
    seen = [*engines, *([on_path] if on_path else [])]
    reasons = [text for engine in seen if (text := _objection(engine, section))]
    raise EngineError(
        "No engine fits the profile" if seen else "No vLLM engine is installed",
        "\n".join(reasons or [f"The profile needs {_wanted(section)}; none is installed and no `vllm` is on PATH"]),
        _fix(section),
    )


def _objection(engine: Engine, section: EngineSection) -> str:
    """Why this engine cannot serve this profile; empty if it can."""
    fits = engine.kind is section.kind and versions.satisfies(engine.version, section.vllm)
    return "" if fits else f"{engine.name} is {_build(engine.kind)} of vLLM {engine.version}, not {_wanted(section)}"


def _wanted(section: EngineSection) -> str:
    return f"{_build(section.kind)} of vLLM {section.vllm}".rstrip()


def _build(kind: EngineKind) -> str:
    return f"a {kind.value.upper()} build"


def _fix(section: EngineSection) -> str:
    if command := offer(section):
        return f"Run: {command}"
    return "Start the console inside vLLM's container image for AMD GPUs, or name its `vllm` command with --engine."
