"""Measures a run: every row of a plan, with what the console saw meanwhile, kept in the run as it goes.

One function for `dsv4-console bench`, the screen and the tuning loop. It listens to the supervisor on a line of its
own, so it takes no update away from whoever else is attached.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import msgspec

from console.client.bench_target import Target, changes, context_tokens, machine_text, target_of
from console.client.bench_watch import LAST_TICK_S, SERVING, Watch
from console.client.session import connect
from console.core.bench import BenchPlan, BenchPoint, BenchProgress, BenchResult
from console.core.bench_shapes import Load, fitted, requests_for
from console.core.errors import ConsoleError, NotReadyError, ServerFailedError, UsageError
from console.core.models import ServerState, ServerStatus
from console.io import benchfiles, runs
from console.io.engines.child import uninterrupted
from console.io.runs import RunDir

__all__ = ["bench_results", "run_bench"]

SNAPSHOT_TIMEOUT_S = 10.0
WARM_UP_REQUESTS_MAX = 16
BY_HAND = "asked to stop"


async def run_bench(
    run_id: str,
    plan: BenchPlan,
    *,
    on_progress: Callable[[BenchProgress], None] | None = None,
    on_result: Callable[[BenchResult], None] | None = None,
    warm_up: bool = True,
) -> BenchResult:
    """Measure a running server.

    Args:
        run_id: of a run that is ready.
        plan: what to measure.
        on_progress: told how far it is.
        on_result: told the result so far: once before the first row, then after each.
        warm_up: some requests before the first row, whose figures count for nothing.

    What is measured is kept after each row, also when this is cancelled.

    Raises:
        ConsoleError: no such run, not ready, or a row failed; the rows before it are kept.
    """
    run, info = await asyncio.to_thread(runs.find_run, run_id)
    spec = await asyncio.to_thread(run.read_launch)
    target = await asyncio.to_thread(target_of, info, spec)
    watch = Watch(await connect(run))
    try:
        await watch.until(0.0, SNAPSHOT_TIMEOUT_S)
        _check_ready(run, watch)
        try:
            load, note = fitted(plan.shape, await context_tokens(target))
        except ValueError as error:
            raise UsageError("The server cannot be measured", str(error), "Serve with a longer context.") from error
        result = BenchResult(
            id=await asyncio.to_thread(benchfiles.new_id, run, plan.shape),
            created_s=time.time(),
            run_id=info.id,
            profile_name=info.profile_name,
            model=info.model,
            engine_version=info.engine_version,
            machine=machine_text(watch.latest),
            change=await asyncio.to_thread(changes, spec, info.profile_name),
            input_tokens=load.input_tokens,
            output_tokens=load.output_tokens,
            notes=(note,) if note else (),
        )
        if on_result is not None:
            on_result(result)
        return await _Bench(run, target, plan, load, watch, result, on_progress, on_result).measure(warm_up)
    finally:
        await watch.close()


def bench_results(run_id: str | None = None) -> tuple[BenchResult, ...]:
    """What was measured in a run, or in all of them, newest first."""
    return benchfiles.results(runs.find_run(run_id)[0] if run_id is not None else None)


class _Bench:
    """One benchmark under way."""

    def __init__(
        self,
        run: RunDir,
        target: Target,
        plan: BenchPlan,
        load: Load,
        watch: Watch,
        result: BenchResult,
        on_progress: Callable[[BenchProgress], None] | None,
        on_result: Callable[[BenchResult], None] | None,
    ) -> None:
        self.run = run
        self.target = target
        self.plan = plan
        self.load = load
        self.watch = watch
        self.result = result
        self.on_progress = on_progress
        self.on_result = on_result

    async def measure(self, warm_up: bool) -> BenchResult:
        """All rows."""
        rows = self.plan.rows
        try:
            if warm_up and rows:
                clients = max(clients for clients, _, _ in rows)
                requests = min(clients, WARM_UP_REQUESTS_MAX)
                await self.point(0, clients, self.plan.seed, requests)
            for index, (clients, _, seed) in enumerate(rows, 1):
                requests = self.plan.requests or requests_for(clients)
                await self.keep(await self.point(index, clients, seed, requests))
        except asyncio.CancelledError:
            self.cut(BY_HAND)
            raise
        except ConsoleError as error:
            self.cut(error.title)
            raise
        return self.result

    async def point(self, row: int, clients: int, seed: int, requests: int) -> BenchPoint:
        """Measure one row."""
        self.tell(row, clients, 0.0)
        measuring = asyncio.ensure_future(
            self.target.measure(
                self.plan.shape,
                self.load,
                concurrency=clients,
                requests=requests,
                seed=seed,
                on_progress=lambda done: self.tell(row, clients, done),
            )
        )
        ended = asyncio.ensure_future(self.watch.ended())
        try:
            await asyncio.wait({measuring, ended}, return_when=asyncio.FIRST_COMPLETED)
            if ended.done() and not measuring.done():
                measuring.cancel()
                await uninterrupted(asyncio.wait({measuring}))
            _check_serving(self.run, self.watch)
            return await measuring
        except ConsoleError:
            # The supervisor may need a moment more to see that the server is the cause.
            await self.watch.until(time.time(), LAST_TICK_S)
            _check_serving(self.run, self.watch)
            raise
        finally:
            for task in (measuring, ended):
                task.cancel()
            await uninterrupted(asyncio.gather(measuring, ended, return_exceptions=True))

    async def keep(self, point: BenchPoint) -> None:
        """Add a row with its columns, and write all of them down."""
        filled, notes = await self.watch.columns(point, self.target.usd_per_hour)
        self.result = msgspec.structs.replace(
            self.result,
            points=(*self.result.points, filled),
            notes=tuple(dict.fromkeys((*self.result.notes, *notes))),
        )
        await asyncio.to_thread(benchfiles.save, self.run, self.result)
        if self.on_result is not None:
            self.on_result(self.result)

    def cut(self, why: str) -> None:
        """Write down that rows are missing, if there is any to be kept."""
        if self.result.points:
            self.result = msgspec.structs.replace(self.result, ended=why)
            benchfiles.save(self.run, self.result)
            if self.on_result is not None:
                self.on_result(self.result)

    def tell(self, row: int, clients: int, fraction: float) -> None:
        """Say how far it is."""
        if self.on_progress is not None:
            rows = len(self.plan.rows)
            self.on_progress(BenchProgress(row=row, rows=rows, concurrency=clients, fraction=fraction))


def _check_ready(run: RunDir, watch: Watch) -> None:
    status = watch.latest.status if watch.latest else None
    if status is None or status.state is not ServerState.READY:
        raise NotReadyError(
            "The server is not ready", _state_text(run, status), "Wait until it is: dsv4-console status"
        )


def _check_serving(run: RunDir, watch: Watch) -> None:
    status = watch.latest.status if watch.latest else None
    if status is not None and status.state not in SERVING:
        raise ServerFailedError(
            "The server failed during the benchmark",
            _state_text(run, status),
            f"Its cause: dsv4-console diagnose {run.id}",
        )


def _state_text(run: RunDir, status: ServerStatus | None) -> str:
    if status is None:
        return f"{run.id}: its supervisor says nothing"
    return f"{run.id}: {status.state}" + (f": {status.reason}" if status.reason else "")
