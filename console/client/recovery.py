"""Runs that lost their supervisor: each start of the console sees to them first, and says so in a line.

A server that serves, and processes that a killed server left behind, get a supervisor: it goes on with the one and
ends the other, and writes down what happened. Where nothing is left, the end is written down here.
"""

from __future__ import annotations

import asyncio

from console.client.launch import start_supervisor
from console.core.errors import ConsoleError
from console.io import runs

__all__ = ["recover"]

RECOVERED_MAX = 8
"""Supervisors started at a time; more runs than this wait for the next start of the console."""


async def recover() -> tuple[str, ...]:
    """See to all runs without a supervisor. Returns a sentence for each that was seen to; never fails."""
    try:
        found = await asyncio.to_thread(_look)
    except ConsoleError:
        return ()  # the command that is about to run says what is wrong with the runs
    orphaned, said = found
    return (*said, *await asyncio.gather(*(_take_over(run) for run in orphaned[:RECOVERED_MAX])))


def _look() -> tuple[list[runs.RunDir], list[str]]:
    orphaned, said = [], []
    for run, info in runs.list_runs():
        if runs.orphaned_session(info) is not None:
            orphaned.append(run)
        elif (settled := runs.settle(run)) is not None:
            said.append(f"{settled.id} {settled.reason}")
    return orphaned, said


async def _take_over(run: runs.RunDir) -> str:
    info = run.read_info()
    try:
        session = await start_supervisor(run)
    except ConsoleError as error:
        return f"{run.id} has no supervisor, and a new one did not start: {error.title}"
    await session.close()
    if runs.is_serving(info):
        return f"{run.id} had lost its supervisor and has a new one; it went on serving"
    return f"{run.id} had lost its supervisor and its server; what was left of them is being ended"
