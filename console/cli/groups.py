"""`--profile NAME --hosts A,B`, and what `status`, `logs`, `stop` and `restart` do with a group of machines."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from console.cli import tasks
from console.cli.output import Output, is_terminal
from console.core.bench import BenchPlan, BenchProgress, BenchResult
from console.core.errors import ExitCode, NotRunningError, UsageError
from console.core.groupwords import no_trial, node_text
from console.core.models import ServerState
from console.core.money_words import money_lines
from console.group.bench import bench_group
from console.group.driver import target_of
from console.group.launch import check_hosts, draft, hold, make_group
from console.headless.group import follow_group
from console.io.config import read_configuration
from console.io.groups import GroupDir, GroupRecord, find_group, is_held, list_groups
from console.io.runs import is_live, list_runs
from console.io.ssh import CONSOLE, SshConnection

__all__ = ["bench", "is_group", "launch", "live_groups", "logs", "refuse_trial", "restart", "status", "stop"]

LOG_LINES = 200
"""Of each machine, where no number is asked for."""
LOG_TIMEOUT_S = 120.0
NOT_FOR_GROUPS = ("dry_run", "node_rank")


def launch(arguments: argparse.Namespace, overrides: dict[str, Any], output: Output) -> int:
    """Start a group: look at its machines, leave it to a coordinator, narrate."""
    for name in NOT_FOR_GROUPS:
        if getattr(arguments, name) not in (None, False):
            option = f"--{name.replace('_', '-')}"
            raise UsageError(f"{option} and --hosts exclude one another", "", "Leave one of them out.")
    hosts = tuple(host.strip() for host in arguments.group_hosts.split(",") if host.strip())
    spec, profile = draft(
        arguments.profile,
        overrides,
        hosts,
        engine=arguments.engine,
        allow_public=arguments.allow_public_without_key,
        force=arguments.force_launch,
        ssh_config=str(Path(arguments.ssh_config).expanduser().absolute()) if arguments.ssh_config else None,
        ssh_commands=_commands(hosts, arguments.remote_command),
    )
    output.say(f"looking at {', '.join(hosts)}")
    spec = tasks.run(check_hosts(spec, ask=is_terminal(sys.stdin, sys.stderr)))
    folder = make_group(spec, profile)
    output.say(f"group {folder.id}: {spec.model} on {', '.join(hosts)} at {spec.url}")
    output.line({"type": "group-begun", "group": folder.id, "hosts": hosts, "url": spec.url})
    return tasks.run(_hold_and_follow(folder, output, until_ready=arguments.detach, drain_s=arguments.drain_timeout))


def _commands(hosts: tuple[str, ...], given: str | None) -> tuple[str, ...]:
    """The console on each machine, as the command line or `config.toml` has it."""
    known = read_configuration().host
    return tuple(given or (known[host].command if host in known else "") or CONSOLE for host in hosts)


async def _hold_and_follow(
    folder: GroupDir, output: Output, *, until_ready: bool, drain_s: float | None, from_start: bool = True
) -> ExitCode:
    await hold(folder)
    return await follow_group(
        folder,
        say=output.say,
        emit=output.line if output.json else None,
        until_ready=until_ready,
        drain_s=drain_s,
        from_start=from_start,
    )


def live_groups() -> tuple[tuple[GroupDir, GroupRecord], ...]:
    """Groups that are not over, newest first."""
    return tuple(pair for pair in list_groups() if not pair[1].group.over)


def is_group(name: str | None, *, nothing_runs: bool) -> bool:
    """Whether a command is about a group.

    Args:
        name: as the command line names it.
        nothing_runs: there is no live run on this machine that an unnamed command could mean.
    """
    if name is None:
        return nothing_runs and (bool(live_groups()) or _newest_is_group())
    return any(name == record.spec.id for _, record in list_groups()) or (
        nothing_runs and any(name == record.spec.profile_name for _, record in live_groups())
    )


def refuse_trial(name: str | None) -> None:
    """Raises UsageError where a command that tries settings means a group."""
    nothing_runs = not any(is_live(info) for _, info in list_runs())
    if is_group(name, nothing_runs=nothing_runs):
        spec = find_group(name)[1].spec
        raise no_trial(spec.profile_name, spec.id, spec.hosts)


async def bench(
    name: str | None, plan: BenchPlan, on_progress: Callable[[BenchProgress], None], on_result: Callable[..., None]
) -> BenchResult:
    """Measure a group. Raises as `console.group.bench.bench_group`."""
    return await bench_group(find_group(name)[1], plan, on_progress, on_result)


def _newest_is_group() -> bool:
    groups, launched = list_groups(), list_runs()
    return bool(groups) and (not launched or groups[0][1].spec.created_s > launched[0][1].created_s)


def status(arguments: argparse.Namespace, output: Output) -> int:
    """How a group is. One that nobody holds together gets a coordinator."""
    folder, record = find_group(arguments.run_name)
    if not record.group.over and not is_held(record):
        tasks.run(hold(folder))
        output.say(f"note: {record.spec.id} had lost its coordinator and has a new one")
        record = folder.read()
    group = record.group
    mark = "○" if group.over else "●"
    reason = f" – {group.reason}" if group.reason else ""
    spec = record.spec
    output.data(
        f"{mark} {str(group.state).upper()}  {spec.id}  {spec.model}  attempt {group.attempt}  {spec.url}{reason}"
    )
    for rank, node in enumerate(group.nodes):
        output.data(f"  {group.name(rank)}: {node_text(node)}" + (f"  {node.run}" if node.run else ""))
    for line in money_lines(record.spent) if record.spent is not None else ():
        output.data(f"  {line}")
    output.document(
        {
            "state": group.state,
            "reason": group.reason,
            "group": spec.id,
            "over": group.over,
            "attempt": group.attempt,
            "culprit": group.culprit,
            "url": spec.url,
            "held": is_held(record),
            "money": msgspec.to_builtins(record.spent),
            "nodes": [
                {**msgspec.to_builtins(node), "rank": rank, "words": node_text(node)}
                for rank, node in enumerate(group.nodes)
            ],
        }
    )
    return ExitCode.NOT_RUNNING if group.over else ExitCode.OK


def logs(arguments: argparse.Namespace, output: Output) -> int:
    """The last lines of each machine's log, each with its machine."""
    folder, record = find_group(arguments.run_name)
    del folder
    if arguments.follow:
        host, run = record.spec.hosts[0], record.group.nodes[0].run
        raise UsageError("-f follows one log", "a group has one per machine", f"ssh {host} dsv4-console logs -f {run}")
    tasks.run(_logs(record, arguments.lines or LOG_LINES, output))
    return ExitCode.OK


