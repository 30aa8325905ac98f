"""Kernels that are compiled while requests wait, as the log of two H200 under V4-Flash has them."""

from __future__ import annotations

from pathlib import Path

from console.core.kernels import KernelTracker
from console.core.logparse import LineParser

LOGS = Path(__file__).parents[1] / "data/logs/h200-0.26.0"
LOG, START = LOGS / "serving-v4-flash-tp2.log", LOGS / "startup-v4-ready.log"


def follow(*lines: str) -> KernelTracker:
    parser, tracker = LineParser(), KernelTracker()
    for line in lines:
        tracker.feed(parser.parse(line))
    return tracker


def test_a_recorded_server_under_its_first_load() -> None:
    lines = LOG.read_text(encoding="utf-8").splitlines()
    # 4 of Triton and CuTeDSL at the first request, then TileLang's for each new number of tokens.
    assert (follow(*lines).total, follow(*lines).compiling) == (11, "")
    begun = next(i for i, line in enumerate(lines) if "16:01:20" in line and "begins to compile" in line)
    assert follow(*lines[: begun + 1]).compiling == "mhc_pre_big_fuse_broadcast_with_norm_tilelang"


def test_those_of_the_start_do_not_count() -> None:
    lines = START.read_text(encoding="utf-8").splitlines()
    start = lines[: next(i for i, line in enumerate(lines) if "Kernel JIT monitor activated" in line)]
    assert any("begins to compile" in line for line in start)
    assert follow(*start).total == 0


def test_a_kernel_that_is_announced_and_begun_counts_once() -> None:
    ready = "(APIServer pid=1) INFO:     Application startup complete."
    warning = (
        "(Worker_TP0 pid=2) WARNING 11-30 16:01:14 [jit_monitor.py:135] TileLang JIT compilation during inference: a."
    )
    begins, completes = (
        f"(Worker_TP0 pid=2) 2026-11-30 16:01:14  [TileLang:tilelang.jit.kernel:INFO] (kernel.py:133): "
        f"TileLang {what} to compile kernel `a`"
        for what in ("begins", "completes")
    )
    assert follow(warning, begins).total == 0, "it does not serve yet"
    assert (follow(ready, warning, begins).total, follow(ready, warning, begins).compiling) == (1, "a")
    assert (follow(ready, warning, begins, completes).total, follow(ready, begins, completes).compiling) == (1, "")
    assert follow(ready, warning, begins, completes, begins).total == 2, "for another shape"
    assert follow(ready, begins, begins.replace("TP0", "TP1")).total == 1, "ranks do it side by side"
