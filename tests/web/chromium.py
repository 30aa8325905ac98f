"""Headless Chromium, driven over its DevTools protocol: pages, keys, what the terminal in the page shows, pictures."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp

__all__ = ["Chromium", "Page", "chromium_path"]

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--remote-debugging-port=0",
)
START_S, ANSWER_S, SEE_S = 60.0, 30.0, 60.0
SIZE_PX = (1280, 800)
KEYS = {
    "enter": ("Enter", 13, "\r"),
    "escape": ("Escape", 27, ""),
    "tab": ("Tab", 9, ""),
    "space": (" ", 32, " "),
}
CTRL = 2
"""Of CDP's modifiers."""
# textual-serve keeps its terminal to itself; as it puts it together, it can be caught.
CATCH = """
Object.defineProperty(Object.prototype, "fitAddon", {configurable: true, set(addon) {
  window.caught = this;
  Object.defineProperty(this, "fitAddon", {value: addon, writable: true});
}});
"""
READ = """
(() => {
  const buffer = window.caught && window.caught.terminal.buffer.active;
  if (!buffer) return "";
  return Array.from({length: window.caught.terminal.rows}, (_, row) =>
    buffer.getLine(buffer.viewportY + row).translateToString(true, 0, window.caught.terminal.cols)).join("\\n");
})()
"""


def chromium_path() -> str | None:
    """The browser's command on this machine."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class ProtocolError(Exception):
    """The browser could not do what it was asked."""


class Page:
    """One tab."""

    def __init__(self, browser: Chromium, session: str, target: str) -> None:
        self._browser, self._session, self._target = browser, session, target
        self.asked: list[str] = []
        """Addresses that it asked for, in order."""
        self.refused: list[str] = []
        """What its own rules kept it from, and what broke in it."""

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol."""
        return await self._browser.call(method, self._session, **parameters)

    async def evaluate(self, code: str) -> Any:
        """The value of an expression in the page."""
        return (await self.call("Runtime.evaluate", expression=code, returnByValue=True))["result"].get("value")

    async def open(self, url: str) -> None:
        """Go there."""
        await self.call("Page.navigate", url=url)

    async def text(self) -> str:
        """What the terminal shows; nothing while one page takes the place of another."""
        with contextlib.suppress(ProtocolError):
            return str(await self.evaluate(READ))
        return ""

    async def words(self) -> str:
        """What the page itself says."""
        with contextlib.suppress(ProtocolError):
            return str(await self.evaluate("document.body ? document.body.innerText : ''"))
        return ""

    async def see(self, *wanted: str) -> str:
        """Wait until the terminal shows all of these; gives the screen."""
        return await self.wait(self.text, lambda text: all(each in text for each in wanted), f"shows {wanted}")

    async def gone(self, text: str) -> None:
        """Wait until the terminal no longer shows this."""
        await self.wait(self.text, lambda shown: text not in shown, f"no longer shows {text!r}")

    async def says(self, text: str) -> None:
        """Wait until the page says this, outside the terminal."""
        await self.wait(self.words, lambda said: text in said, f"says {text!r}")

    async def wait(
        self, look: Callable[[], Awaitable[str]], wanted: Callable[[str], object], what: str, limit_s: float = SEE_S
    ) -> str:
        """Look until it is as wanted; gives what was seen."""
        seen = ""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                while not wanted(seen := await look()):
                    await asyncio.sleep(0.05)
                return seen
        raise AssertionError(f"never: {what}\n{seen}\nbroken: {self.refused}\nasked: {self.asked}")

    async def resize(self, width: int, height: int) -> None:
        """Give the page so many pixels."""
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )

    async def press(self, *keys: str) -> None:
        """Press keys: a character, one of `KEYS`, or `ctrl+` and a letter."""
        for key in keys:
            name, code, text = KEYS.get(key, (key, ord(key[-1].upper()), key))
            modifiers = 0
            if key.startswith("ctrl+"):
                name, text, modifiers = key[-1], "", CTRL
            event = {"key": name, "windowsVirtualKeyCode": code, "modifiers": modifiers}
            await self.call("Input.dispatchKeyEvent", type="keyDown", **event, **({"text": text} if text else {}))
            await self.call("Input.dispatchKeyEvent", type="keyUp", **event)

    async def screenshot(self, path: Path) -> None:
        """Write a PNG of the page."""
        data = (await self.call("Page.captureScreenshot", format="png"))["data"]
        path.write_bytes(base64.b64decode(data))

    async def close(self) -> None:
        """Close the tab, as a person does."""
        await self._browser.call("Target.closeTarget", targetId=self._target)


