"""`dsv4-console` and `dsv4-console --profile NAME`: the terminal UI, a headless launch, or a dry run."""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import Any

from console.cli.output import Output
from console.client.api import Backend, InstallProgress, LaunchPlan
from console.core.errors import EngineError, ExitCode, UsageError

__all__ = ["overrides_from", "run"]


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Open the UI, or launch what `--profile` names."""
    if arguments.profile is None:
        return _open_ui(arguments)
    overrides = overrides_from(arguments.overrides)
    for option, key in (("drain_timeout", "drain_timeout_s"), ("ready_timeout", "ready_timeout_s")):
        value = getattr(arguments, option)
        if value is not None:
            overrides[f"supervise.{key}"] = value
    return asyncio.run(_headless(arguments, overrides, output))


def overrides_from(pairs: list[str]) -> dict[str, Any]:
    """`--set KEY=VALUE` as a table.

    Raises:
        UsageError: one has no `=`.
    """
    overrides: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UsageError("--set takes KEY=VALUE", f"found {pair!r}", "For example: --set serve.max_num_seqs=64")
        overrides[key.strip()] = value.strip()
    return overrides


def _open_ui(arguments: argparse.Namespace) -> int:
    for option in ("dry_run", "detach", "json", "overrides"):
        if getattr(arguments, option):
            name = {"overrides": "--set"}.get(option, f"--{option.replace('_', '-')}")
            raise UsageError(f"{name} needs --profile", "", f"dsv4-console --profile NAME {name} …")
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError(
            "The terminal UI needs a terminal",
            "stdin or stdout is not a TTY",
            "Use --profile NAME for a launch without UI, or `dsv4-console status`.",
        )
    from console.client.deferred import DeferredBackend
    from console.tui.run import run_tui

    return run_tui(
        DeferredBackend(arguments.engine),
        attach_run=arguments.attach,
        ascii_glyphs=arguments.ascii,
        mouse=not arguments.no_mouse,
    )


async def _headless(arguments: argparse.Namespace, overrides: dict[str, Any], output: Output) -> int:
    from console.client.backend import LocalBackend
    from console.headless import Narrator, follow

    backend = LocalBackend(arguments.engine)
    plan = await backend.plan(arguments.profile, overrides)
    for warning in plan.warnings:
        output.say(f"note: {warning}")
    if arguments.dry_run:
        return _dry_run(plan, output)
    if plan.engine_name is None:
        plan = await _install(backend, plan, arguments, output)
    session = await backend.launch(plan)
    log_path = str(session.run_dir.log_path)
    output.say(f"run {session.run.id}")
    output.say(f"log {log_path}")
    narrator = Narrator(
        session,
        log_path,
        say=output.say,
        emit=output.line if output.json else None,
        interval_s=arguments.status_interval,
    )
    code = await follow(session, narrator, until_ready=arguments.detach, drain_timeout_s=arguments.drain_timeout)
    if arguments.detach and code is ExitCode.OK and narrator.was_ready:
        output.say("detached; see: dsv4-console status · stop it with: dsv4-console stop")
    return code


def _dry_run(plan: LaunchPlan, output: Output) -> int:
    output.data(plan.command_line)
    output.document(
        {
            "profile": plan.profile_name,
            "argv": plan.argv,
            "env": plan.env,
            "command_line": plan.command_line,
            "engine": plan.engine_name,
            "engine_version": plan.engine_version,
            "install_offer": plan.install_offer,
            "warnings": plan.warnings,
        }
    )
    if plan.engine_name is None:
        output.say(f"no engine for it is installed; run: {plan.install_offer}")
    return ExitCode.OK


async def _install(backend: Backend, plan: LaunchPlan, arguments: argparse.Namespace, output: Output) -> LaunchPlan:
    """Install the missing engine where the operator agrees.

    Raises:
        EngineError: they do not, or nobody can be asked.
    """
    missing = EngineError("No engine for this profile is installed", "", f"Run: {plan.install_offer}")
    if not arguments.yes:
        if arguments.json or not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise EngineError(missing.title, "and nobody can be asked here", f"{missing.fix}, or add --yes")
        output.say(f"No engine for this profile is installed. Run `{plan.install_offer}` now? [Y/n] ")
        answer = await asyncio.to_thread(sys.stdin.readline)
        if answer.strip().lower() not in {"", "y", "yes"}:
            raise missing
    last = ""

    def progress(step: InstallProgress) -> None:
        nonlocal last
        if step.step != last:
            last = step.step
            share = "" if step.fraction is None else f"{step.fraction:4.0%} "
            output.say(f"  {share}{step.step}")

    return await backend.install_engine(plan, progress)
