"""The dashboard of a live run as SVG: `python -m tests.gpu.picture RUN VLLM OUT`. No font of a machine is in it."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from pathlib import Path

SIZES = ((160, 50), (80, 24))
FIGURES_S = 40.0
CHART_S = 3.0


async def take(run: str, vllm: str, out: Path) -> int:
    """Attach, wait for figures, and write a picture of each size."""
    from console.client.backend import LocalBackend
    from console.tui.app import ConsoleApp
    from tests.ui.screen_text import text

    app = ConsoleApp(LocalBackend(vllm), attach_run=run)
    async with app.run_test(size=SIZES[0]) as pilot:
        for size in SIZES:
            await pilot.resize_terminal(*size)
            deadline = time.monotonic() + FIGURES_S
            while "running" not in text(app).lower() and time.monotonic() < deadline:
                await asyncio.sleep(0.2)
            await asyncio.sleep(CHART_S)
            svg = re.sub(r"@font-face\s*\{.*?\}", "", app.export_screenshot(), flags=re.S)
            name = f"dashboard-{size[0]}x{size[1]}"
            (out / f"{name}.svg").write_text(svg.replace("Fira Code", "DejaVu Sans Mono"), encoding="utf-8")
            (out / f"{name}.txt").write_text(text(app) + "\n", encoding="utf-8")
            print(text(app))
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(take(sys.argv[1], sys.argv[2], Path(sys.argv[3]))))
