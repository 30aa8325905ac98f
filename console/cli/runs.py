"""`dsv4-console status|logs|stop`: look at a run and end it, from any shell."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Iterable
from types import ModuleType

import msgspec

from console.cli import tasks
from console.cli.output import Output
from console.client.session import connect
from console.core.errors import ExitCode, NotRunningError, ServerFailedError, UsageError
from console.core.gpuhealth import gpu_troubles
from console.core.models import (
    LIVE_STATES,
    EngineReading,
    HintState,
    Level,
    LogPage,
    Money,
    RunInfo,
    ServerState,
    Snapshot,
)
from console.core.money import money_of, no_price
from console.core.money_words import money_lines, summary_text
from console.core.statusdoc import StatusDocument
from console.core.text import Redactor
from console.core.tune_report import change_words
from console.core.units import elapsed_text, latency_text, percent_text, rate_text, ratio_text
from console.headless.failure import set_options
from console.io import runs
from console.io.groups import groups_dir
from console.io.logtail import LogTail
from console.io.runs import RunDir
from console.io.secrets import known_secrets
from console.protocol import Pushed

__all__ = ["document", "keep", "logs", "offline_state", "restart", "status", "stop"]

FOLLOW_PERIOD_S = 0.2
LINE_BYTES_GUESS = 64 * 1024
"""More than any line that is shown in full, so that `-n N` reads the end of a long log and not all of it."""
ANSWER_TIMEOUT_S = 10.0
LOST = "lost"
"""State of a run that ended without anybody there to write down how: a killed machine, for example."""
UNSUPERVISED = "unsupervised"
"""State of a server that goes on without its supervisor."""


def status(arguments: argparse.Namespace, output: Output) -> int:
    """What runs: state, figures and hints, or how the last run ended. Exit code 5 if nothing is running."""
    if arguments.status_reference:
        from console.cli.statusreference import status_page

        output.piece(status_page())
        output.document({"markdown": status_page()})
        return ExitCode.OK
    if (of_group := _of_group(arguments)) is not None:
        return int(of_group.status(arguments, output))
    _recover(output)
    run, info = runs.find_run(arguments.run_name)
    others = [other for other in _live() if other.id != info.id] if arguments.run_name is None else []
    snapshot = tasks.run(_one_snapshot(run)) if runs.is_supervised(info) else None
    if snapshot is not None and not snapshot.status.over:
        output.data(_headline(info, snapshot))
        for line in _figures(snapshot, info):
            output.data(f"  {line}")
        if info.trial:
            output.data(f"  trying {change_words(info.trial)}; not kept yet")
        for hint in snapshot.hints:
            if hint.state is HintState.FIRING:
                output.data(f"  ▲ {hint.title}: {' '.join(hint.evidence)}")
                if hint.change:
                    output.data(f"    {set_options(hint.change)}")
        found = document(run, info, str(snapshot.status.state), snapshot)
        code = ExitCode.OK
    else:
        found, code = _offline(run, run.read_info(), output)
    for other in others:
        output.data(f"  also: {other.id}  {other.state}  {other.url}")
    output.document(msgspec.structs.replace(found, others=tuple(other.id for other in others)))
    return code


def _of_group(arguments: argparse.Namespace) -> ModuleType | None:
    """The commands for groups of machines, where this one is about a group."""
    if not any(groups_dir().glob("*")):
        return None
    from console.cli import groups

    return groups if groups.is_group(arguments.run_name, nothing_runs=not _live()) else None


def _recover(output: Output) -> None:
    """See to runs that lost their supervisor, and say so."""
    from console.client.recovery import recover

    for sentence in tasks.run(recover()):
        output.say(f"note: {sentence}")


async def _one_snapshot(run: RunDir) -> Snapshot:
    session = await connect(run)
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            async for update in session.updates():
                if isinstance(update, Pushed):
                    return update.snapshot
        reason = "it went away while it was asked"
    except TimeoutError:
        reason = f"it said nothing for {ANSWER_TIMEOUT_S:.0f} s"
    finally:
        await session.close()
    raise NotRunningError("The supervisor does not answer", f"{run.id}: {reason}", "Try it again.")


def _offline(run: RunDir, info: RunInfo, output: Output) -> tuple[StatusDocument, ExitCode]:
    """What the files of a run without a supervisor tell."""
    if runs.is_serving(info):
        output.data(f"● {info.id}: the server runs (pid {info.server_pid}) but its supervisor is gone")
        output.data(f"  {info.url}")
        output.say(f"It could not be given a new one; see {run.supervisor_log_path}, then: dsv4-console stop {info.id}")
        return document(run, info, UNSUPERVISED, None), ExitCode.OK
    state = offline_state(info)
    if state == LOST:
        output.data(f"○ {info.id}: was {info.state} when server and supervisor ended without a word (a reboot?)")
    else:
        output.data(f"○ {info.id}: {info.state}" + (f" – {info.reason}" if info.reason else ""))
    if info.diagnosis is not None:
        output.data(f"  {info.diagnosis.title}. {info.diagnosis.remedy}".rstrip())
    if (money := _spent(run, info)) is not None:
        output.data(f"  {summary_text(money)}")
    output.data(f"  log {run.log_path}")
    return document(run, info, state, None), ExitCode.NOT_RUNNING


def offline_state(info: RunInfo) -> str:
    """The state of a run that has no supervisor, by its record and its processes."""
    if runs.is_serving(info):
        return UNSUPERVISED
    return LOST if info.state in LIVE_STATES else info.state


def _spent(run: RunDir, info: RunInfo) -> Money | None:
    """What a run without a supervisor has cost, as far as it was counted."""
    tally = run.read_money()
    return None if tally is None else money_of(tally, info.usd_per_hour, missing=no_price(info))


def _live() -> list[RunInfo]:
    """Runs with a server; a supervisor that has done its work and is about to leave does not count."""
    found = [info for _, info in runs.list_runs() if runs.is_live(info)]
    return [info for info in found if runs.is_serving(info) or info.state in LIVE_STATES]


def document(run: RunDir, info: RunInfo, state: str, snapshot: Snapshot | None) -> StatusDocument:
    """One run as `--json` prints it."""
    return StatusDocument(
        state=state,
        run=info,
        supervised=runs.is_supervised(info),
        serving=runs.is_serving(info),
        log=str(run.log_path),
        money=snapshot.money if snapshot else _spent(run, info),
        snapshot=snapshot,
    )


def _headline(info: RunInfo, snapshot: Snapshot) -> str:
    state = snapshot.status
    parts = [f"● {str(state.state).upper()}", info.profile_name, info.model, f"vLLM {info.engine_version}"]
    if state.phase is not None:
        parts.append(f"{state.phase} {state.phase_detail}".strip())
    if state.reason:
        left_s = None if state.restart is None or state.deadline_s is None else state.deadline_s - time.time()
        wait = f" in {elapsed_text(max(left_s, 0.0))}" if left_s is not None else ""
        parts.append(f"({state.reason}{wait})")
    if state.started_s is not None:
        parts.append(elapsed_text(time.time() - state.started_s))
    if info.url:
        parts.append(info.url)
    if info.place is not None:
        parts.append(f"{info.place.text} of {info.place.group}")
    return "  ".join(parts)


def _figures(snapshot: Snapshot, info: RunInfo) -> list[str]:
    lines: list[str] = []
    engine = snapshot.engine
    if engine is not None:
        lines.append(
            f"running {engine.running}  waiting {engine.waiting}  KV cache {ratio_text(engine.kv_cache_usage)}"
            f"  output {rate_text(engine.generation_tokens_per_s)}  prompt {rate_text(engine.prompt_tokens_per_s)}"
            + (f"  TTFT p50 {latency_text(engine.ttft.p50_s)}" if engine.ttft else "")
        )
        lines += _more_figures(engine, info)
    for gpu in snapshot.gpus or ():
        troubles = gpu_troubles(gpu, snapshot.gpus or ())
        quiet = [trouble.short for trouble in troubles if trouble.level is Level.INFO]
        parts = [f"GPU {gpu.index}", percent_text(gpu.util_percent), gpu.name or "", *quiet]
        lines.append("  ".join(part for part in parts if part))
        lines += [f"  ▲ GPU {gpu.index}: {each.text}" for each in troubles if each.level is not Level.INFO]
    if snapshot.host is not None:
        lines.append(f"CPU {percent_text(snapshot.host.cpu_percent)}")
    if snapshot.money is not None:
        lines += money_lines(snapshot.money)
    lines += [f"{source.name}: {source.error}" for source in snapshot.sources if source.error]
    return lines


def _more_figures(engine: EngineReading, info: RunInfo) -> list[str]:
    """What a request sees, what it was like, and what went wrong; only what is known."""
    seen = []
    for name, value, target_s in (("TTFT", engine.ttft, info.ttft_target_s), ("TPOT", engine.tpot, info.tpot_target_s)):
        if value is not None and value.p95_s is not None:
            word = "" if target_s is None else " (met" if value.p95_s <= target_s else " (missed"
            seen.append(
                f"{name} p95 {latency_text(value.p95_s)}" + (f"{word} {latency_text(target_s)})" if word else "")
            )
    if engine.goodput is not None:
        low, high = ratio_text(engine.goodput.share_min), ratio_text(engine.goodput.share_max)
        seen.append(f"goodput {low if low == high else f'{low} to {high}'}")
    if engine.spec_acceptance_rate is not None:
        seen.append(f"speculation {ratio_text(engine.spec_acceptance_rate)} accepted")
    went = [f"{name} {count}" for name, count in (engine.finished_by_reason or {}).items() if count]
    went += [f"HTTP {status} {count}" for status, count in (engine.http_errors_by_status or {}).items() if count]
    if engine.admission_rejections_total:
        went.append(f"rejected {engine.admission_rejections_total}")
    if engine.imbalance is not None:
        went.append(f"{engine.engines} engines, the busiest with {engine.imbalance:.1f}× the mean")
    return [text for text in ("  ".join(seen), "  ".join(went)) if text]


def logs(arguments: argparse.Namespace, output: Output) -> int:
    """Print the server's log, from its start or the last lines, and go on with `-f` until the run is over."""
    if (of_group := _of_group(arguments)) is not None:
        return int(of_group.logs(arguments, output))
    run, info = runs.find_run(arguments.run_name)
    live = runs.is_live(info)
    if not run.log_path.exists() and not (live and arguments.follow):
        raise NotRunningError("There is no log yet", str(run.log_path), "See: dsv4-console status")
    with contextlib.closing(LogTail(run.log_path, Redactor(known_secrets(info)))) as tail:
        _print_log(tail, run, live, arguments, output)
    return ExitCode.OK


