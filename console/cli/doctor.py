"""`dsv4-console doctor`: what this machine can do, whether a profile can start on it, and an end to orphans."""

from __future__ import annotations

import argparse
import shutil
import textwrap
from collections.abc import Iterator, Sequence

import msgspec

from console.cli import tasks
from console.cli.output import Output
from console.core.errors import ExitCode, UsageError
from console.core.preflight import Check, Preflight, Verdict, VllmProcess
from console.core.preflight.report import MARKS
from console.core.units import bytes_text, elapsed_text, latency_text
from console.io.preflight import Ended, end_orphans, find_vllm

__all__ = ["check_lines", "doctor"]

WIDTH_MIN, WIDTH_MAX = 80, 120
TITLE_WIDTH = 15
INDENT = " " * (TITLE_WIDTH + 2)


def doctor(arguments: argparse.Namespace, output: Output) -> int:
    """Check the machine, and with a profile its launch. Exit code 6 if something blocks."""
    from console.cli.launch import overrides_from
    from console.client.backend import LocalBackend

    backend = LocalBackend(arguments.doctor_engine, allow_public=arguments.doctor_allow_public)
    name = arguments.doctor_profile
    if name is None and arguments.doctor_overrides:
        raise UsageError("--set needs a profile", "", "dsv4-console doctor PROFILE --set KEY=VALUE")

    async def check() -> Preflight:
        plan = await backend.plan(name, overrides_from(arguments.doctor_overrides)) if name is not None else None
        return await backend.preflight(plan)

    report = tasks.run(check())
    width = max(WIDTH_MIN, min(shutil.get_terminal_size((WIDTH_MIN, 24)).columns, WIDTH_MAX))
    for line in _table(report, width):
        output.data(line)
    ended: tuple[Ended, ...] = ()
    if arguments.end_orphans is not None:
        ended = _end(_chosen(_orphans(report), arguments.end_orphans), output, sure=arguments.sure)
        if ended:
            report = tasks.run(check())
    output.document(
        {
            "profile": report.profile_name,
            "verdict": report.verdict,
            "elapsed_s": round(report.elapsed_s, 3),
            "checks": [msgspec.to_builtins(each) for each in report.checks],
            "orphans": [msgspec.to_builtins(each) for each in report.orphans],
            "ended": [msgspec.to_builtins(each) for each in ended],
        }
    )
    if any(not each.gone for each in ended):
        return ExitCode.SERVER_FAILED
    return ExitCode.BLOCKED if report.blocked else ExitCode.OK


def check_lines(check: Check) -> Iterator[str]:
    """One check as a launch tells it: what is wrong, figures where it blocks or is told, and the remedy."""
    yield f"{MARKS[check.verdict]} {check.title}: {check.text}"
    for figure in check.figures:
        yield f"    {figure}"
    if check.remedy:
        yield f"    → {check.remedy}"


def _table(report: Preflight, width: int) -> Iterator[str]:
    for check in report.checks:
        head = f"{MARKS[check.verdict]} {check.title:<{TITLE_WIDTH}}"
        yield from textwrap.wrap(
            check.text, width, initial_indent=head, subsequent_indent=INDENT, break_on_hyphens=False
        ) or [head.rstrip()]
        if check.verdict is Verdict.OK:
            continue
        for figure in check.figures:
            yield from _wrapped(figure, width, "  ")
        if check.remedy:
            yield from _wrapped(check.remedy, width, "→ ")
    yield ""
    yield _summary(report)


def _wrapped(text: str, width: int, first: str) -> list[str]:
    return textwrap.wrap(
        text,
        width,
        initial_indent=f"{INDENT}{first}",
        subsequent_indent=f"{INDENT}  ",
        break_on_hyphens=False,
        break_long_words=False,
    )


_COUNTED: tuple[tuple[Verdict, str, str], ...] = (
    (Verdict.BLOCKED, "blocks", "block"),
    (Verdict.WARN, "warning", "warnings"),
    (Verdict.UNKNOWN, "unknown", "unknown"),
)


def _summary(report: Preflight) -> str:
    parts = []
    for verdict, one, several in _COUNTED:
        count = sum(check.verdict is verdict for check in report.checks)
        if count:
            parts.append(f"{count} {one if count == 1 else several}")
    about = f"{report.profile_name} on this machine" if report.profile_name else "this machine"
    found = ", ".join(parts) or "nothing is wrong"
    return f"{about}: {found}; {len(report.checks)} checks in {latency_text(report.elapsed_s)}"


def _orphans(report: Preflight) -> Sequence[VllmProcess]:
    """Orphans as they are now. Looked up again, because the probe of a busy machine may not have answered in time."""
    known = {each.pid: each for each in report.orphans}
    return [known.get(each.pid, each) for each in find_vllm() if each.orphan]


def _chosen(orphans: Sequence[VllmProcess], pids: Sequence[int]) -> Sequence[VllmProcess]:
    """The orphans of these pids, or all if none is named.

    Raises:
        UsageError: one of the pids is no orphan.
    """
    if wrong := set(pids) - {each.pid for each in orphans}:
        raise UsageError(
            "No such orphan",
            f"pid {', '.join(map(str, sorted(wrong)))} is no vLLM process that nobody holds",
            "See: dsv4-console doctor",
        )
    return [each for each in orphans if not pids or each.pid in pids]


def _end(orphans: Sequence[VllmProcess], output: Output, *, sure: bool) -> tuple[Ended, ...]:
    if not orphans:
        output.say("no orphans to end")
        return ()
    for each in orphans:
        output.say(f"  {_orphan_line(each)}")
    count = len(orphans)
    what = "this process" if count == 1 else f"these {count} processes"
    if not sure:
        nobody = UsageError("Nobody can be asked here", f"whether to end {what}", "Add --yes.")
        if not output.ask(f"End {what}? What is still in work there is lost.", default=False, otherwise=nobody):
            output.say("left alone")
            return ()
    ended = end_orphans(orphans)
    for one in ended:
        output.say(f"{'ended' if one.gone else 'not ended'}: {one.title} (pid {one.pid}): {one.how}")
    return ended


def _orphan_line(process: VllmProcess) -> str:
    held = f"{bytes_text(process.memory_bytes)} of memory"
    if process.gpu_memory_bytes:
        held += f", {bytes_text(process.gpu_memory_bytes)} of GPU memory"
    whose = f", of {process.user}" if process.user else ""
    run = f", of run {process.run_id}" if process.run_id else ""
    return f"{process.title}  pid {process.pid}  for {elapsed_text(process.age_s)}, {held}{run}{whose}"
