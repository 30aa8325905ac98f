"""Runs a command's coroutine so that SIGINT, SIGTERM and SIGHUP cancel it: whatever it began it can undo."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Coroutine
from types import FrameType
from typing import Any, TypeVar

from console.core.errors import ExitCode

__all__ = ["EndedError", "run"]

T = TypeVar("T")


class EndedError(Exception):
    """A signal ended the command before its work was done."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number.name)
        self.exit_code = ExitCode.INTERRUPTED if number is signal.SIGINT else ExitCode.TERMINATED


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` to its end.

    Raises:
        EndedError: a signal cancelled it. It has been given the time to clean up; further signals do not cut that.
    """
    return asyncio.run(_cancellable(work))


async def _cancellable(work: Coroutine[Any, Any, T]) -> T:
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    heard: list[signal.Signals] = []

    def hear(number: int, _frame: FrameType | None) -> None:
        heard.append(signal.Signals(number))

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # `nohup` asks to outlive the terminal
        numbers.append(signal.SIGHUP)
    for number in numbers:
        if task is not None:
            loop.add_signal_handler(number, task.cancel)
        # asyncio tells the loop alone, and one that comes while the last lines of the work run would end with the loop.
        signal.signal(number, hear)
        signal.siginterrupt(number, False)
    try:
        result = await work
    except asyncio.CancelledError:
        if heard:
            raise EndedError(heard[0]) from None
        raise
    finally:
        for number in numbers:
            # A front end within may have put its own in place and taken them away.
            with contextlib.suppress(ValueError):
                loop.remove_signal_handler(number)
    if heard:
        raise EndedError(heard[0])
    return result