def _print_log(tail: LogTail, run: RunDir, live: bool, arguments: argparse.Namespace, output: Output) -> None:
    last: deque[tuple[int, str]] = deque(maxlen=arguments.lines)
    if arguments.lines is not None:
        tail.skip_to_last(arguments.lines * LINE_BYTES_GUESS)
    # What a live server has not ended yet is no line; after its end its last words count.
    while (page := tail.read(flush=not live)).lines:
        numbered = list(enumerate(page.lines, page.first_line))
        if page.skipped and arguments.lines is None:
            _say_skipped(page, output)
        if arguments.lines is None:
            _print_lines(numbered, output)
        else:
            last.extend(numbered)
    _print_lines(last, output)
    while arguments.follow:
        live = runs.is_live(run.read_info())
        page = tail.read(flush=not live)
        if page.skipped:
            _say_skipped(page, output)
        _print_lines(enumerate(page.lines, page.first_line), output)
        if not page.lines:
            if not live:
                break
            time.sleep(FOLLOW_PERIOD_S)


def _say_skipped(page: LogPage, output: Output) -> None:
    """Lines that are no longer kept."""
    first = page.first_line - page.skipped
    output.say(f"[lines {first:,} to {page.first_line - 1:,} are no longer kept]")


def _print_lines(lines: Iterable[tuple[int, str]], output: Output) -> None:
    for number, text in lines:
        output.data(text)
        output.line({"line": number, "text": text})


