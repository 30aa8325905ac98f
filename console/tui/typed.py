"""Keys in the order in which they were typed: each goes to what the one before it has opened or left.

Textual hands a key to whatever has the focus as soon as it is read. Keys that come in one piece, from a fast hand or
over a slow line, would all reach what had the focus before the first of them was obeyed.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from textual.app import App
from textual.command import CommandPalette
from textual.events import Event, Key
from textual.keys import _character_to_key
from textual.message_pump import MessagePump
from textual.widget import Widget
from textual.worker import Worker

__all__ = ["OPENING", "Typed", "apart"]

WAIT_S = 0.3
"""So long a key waits for what the one before it does. Work that takes longer is no reason to be deaf."""
QUIET_S = 0.025
"""A key that comes so long after the one before is handed on at once, if no message waits: less than a key repeats in,
and a burst comes within it. Asking costs paint: every message of ours lets a widget show what is half done."""
SETTLED_S = 0.1
"""After so long whatever waits is not of the last key: in a storm of log lines some message always does."""
LOOK_S = 0.005
"""Between two looks at work that is awaited: a widget that is taken away tells nobody."""
OPENING = frozenset({"flow", "open-fleet", "edit"})
"""Groups of workers that open a screen: what is typed next is meant for that."""
FINDING = CommandPalette._GATHER_COMMANDS_GROUP
"""Workers that fill the list of the palette, from which enter takes one."""


def apart(event: Event) -> tuple[Event, ...]:
    """Escape and a letter that came in one piece, as the two keys that they are.

    Over a slow line they cannot be told from alt and the letter, which no action has and which a terminal sends alike.
    """
    if isinstance(event, Key) and event.key.startswith("alt+") and event.character is not None and event.is_printable:
        return Key("escape", "\x1b"), Key(_character_to_key(event.character), event.character)
    return (event,)


class Typed:
    """What was typed and not handed on yet.

    Args:
        app: whose keys they are.
        give: hands one event to what has the focus now.
    """

    def __init__(self, app: App[Any], give: Callable[[Event], Awaitable[None]]) -> None:
        self._app = app
        self._give = give
        self._waiting: deque[Event] = deque()
        self._task: asyncio.Task[None] | None = None
        """Waits for the effects of what was handed on last."""
        self._handed = 0
        self._handed_s = 0.0
        self._writes: Widget | None = None
        """What took the last key as text."""
        self._busy: WeakKeyDictionary[MessagePump, asyncio.Event] = WeakKeyDictionary()
        """Of each widget that was waited for, what is set once it has come so far."""
        self._slow: WeakSet[Worker[Any]] = WeakSet()
        """Workers that have been waited for long enough."""

    async def take(self, event: Event) -> None:
        """Hand it on: now, if nothing before it is still at work."""
        if not self._waiting and (self._goes_on(event) or self._is_quiet()):
            await self._hand(event)
            return
        self._waiting.append(event)
        if self._task is None:
            self._task = asyncio.create_task(self._in_order(), name="keys in order")

    def close(self) -> None:
        """Forget what waits."""
        self._waiting.clear()
        if self._task is not None:
            self._task.cancel()

    def _is_quiet(self) -> bool:
        """Whether what was handed on last has been handled, as far as can be told without asking."""
        since_s = time.monotonic() - self._handed_s
        if self._task is not None or since_s < QUIET_S or any(map(self._comes, self._app.workers)):
            return False
        return since_s > SETTLED_S or all(pump.message_queue_size == 0 for pump in self._path())

    def _path(self) -> Sequence[MessagePump]:
        """What a key passes: the widget with the focus, and what it stands in; nothing while there is no screen."""
        stack = self._app.screen_stack
        return (stack[-1].focused or stack[-1]).ancestors_with_self if stack else ()

    def _goes_on(self, event: Event) -> bool:
        """One more letter of a text moves no focus: it need not wait for the one before."""
        return self._writes is not None and self._reader(event) is self._writes

    def _reader(self, event: Event) -> Widget | None:
        """What takes this event as text, if anything does."""
        focused = self._app.focused
        if isinstance(event, Key) and focused is not None and focused.check_consume_key(event.key, event.character):
            return focused
        return None

    async def _hand(self, event: Event) -> None:
        self._handed += 1
        self._handed_s = time.monotonic()
        self._writes = self._reader(event)
        await self._give(event)

    async def _hand_waiting(self, handed: asyncio.Event) -> None:
        """In the app's own task, as any key."""
        try:
            await self._hand(self._waiting.popleft())
            while self._waiting and self._goes_on(self._waiting[0]):
                await self._hand(self._waiting.popleft())
        finally:
            handed.set()

    async def _in_order(self) -> None:
        try:
            while True:
                before = self._handed
                await self._effects()
                if self._waiting:
                    handed = asyncio.Event()
                    if not self._app.call_later(self._hand_waiting, handed):
                        return
                    await handed.wait()
                elif before == self._handed:
                    return
        finally:
            self._task = None

    async def _effects(self) -> None:
        """Wait until what was given has been handled, and what came of it: until neither focus nor screen changes.

        A widget handles one message after another, so what was given, and whatever that has sent, is done once a
        message of our own has come through all that a key passes: the widget with the focus, and what it stands in.
        """
        until_s = time.monotonic() + WAIT_S
        before: Sequence[MessagePump] = ()
        while time.monotonic() < until_s:
            path = self._path()
            for pump in path:
                await self._passed(pump, until_s)
            opened = await self._opened(until_s)
            if path == before and not opened:
                return
            before = path

    async def _passed(self, pump: MessagePump, until_s: float) -> None:
        """Wait until it has handled all that it was sent before; not again if it is still at that."""
        last = self._busy.get(pump)
        if last is not None and not last.is_set() and pump.is_running:
            return
        passed = self._busy[pump] = asyncio.Event()
        if not pump.call_later(passed.set):
            return
        while not passed.is_set() and pump.is_running and time.monotonic() < until_s:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await passed.wait()

    async def _opened(self, until_s: float) -> bool:
        """Wait for what opens a screen or fills the palette; whether there was any."""
        found = False
        while coming := [each for each in self._app.workers if self._comes(each)]:
            found = True
            if time.monotonic() >= until_s:
                self._slow.update(coming)
            await asyncio.sleep(LOOK_S)
        return found

    def _comes(self, worker: Worker[Any]) -> bool:
        if worker.is_finished or worker in self._slow:
            return False
        # A flow that has asked waits for the very keys that would wait for it.
        asked = any(screen.is_modal for screen in self._app.screen_stack[-1:])
        return worker.group == FINDING or (worker.group in OPENING and not asked)
