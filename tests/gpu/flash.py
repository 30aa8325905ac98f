"""`python -m tests.gpu.flash --out DIR [--parts 4-tep,4-dep,…]`: V4 at full size on several GPUs, see `README.md`."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from tests.gpu import part_layout, printed, scripted, smi
from tests.gpu.layouts import LAYOUTS, Layout
from tests.gpu.one_part import CLEAN_S, FREE_S, do, over
from tests.gpu.report import replace, summary
from tests.gpu.world import World

PART_S = 480.0 - CLEAN_S - FREE_S
"""Eight minutes with the cleaning up."""


def main() -> int:
    """Do the parts one after another. 0: all steps were done or skipped."""
    parser = argparse.ArgumentParser(prog="python -m tests.gpu.flash", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="directory for results")
    parser.add_argument("--parts", help=f"of {', '.join(LAYOUTS)} (default: those for as many GPUs as there are)")
    parser.add_argument("--vllm", default=shutil.which("vllm"), help="the vllm command (default: the one on PATH)")
    parser.add_argument(
        "--cpu", action="store_true", help="rehearse on a CPU build of vLLM, each part with two processes"
    )
    parser.add_argument("--scripted", action="store_true", help="rehearse on GPUs on paper with the fake engine")
    parser.add_argument("--part-limit", type=float, default=PART_S, metavar="S", help=f"for one part ({PART_S:.0f})")
    parser.add_argument("--start-only", action="store_true", help="starts and their figures, without any load")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the profile")
    parser.add_argument(
        "--multicast",
        action="store_true",
        help="leave NVLink multicast to the libraries; without it NCCL, PyTorch, NVSHMEM and vLLM are kept from it",
    )
    arguments = parser.parse_args()
    parts = arguments.parts.split(",") if arguments.parts else defaults(len(smi.query("index")))
    if arguments.scripted:
        arguments.vllm = str(scripted.ENGINE)
    if not arguments.vllm or not os.access(arguments.vllm, os.X_OK):
        parser.error("--vllm must be a vllm command")
    if not parts or not set(parts) <= set(LAYOUTS):
        parser.error(f"--parts must be of {', '.join(LAYOUTS)}")
    out = arguments.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    world = World(out, str(Path(arguments.vllm).absolute()), cpu=arguments.cpu)
    if arguments.scripted:
        scripted.prepare(world, max(LAYOUTS[key].gpus for key in parts))
    signal.signal(signal.SIGALRM, over)
    signal.signal(signal.SIGTERM, over)
    for key in parts:
        layout = LAYOUTS[key]
        options = {"multicast": arguments.multicast, "start_only": arguments.start_only}
        options |= {"given": dict(text.partition("=")[::2] for text in arguments.set)}
        work = partial(part_layout.run, layout=layout, **options)
        goes_on = do(world, key, f"{layout.profile}: {layout.shape}", work, arguments.part_limit)
        replace(out / "claims.md", "\n".join(claims(out)))
        if not goes_on:
            break
    print(summary(out))
    print("\n".join(claims(out)))
    return int("| failed |" in summary(out) or "| cut off |" in summary(out))


def defaults(gpus: int) -> list[str]:
    """Parts for a machine of so many GPUs."""
    return [layout.key for layout in LAYOUTS.values() if layout.gpus == gpus and layout.is_default]


def claims(out: Path) -> Iterator[str]:
    """What is said of V4's KV cache, and what the parts that are done say to it."""
    found = {layout: row for layout in LAYOUTS.values() if (row := compared(out, layout)) is not None}
    yield "# V4's KV cache over several GPUs"
    for claim in printed.CLAIMS:
        yield ""
        yield f"**{claim.id}**: {claim.says}. Shown if {claim.expected}. Refuted if {claim.refuted}."
        yield ""
        yield "| part | ratio | verdict |"
        yield "|---|---|---|"
        for layout, row in found.items():
            if (verdict := row["verdicts"].get(claim.id)) is not None:
                yield f"| {layout.key} | {verdict['ratio']} | {verdict['verdict']} |"
    yield ""
    yield "Tokens per GiB as printed, without any arithmetic of the console: the same under tensor as under data"
    yield "parallelism if the cache is replicated."
    yield ""
    yield "| part | tokens of one engine | GiB on a GPU | tokens per GiB |"
    yield "|---|---|---|---|"
    for layout, row in found.items():
        figures = printed.Printed(**row["printed"])
        tokens, gib = figures.least("kv_tokens"), figures.least("kv_gib")
        if tokens and gib:
            yield f"| {layout.key} | {tokens:,.0f} | {gib:.2f} | {tokens / gib:,.0f} |"


def compared(out: Path, layout: Layout) -> dict[str, Any] | None:
    """The comparison of a part that was done; `None` if there is none."""
    path = out / f"part{layout.key}.json"
    if not path.exists():
        return None
    steps = json.loads(path.read_text(encoding="utf-8"))["steps"]
    rows = (step for step in steps if step["step"] == "predicted beside printed" and "verdicts" in step)
    return next(rows, None)


if __name__ == "__main__":
    sys.exit(main())
