"""`dsv4-console apply` and `tune`: try settings on a real server, measured, and keep them by word alone."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
from collections.abc import Callable

import msgspec

from console.cli import tasks
from console.cli.groups import refuse_trial
from console.cli.launch import overrides_from
from console.cli.output import Output, is_terminal
from console.client.api import check_here, check_offer
from console.client.backend import LocalBackend
from console.client.experiment import record, workload_for
from console.client.measure import BenchMeasure
from console.client.trial import TrialLine
from console.client.tuning import Tuner
from console.core.bench import Shape
from console.core.errors import BlockedError, ConsoleError, ExitCode, UsageError
from console.core.models import HintState, ProfileChange, RunInfo, Snapshot
from console.core.overrides import apply_overrides, diff
from console.core.preflight.words import blocked_words
from console.core.tune_parameters import chosen
from console.core.tune_report import Agree, Step, TuneReport, change_words
from console.core.tuning import Bounds, Search, Verdict, Workload
from console.io import runs
from console.io.runs import RunDir

__all__ = ["apply", "tune"]

ANSWER_S = 1800.0
"""A question that nobody answers for so long is answered with no."""


def apply(arguments: argparse.Namespace, output: Output) -> int:
    """Measure, restart with a change, measure again, keep or take back."""
    overrides = overrides_from(arguments.apply_overrides)
    words = list(arguments.words)
    hint_id = None if overrides else (words.pop(0) if words else None)
    if (hint_id is None and not overrides) or len(words) > 1:
        raise UsageError(
            "What is to be tried?",
            "apply takes one hint, or --set, and then a run",
            "For example: dsv4-console apply raise-max-num-seqs, or apply --set serve.max_num_seqs=64",
        )
    refuse_trial(words[0] if words else None)
    run, info = runs.find_run(words[0] if words else None)
    if not arguments.auto and (output.json or not is_terminal(sys.stdin, sys.stderr)):
        raise UsageError(
            "Nobody can be asked whether it is to be kept",
            "apply asks on a terminal, and not with --json",
            "Add --auto: it keeps what won and takes back the rest.",
        )

    async def work() -> ExitCode:
        async with await _line(info.id) as line:
            snapshot = await line.serving()
            profile = run.read_launch().profile
            if hint_id is None:
                changes = diff(profile, apply_overrides(profile, overrides))
            else:
                changes = _proposed(snapshot, hint_id)
            if not changes:
                raise UsageError("Nothing would change", "the run has these settings", "Set another value.")
            workload = _workload(arguments, snapshot, run.read_info(), output)
            _show(changes, workload, output)
            sure = arguments.sure or arguments.auto
            if not sure and not await _asked("Drain, restart with it and measure?", output, "--yes or --auto"):
                output.say("nothing was done")
                return ExitCode.OK
            tuner = Tuner(line, run, BenchMeasure(workload), workload, _teller(output), _progress(output))
            report = await tuner.apply(changes, _by_itself if arguments.auto else _by_word(output))
        return _end(run, report, output)

    return tasks.run(work())


def tune(arguments: argparse.Namespace, output: Output) -> int:
    """Search within bounds, with a report."""
    refuse_trial(arguments.name)
    parameters = chosen([name.strip() for name in (arguments.parameters or "").split(",") if name.strip()])

    async def work() -> ExitCode:
        backend = LocalBackend()
        run_id, launched = await _running(backend, arguments.name, output)
        run, _ = runs.find_run(run_id)
        kept = False
        try:
            async with await _line(run_id) as line:
                snapshot = await line.serving()
                info = run.read_info()
                bounds = _bounds(arguments, info)
                workload = _workload(arguments, snapshot, info, output)
                search = Search(
                    profile=run.read_launch().profile,
                    parameters=parameters,
                    concurrency=workload.concurrency,
                    gpus=snapshot.gpus or (),
                    proposals=tuple(hint.change for hint in snapshot.hints if hint.change),
                )
                output.say(f"tuning {', '.join(row.name for row in parameters)}; {_words(workload)}")
                tuner = Tuner(line, run, BenchMeasure(workload), workload, _teller(output), _progress(output))
                agree = _by_itself if arguments.save else _by_word(output, nobody=False)
                report = await tuner.tune(search, bounds, agree)
                kept = report.kept
        finally:
            if launched and not kept:
                await _stop(backend, run_id, output)
        return _end(run, report, output)

    return tasks.run(work())


async def _line(run_id: str) -> TrialLine:
    session = await LocalBackend().attach(run_id)
    return TrialLine(session)


async def _running(backend: LocalBackend, name: str, output: Output) -> tuple[str, bool]:
    """The run of this profile, and whether it was launched for this."""
    for info in await backend.runs():
        if name in (info.profile_name, info.id):
            return info.id, False
    plan = await backend.plan(name)
    check_here(plan.profile)
    check_offer(plan)
    if plan.engine_name is None:
        raise UsageError("No engine for this profile is installed", "", f"Run: {plan.install_offer}")
    checks = await backend.preflight(plan)
    if checks.blocked:
        raise BlockedError(*blocked_words(checks.blocked))
    output.say(f"launching {name}")
    session = await backend.launch(plan)
    try:
        return session.run.id, True
    finally:
        await session.close()


async def _stop(backend: LocalBackend, run_id: str, output: Output) -> None:
    with contextlib.suppress(ConsoleError):
        session = await backend.attach(run_id)
        await session.stop()
        await session.close()
        output.say("it did not run before, so it is stopped again")


def _proposed(snapshot: Snapshot, hint_id: str) -> tuple[ProfileChange, ...]:
    firing = {hint.id: hint.change for hint in snapshot.hints if hint.state is HintState.FIRING and hint.change}
    if hint_id not in firing:
        there = f"hints that propose a change now: {', '.join(firing)}" if firing else "no hint proposes a change now"
        raise UsageError(
            f"The hint {hint_id} does not fire", there, "Name another one, or the change itself: --set KEY=VALUE"
        )
    return firing[hint_id]


def _workload(arguments: argparse.Namespace, snapshot: Snapshot, info: RunInfo, output: Output) -> Workload:
    workload, note = workload_for(
        snapshot,
        info,
        shape=Shape(arguments.shape),
        concurrency=arguments.concurrency,
        requests=arguments.requests,
        repeats=arguments.repeats,
    )
    if note:
        output.say(f"note: {note}")
    return workload


def _bounds(arguments: argparse.Namespace, info: RunInfo) -> Bounds:
    if arguments.dollars is not None and not info.usd_per_hour:
        raise UsageError(
            "--dollars needs a price",
            f"{info.profile_name} has none",
            "Write [price.…] into config.toml, or cost.usd_per_hour into the profile; --minutes needs none.",
        )
    return Bounds(seconds=arguments.minutes * 60, usd=arguments.dollars, usd_per_hour=info.usd_per_hour)


def _words(workload: Workload) -> str:
    return (
        f"{workload.shape} at {workload.concurrency}, {workload.requests} requests, {workload.repeats} repeats of each"
    )


def _show(changes: tuple[ProfileChange, ...], workload: Workload, output: Output) -> None:
    output.say("the change:")
    for change in changes:
        output.say(f"  {change_words((change,))}")
    output.say(f"measured before and after: {_words(workload)}")
    output.line({"type": "plan", "change": changes, "workload": workload})


def _teller(output: Output) -> Callable[[Step], None]:
    def tell(step: Step) -> None:
        if _on_terminal():
            output.murmur("\r\x1b[K")
        output.say(step.text)
        output.line({"type": "step", "kind": step.kind, "text": step.text, **step.data})

    return tell


def _progress(output: Output) -> Callable[[float], None]:
    """A share that is overwritten where there is a terminal; elsewhere nothing between the repeats."""

    def progress(fraction: float) -> None:
        if _on_terminal():
            output.murmur(f"\r  {fraction:4.0%}")

    return progress


def _on_terminal() -> bool:
    """Whether narration goes to a terminal."""
    return is_terminal(sys.stderr)


async def _by_itself(report: TuneReport) -> bool:
    """Keep what won, and only that."""
    return bool(report.winner)


def _by_word(output: Output, *, nobody: bool | None = None) -> Agree:
    """Ask the operator. Where nobody can be asked: `nobody`, or an error."""

    async def agree(report: TuneReport) -> bool:
        if nobody is not None and (output.json or not is_terminal(sys.stdin, sys.stderr)):
            return nobody
        if report.winner:
            gain = f": {report.gain.text}" if report.gain else ""
            return await _asked(f"Keep {change_words(report.winner)}{gain}?", output, "--auto")
        verdict = report.attempts[-1].verdict
        return await _asked(
            f"It {'lost' if verdict is Verdict.LOST else 'is inside the noise'}. Keep it?", output, "--auto"
        )

    return agree


async def _asked(question: str, output: Output, instead: str) -> bool:
    """A question to the terminal that a signal can end, and that is no after `ANSWER_S`.

    Raises:
        UsageError: nobody can be asked.
    """
    if output.json or not is_terminal(sys.stdin, sys.stderr):
        raise UsageError("Nobody can be asked here", question, f"Add {instead}.")
    output.say(f"{question} [y/N]")
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), ready.set)
    try:
        async with asyncio.timeout(ANSWER_S):
            await ready.wait()
    except TimeoutError:
        output.say(f"no answer within {ANSWER_S / 60:.0f} min: no")
        return False
    finally:
        loop.remove_reader(sys.stdin.fileno())
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def _end(run: RunDir, report: TuneReport, output: Output) -> ExitCode:
    """Save what was kept, keep the report, and say both."""
    done = record(run, report)
    for note in done.notes:
        output.say(f"note: {note}")
    if done.report.saved:
        output.say(f"written to {done.report.saved}")
    if done.path is not None:
        output.say(f"report: {done.path}")
    output.data(done.text.rstrip())
    output.line({"type": "result", **msgspec.to_builtins(done.report)})
    return ExitCode.OK
