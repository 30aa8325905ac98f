"""A thread of its own for calls that may hang, such as a GPU driver's.

`concurrent.futures` waits for its threads when the program ends, so one hung call would keep it from ending; the
thread here is a daemon and is left behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["Worker", "WorkerBusyError"]

T = TypeVar("T")


class WorkerBusyError(Exception):
    """The call before is not over yet."""


class Worker:
    """Runs one blocking call at a time, in one thread.

    Args:
        name: name of the thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._thread: threading.Thread | None = None
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._busy = False

    @property
    def busy(self) -> bool:
        """Whether a call runs, perhaps one that its caller gave up long ago."""
        return self._busy

    async def run(self, call: Callable[[], T]) -> T:
        """What `call` returns or raises. Cancelling lets it run on, unheard.

        Raises:
            WorkerBusyError: the call before is not over yet; this one is not made.
        """
        if self._busy:
            raise WorkerBusyError
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def work() -> None:
            result: Any = None
            error: BaseException | None = None
            try:
                result = call()
            except BaseException as caught:
                error = caught
            self._busy = False
            # The loop is closed if the program is ending.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(settle, future, result, error)

        self._busy = True
        if self._thread is None:
            self._thread = threading.Thread(target=self._main, name=self._name, daemon=True)
            self._thread.start()
        self._calls.put(work)
        return await future

    def close(self) -> None:
        """End the thread once it is idle. Does not wait."""
        self._calls.put(None)
        self._thread = None
        self._calls = queue.SimpleQueue()

    def _main(self) -> None:
        calls = self._calls
        while (work := calls.get()) is not None:
            work()


def settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    """Answer a future, unless nobody waits for it any more."""
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
