"""The loop: measure, try, measure again, decide, keep or take back; once (`apply`) or as a search (`tune`).

The order is A B with repeats inside, not A B A B: between two settings lies a restart, which for a large model takes
longer than all repeats together. Both sides get the same loads (the same seeds) after the same warm-up on the same
machine. What drifts over tens of minutes is not averaged out; a gain that matters is larger than that.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import msgspec

from console.client.measure import Measure
from console.client.trial import RefusedError, TrialLine, changed_spec
from console.core.bench import BenchPoint
from console.core.errors import ConsoleError, UsageError
from console.core.models import ProfileChange, RunInfo, TrialPhase
from console.core.tune_report import Agree, Step, TuneReport, change_words
from console.core.tuning import (
    Attempt,
    Bounds,
    Search,
    Verdict,
    Workload,
    decide,
    gain_of,
    next_candidate,
    over_bound,
    told,
)
from console.io.runs import LaunchSpec, RunDir

__all__ = ["Tuner"]


class Tuner:
    """One line to a run, and what measures it.

    Args:
        line: entered already; its end gives up what is not kept.
        run: the run's directory.
        measure: what measures.
        workload: what each setting is measured with.
        tell: told each step.
        progress: told 0 to 1 of the repeat under way.
    """

    def __init__(
        self,
        line: TrialLine,
        run: RunDir,
        measure: Measure,
        workload: Workload,
        tell: Callable[[Step], None],
        progress: Callable[[float], None] = lambda _: None,
    ) -> None:
        self._line = line
        self._run = run
        self._measure = measure
        self._workload = workload
        self._tell = tell
        self._progress = progress
        self._began_s = time.monotonic()
        self._served: tuple[ProfileChange, ...] = ()
        """How the settings that were tried last differ from the profile."""

    @property
    def info(self) -> RunInfo:
        """The run as it is now."""
        return self._run.read_info()

    async def apply(self, changes: tuple[ProfileChange, ...], agree: Agree) -> TuneReport:
        """Try these changes once; keep them if `agree` says so.

        Raises:
            ConsoleError: it could not begin, or the supervisor was lost. What served before serves, or will again.
        """
        search = Search(profile=self._run.read_launch().profile, parameters=(), concurrency=1)
        await asyncio.to_thread(changed_spec, self._run, self.info, changes)  # refused before anything is measured
        before = await self._begin()
        attempt = await self._attempt(changes, before, None)
        search = told(search, attempt)
        best = attempt.points if attempt.verdict is Verdict.WON else before
        return await self._finish(self._report("apply", search, before, best), changes, agree)

    async def tune(self, search: Search, bounds: Bounds, agree: Agree) -> TuneReport:
        """Search within bounds; keep the winner if `agree` says so. Raises as `apply`."""
        best = before = await self._begin()
        while True:
            search, candidate = next_candidate(search)
            if candidate is None:
                why = "every gain that is left is inside the noise"
                break
            if why := over_bound(bounds, self._elapsed_s, search.attempts):
                break
            attempt = await self._attempt(candidate, best, self._left_s(bounds))
            search = told(search, attempt)
            if attempt.verdict is Verdict.WON:
                best = attempt.points
        return await self._finish(self._report("tune", search, before, best, why), (), agree)

    async def _begin(self) -> tuple[BenchPoint, ...]:
        """What serves now, measured."""
        await self._line.serving()
        self._say_others()
        return await self._measured("what serves now")

    @property
    def _elapsed_s(self) -> float:
        return time.monotonic() - self._began_s

    def _left_s(self, bounds: Bounds) -> float | None:
        """Seconds until a bound is reached; `None` if none is set."""
        limits = []
        if bounds.seconds is not None:
            limits.append(bounds.seconds)
        if bounds.usd is not None and bounds.usd_per_hour:
            limits.append(bounds.usd / bounds.usd_per_hour * 3600)
        return max(min(limits) - self._elapsed_s, 0.0) if limits else None

    def _say_others(self) -> None:
        engine = self._line.snapshot.engine if self._line.snapshot else None
        busy = ((engine.running or 0) + (engine.waiting or 0)) if engine else 0
        if busy:
            text = f"{busy} requests of others are in flight: they wait through each restart and blur each measurement"
            self._tell(Step(kind="note", text=text, data={"in_flight": busy}))

    async def _measured(self, what: str) -> tuple[BenchPoint, ...]:
        work, info = self._workload, self.info
        spec = self._run.read_launch()
        self._tell(Step(kind="measure", text=f"{what}: warming up", data={"what": what}))
        await self._measure.warm_up(info, spec)
        points = []
        for number in range(work.repeats):
            point = await self._measure.repeat(info, spec, work.seed + number, self._progress)
            points.append(point)
            rate = f"{point.output_tokens_per_s:,.0f} output tok/s"
            ttft = "" if point.ttft_mean_s is None else f", TTFT {point.ttft_mean_s * 1000:,.0f} ms"
            text = f"{what}: repeat {number + 1} of {work.repeats}: {rate}{ttft}"
            self._tell(Step(kind="repeat", text=text, data={"what": what, "point": msgspec.to_builtins(point)}))
        return tuple(points)

    async def _serve(self, changes: tuple[ProfileChange, ...]) -> None:
        """Have these settings served. Raises RefusedError and others as `TrialLine.attempt`."""
        if not self._line.under_way:
            await self._line.serving()  # after a trial that failed, what served before has to be back first
        words = change_words(changes)
        self._tell(
            Step(
                kind="restart",
                text=f"requests finish, then it starts with {words}",
                data={"change": msgspec.to_builtins(changes)},
            )
        )
        spec: LaunchSpec = await asyncio.to_thread(changed_spec, self._run, self.info, changes)
        began_s = time.monotonic()
        self._served = changes
        await self._line.attempt(changes, spec)
        took_s = time.monotonic() - began_s
        self._tell(Step(kind="serving", text=f"ready with {words} after {took_s:.0f} s", data={"seconds": took_s}))

    async def _attempt(
        self, changes: tuple[ProfileChange, ...], best: tuple[BenchPoint, ...], left_s: float | None
    ) -> Attempt:
        began_s = time.monotonic()
        points: tuple[BenchPoint, ...] = ()
        verdict, gain = Verdict.FAILED, None
        try:
            async with asyncio.timeout(left_s):
                await self._serve(changes)
                points = await self._measured(change_words(changes))
            verdict, gain, why = decide(best, points)
        except TimeoutError:
            why = "the bound was reached in the middle of it"
        except RefusedError as error:
            why = error.message or error.title
        except ConsoleError as error:
            if self._line.lost:
                raise
            # The server may have died under the load; then its supervisor knows why, and has taken it back.
            trial = self._line.snapshot.trial if self._line.snapshot else None
            gone = trial is not None and trial.phase in (TrialPhase.REVERTING, TrialPhase.REVERTED)
            why = trial.why if gone and trial is not None else f"{error.title}: {error.message}".rstrip(": ")
        attempt = Attempt(
            change=changes,
            verdict=verdict,
            gain=gain,
            points=points,
            why=why,
            duration_s=time.monotonic() - began_s,
        )
        measured = gain.text if gain is not None else why
        text = f"{change_words(changes)}: {verdict}: {measured}"
        self._tell(Step(kind="verdict", text=text, data={"attempt": msgspec.to_builtins(attempt)}))
        return attempt

    def _report(
        self,
        kind: str,
        search: Search,
        before: tuple[BenchPoint, ...],
        best: tuple[BenchPoint, ...],
        why: str = "",
    ) -> TuneReport:
        info = self.info
        return TuneReport(
            id=f"{time.strftime('%Y%m%d-%H%M%S')}-{kind}",
            created_s=time.time(),
            run_id=info.id,
            profile_name=info.profile_name,
            model=info.model,
            engine_version=info.engine_version,
            workload=self._workload,
            before=before,
            attempts=search.attempts,
            winner=search.best,
            gain=gain_of(before, best) if search.best else None,
            why=why,
            **self._spent(info),
        )

    def _spent(self, info: RunInfo) -> dict[str, Any]:
        seconds, price = self._elapsed_s, info.usd_per_hour
        return {"duration_s": seconds, "usd": None if price is None else price * seconds / 3600}

    async def _finish(self, report: TuneReport, changes: tuple[ProfileChange, ...], agree: Agree) -> TuneReport:
        """Keep what won, or what the operator wants although it did not win, or go back."""
        wanted = report.winner or changes
        serves = bool(report.winner) or (bool(changes) and report.attempts[-1].verdict is not Verdict.FAILED)
        kept = serves and await agree(report) and await self._keep(wanted)
        if not kept and report.attempts:
            self._tell(Step(kind="back", text="going back to what served before"))
            await self._line.revert(report.why or "not kept")
            self._tell(Step(kind="serving", text="what served before serves again"))
        return msgspec.structs.replace(
            report, winner=wanted if kept else report.winner, kept=kept, **self._spent(self.info)
        )

    async def _keep(self, wanted: tuple[ProfileChange, ...]) -> bool:
        try:
            if self._served != wanted or not self._line.under_way:
                await self._serve(wanted)
            await self._line.keep()
        except (RefusedError, UsageError) as error:
            self._tell(Step(kind="note", text=f"it cannot be kept: {error.message or error.title}"))
            return False
        self._tell(
            Step(kind="keep", text=f"kept: {change_words(wanted)}", data={"change": msgspec.to_builtins(wanted)})
        )
        return True