def stop(arguments: argparse.Namespace, output: Output) -> int:
    """Stop the server and wait until nothing is left of it. Where a restart is planned, this gives it up."""
    if (of_group := _of_group(arguments)) is not None:
        return int(of_group.stop(arguments, output))
    run, info = _one_live(arguments, "stop", output)
    final, reason = tasks.run(_stop(run, arguments.stop_drain_s, output))
    output.data(f"{info.id}: {final}" + (f" – {reason}" if reason else ""))
    output.document({"run": info.id, "state": final, "reason": reason})
    return ExitCode.OK if final == ServerState.STOPPED else ExitCode.SERVER_FAILED


def _one_live(arguments: argparse.Namespace, verb: str, output: Output) -> tuple[RunDir, RunInfo]:
    """The run that is meant.

    Raises:
        NotRunningError: nothing runs.
        UsageError: several do, and none is named.
    """
    _recover(output)
    run, info = runs.find_run(arguments.run_name)
    if not runs.is_live(info):
        raise NotRunningError("Nothing is running", f"{info.id}: {info.state} {info.reason}".strip())
    live = [other.id for other in _live()]
    if len(live) > 1 and arguments.run_name != info.id:
        raise UsageError("Several servers are running", "\n".join(live), f"Name one: dsv4-console {verb} {info.id}")
    return run, info


