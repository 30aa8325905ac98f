"""Sessions of watched endpoints: like those of a run, without a log, and with a reason in place of every change."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from console.client.api import ChatDelta, ChatMessage, ChatOptions, LogPage, Update
from console.client.onlooker import Onlooker
from console.client.session import Inbox, load_chat
from console.core.errors import UsageError
from console.core.models import RunInfo
from console.core.watching import WatchTarget
from console.protocol import Pushed

if TYPE_CHECKING:
    from console.client.watched import Endpoint, WatchHttp

__all__ = ["REFUSAL", "WatchSession", "Watcher", "refused"]

REFUSAL: Final = "This endpoint is watched over HTTP: the console did not start it and can change nothing there."


def refused(what: str = "") -> UsageError:
    """What whoever asks for a change of a watched endpoint is told."""
    return UsageError("Not on a watched endpoint", what or REFUSAL, "Do it on its own machine, with what started it.")


NO_LOG: Final = "The log of this server is on its own machine; it is watched over HTTP here."


class NoLog:
    """An endpoint's log stays on its machine (see `console.client.api.LogReader`)."""

    def __init__(self) -> None:
        self._said = False

    def read(self, bytes_max: int = 262_144) -> LogPage:
        """One line that says so, in the place where somebody looks for it."""
        lines = () if self._said else (NO_LOG,)
        self._said = True
        return LogPage(lines=lines, offset=len(NO_LOG), first_line=1 if lines else 2)

    def skip_to_last(self, bytes_max: int) -> int:
        """There is nothing to pass over."""
        return 0

    def close(self) -> None:
        """There is no file."""


class WatchSession(Onlooker):
    """One console's look at an endpoint (see `console.client.api.Session`)."""

    def __init__(self, endpoint: Endpoint, inbox: Inbox, leave: Callable[[], Any]) -> None:
        self._endpoint = endpoint
        self._inbox = inbox
        self._leave = leave

    @property
    def run(self) -> RunInfo:
        """What is known of it by now."""
        return self._endpoint.run

    @property
    def refusal(self) -> str:
        """Why a key that needs a server of this console's does nothing."""
        return REFUSAL

    async def updates(self, history_s: float = 0.0) -> AsyncIterator[Update]:
        """What was seen since it is watched, then every snapshot and event. It never ends by itself."""
        yield self._endpoint.history(history_s)
        if self._endpoint.snapshot is not None:
            yield Pushed(snapshot=self._endpoint.snapshot)
        while True:
            yield await self._inbox.get()

    def _refused(self) -> UsageError:
        return refused()

    def log(self) -> NoLog:
        """It has none here."""
        return NoLog()

    async def chat(self, messages: Sequence[ChatMessage], options: ChatOptions) -> AsyncGenerator[ChatDelta, None]:
        """Stream an answer, with the key of the named variable and no other."""
        run = self._endpoint.run
        stream_chat = await asyncio.to_thread(load_chat)
        answer = stream_chat(run.url, run.model, messages, options, api_key=self._endpoint.api_key)
        async with contextlib.aclosing(answer) as deltas:
            async for delta in deltas:
                yield delta

    async def close(self) -> None:
        """Look no longer; the last one who leaves ends the asking."""
        self._leave()


class _Watch:
    """An endpoint, the task that asks it while somebody looks, and those who look."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.inboxes: list[Inbox] = []
        self.task: asyncio.Task[None] | None = None

    async def run(self, clock: Callable[[], float] = time.monotonic) -> None:
        while True:
            begun_s = clock()
            for update in await self.endpoint.tick():
                for inbox in self.inboxes:
                    inbox.put(update)
            await self.endpoint.sleep(begun_s)


class Watcher:
    """All watched endpoints. One HTTP client serves them; each is asked only while somebody looks at it.

    Args:
        targets: with names of their own (see `named_targets`).
        make_http: makes the client, when it is first needed.
        make_endpoint: replaced in tests.
    """

    def __init__(
        self,
        targets: Sequence[WatchTarget],
        make_http: Callable[[], WatchHttp] | None = None,
        make_endpoint: Callable[[WatchTarget, WatchHttp], Endpoint] | None = None,
    ) -> None:
        self.targets = {target.id: target for target in targets}
        self._make_http = make_http or load_http
        self._make_endpoint = make_endpoint or load_endpoint
        self._http: WatchHttp | None = None
        self._watches: dict[str, _Watch] = {}
        self._loading = asyncio.Lock()

    async def runs(self) -> tuple[RunInfo, ...]:
        """Each endpoint as a run, as far as it is known."""
        return tuple(
            self._watches[key].endpoint.run
            if key in self._watches
            else RunInfo(id=key, profile_name=target.name, url=target.url, usd_per_hour=target.usd_per_hour)
            for key, target in self.targets.items()
        )

    async def attach(self, run_id: str) -> WatchSession:
        """Look at this endpoint; it is asked once before this returns, unless somebody looks at it already.

        Raises:
            KeyError: there is none of this id.
        """
        target = self.targets[run_id]
        async with self._loading:
            if self._http is None:
                self._http = await asyncio.to_thread(self._make_http)
            if run_id not in self._watches:
                self._watches[run_id] = _Watch(self._make_endpoint(target, self._http))
        watch = self._watches[run_id]
        inbox = Inbox()
        if watch.endpoint.snapshot is None:
            await watch.endpoint.tick()
        watch.inboxes.append(inbox)
        if watch.task is None:
            watch.task = asyncio.create_task(watch.run(), name=f"watch {target.name}")

        def leave() -> None:
            if inbox in watch.inboxes:
                watch.inboxes.remove(inbox)
            if not watch.inboxes and watch.task is not None:
                watch.task.cancel()
                watch.task = None

        return WatchSession(watch.endpoint, inbox, leave)

    async def close(self) -> None:
        """Ask no more and close all connections."""
        for watch in self._watches.values():
            if watch.task is not None:
                watch.task.cancel()
                watch.task = None
        close = getattr(self._http, "close", None)
        if close is not None:
            await close()
        self._http = None


def load_endpoint(target: WatchTarget, http: WatchHttp) -> Endpoint:
    """What asks an endpoint; it is loaded with the client, see `load_http`."""
    from console.client.watched import Endpoint

    return Endpoint(target, http)


def load_http() -> WatchHttp:
    """httpx takes a third of a second to import: only those who watch pay for it."""
    from console.client import watched  # noqa: F401 - so that it is not loaded on the event loop
    from console.io.http import HttpClient

    return HttpClient()
