"""One experiment with a run, from a change to a report: what the command line and the screen have in common."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from console.client.measure import BenchMeasure
from console.client.session import SocketSession
from console.client.trial import TrialLine
from console.client.tuning import Tuner
from console.core.bench import Shape
from console.core.bench_shapes import fitted, requests_for
from console.core.errors import ConsoleError, UsageError
from console.core.models import ProfileChange, RunInfo, Snapshot
from console.core.tune_report import Agree, Step, TuneReport, comment_of, markdown
from console.core.tuning import Workload
from console.io import profiles, trials
from console.io.runs import RunDir

__all__ = ["CONCURRENCY", "Recorded", "experiment", "record", "workload_for"]

CONCURRENCY = 32
"""Requests at a time where nothing is in flight and nothing is asked for."""


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """A report and where it went."""

    report: TuneReport
    text: str
    """In Markdown."""
    path: Path | None = None
    """`None` if it could not be written."""
    notes: tuple[str, ...] = ()
    """What did not work."""


def workload_for(
    snapshot: Snapshot,
    info: RunInfo,
    *,
    shape: Shape = Shape.CHAT,
    concurrency: int | None = None,
    requests: int | None = None,
    repeats: int = 3,
) -> tuple[Workload, str]:
    """What to measure with, and a note where the load had to be made smaller.

    Args:
        concurrency: `None` for what is in flight now, or `CONCURRENCY`.
        requests: of one repeat; `None` for enough that the start and the end of it weigh little.

    Raises:
        UsageError: the server's context is too small for any load.
    """
    engine = snapshot.engine
    in_flight = ((engine.running or 0) + (engine.waiting or 0)) if engine else 0
    at_once = concurrency or in_flight or CONCURRENCY
    try:
        _, note = fitted(shape, info.max_model_len)
    except ValueError as error:
        raise UsageError("The server cannot be measured", str(error), "Raise serve.max_model_len.") from error
    workload = Workload(shape=shape, concurrency=at_once, requests=requests or requests_for(at_once), repeats=repeats)
    return workload, note


async def experiment(
    session: SocketSession,
    changes: tuple[ProfileChange, ...],
    tell: Callable[[Step], None],
    progress: Callable[[float], None],
    agree: Agree,
) -> TuneReport:
    """Try one change with the load that is in flight, and keep a report. `session` is closed at the end.

    Raises:
        ConsoleError: it could not begin, or the supervisor was lost. What served before serves, or will again.
    """
    run = session.run_dir
    async with TrialLine(session) as line:
        workload, note = workload_for(await line.serving(), run.read_info())
        if note:
            tell(Step(kind="note", text=note))
        report = await Tuner(line, run, BenchMeasure(workload), workload, tell, progress).apply(changes, agree)
    done = record(run, report)
    for text in (*done.notes, *(() if done.path is None else (f"report: {done.path}",))):
        tell(Step(kind="note", text=text))
    return done.report


def record(run: RunDir, report: TuneReport) -> Recorded:
    """Write what was kept to the user's profile, and the report to the run.

    Where one of them cannot be written, the server goes on all the same, and a note says so.
    """
    date = time.strftime("%Y-%m-%d")
    notes: list[str] = []
    if report.kept:
        gain = report.gain or (report.attempts[-1].gain if report.attempts else None)
        comments = {change.key: comment_of(change, gain, report.workload, date) for change in report.winner}
        try:
            saved = profiles.save_user(report.profile_name, report.winner, comments=comments)
            report = msgspec.structs.replace(report, saved=str(saved))
        except ConsoleError as error:
            notes.append(f"it serves, but it was not written to the profile: {error}")
    text = markdown(report, date)
    path = None
    try:
        path = trials.write_report(run, report.id, text, msgspec.json.format(msgspec.json.encode(report), indent=2))
    except ConsoleError as error:
        notes.append(str(error))
    return Recorded(report=report, text=text, path=path, notes=tuple(notes))