def restart(arguments: argparse.Namespace, output: Output) -> int:
    """Restart the server and wait until it is ready. Where a restart is planned, this does it now."""
    if (of_group := _of_group(arguments)) is not None:
        return int(of_group.restart(arguments, output))
    run, info = _one_live(arguments, "restart", output)
    state, reason = tasks.run(_restart(run, arguments.stop_drain_s, output))
    output.data(f"{info.id}: {state}" + (f" – {reason}" if reason else ""))
    output.document({"run": info.id, "state": state, "reason": reason})
    return ExitCode.OK if state == ServerState.READY else ExitCode.SERVER_FAILED


def keep(arguments: argparse.Namespace, output: Output) -> int:
    """Postpone the idle deadlines of a run: its idle time counts from now on."""
    run, info = _one_live(arguments, "keep", output)
    money = tasks.run(_keep(run))
    stop_in_s = money.idle_stop_in_s if money else None
    after = "" if stop_in_s is None else f"; idle, it is stopped in {elapsed_text(stop_in_s)}"
    output.data(f"{info.id}: idle time counts from now on{after}")
    output.document({"run": info.id, "money": msgspec.to_builtins(money) if money else None})
    return ExitCode.OK


async def _keep(run: RunDir) -> Money | None:
    """Postpone, and return what the supervisor then tells of its ledger."""
    session = await connect(run)
    try:
        await session.postpone()
    finally:
        await session.close()
    return (await _one_snapshot(run)).money


async def _restart(run: RunDir, drain_timeout_s: float | None, output: Output) -> tuple[str, str]:
    """Restart a run. Returns the state in which the new attempt came to rest, and the reason of it."""
    from console.client.backend import LocalBackend

    session = await LocalBackend().attach(run.id)
    old_pid = session.run.server_pid
    said: ServerState | None = None
    try:
        await session.restart(drain_timeout_s)
        async for update in session.updates():
            if not isinstance(update, Pushed):
                continue
            status = update.snapshot.status
            if status.state is not said:
                said = status.state
                output.say(f"{run.id}: {said}" + (f" – {status.reason}" if status.reason else ""))
            # What was over before it was asked is not the answer.
            if (status.over and said is not None) or (status.state is ServerState.READY and status.pid != old_pid):
                return str(status.state), status.reason
    except asyncio.CancelledError:
        output.say("no longer waiting; the restart goes on. See: dsv4-console status")
        raise
    finally:
        await session.close()
    raise ServerFailedError("The supervisor went away", run.id, "See: dsv4-console status")


async def _stop(run: RunDir, drain_timeout_s: float | None, output: Output) -> tuple[str, str]:
    """Stop a run. Returns its last state and the reason of it."""
    from console.client.backend import LocalBackend

    session = await LocalBackend().attach(run.id)
    said: int | None = None
    try:
        await session.stop(drain_timeout_s)
        output.say(f"stopping {run.id}")
        async for update in session.updates():
            if not isinstance(update, Pushed):
                continue
            status = update.snapshot.status
            if status.in_flight and status.in_flight != said and status.state is ServerState.STOPPING:
                said = status.in_flight
                output.say(f"waiting for {said} {'request' if said == 1 else 'requests'} in flight")
            if status.over:
                return str(status.state), status.reason
    except asyncio.CancelledError:
        output.say("no longer waiting; the stop goes on. See: dsv4-console status")
        raise
    finally:
        await session.close()
    # The supervisor ended before it could say so: its record counts.
    info = run.read_info()
    if runs.is_serving(info):
        raise ServerFailedError(
            "The supervisor went away before the server had ended", info.id, "Again: dsv4-console stop"
        )
    return (info.state, info.reason) if info.state not in LIVE_STATES else (LOST, "")
