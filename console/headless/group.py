"""Follows a group: what its coordinator writes down, in order, until the group is ready or over."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from typing import Any

import msgspec

from console.core.errors import ConsoleError, ExitCode
from console.core.models import EventRecord, Money, ServerState
from console.core.money_words import summary_text
from console.core.units import elapsed_text
from console.group.launch import hold
from console.io.groups import GroupDir, is_held

__all__ = ["follow_group"]

LOOK_S = 0.1
HOLD_AGAIN_S = 5.0
"""A coordinator's guardian starts it again at once; where that is lost too, this one starts another."""

Say = Callable[[str], None]
Emit = Callable[[dict[str, Any]], None]


async def follow_group(
    folder: GroupDir,
    *,
    say: Say,
    emit: Emit | None,
    until_ready: bool,
    from_start: bool = True,
    drain_s: float | None = None,
) -> ExitCode:
    """Narrate a group until it is over (or, with `until_ready`, ready), stopping it on SIGINT and SIGTERM.

    SIGHUP, a terminal that went away, only ends the narration. Returns the exit code of the command.

    Args:
        folder: the group.
        say: prints a line for people.
        emit: prints an object for programs; `None` where there are none.
        until_ready: leave once the server is ready.
        from_start: tell also what happened before now.
        drain_s: how long requests may go on after the first signal; `None` for the profile's.
    """
    follower = _Follower(folder, say, emit, until_ready, drain_s)
    if not from_start:
        _, follower.offset = folder.events()
    return await follower.run()


class _Follower:
    def __init__(self, folder: GroupDir, say: Say, emit: Emit | None, until_ready: bool, drain_s: float | None) -> None:
        self._folder = folder
        self._say = say
        self._emit = emit
        self._until_ready = until_ready
        self._drain_s = drain_s
        self._began_s = time.monotonic()
        self._got: list[signal.Signals] = []
        self._hung_up = False
        self._was_ready = False
        self.offset = 0

    async def run(self) -> ExitCode:
        loop = asyncio.get_running_loop()
        numbers = [signal.SIGINT, signal.SIGTERM]
        for number in numbers:
            loop.add_signal_handler(number, self._on_stop, number)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            numbers.append(signal.SIGHUP)
            loop.add_signal_handler(signal.SIGHUP, self._on_hangup)
        try:
            return await self._follow()
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)

    def _on_stop(self, number: signal.Signals) -> None:
        self._got.append(number)
        first = len(self._got) == 1
        self._folder.wish("stop", self._drain_s if first else 0.0)
        self._tell(f"{number.name}: stopping the group" if first else f"{number.name} again: not waiting for requests")

    def _on_hangup(self) -> None:
        self._hung_up = True

    async def _follow(self) -> ExitCode:
        unheld_since_s: float | None = None
        while not self._hung_up:
            record = self._folder.read()
            events, self.offset = self._folder.events(self.offset)
            for event in events:
                self._event(event)
            group = record.group
            self._was_ready |= group.proven
            if group.over:
                self._spent(record.spent)
                return self._code(group.state)
            if self._until_ready and group.state is ServerState.READY:
                self._say(
                    f"it goes on serving at {record.spec.url}/v1. See: dsv4-console status {record.spec.id} · stop it: "
                    f"dsv4-console stop {record.spec.id}"
                )
                return ExitCode.OK
            if is_held(record):
                unheld_since_s = None
            else:
                unheld_since_s = unheld_since_s or time.monotonic()
                if time.monotonic() - unheld_since_s > HOLD_AGAIN_S:
                    unheld_since_s = None
                    try:
                        await hold(self._folder)
                    except ConsoleError as error:
                        self._tell(f"{error.title}: {error.message}")
            await asyncio.sleep(LOOK_S)
        return ExitCode.OK

    def _code(self, state: ServerState) -> ExitCode:
        if state is not ServerState.STOPPED:
            return ExitCode.SERVER_FAILED
        if self._was_ready:
            return ExitCode.OK
        if not self._got:
            return ExitCode.SERVER_FAILED
        return ExitCode.INTERRUPTED if self._got[0] is signal.SIGINT else ExitCode.TERMINATED

    def _spent(self, money: Money | None) -> None:
        if money is None:
            return
        self._say(f"this group: {summary_text(money)}")
        if self._emit is not None:
            self._emit({"type": "summary", "money": msgspec.to_builtins(money)})

    def _event(self, event: EventRecord) -> None:
        self._tell(event.text)
        if self._emit is not None:
            self._emit({"type": event.kind, **msgspec.to_builtins(event.data), "text": event.text})

    def _tell(self, text: str) -> None:
        self._say(f"[{elapsed_text(time.monotonic() - self._began_s):>6}] {text}")
