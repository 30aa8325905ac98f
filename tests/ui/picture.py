"""Pictures of the states, for eyes: `python -m tests.ui.picture OUT STATE SIZE [KEY ...]`."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

from console.tui.app import ConsoleApp
from tests.ui.screen_text import text
from tests.ui.states import STATES


async def shoot(out: Path, state: str, size: str, keys: list[str]) -> None:
    width, height = map(int, size.split("x"))
    app = ConsoleApp(STATES[state](), clock=lambda: 1_795_000_000.0)
    async with app.run_test(size=(width, height)) as pilot:
        for _ in range(12):
            await pilot.pause(0.05)
        for key in keys:
            await pilot.press(*(key.removeprefix("text:") if key.startswith("text:") else [key]))
            await pilot.pause(0.2)
        await pilot.pause(0.3)
        svg = app.export_screenshot()
        grid = text(app)
    svg = re.sub(r"@font-face\s*\{.*?\}", "", svg, flags=re.S).replace("Fira Code", "DejaVu Sans Mono")
    import resvg_py

    png = resvg_py.svg_to_bytes(svg_string=svg, width=width * 11)
    name = f"{state}-{size}{'-' + '-'.join(keys) if keys else ''}".replace("text:", "").replace(" ", "_")
    (out / f"{name}.png").write_bytes(bytes(png))
    print(f"=== {name}")
    print(grid)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    asyncio.run(shoot(folder, sys.argv[2], sys.argv[3], sys.argv[4:]))
