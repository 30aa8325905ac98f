"""A start for eyes: how much of it is done, how much longer, and what the log has counted in each phase.

Separate from the ledger, which keeps what starts took, and from `phases`, which knows the log's sentences.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from console.core.ledger import time_left_s
from console.core.logparse import LineParser
from console.core.models import GpuReading, Phase, PhaseTime, ServerStatus
from console.core.phases import PhaseTracker, StartFacts
from console.core.units import short_count_text

__all__ = ["LINES_MAX", "StartCounters", "StartProgress", "memory_filled", "start_progress"]

LINES_MAX: Final = 20_000
"""Lines of one start that are looked through; what a start says of its phases stands far before that."""
BANNERS: Final = ("vLLM server version ", "▄▄ ▄█")
"""With these a server begins to write: what was counted before belongs to an earlier start."""
BANNER_KEYS: Final = tuple(banner[:4] for banner in BANNERS)
GIB: Final = 1024**3


class StartProgress(NamedTuple):
    """A start as a whole."""

    elapsed_s: float
    usual_s: float | None
    """What the phases took in earlier starts together; `None` if there were none."""
    left_s: float | None
    share: float | None
    """0 to 0.99: it is over when the server answers."""
    late_s: float = 0.0
    """By how much it has taken longer than usual by now."""


def start_progress(
    expected: Sequence[PhaseTime], status: ServerStatus, now_s: float, ready_s: float | None = None
) -> StartProgress | None:
    """How far a start is, measured by earlier ones like it; `None` where no server is being started.

    Args:
        expected: what each phase took in those.
        status: the server.
        now_s: wall-clock time (Unix).
        ready_s: seconds to ready in those; `None` for the sum of their phases.
    """
    if status.started_s is None or status.ready_s is not None:
        return None
    elapsed = max(0.0, now_s - status.started_s)
    usual = (ready_s or sum(phase.seconds for phase in expected)) if expected else None
    left = time_left_s(expected, status, now_s)
    if usual is None or left is None:
        return StartProgress(elapsed, usual, left, None)
    share = min(elapsed / (elapsed + left), 0.99) if elapsed + left > 0 else 0.0
    return StartProgress(elapsed, usual, left, share, max(0.0, elapsed + left - usual))


def memory_filled(gpus: Iterable[GpuReading] | None) -> tuple[float, float] | None:
    """GiB in use and in all, of those GPUs that tell both: while weights load, how many have arrived."""
    known = [
        (gpu.memory_used_bytes, gpu.memory_total_bytes)
        for gpu in gpus or ()
        if gpu.memory_used_bytes is not None and gpu.memory_total_bytes
    ]
    if not known:
        return None
    return sum(used for used, _ in known) / GIB, sum(total for _, total in known) / GIB


class StartCounters:
    """What the log of a start has counted so far, by phase. Fed line by line; begins anew with each start."""

    def __init__(self) -> None:
        self._fresh()

    def _fresh(self) -> None:
        self._parser, self._tracker = LineParser(), PhaseTracker()
        self._details: dict[Phase, str] = {}
        self._lines = 0

    def clear(self) -> None:
        """Forget what was fed."""
        self._fresh()

    def feed(self, text: str) -> None:
        """The next line of the log."""
        if self._lines >= LINES_MAX and not any(key in text for key in BANNER_KEYS):
            return
        line = self._parser.parse(text)
        if self._lines and line.message.lstrip().startswith(BANNERS) and self._details.keys() - {Phase.CONFIG}:
            self._fresh()
        self._lines += 1
        update = self._tracker.feed(line)
        if update is not None and update.progress is not None:
            self._details[update.phase] = update.detail
        elif update is not None:
            self._details.setdefault(update.phase, "")

    def texts(self) -> dict[Phase, str]:
        """What to say of each phase: the last count in it and the figures that ended it."""
        facts = self._tracker.facts
        found: dict[Phase, str] = {}
        for phase in Phase:
            parts = [self._details.get(phase, ""), *_FACTS.get(phase, _nothing)(facts)]
            text = " · ".join(part for part in parts if part)
            if text:
                found[phase] = text
        return found


def _nothing(_facts: StartFacts) -> tuple[str, ...]:
    return ()


def _figure(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)


_FACTS: Final[dict[Phase, Callable[[StartFacts], tuple[str, ...]]]] = {
    Phase.CONFIG: lambda facts: (facts.architecture or "",),
    Phase.DOWNLOAD: lambda facts: (_figure(facts.download_s, "downloaded in {:.0f} s"),),
    Phase.WEIGHTS: lambda facts: (_figure(facts.weights_gib, "{:.2f} GiB per worker"),),
    Phase.COMPILE: lambda facts: (_figure(facts.compile_s, "torch.compile {:.1f} s"),),
    Phase.MEMORY: lambda facts: (
        _figure(facts.kv_available_gib, "{:.2f} GiB for the KV cache"),
        f"{short_count_text(facts.kv_cache_tokens)} tokens" if facts.kv_cache_tokens else "",
    ),
    Phase.GRAPHS: lambda facts: (
        _figure(facts.graph_capture_s, "captured in {:.0f} s"),
        _figure(facts.graph_capture_gib, "{:.2f} GiB"),
    ),
}
"""The figures of a phase that stay worth seeing once it is over."""
