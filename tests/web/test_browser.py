"""The console in headless Chromium: it opens, keys reach it, it paints, and nothing is fetched from elsewhere."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import pytest

from tests.web.chromium import Chromium, chromium_path
from tests.web.served import serve, until

PNG = b"\x89PNG\r\n\x1a\n"
PICTURE_BYTES_MIN = 10_000
"""An empty page is smaller."""

COLUMNS = "window.caught.terminal.cols"


def help_is_in_sight(text: str) -> bool:
    """It stands at the right end of the tabs: in sight once they are painted for the new width."""
    return "? help" in "".join(text.splitlines()[1:2])


@pytest.mark.skipif(chromium_path() is None, reason="no Chromium on this machine: apt-get install chromium")
async def test_the_console_in_a_browser(tmp_path: Path) -> None:
    with serve(tmp_path, "--demo") as served:
        async with Chromium.start() as browser:
            page = await browser.page()
            await page.open(served.base)
            await page.says("dsv4-console web” printed when it started")
            assert served.children() == []

            await page.open(served.url)
            await page.see("DEMO", "1 Overview", "q quit")
            assert await page.evaluate("location.href") == f"{served.base}/", "the token is out of the address"
            assert await page.evaluate("document.cookie") == "", "and no script can read it"
            assert await page.evaluate("history.length") == 3, "and it is not one step back"
            assert served.token not in await page.evaluate("document.documentElement.outerHTML")

            await page.press("space")
            await page.see("paused")
            await page.press("?")
            await page.see("Keys", "30 seconds back")
            await page.press("escape")
            await page.gone("30 seconds back")
            await page.press("l")
            await page.see("following")
            for key in ("ctrl+p", "escape"):  # printing is the browser's, unless the terminal takes the key
                await page.press(key)
            columns = await page.evaluate(COLUMNS)
            await page.resize(900, 500)
            narrower = f"String({COLUMNS} < {columns})"
            await page.wait(partial(page.evaluate, narrower), lambda is_so: is_so == "true", "a smaller terminal")
            await page.wait(page.text, lambda text: "following" in text and help_is_in_sight(text), "a smaller screen")
            await page.press("1", "]", "]")
            await page.see("READY", "H100")
            picture = tmp_path / "console.png"
            await page.screenshot(picture)
            assert picture.read_bytes()[:8] == PNG
            assert picture.stat().st_size > PICTURE_BYTES_MIN

            await page.press("q")
            await page.says("This console has ended. Servers go on.")
            until("the console is gone", lambda: served.children() == [])
            await page.press("enter")
            await page.see("DEMO", "q quit")
            assert len(served.children()) == 1
            await page.press("ctrl+c")
            await page.says("This console has ended. Servers go on.")
            await page.press("enter")
            await page.see("DEMO", "q quit")
            await page.close()
            await asyncio.to_thread(until, "the console went with its tab", lambda: served.children() == [])

            ours = (f"{served.base}/", served.base.replace("http", "ws") + "/ws", "data:")
            assert [address for address in page.asked if not address.startswith(ours)] == []
            assert any("/static/fonts/" in address for address in page.asked)
            # The page without the token is a 403; textual-serve's script says on a closed line that it lost the focus.
            expected = ("status of 403", "already in CLOSING or CLOSED state")
            assert [text for text in page.refused if not any(each in text for each in expected)] == []
