"""`dsv4-console fleet`: every run of this machine, of those that `--host` names, and every watched endpoint, one line
each, and what they come to."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import cast

from console.cli import tasks
from console.cli.output import Output
from console.cli.remote import Reached, lines_to
from console.cli.watched import targets_from
from console.client.api import Backend
from console.client.fleet import Fleet, with_members
from console.client.remote.host import RemoteHost
from console.client.watch_session import Watcher
from console.core.errors import ExitCode, NotRunningError
from console.core.fleet import FleetDocument, FleetRow, gpus_text, totals_of
from console.core.fleet_words import COLUMNS, hints_words, name_words, place_words, totals_words
from console.core.watching import WatchTarget

__all__ = ["fleet", "table"]

TICKS = 3
"""Snapshots that are waited for: a rate needs two looks at a counter."""
WAIT_S = 20.0
"""The longest that is waited for them."""
LOOK_S = 0.1


def fleet(arguments: argparse.Namespace, output: Output) -> int:
    """Look at all servers once. Exit code 5 if there is none."""
    from console.client.backend import LocalBackend
    from console.group.backend import with_groups

    targets = targets_from(arguments.fleet_watch, arguments.fleet_api_key_env)
    lines = lines_to(arguments) if arguments.machines else ()
    try:
        rows, problem = tasks.run(_look(with_groups(cast("Backend", LocalBackend())), targets, lines))
    finally:
        for each in lines:
            each.line.ssh.close()
    if problem:
        output.say(f"note: {problem}")
    output.document(FleetDocument(rows=rows, totals=totals_of(rows)))
    if not rows:
        if output.json:
            return ExitCode.NOT_RUNNING
        raise NotRunningError(
            "Nothing is running, and nothing is watched",
            "",
            "Launch: dsv4-console --profile NAME. Look elsewhere: dsv4-console fleet --host BOX, or --watch "
            "http://10.0.0.7:8000",
        )
    for text in table(rows):
        output.data(text)
    return ExitCode.OK


async def _look(
    backend: Backend, targets: Sequence[WatchTarget], lines: Sequence[Reached]
) -> tuple[tuple[FleetRow, ...], str]:
    watcher, hosts = Watcher(targets), [RemoteHost(*each) for each in lines]
    fleet = Fleet(with_members(backend, (*hosts, *((watcher,) if targets else ()))))
    following = asyncio.create_task(fleet.run())
    try:
        until_s = time.monotonic() + WAIT_S
        while not fleet.heard(TICKS) and time.monotonic() < until_s:
            if following.done():
                break
            await asyncio.sleep(LOOK_S)
        return fleet.rows(), fleet.problem
    finally:
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following
        await asyncio.gather(watcher.close(), *(host.close() for host in hosts))


def table(rows: Sequence[FleetRow]) -> list[str]:
    """The rows as text, each followed by why it is in its state, and the totals."""
    names = [len(name_words(row)) for row in rows]
    width = max((*names, len("server")))
    states = max((*(len(str(row.state)) for row in rows), len("state")))
    heads = "  ".join(f"{column.title:>{column.width}}" for column in COLUMNS)
    lines = [f"{'server':<{width}}  {'state':<{states}}  {heads}  hints"]
    for row in rows:
        figures = "  ".join(f"{column.text(row):>{column.width}}" for column in COLUMNS)
        lines.append(f"{name_words(row):<{width}}  {row.state:<{states}}  {figures}  {hints_words(row)}".rstrip())
        where = (
            place_words(row)
            + (f"  GPU {gpus_text(row.gpus)}" if row.gpus else "")
            + ("  watched" if row.watched else "")
        )
        lines.append(f"  {where}" + (f"  {row.why}" if row.why else ""))
    lines.append(totals_words(totals_of(rows)))
    return lines
