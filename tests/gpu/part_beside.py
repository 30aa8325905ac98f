"""Part 7: CPU and memory of watching at full load, beside nvitop and vllmstat on the same server in the same minute."""

from __future__ import annotations

import importlib.util
import sys
import time

from tests.benchmarks.measure import Watched
from tests.benchmarks.terminal import Terminal
from tests.gpu import part_profile
from tests.gpu.report import Report
from tests.gpu.world import Run, World

TITLE = "the console beside nvitop and vllmstat"
KEEPS = part_profile.KEEPS

CLIENTS, SETTLE_S, WATCH_S, PAINT_S = 64, 6.0, 40.0, 40.0
RIVALS = {
    "nvitop": ("-m", "nvitop", "--monitor", "full"),
    "vllmstat": ("-c", "from vllmstat.cli import main; main()", "--interval", "1", "--url"),
}
"""Arguments of Python; the server's address stands behind the last one where that is `--url`."""


def run(world: World, report: Report) -> None:
    """All of them watch one loaded server; each reads once a second."""
    server: Run | None = None
    with report.step("server") as row:
        server = part_profile.start(world)
        row["says"] = server.id
    if server is None:
        return
    programs = {"console UI": ["-P", "-m", "console"]}
    for name, arguments in RIVALS.items():
        if importlib.util.find_spec(name) is not None:
            programs[name] = [*arguments, *([server.url] if arguments[-1] == "--url" else [])]
    screens: dict[str, Terminal] = {}
    try:
        with world.load(server, CLIENTS), report.step("in the same minute") as row:
            for name, command in programs.items():
                screens[name] = Terminal([sys.executable, *command], world.env)
            row["painted_s"] = {name: round(screen.wait_painted(PAINT_S), 2) for name, screen in screens.items()}
            time.sleep(SETTLE_S)
            watched = {"supervisor": Watched(server.reload()["supervisor_pid"])}
            watched |= {name: Watched(screen.pid) for name, screen in screens.items()}
            began = time.monotonic()
            while time.monotonic() - began < min(WATCH_S, world.left(WATCH_S)):
                time.sleep(1.0)
                for each in watched.values():
                    each.look()
            for name, each in watched.items():
                usage = each.result()
                row[name] = {
                    "cpu_percent": round(usage.cpu_percent, 2),
                    "rss_mib": round(usage.rss_mib, 1),
                    "pss_mib": None if usage.pss_mib is None else round(usage.pss_mib, 1),
                }
            row["says"] = "; ".join(
                f"{name} {row[name]['cpu_percent']} % of a core, {row[name]['pss_mib']} MiB" for name in watched
            )
    finally:
        for screen in screens.values():
            screen.close()
