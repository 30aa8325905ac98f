"""`python -m tests.gpu --out DIR [--parts 1,2,…] [--vllm PATH] [--cpu]`: see `tests/gpu/README.md`."""

from __future__ import annotations

import argparse
import importlib
import os
import shutil
import signal
import sys
from pathlib import Path

from tests.gpu.one_part import do, over
from tests.gpu.report import summary
from tests.gpu.world import World

MODULES = {
    1: "part_machine",
    2: "part_profile",
    3: "part_v4",
    4: "part_hints",
    5: "part_faults",
    6: "part_cost",
    7: "part_beside",
    8: "part_loop",
}
PART_S = 450.0
SHARED = {(2, 6), (2, 7), (6, 7), (7, 6), (8, 7)}
"""Parts of which the first leaves its server to the one after it."""


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
        parser.error("--vllm must be a vllm command, and --parts numbers from 1 to 8")
    out = arguments.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    world = World(out, str(Path(arguments.vllm).absolute()), cpu=arguments.cpu, fault=arguments.fault)
    signal.signal(signal.SIGALRM, over)
    signal.signal(signal.SIGTERM, over)
    for place, number in enumerate(parts):
        following = parts[place + 1] if place + 1 < len(parts) else None
        module = importlib.import_module(f"tests.gpu.{MODULES[number]}")
        keep = module.KEEPS if (number, following) in SHARED else None
        if not do(world, number, module.TITLE, module.run, arguments.part_limit, keep=keep):
            break
    print(summary(out))
    return int("| failed |" in summary(out) or "| cut off |" in summary(out))


if __name__ == "__main__":
    sys.exit(main())
