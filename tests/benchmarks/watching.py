"""What watching costs: CPU and memory of supervisor and UI at 1 Hz, beside vllmstat on the same server."""

from __future__ import annotations

import time
from pathlib import Path

from tests.benchmarks.measure import Watched
from tests.benchmarks.terminal import Terminal
from tests.benchmarks.world import Unavailable, World, post

__all__ = ["LOAD", "see_gpus", "watching"]

STORM_LINES_PER_S = 200
SETTLE_S = 8.0
LOAD = {"FAKE_VLLM_VERSION": "0.32.0+cpu", "FAKE_VLLM_LOAD": "8,2,0.41,1900"}
"""A pretended load, so that figures move on all screens."""


GPUS = 8
SCRIPTED_GPUS = f"""
import sys
if "console.supervisor" in sys.orig_argv:
    from collections import deque
    from tests.fakes.nvml import FakeNvml
    nvml = FakeNvml({GPUS})
    nvml.calls = deque(maxlen=1)
    sys.modules["pynvml"] = nvml
"""
"""As `sitecustomize`: the supervisor, and nobody else, sees GPUs."""
ROOT = Path(__file__).parents[2]


def watching(world: World, quick: bool) -> None:
    """A minute quiet and a minute with 200 log lines a second, with scripted GPUs, all programs in the same minute."""
    seconds = 10.0 if quick else 60.0
    see_gpus(world)
    with world.running("cpu-smoke", world.fake_engine(), env=LOAD) as run:
        screens = {"dsv4-console UI": world.terminal(*world.console)}
        try:
            screens["vllmstat"] = world.terminal(world.rival(), "--url", run.url, "--interval", "1")
        except Unavailable as error:
            print(f"  vllmstat left out: {error}")
        for screen in screens.values():
            screen.wait_painted(30)
        time.sleep(SETTLE_S)
        minute("quiet", run.supervisor_pid, screens, seconds)
        post(f"{run.url}/fake", {"log_storm": STORM_LINES_PER_S})
        time.sleep(SETTLE_S)
        minute(f"{STORM_LINES_PER_S} log lines/s", run.supervisor_pid, screens, seconds)
        for screen in screens.values():
            screen.close()


def see_gpus(world: World) -> None:
    """Supervisors that are started from now on see scripted GPUs."""
    folder = world.scratch / "gpus"
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(SCRIPTED_GPUS, encoding="utf-8")
    world.env["PYTHONPATH"] = f"{folder}:{ROOT}"


def minute(title: str, supervisor_pid: int, screens: dict[str, Terminal], seconds: float) -> None:
    """Watch everything at once and print one table."""
    watched = {"supervisor": Watched(supervisor_pid)}
    watched |= {name: Watched(screen.pid) for name, screen in screens.items()}
    bytes_before = {name: screen.bytes for name, screen in screens.items()}
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        time.sleep(1)
        for each in watched.values():
            each.look()
    lasted = time.monotonic() - began
    print(f"  {title}, {lasted:.0f} s:")
    print(f"    {'':<18} {'% of a core':>12} {'RSS MiB':>9} {'PSS MiB':>9} {'KiB/s to terminal':>18}")
    results = {name: each.result() for name, each in watched.items()}
    for name, usage in results.items():
        pss = "–" if usage.pss_mib is None else f"{usage.pss_mib:.0f}"
        sent = "" if name not in screens else f"{(screens[name].bytes - bytes_before[name]) / 1024 / lasted:.1f}"
        print(f"    {name:<18} {usage.cpu_percent:>12.2f} {usage.rss_mib:>9.0f} {pss:>9} {sent:>18}")
    ours = [results[name] for name in ("supervisor", "dsv4-console UI")]
    cpu, rss = sum(each.cpu_percent for each in ours), sum(each.rss_mib for each in ours)
    pss_mib = sum(each.pss_mib or 0.0 for each in ours)
    print(f"    {'both of ours':<18} {cpu:>12.2f} {rss:>9.0f} {pss_mib:>9.0f}")
    rival = results.get("vllmstat")
    if rival and rival.cpu_percent and rival.rss_mib:
        print(f"    {'ours / vllmstat':<18} {cpu / rival.cpu_percent:>11.2f}× {rss / rival.rss_mib:>8.2f}×")
