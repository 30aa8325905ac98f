"""What the program owes the terminal it runs in: leave it clean, notice when it goes, write little and not too fast."""

from __future__ import annotations

import asyncio
import gc
import select
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TextIO, cast

from textual import constants
from textual._compositor import ChopsUpdate, LayoutUpdate
from textual.app import App
from textual.events import AppFocus, CursorPosition, Event, Key, Paste

from console.tui.changed import Changed, Shown
from console.tui.curtain import EMPTY
from console.tui.line_pace import LEAVE_S, QUESTION, Pace
from console.tui.typed import Typed, apart

if TYPE_CHECKING:
    from rich.console import RenderableType
    from textual.driver import Driver
    from textual.screen import Screen

__all__ = ["GONE_CODE", "TerminalApp", "terminal_gone"]

GONE_CODE = 129
"""The terminal is gone."""
SIGNALS = ((signal.SIGTERM, 143), (signal.SIGHUP, GONE_CODE), (signal.SIGINT, 130))
"""With the exit code of each."""
SWEEP_PERIOD_S, SWEEP_QUIET_S = 30.0, 2.0
"""All garbage is collected so often, but never within so long of a key."""
TYPING_S = 0.1
"""So long a key is given to show."""
TERMINAL_PERIOD_S = 2.0
"""Where no SIGHUP comes (`setsid`, some containers and web terminals), a terminal that is gone is noticed so soon."""


def terminal_gone(stream: TextIO | None) -> bool:
    """Whether the other end of a terminal was closed."""
    if stream is None:
        return False
    poll = select.poll()
    try:
        poll.register(stream.fileno(), 0)
        return any(found & (select.POLLHUP | select.POLLERR | select.POLLNVAL) for _, found in poll.poll(0))
    except (OSError, ValueError):
        return True


def leaving_nothing(driver: type[Driver]) -> type[Driver]:
    """This driver, emptying the screen before it goes back to what stood there before."""

    class Leaving(driver):  # type: ignore[valid-type, misc]
        def stop_application_mode(self) -> None:
            self.write(EMPTY)
            super().stop_application_mode()

    return Leaving


class TerminalApp(App[int]):
    """An app that is a good guest of its terminal."""

    def __init__(self) -> None:
        super().__init__()
        self.pace = Pace()
        self._shown = Shown()
        self._leave: Callable[[], None] | None = None
        self._typed_s = time.monotonic()
        self._typed = Typed(self, super().on_event)

    def get_driver_class(self) -> type[Driver]:
        """Textual's own, but that it leaves nothing behind."""
        found = super().get_driver_class()
        return found if constants.DRIVER else leaving_nothing(found)  # the one named there is a browser's

    def mind_terminal(self) -> None:
        """From now on signals, and the end of the terminal, end the app."""
        self._handle_signals()
        if not self.is_headless:
            self.set_interval(TERMINAL_PERIOD_S, self._see_whether_it_is_there)
            self.set_interval(SWEEP_PERIOD_S, self._sweep)

    def forget_shown(self) -> None:
        """The terminal may show anything: what comes next is sent whole."""
        self._shown.forget()

    def _handle_signals(self) -> None:
        """Textual handles none: without this the terminal is left in mouse mode on the alternate screen."""
        loop = asyncio.get_running_loop()
        for number, code in SIGNALS:
            try:
                loop.add_signal_handler(number, self.exit, code)
            except (ValueError, RuntimeError, NotImplementedError):
                return

    def _see_whether_it_is_there(self) -> None:
        """Leave with the terminal: nobody else would end a screen that nobody can see."""
        if terminal_gone(sys.__stdin__):
            self.exit(GONE_CODE)

    async def on_event(self, event: Event) -> None:
        """Keys are noted: what can wait keeps out of their way. They, and what is pasted, are obeyed in order."""
        if isinstance(event, Key):
            self._typed_s = time.monotonic()
        if isinstance(event, (Key, Paste)) and not event.is_forwarded:
            for each in apart(event):
                await self._typed.take(each)
        else:
            await super().on_event(event)

    async def on_unmount(self) -> None:
        """What was typed last has nobody to go to."""
        self._typed.close()

    @property
    def typing(self) -> bool:
        """Whether a key came just now, which is to show before anything that moves by itself."""
        return time.monotonic() - self._typed_s < TYPING_S

    def _sweep(self) -> None:
        """Collect all garbage while nobody types: it holds everything up for 15 to 40 ms (see `run_tui`)."""
        if time.monotonic() - self._typed_s > SWEEP_QUIET_S:
            gc.collect()

    def ask_pace(self) -> None:
        """After a picture: has the terminal come so far?"""
        driver = self._driver
        if driver is not None and not self.is_headless and self._leave is None and self.pace.ask():
            driver.write(QUESTION)

    def on_cursor_position(self, event: CursorPosition) -> None:
        """It has."""
        self.pace.answered()
        if self._leave is not None:
            self._leave()

    def exit(self, result: int | None = None, return_code: int = 0, message: RenderableType | None = None) -> None:
        """Leave, after the answer that is on its way."""
        leave = partial(super().exit, result, return_code, message)
        if self._leave is None and not self.is_headless and self.pace.waiting:
            self._leave = leave
            self.set_timer(LEAVE_S, leave)
        else:
            leave()

    def _display(self, screen: Screen[Any], renderable: RenderableType | None) -> None:
        if isinstance(renderable, (LayoutUpdate, ChopsUpdate)) and not self._batch_count:
            super()._display(screen, cast("RenderableType", Changed(renderable, self._shown)))
        else:
            super()._display(screen, renderable)

    def on_app_focus(self, event: AppFocus) -> None:
        """Somebody comes back, perhaps to a screen that another program has written on: send all of it again."""
        self._shown.forget()
        self.refresh()
