"""`python -m tests.gpu --out DIR [--parts 1,2,…] [--vllm PATH] [--cpu]`: see `tests/gpu/README.md`."""

from __future__ import annotations

import argparse
import importlib
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from tests.gpu import smi
from tests.gpu.report import PartOver, Report, summary
from tests.gpu.world import World

MODULES = {1: "part_machine", 2: "part_profile", 3: "part_v4", 4: "part_hints", 5: "part_faults", 6: "part_cost"}
PART_S = 450.0
CLEAN_S = 60.0
FREE_S = 30.0
SHARED = {2: 6}
"""A part that leaves its server to the part after it."""


def main() -> int:
    """Do the parts one after another. 0: all steps were done or skipped."""
    parser = argparse.ArgumentParser(prog="python -m tests.gpu", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="directory for results")
    parser.add_argument("--parts", default=",".join(map(str, MODULES)), help="numbers, in the order to do them")
    parser.add_argument("--vllm", default=shutil.which("vllm"), help="the vllm command (default: the one on PATH)")
    parser.add_argument("--cpu", action="store_true", help="rehearse on a CPU build of vLLM with the tiny model")
    parser.add_argument("--part-limit", type=float, default=PART_S, metavar="S", help=f"for one part ({PART_S:.0f})")
    parser.add_argument("--fault", default="", metavar="TEXT", help="of part 5, only faults with TEXT in their name")
    arguments = parser.parse_args()
    parts = [int(text) for text in arguments.parts.split(",")]
    if not arguments.vllm or not os.access(arguments.vllm, os.X_OK) or not set(parts) <= set(MODULES):
        parser.error("--vllm must be a vllm command, and --parts numbers from 1 to 6")
    out = arguments.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    world = World(out, str(Path(arguments.vllm).absolute()), cpu=arguments.cpu, fault=arguments.fault)
    signal.signal(signal.SIGALRM, over)
    signal.signal(signal.SIGTERM, over)
    for place, number in enumerate(parts):
        following = parts[place + 1] if place + 1 < len(parts) else None
        keeps = following is not None and SHARED.get(number) == following
        if not do(world, number, arguments.part_limit, keeps=keeps):
            break
    print(summary(out))
    return int("| failed |" in summary(out) or "| cut off |" in summary(out))


def over(number: int, _frame: FrameType | None) -> None:
    """The alarm, or whoever started this, ends the part."""
    raise PartOver(signal.Signals(number).name)


def do(world: World, number: int, limit_s: float, *, keeps: bool) -> bool:
    """One part and the cleaning up after it. `False` if it was told to end."""
    module = importlib.import_module(f"tests.gpu.{MODULES[number]}")
    report = Report(world.out, number, module.TITLE)
    world.folder = world.out / f"part{number}"
    world.deadline = time.monotonic() + limit_s
    goes_on = True
    before = world.memory_before_mib
    try:
        signal.setitimer(signal.ITIMER_REAL, limit_s)
        module.run(world, report)
    except PartOver as end:
        goes_on = str(end) == "SIGALRM"
    except Exception as error:
        print(f"part {number}: {type(error).__name__}: {error}", flush=True)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    try:
        signal.setitimer(signal.ITIMER_REAL, CLEAN_S + FREE_S)
        world.deadline = time.monotonic() + CLEAN_S
        with report.step("nothing is left") as row:
            killed = world.close(keep=module.KEEPS if keeps and goes_on else None)
            if keeps and goes_on:
                row["says"] = "the server is left to the next part"
            else:
                row["killed"] = killed
                took, used = smi.wait_free(before, FREE_S)
                row["says"] = f"killed: {len(killed)}; GPU memory {before:.0f} MiB before, {used:.0f} after"
                if killed or took is None:
                    row["wrong"] = f"left: {killed}, {used:.0f} MiB of GPU memory"
    except PartOver:
        goes_on = False
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    report.close()
    return goes_on


if __name__ == "__main__":
    sys.exit(main())
