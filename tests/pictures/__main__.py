"""Makes `screenshots/` from real runs: `python -m tests.pictures [--only PART,…] [--data-home DIR] [--out DIR]`.

  real       a real vLLM with a real, tiny model on the CPU: profile list, a start that fails, loading, dashboard under
             load, log, chat
  bench      a benchmark of such a server, which takes two cores two minutes
  recording  another such run in a real terminal, as `recording.cast` and `recording.gif`
  demo       the shipped recording of a real H100, as `--demo` plays it
  browser    `dsv4-console web --demo` in headless Chromium

As SVG and PNG. All of it takes about fifteen minutes; needs tmux, Chromium, a monospace font and the dependency group
`pictures`. Everything of the runs lies under `/tmp/dsv4-console`, so that no path of the machine at hand gets into a
picture; it is removed afterwards, and no process is left.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.pictures import browser, demo, real, recording
from tests.pictures.camera import Camera, find_font

HOME = Path("/tmp/dsv4-console")
OUT = Path(__file__).parents[2] / "screenshots"
PARTS = ("real", "bench", "recording", "demo", "browser")


@contextlib.contextmanager
def home_of_its_own(data_home: str | None, *, engine: bool) -> Iterator[Path]:
    """A home that is removed afterwards; with an engine where one is needed."""
    try:
        HOME.mkdir(mode=0o700)
    except FileExistsError:
        raise SystemExit(f"{HOME} is there: pictures are being made, or a run was killed; then remove it") from None
    try:
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
        if engine and not list(Path(os.environ["XDG_DATA_HOME"]).glob("dsv4-console/engines/*/engine.json")):
            subprocess.run([sys.executable, "-P", "-m", "console", "engine", "install", "--cpu"], check=True)
        yield HOME
    finally:
        stop_all()
        shutil.rmtree(HOME, ignore_errors=True)


def stop_all() -> None:
    """No server stays behind: without its home nothing could stop it any more."""
    from console.io import runs

    for run, info in runs.list_runs():
        if runs.is_live(info):
            command = [sys.executable, "-P", "-m", "console", "stop", run.id, "--drain-timeout", "0"]
            subprocess.run(command, check=False, stdout=subprocess.DEVNULL)


def own_profile() -> None:
    """`cpu-smoke` with few slots and a free port, as the operator's own, which wins over the shipped one."""
    from tests.e2e.world import free_port

    settings = real.SETTINGS | {"serve.port": free_port()}
    words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    command = [sys.executable, "-P", "-m", "console", "profiles", "new", "two-slots", "--from", "cpu-smoke", *words]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    own = HOME / "config" / "dsv4-console" / "profiles"
    (own / "two-slots.toml").rename(own / "cpu-smoke.toml")


def main() -> int:
    """Make them all, or the parts that are named."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.pictures", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", metavar="PART,…", default=",".join(PARTS), help=f"of {', '.join(PARTS)}")
    parser.add_argument(
        "--data-home",
        metavar="DIR",
        default=os.environ.get("DSV4_TEST_DATA_HOME"),
        help="data directory with an installed CPU engine; else one is installed for this run",
    )
    parser.add_argument("--out", metavar="DIR", type=Path, default=OUT, help="default: screenshots/")
    parser.add_argument("--recording-of", choices=("real", "demo"), default="real", help="demo needs no engine")
    arguments = parser.parse_args()
    parts = arguments.only.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    camera = Camera(arguments.out.resolve(), find_font())
    live = "recording" in parts and arguments.recording_of == "real"
    with home_of_its_own(arguments.data_home, engine=live or not {"real", "bench"}.isdisjoint(parts)) as home:
        if "real" in parts:
            asyncio.run(real.take(camera))
        if "bench" in parts:
            asyncio.run(real.bench(camera))
        if "demo" in parts:
            asyncio.run(demo.take(camera))
        camera.develop()
        if live:
            own_profile()
            recording.record(camera, home, (), recording.REAL)
        elif "recording" in parts:
            recording.record(camera, home, ("--demo",), recording.DEMO)
        if "browser" in parts:
            asyncio.run(browser.take(camera.out))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
