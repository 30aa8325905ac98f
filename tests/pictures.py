"""Makes `screenshots/` from a real run: `python -m tests.pictures [--data-home DIR] [--out DIR]`.

Launches `cpu-smoke` (a real vLLM with a real, tiny model) through the real backend, drives the console as an operator
would, and writes what it shows as SVG and PNG: profile list, loading, dashboard under load, log, chat. Takes about four
minutes; needs `resvg_py` and a monospace font. Everything of the run lies under `/tmp/dsv4`, so that no path of the
machine at hand gets into a picture; it is removed afterwards, and no process is left.

Options:
    --data-home DIR  data directory with an installed CPU engine (default: `DSV4_TEST_DATA_HOME`; else one is
                     installed for this run)
    --out DIR        where the pictures go (default: `screenshots/` beside `tests/`)
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

HOME = Path("/tmp/dsv4")
OUT = Path(__file__).parent.parent / "screenshots"
NARROW, WIDE = (80, 24), (160, 50)
SETTINGS: dict[str, Any] = {"serve.max_num_seqs": 2}
"""So few slots that the load has to wait, and a hint says so."""
LOAD = """
import sys, time
from tests.e2e.world import load
with load(sys.argv[1], int(sys.argv[2]), max_tokens=int(sys.argv[3])):
    time.sleep(3600)
