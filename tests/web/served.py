"""`dsv4-console web` as a process, and requests to it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import psutil

from console.web.access import Access

__all__ = ["Address", "Served", "serve", "until"]

WAIT_S = 30.0


class Address:
    """Where a console is, and what a browser that may come in has."""

    def __init__(self, base: str, token: str) -> None:
        self.base = base
        self.token = token

    @property
    def cookies(self) -> dict[str, str]:
        """What a browser has once it opened the printed address."""
        return {Access(self.token).cookie: self.token}

    @contextlib.asynccontextmanager
    async def session(self) -> Any:
        """Requests without cookies."""
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
            yield session

    @contextlib.asynccontextmanager
    async def tab(self, **query: Any) -> Any:
        """A websocket as the page opens it; the console behind it has begun to paint."""
        words = "&".join(f"{name}={value}" for name, value in query.items())
        async with (
            aiohttp.ClientSession(cookies=self.cookies, cookie_jar=aiohttp.CookieJar(unsafe=True)) as session,
            session.ws_connect(f"{self.base}/ws?{words}", origin=self.base) as socket,
        ):
            first = await socket.receive(WAIT_S)
            assert first.type is aiohttp.WSMsgType.BINARY, first
            yield socket


class Served(Address):
    """One start of the command."""

    def __init__(self, process: subprocess.Popen[str], url: str, errors: Path) -> None:
        parts = urlsplit(url)
        super().__init__(f"http://{parts.netloc}", parse_qs(parts.query)["token"][0])
        self.process = process
        self.url = url
        self.errors = errors

    def children(self) -> list[psutil.Process]:
        """The consoles of its tabs."""
        return [child for child in psutil.Process(self.process.pid).children() if child.is_running()]

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        """End it; gives its exit code."""
        self.process.send_signal(number)
        return self.process.wait(WAIT_S)


@contextlib.contextmanager
def serve(tmp_path: Path, *words: str, env: Mapping[str, str] | None = None) -> Iterator[Served]:
    """The command with `words`, on a free port, until the block ends."""
    errors = tmp_path / "web.err"
    command = [sys.executable, "-P", "-m", "console", "web", "--port", "0", *words]
    state = {"XDG_STATE_HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path)}
    with errors.open("w") as stream:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=stream, text=True, env=os.environ | state | dict(env or {})
        )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert url.startswith("http://127.0.0.1:"), errors.read_text()
        yield Served(process, url, errors)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(WAIT_S)
        process.stdout and process.stdout.close()


def until(what: str, condition: Callable[[], object], limit_s: float = WAIT_S) -> None:
    """Wait for it."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {limit_s:.0f} s: {what}"
        time.sleep(0.02)