async def _logs(record: GroupRecord, lines: int, output: Output) -> None:
    for rank, node in enumerate(record.group.nodes):
        if not node.run:
            output.say(f"{record.group.name(rank)}: nothing was started there")
            continue
        connection = SshConnection(target_of(record.spec, rank))
        try:
            connection.open(ask=is_terminal(sys.stdin, sys.stderr))
            done = await connection.run_console(["logs", node.run, "-n", str(lines)], timeout_s=LOG_TIMEOUT_S)
        finally:
            connection.close()
        for text in done.stdout.decode(errors="replace").splitlines():
            output.data(f"[{rank} {node.host}] {text}")
            output.line({"rank": rank, "host": node.host, "text": text})
        if done.code:
            output.say(f"{record.group.name(rank)}: {done.stderr.strip()}")


def stop(arguments: argparse.Namespace, output: Output) -> int:
    """Stop a group everywhere, the head first and after its requests, and wait for it."""
    folder, record = _live(arguments.run_name)
    folder.wish("stop", arguments.stop_drain_s)
    output.say(f"stopping {record.spec.id}")
    tasks.run(_hold_and_follow(folder, output, until_ready=False, drain_s=0.0, from_start=False))
    group = folder.read().group
    output.data(f"{record.spec.id}: {group.state}" + (f" – {group.reason}" if group.reason else ""))
    return ExitCode.OK if group.state is ServerState.STOPPED else ExitCode.SERVER_FAILED


def restart(arguments: argparse.Namespace, output: Output) -> int:
    """Stop a group everywhere and start it again; where a restart is planned, do it now."""
    folder, record = _live(arguments.run_name)
    attempt = record.group.attempt
    folder.wish("restart", arguments.stop_drain_s)
    output.say(f"restarting {record.spec.id}")
    return tasks.run(_restarted(folder, attempt, output))


async def _restarted(folder: GroupDir, attempt: int, output: Output) -> ExitCode:
    import asyncio

    from console.headless.group import LOOK_S

    await hold(folder)
    _, offset = folder.events()
    while not (record := folder.read()).group.over:
        events, offset = folder.events(offset)
        for event in events:
            output.say(event.text)
        if record.group.attempt > attempt and record.group.state is ServerState.READY:
            output.data(f"{record.spec.id}: ready")
            return ExitCode.OK
        await asyncio.sleep(LOOK_S)
    output.data(f"{record.spec.id}: {record.group.state} – {record.group.reason}")
    return ExitCode.SERVER_FAILED


def _live(name: str | None) -> tuple[GroupDir, GroupRecord]:
    """The group that is meant.

    Raises:
        NotRunningError: it is over.
        UsageError: there are several, and none is named.
    """
    folder, record = find_group(name)
    if record.group.over:
        raise NotRunningError(
            "Nothing is running", f"{record.spec.id}: {record.group.state} {record.group.reason}".strip()
        )
    live = [other.spec.id for _, other in live_groups()]
    if len(live) > 1 and name not in live:
        raise UsageError("Several groups are running", "\n".join(live), "Name one of them.")
    return folder, record