"""
CLIENTS = 16
ANSWER_TOKENS = 400
PROMPT = "Write a haiku about KV caches."
PLAN_S, PHASES_S, READY_S, HINT_S, STOP_S = 120.0, 300.0, 300.0, 300.0, 60.0
CHARTED_S = 150.0
"""Time under load before the dashboard is pictured: enough of a curve to see."""
LULL_S = (60.0, 70.0)
"""A stretch with few clients, so that the curves show more than a plateau."""
FONTS = ("DejaVuSansMono.ttf", "NotoSansMono-Regular.ttf", "LiberationMono-Regular.ttf", "Menlo.ttc")
FONT_FOLDERS = ("/usr/share/fonts", "/usr/local/share/fonts", "~/.local/share/fonts", "~/.fonts", "/Library/Fonts")
FAMILIES = {"DejaVuSansMono": "DejaVu Sans Mono", "NotoSansMono": "Noto Sans Mono", "LiberationMono": "Liberation Mono"}
PHASES_DONE = 2
"""Of a start, when it is pictured."""
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
        svg = re.sub(r"@font-face\s*\{.*?\}", "", app.export_screenshot(), flags=re.S)
        svg = svg.replace("Fira Code", self.family).replace("font-size: 20px", f"font-size: {FONT_PX}px")
        wrong = FORBIDDEN.search(svg)
        if wrong:
            around = svg[max(wrong.start() - 80, 0) : wrong.end() + 80]
            raise SystemExit(f"{name}: {wrong.group()!r} must not be in a picture: {around}")
        path = self.out / f"{name}-{width}x{height}.svg"
        path.write_text(svg, encoding="utf-8")
        self._written.append((path, width * CELL_PX))

    def develop(self) -> None:
        """Write the PNGs: not while a run is being watched, which drawing would hold up."""
        import resvg_py

        for path, width_px in self._written:
            svg = path.read_text(encoding="utf-8")
            png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=width_px, font_files=[str(self.font)]))
            path.with_suffix(".png").write_bytes(png)
            print(f"{path.name} and .png ({len(png) // 1024} KiB)")


async def until(what: str, condition: Callable[[], object], limit_s: float) -> None:
    """Wait for it, or end with what was waited for."""
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"not within {limit_s:.0f} s: {what}")
        await asyncio.sleep(0.1)


async def take(camera: Camera) -> None:
    """The whole story, from the profile list to the stopped server."""
    from console.client.api import LaunchPlan
    from console.client.backend import LocalBackend
    from console.core.models import HintState, ServerState
    from console.tui.app import ConsoleApp
    from tests.e2e.world import free_port
    from tests.ui.screen_text import text

    port = free_port()

    class Backend(LocalBackend):
        """The real one, with the settings that `--set` would give."""

        async def plan(self, name: str, overrides: Mapping[str, Any] | None = None) -> LaunchPlan:
            settings = SETTINGS | {"serve.port": port} if name == "cpu-smoke" else {}
            return await super().plan(name, settings | dict(overrides or {}))

    app = ConsoleApp(Backend(), initial_profile="cpu-smoke")
    async with app.run_test(size=WIDE) as pilot:

        async def shoot(name: str, *sizes: tuple[int, int], when: Callable[[], object] = lambda: True) -> None:
            for size in sizes:
                if app.size != size:
                    await pilot.resize_terminal(*size)
                    await asyncio.sleep(1.5)
                await until(f"what {name} is to show", when, HINT_S)
                camera.shoot(app, name)

        def state() -> ServerState | None:
            return app.model.state if app.model else None

        def ready() -> bool:
            return state() is ServerState.READY

        await until("the plan", lambda: "Engine    vLLM" in text(app), PLAN_S)
        await shoot("picker", WIDE, NARROW)
        await pilot.press("enter")
        await until("the question", lambda: "Launch cpu-smoke" in text(app), PLAN_S)
        await pilot.press("y")
        try:
            await until(
                "some phases", lambda: text(app).count("✓") >= PHASES_DONE or state() is ServerState.READY, PHASES_S
            )
            await shoot("loading", NARROW)
            await until("ready", ready, READY_S)
            url = app.model.run.url if app.model else ""
            begin = time.monotonic()
            await wave(begin, lambda clients: load(url, clients))

            def raise_slots() -> bool:
                hints = app.model.snapshot.hints if app.model and app.model.snapshot else ()
                return any(h.state is HintState.FIRING and h.change for h in hints)

            def busy_with_hint() -> bool:
                shown = text(app)
                return raise_slots() and "max_num_seqs 2 →" in shown and "running 2/2" in shown

            with load(url, CLIENTS):
                await asyncio.sleep(max(begin + CHARTED_S - time.monotonic(), 0))
                await shoot("dashboard", WIDE, NARROW, when=busy_with_hint)
                await pilot.press("l")
                await asyncio.sleep(1.0)
                await shoot("log", NARROW, when=lambda: "Engine 000" in text(app))
            await pilot.press("c", *PROMPT, "enter")
            await until("an answer", lambda: "TTFT" in text(app) and "streaming" not in text(app), READY_S)
            await shoot("chat", NARROW)
        finally:
            if app.model is not None and app.model.live:
                await app.model.session.stop(0.0)
            await until("stopped", lambda: state() in (None, ServerState.STOPPED), STOP_S)


@contextlib.contextmanager
def load(url: str, clients: int) -> Iterator[None]:
    """Keep so many requests in flight, from a process of its own: the console that is pictured has its own to do."""
    child = subprocess.Popen([sys.executable, "-c", LOAD, url, str(clients), str(ANSWER_TOKENS)], cwd=OUT.parent)
    try:
        yield
    finally:
        child.kill()
        child.wait()


async def wave(begin: float, load: Callable[[int], Any]) -> None:
    """A light load, a heavy one and a lull, so that the curves have something to show."""
    for clients, end_s in ((1, 25.0), (CLIENTS, LULL_S[0]), (1, LULL_S[1])):
        with load(clients):
            await asyncio.sleep(max(begin + end_s - time.monotonic(), 0))


def prepare(data_home: str | None) -> None:
    """A home of its own, with an engine."""
    HOME.mkdir(mode=0o700)
    os.environ.update(
        HOME=str(HOME),
        XDG_CONFIG_HOME=str(HOME / "config"),
        XDG_STATE_HOME=str(HOME / "state"),
        XDG_DATA_HOME=data_home or str(HOME / "data"),
        TEXTUAL_ANIMATIONS="none",
    )
    from console.io import paths, profiles

    shutil.copytree(paths.shipped_profiles_dir(), HOME / "profiles")
    vars(profiles)["shipped_profiles_dir"] = lambda: HOME / "profiles"
    if not list(Path(os.environ["XDG_DATA_HOME"]).glob("dsv4-console/engines/*/engine.json")):
        subprocess.run([sys.executable, "-P", "-m", "console", "engine", "install", "--cpu"], check=True)


def main() -> int:
    """Make them all."""
    parser = argparse.ArgumentParser(prog="python -m tests.pictures", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data-home", default=os.environ.get("DSV4_TEST_DATA_HOME"))
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    camera = Camera(arguments.out.resolve(), find_font())
    try:
        prepare(arguments.data_home)
        asyncio.run(take(camera))
        camera.develop()
    finally:
        shutil.rmtree(HOME, ignore_errors=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
