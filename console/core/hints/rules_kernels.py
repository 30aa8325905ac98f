"""The rule about kernels that are compiled while requests wait: the figures of that time say nothing about the load."""

from __future__ import annotations

from console.core.hints import addresses
from console.core.hints.phrases import queue_words, throughput_words
from console.core.hints.rule import Finding, Rule
from console.core.hints.setting import Setting
from console.core.hints.window import Window
from console.core.hints.words import duration, plural
from console.core.models import Level

__all__ = ["KERNELS_COMPILED"]

KERNELS_MIN = 2
"""So many in the window, or one that is seen for so many seconds, are worth a word: any server compiles one or two."""
WINDOW_S = 20.0
HOLD_S = 2.0
CLEAR_S = 30.0


def judge(window: Window, setting: Setting, held_s: float) -> Finding | None:
    """Requests are there, and kernels are compiled."""
    engine = window.engine
    asked = window.peak(lambda point: (point.running or 0) + (point.waiting or 0))
    if engine is None or not asked:
        return None
    compiled = window.growth(lambda point: point.engine.kernels_compiled_total if point.engine else None) or 0
    seconds = sum(1 for point in window.points if point.engine is not None and point.engine.kernel_compiling)
    if compiled < KERNELS_MIN and seconds < KERNELS_MIN:
        return None
    counted = f"{plural(compiled, 'kernel')} began to be compiled in the last {duration(window.span_s)}"
    now = f", {engine.kernel_compiling} is not done" if engine.kernel_compiling else ""
    rate = throughput_words(window)
    return Finding(
        evidence=(f"{counted}{now}.", queue_words(window), *((f"Output {rate}.",) if rate else ())),
        gain=(
            "No setting changes this: vLLM compiles each kernel once for a shape it meets and keeps it for later "
            "starts on this machine. Send requests of the lengths and numbers you expect before clients come."
        ),
        risk="",
    )


KERNELS_COMPILED = Rule(
    id="kernels-compiled",
    title="Kernels are compiled while requests wait",
    level=Level.WARN,
    topic="kernels",
    silences=("concurrency", "prefill", "targets", "parallelism", "host-cpu", "idle"),
    needs=("queue",),
    window_s=WINDOW_S,
    hold_s=HOLD_S,
    clear_s=CLEAR_S,
    judge=judge,
    looks_at=(
        "vLLM's log tells of kernels that are compiled while it serves (`JIT compilation during inference`, `TileLang "
        "begins to compile`), and requests run or wait. The figures of that time come from the compiler and not from "
        "the load, so rules about the load say nothing meanwhile."
    ),
    proposes="Nothing: warm it up with requests of the sizes that are expected.",
    gain="Later requests of the same shapes do not wait, nor those after a restart.",
    risk="",
    doc=addresses.METRICS,
)
