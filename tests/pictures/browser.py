"""A picture of the console in headless Chromium, as `dsv4-console web --demo` serves it."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from tests.web.chromium import Chromium, chromium_path
from tests.web.served import serve

SIZE_PX = (1280, 800)
SEEKS = 10
"""Of 30 s each, until the load of the recording is there."""


async def take(out: Path) -> None:
    """Open it, go on until its hint, and take the page."""
    if chromium_path() is None:
        raise SystemExit("no Chromium here; install it: apt-get install chromium, or leave this part out with --only")
    with tempfile.TemporaryDirectory() as home, serve(Path(home), "--demo") as served:
        async with Chromium.start() as browser:
            page = await browser.page(size=SIZE_PX)
            await page.open(served.url)
            await page.see("DEMO", "q quit")
            await page.press("space")
            for _ in range(SEEKS):
                if "2 → 64" in await page.text():
                    break
                await page.press("]")
                await asyncio.sleep(1.0)
            await page.see("2 → 64")
            await asyncio.sleep(0.5)  # the font's glyphs are drawn as they are first met
            path = out / f"web-{SIZE_PX[0]}x{SIZE_PX[1]}.png"
            await page.screenshot(path)
            print(f"{path.name} ({path.stat().st_size // 1024} KiB)")
