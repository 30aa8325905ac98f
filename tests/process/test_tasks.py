"""No signal is lost between the first and the last line of a command's work."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from console.cli import tasks
from console.core.errors import ExitCode

CODES = [(signal.SIGINT, ExitCode.INTERRUPTED), (signal.SIGTERM, ExitCode.TERMINATED)]


@pytest.mark.parametrize(("number", "code"), CODES)
def test_one_that_comes_in_the_last_lines_of_the_work_ends_it(number: signal.Signals, code: ExitCode) -> None:
    async def work() -> str:
        await asyncio.sleep(0)
        os.kill(os.getpid(), number)  # and no await after it: the loop does not look any more
        return "done"

    with pytest.raises(tasks.EndedError) as ended:
        tasks.run(work())
    assert ended.value.exit_code == code


@pytest.mark.parametrize(("number", "code"), CODES)
def test_one_that_comes_while_it_waits_cancels_it(number: signal.Signals, code: ExitCode) -> None:
    undone: list[bool] = []

    async def work() -> None:
        asyncio.get_running_loop().call_soon(os.kill, os.getpid(), number)
        try:
            await asyncio.sleep(30)
        finally:
            undone.append(True)

    with pytest.raises(tasks.EndedError) as ended:
        tasks.run(work())
    assert ended.value.exit_code == code
    assert undone


def test_afterwards_signals_do_what_they_did() -> None:
    async def work() -> int:
        return 7

    before = signal.getsignal(signal.SIGTERM)
    assert tasks.run(work()) == 7
    assert signal.getsignal(signal.SIGTERM) is before
