"""What the app shows as SVG and PNG, with a font that is named and nothing of this machine in it."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from textual.pilot import Pilot

from tests.ui.screen_text import text

FONTS = ("DejaVuSansMono.ttf", "NotoSansMono-Regular.ttf", "LiberationMono-Regular.ttf", "Menlo.ttc")
FONT_FOLDERS = ("/usr/share/fonts", "/usr/local/share/fonts", "~/.local/share/fonts", "~/.fonts", "/Library/Fonts")
FAMILIES = {"DejaVuSansMono": "DejaVu Sans Mono", "NotoSansMono": "Noto Sans Mono", "LiberationMono": "Liberation Mono"}
NARROW, WIDE = (80, 24), (160, 50)
SETTLE_S = 1.5
"""After another size, until all of it is painted."""
FONT_PX = 21
"""A little more than the export's own 20, so that block characters of neighbouring rows touch."""
CELL_PX = 12
FORBIDDEN = re.compile(r"/(?!tmp/dsv4)(work|root|home|tmp|Users)/|@font-face|cdn|proxy|index-url", re.I)
"""Nothing of the machine at hand and no foreign host may stand in a picture."""


def find_font() -> Path:
    """A monospace font on this machine."""
    for name in FONTS:
        for folder in FONT_FOLDERS:
            found = next(Path(folder).expanduser().rglob(name), None)
            if found is not None:
                return found
    raise SystemExit("no monospace font found; install one: apt-get install fonts-dejavu-core")


class Camera:
    """Writes what the app shows."""

    def __init__(self, out: Path, font: Path) -> None:
        self.out = out
        self.font = font
        stem = font.stem.split("-")[0]
        self.family = FAMILIES.get(stem, stem)
        self._written: list[tuple[Path, int]] = []
        out.mkdir(parents=True, exist_ok=True)

    def shoot(self, app: Any, name: str) -> None:
        """Write `name`, with the size of the terminal, as SVG."""
        width, height = app.size
        svg = self.clean(name, app.export_screenshot())
        path = self.out / f"{name}-{width}x{height}.svg"
        path.write_text(svg, encoding="utf-8")
        self._written.append((path, width * CELL_PX))

    def clean(self, name: str, svg: str) -> str:
        """An exported screen with our font. Ends where something of this machine stands in it."""
        svg = re.sub(r"@font-face\s*\{.*?\}", "", svg, flags=re.DOTALL)
        svg = svg.replace("Fira Code", self.family).replace("font-size: 20px", f"font-size: {FONT_PX}px")
        if wrong := FORBIDDEN.search(svg):
            around = svg[max(wrong.start() - 80, 0) : wrong.end() + 80]
            raise SystemExit(f"{name}: {wrong.group()!r} must not be in a picture: {around}")
        return svg

    def develop(self) -> None:
        """Write the PNGs: not while a run is being watched, which drawing would hold up."""
        for path, width_px in self._written:
            png = self.png(path.read_text(encoding="utf-8"), width_px)
            path.with_suffix(".png").write_bytes(png)
            print(f"{path.name} and .png ({len(png) // 1024} KiB)")

    def png(self, svg: str, width_px: int) -> bytes:
        """A drawing as pixels."""
        import resvg_py

        return bytes(resvg_py.svg_to_bytes(svg_string=svg, width=width_px, font_files=[str(self.font)]))


async def until(
    what: str, condition: Callable[[], object], limit_s: float, *, shown: Callable[[], str] = lambda: ""
) -> None:
    """Wait for it, or end with what was waited for."""
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"not within {limit_s:.0f} s: {what}\n{shown()}")
        await asyncio.sleep(0.1)


class Studio:
    """One app and the camera before it."""

    def __init__(self, camera: Camera, pilot: Pilot[Any]) -> None:
        self.camera = camera
        self.pilot = pilot
        self.app = pilot.app

    async def shoot(
        self, name: str, *sizes: tuple[int, int], when: Callable[[], object] = lambda: True, limit_s: float = 300.0
    ) -> None:
        """A picture of each size, once `when` holds."""
        for size in sizes:
            if self.app.size != size:
                await self.pilot.resize_terminal(*size)
                await asyncio.sleep(SETTLE_S)
            await until(f"what {name} is to show", when, limit_s, shown=lambda: text(self.app))
            self.camera.shoot(self.app, name)
