"""`dsv4-console bench`: measure a server with vLLM's own benchmark, list what was measured, compare two of them."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from console.cli import groups, tasks
from console.cli.launch import overrides_from
from console.cli.output import Output, is_terminal
from console.client.api import check_offer
from console.core.bench import BenchPlan, BenchProgress, BenchResult, Shape
from console.core.bench_compare import compare
from console.core.bench_table import comparison_lines, heading, row_line
from console.core.errors import ConsoleError, EngineError, ExitCode, NotRunningError, ServerFailedError, UsageError
from console.core.models import LIVE_STATES, RunInfo, ServerState
from console.core.units import short_count_text
from console.io import benchfiles, runs
from console.protocol import Pushed

if TYPE_CHECKING:
    from console.client.backend import LocalBackend
    from console.client.session import SocketSession

__all__ = ["bench"]

LIST, COMPARE = "list", "compare"
LISTED_MAX = 50
STOP_TIMEOUT_S = 600.0


def bench(arguments: argparse.Namespace, output: Output) -> int:
    """Measure, or with `list` and `compare` look at what was measured. Exit codes as those of a launch."""
    words = list(arguments.bench_words)
    if words[:1] == [LIST]:
        return _list(words[1:], output)
    if words[:1] == [COMPARE]:
        return _compare(words[1:], output)
    if len(words) > 1:
        raise UsageError("bench takes one run", f"found {' '.join(words)}", "See: dsv4-console bench --help")
    plan = BenchPlan(
        shape=Shape(arguments.bench_shape),
        concurrency=tuple(arguments.bench_concurrency),
        repeats=arguments.bench_repeats,
        requests=arguments.bench_requests,
        seed=arguments.bench_seed,
    )
    return tasks.run(_bench(words[0] if words else None, plan, arguments, output))


async def _bench(name: str | None, plan: BenchPlan, arguments: argparse.Namespace, output: Output) -> int:
    from console.client.backend import LocalBackend

    backend = LocalBackend(arguments.bench_engine)
    for sentence in await backend.recover():
        output.say(f"note: {sentence}")
    if arguments.bench_profile is None and groups.is_group(name, nothing_runs=not await _live(backend)):
        output.document(await _measure(partial(groups.bench, name), plan, output))
        return ExitCode.OK
    from console.client.bench import run_bench

    info, mine = await _server(backend, name, arguments, output)
    try:
        result = await _measure(partial(run_bench, info.id), plan, output)
    finally:
        if mine is not None:
            await _end(mine, output)
    output.document(result)
    return ExitCode.OK


async def _live(backend: LocalBackend) -> list[RunInfo]:
    return [info for info in await backend.runs() if runs.is_serving(info) or info.state in LIVE_STATES]


async def _server(
    backend: LocalBackend, name: str | None, arguments: argparse.Namespace, output: Output
) -> tuple[RunInfo, SocketSession | None]:
    """The run to measure; with its session where it was launched for this."""
    live = await _live(backend)
    profile = arguments.bench_profile
    if profile is None:
        found = [info for info in live if name in (None, info.id, info.profile_name)]
        if len(found) > 1:
            ids = "\n".join(info.id for info in found)
            raise UsageError("Several servers are running", ids, "Name one: dsv4-console bench RUN")
        if not found:
            raise NotRunningError(
                "Nothing is running" if name is None else f"{name} is not running",
                "",
                "Launch it for the benchmark alone: dsv4-console bench --profile NAME",
            )
        return found[0], None
    if name is not None:
        raise UsageError("bench takes a run or --profile", f"found {name} and {profile}", "Leave one of them out.")
    if live:
        ids = "\n".join(f"{info.id}  {info.url}" for info in live)
        raise UsageError(
            "A server is running already", ids, "Measure it: dsv4-console bench RUN. Or stop it: dsv4-console stop"
        )
    plan = await backend.plan(profile, overrides_from(arguments.bench_overrides))
    check_offer(plan)
    if plan.engine_name is None:
        raise EngineError("No engine for this profile is installed", plan.profile_name, f"Run: {plan.install_offer}")
    await _preflight(backend, plan, output)
    session = await backend.launch(plan)
    output.say(f"run {session.run.id}")
    try:
        await _until_ready(session, output)
    except BaseException:
        await _end(session, output)
        raise
    return session.run, session


async def _preflight(backend: LocalBackend, plan: object, output: Output) -> None:
    from console.cli.doctor import check_lines
    from console.core.errors import BlockedError
    from console.core.preflight.words import blocked_words

    report = await backend.preflight(plan)  # type: ignore[arg-type]
    held = report.held_by(force=False)
    if held:
        raise BlockedError(*blocked_words(held))
    for check in report.notable:
        for line in check_lines(check):
            output.say(line)


async def _until_ready(session: SocketSession, output: Output) -> None:
    """Wait, and say what it waits for.

    Raises:
        ServerFailedError: it did not become ready.
    """
    said = ""
    async for update in session.updates():
        if not isinstance(update, Pushed):
            continue
        status = update.snapshot.status
        words = " ".join(part for part in (str(status.state), str(status.phase or "")) if part)
        if words != said:
            said = words
            output.say(f"{session.run.id}: {words}")
        if status.state is ServerState.READY:
            return
        if status.over:
            why = status.diagnosis.title if status.diagnosis else status.reason
            raise ServerFailedError("The server did not become ready", why, f"dsv4-console diagnose {session.run.id}")
    raise ServerFailedError("The supervisor went away", session.run.id, "See: dsv4-console status")


async def _end(session: SocketSession, output: Output) -> None:
    """Stop what was launched for the benchmark, and wait until nothing is left of it."""
    from console.io.engines.child import uninterrupted

    async def stop() -> None:
        with contextlib.suppress(ConsoleError, TimeoutError):
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await session.stop(None)
                async for update in session.updates():
                    if isinstance(update, Pushed) and update.snapshot.status.over:
                        break
        await session.close()

    output.say(f"stopping {session.run.id}")
    await uninterrupted(stop())


async def _measure(measure: Callable[..., Awaitable[BenchResult]], plan: BenchPlan, output: Output) -> BenchResult:
    table = _Table(output, plan)
    try:
        result = await measure(plan, on_progress=table.progress, on_result=table.result)
    except BaseException:
        table.cut()
        raise
    table.close()
    return result


class _Table:
    """Rows as they come, and on a terminal the progress of the one that runs."""

    def __init__(self, output: Output, plan: BenchPlan) -> None:
        self._output = output
        self._plan = plan
        self._live = not output.json and is_terminal(sys.stderr)
        self._shown = 0
        self._notes: set[str] = set()
        self._result: BenchResult | None = None
        self._row = -1

    def result(self, result: BenchResult) -> None:
        """Print what is new."""
        self._clear()
        if self._result is None:
            self._output.data(headline(result, self._plan.shape))
            self._output.data(heading())
        for point in result.points[self._shown :]:
            self._output.data(row_line(point))
        self._shown = len(result.points)
        self._result = result

    def progress(self, progress: BenchProgress) -> None:
        """On a terminal in place; elsewhere a line per row."""
        if self._live:
            self._clear()
            self._output.murmur(progress.text)
        elif progress.row != self._row:
            self._output.say(progress.text.rpartition("  ")[0])
        self._row = progress.row

    def close(self) -> None:
        """The notes, each once, and where it is kept."""
        self._clear()
        if self._result is None:
            return
        for note in self._result.notes:
            self._output.data(note)
        self._output.say(f"kept as {self._result.id}; compare: dsv4-console bench compare {self._result.id} last")

    def cut(self) -> None:
        """Say what became of a benchmark that did not end."""
        self._clear()
        if self._result is not None and self._result.points:
            rows = len(self._plan.rows)
            self._output.say(f"{len(self._result.points)} of {rows} rows are kept as {self._result.id}")
        else:
            self._output.say("nothing was measured")

    def _clear(self) -> None:
        if self._live:
            self._output.murmur("\r\x1b[K")


def headline(result: BenchResult, shape: Shape) -> str:
    """What was measured, in one line."""
    lengths = f"{result.input_tokens:,} in, {result.output_tokens:,} out" if result.input_tokens else ""
    parts = (result.profile_name, str(shape), lengths, f"vLLM {result.engine_version}", result.machine)
    return "  ".join(part for part in parts if part)


def _list(words: list[str], output: Output) -> int:
    if len(words) > 1:
        raise UsageError("bench list takes one run", f"found {' '.join(words)}", "See: dsv4-console bench --help")
    run = runs.find_run(words[0])[0] if words else None
    found = benchfiles.results(run)
    for result in found[:LISTED_MAX]:
        best = max((point.output_tokens_per_s for point in result.points), default=None)
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(result.created_s))
        ended = f"  ended early: {result.ended}" if result.ended else ""
        rows = f"{len(result.points)} row{'s' * (len(result.points) != 1)}"
        output.data(f"{result.id}  {when}  {result.profile_name}  {rows}, up to {short_count_text(best)} tok/s{ended}")
    if not found:
        output.say("nothing was measured yet; measure what is running: dsv4-console bench")
    if len(found) > LISTED_MAX:
        output.say(f"and {len(found) - LISTED_MAX} older ones")
    output.document({"results": [msgspec.to_builtins(result) for result in found]})
    return ExitCode.OK


def _compare(words: list[str], output: Output) -> int:
    if len(words) != 2:
        raise UsageError(
            "bench compare takes two benchmarks",
            f"found {len(words)}",
            "Name each by its id, by its run or profile, or `last`. See: dsv4-console bench list",
        )
    before, after = (benchfiles.find(word) for word in words)
    if before.id == after.id and before.run_id == after.run_id:
        raise UsageError("Both are the same benchmark", before.id, "See the others: dsv4-console bench list")
    comparison = compare(before.points, after.points)
    notes = []
    if (before.input_tokens, before.output_tokens) != (after.input_tokens, after.output_tokens):
        notes.append(
            f"The loads differ: {before.input_tokens} in and {before.output_tokens} out against "
            f"{after.input_tokens} and {after.output_tokens}; the ratios say little."
        )
    if not comparison.rows:
        notes.append("They have no row of the same shape and concurrency.")
    output.data(f"{before.id} ({before.profile_name}) → {after.id} ({after.profile_name})")
    for line in comparison_lines(comparison):
        output.data(line)
    for note in notes:
        output.data(note)
    output.document(
        {
            "before": before.id,
            "after": after.id,
            "comparison": msgspec.to_builtins(comparison),
            "notes": notes,
        }
    )
    return ExitCode.OK