class Chromium:
    """A browser with a profile of its own. Use `start`."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._pages: dict[str, Page] = {}

    @classmethod
    @contextlib.asynccontextmanager
    async def start(cls) -> AsyncIterator[Chromium]:
        """Run one, and leave nothing of it."""
        path = chromium_path()
        assert path, "no Chromium here"
        with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as home:
            sandbox = ("--no-sandbox",) if os.geteuid() == 0 else ()
            process = await asyncio.create_subprocess_exec(
                path,
                *FLAGS,
                *sandbox,
                f"--window-size={SIZE_PX[0]},{SIZE_PX[1]}",
                f"--user-data-dir={home}",
                "about:blank",
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                env={**os.environ, "HOME": home},
                start_new_session=True,
            )
            try:
                address = await cls._address(Path(home), process)
                async with aiohttp.ClientSession() as session, session.ws_connect(address, max_msg_size=0) as socket:
                    browser = cls(socket)
                    listening = asyncio.create_task(browser._listen())
                    try:
                        yield browser
                    finally:
                        with contextlib.suppress(Exception):
                            await browser.call("Browser.close")
                        listening.cancel()
                        with contextlib.suppress(asyncio.CancelledError):
                            await listening
            finally:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(process.wait(), 5)
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, 9)
                await process.wait()

    @staticmethod
    async def _address(home: Path, process: asyncio.subprocess.Process) -> str:
        told = home / "DevToolsActivePort"
        async with asyncio.timeout(START_S):
            while True:
                assert process.returncode is None, f"the browser ended with {process.returncode}"
                with contextlib.suppress(FileNotFoundError, ValueError):
                    port, path = told.read_text(encoding="utf-8").split()
                    return f"ws://127.0.0.1:{port}{path}"
                await asyncio.sleep(0.05)

    async def page(self, *, size: tuple[int, int] = SIZE_PX) -> Page:
        """A new tab, with cookies of its own."""
        context = (await self.call("Target.createBrowserContext"))["browserContextId"]
        return await self._tab(size, browserContextId=context)

    async def _tab(self, size: tuple[int, int], **where: str) -> Page:
        target = (await self.call("Target.createTarget", url="about:blank", **where))["targetId"]
        session = (await self.call("Target.attachToTarget", targetId=target, flatten=True))["sessionId"]
        page = self._pages[session] = Page(self, session, target)
        for domain in ("Page", "Network", "Runtime", "Log"):
            await page.call(f"{domain}.enable")
        await page.call("Page.addScriptToEvaluateOnNewDocument", source=CATCH)
        await page.resize(*size)
        await page.call("Emulation.setFocusEmulationEnabled", enabled=True)
        return page

    async def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """One command; gives its result."""
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        message = {"id": number, "method": method, "params": parameters}
        await self._socket.send_json(message if session is None else message | {"sessionId": session})
        async with asyncio.timeout(ANSWER_S):
            return await answer

    async def _listen(self) -> None:
        async for message in self._socket:
            said = json.loads(message.data)
            if (answer := self._answers.pop(said.get("id"), None)) is not None:
                if "error" in said:
                    answer.set_exception(ProtocolError(str(said["error"])))
                elif not answer.done():
                    answer.set_result(said["result"])
            elif (page := self._pages.get(said.get("sessionId", ""))) is not None:
                self._note(page, said["method"], said["params"])

    @staticmethod
    def _note(page: Page, method: str, told: dict[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            page.asked.append(told["request"]["url"])
        elif method == "Network.webSocketCreated":
            page.asked.append(told["url"])
        elif method == "Runtime.exceptionThrown":
            page.refused.append(str(told["exceptionDetails"].get("exception", told["exceptionDetails"]))[:600])
        elif method == "Log.entryAdded" and told["entry"]["level"] == "error":
            page.refused.append(f"{told['entry']['text']} {told['entry'].get('url', '')}")
