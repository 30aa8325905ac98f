"""What a flood of log lines costs the supervisor: its CPU, memory and the pace of its snapshots."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from console.client.api import Lost
from console.client.session import connect
from console.io.runs import RunDir
from console.protocol import Pushed
from tests.benchmarks.measure import Watched
from tests.benchmarks.world import World, post

__all__ = ["flood"]

RATES = (0, 1_000, 10_000, 100_000)
"""Lines per second."""
SETTLE_S = 2.0


def flood(world: World, quick: bool) -> None:
    """Several rates in turn; the gap between two snapshots is 1 s where nothing holds the supervisor up."""
    seconds = 5.0 if quick else 20.0
    with world.running("cpu-smoke", world.fake_engine(), env={"FAKE_VLLM_VERSION": "0.32.0+cpu"}) as run:
        folder = next(Path(world.env["XDG_STATE_HOME"]).glob(f"dsv4-console/runs/{run.id}"))
        print(
            f"    {'lines/s asked':<14} {'MiB/s written':>14} {'% of a core':>12} {'RSS MiB':>9} {'longest gap s':>14}"
        )
        for rate in RATES:
            post(f"{run.url}/fake", {"log_storm": rate})
            time.sleep(SETTLE_S)
            watched = Watched(run.supervisor_pid)
            before = (folder / "server.log").stat().st_size
            began = time.monotonic()
            gap_s = asyncio.run(longest_gap(folder, seconds, watched))
            lasted = time.monotonic() - began
            written = (folder / "server.log").stat().st_size - before
            usage = watched.result()
            print(
                f"    {rate:<14,} {written / 2**20 / lasted:>14.2f} {usage.cpu_percent:>12.1f} {usage.rss_mib:>9.0f}"
                f" {gap_s:>14.2f}",
                flush=True,
            )
        post(f"{run.url}/fake", {"log_storm": 0})
        time.sleep(SETTLE_S)
        print(f"    on disk: {sum(f.stat().st_blocks for f in folder.iterdir()) * 512 / 2**20:.0f} MiB of a log of "
              f"{(folder / 'server.log').stat().st_size / 2**20:.0f} MiB")  # fmt: skip
        for event in RunDir(folder).events():
            if event.kind == "note":
                print(f"    said: {event.text}")


async def longest_gap(folder: Path, seconds: float, watched: Watched) -> float:
    """The longest time between two snapshots."""
    session = await connect(RunDir(folder))
    longest, last, end = 0.0, time.monotonic(), time.monotonic() + seconds
    try:
        async for update in session.updates():
            if isinstance(update, Pushed):
                now = time.monotonic()
                longest, last = max(longest, now - last), now
                watched.look()
            if isinstance(update, Lost) or time.monotonic() > end:
                break
    finally:
        await session.close()
    return longest
