"""What each process of a server printed of its memory, and what that says of how the KV cache is spread.

Separate from `predict`, which reads one process: with tensor parallelism every worker prints its memory and one engine
the size of the cache; with data parallelism each engine prints both.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

__all__ = ["CLAIMS", "Claim", "Printed", "judge", "read", "table"]

LINE = re.compile(r"^\((?P<process>[^()]{1,64}?) pid=\d+\).*?\] (?P<message>.*)$", re.MULTILINE)
FIGURES = {
    "weights_gib": re.compile(r"Model loading took ([\d.]+) GiB"),
    "load_s": re.compile(r"Model loading took [\d.]+ GiB (?:memory )?and ([\d.]+) seconds"),
    "kv_gib": re.compile(
        r"Available KV cache memory: ([\d.]+) GiB|Explicitly set \(([\d.]+)/[\d.]+\) GiB for KV cache"
    ),
    "kv_tokens": re.compile(r"KV cache size: ([\d,]+) tokens"),
    "concurrency": re.compile(r"Maximum concurrency for [\d,]+ tokens per request: ([\d.]+)x"),
    "context": re.compile(r"Maximum concurrency for ([\d,]+) tokens per request"),
    "graphs_s": re.compile(r"Graph capturing finished in ([\d.]+) secs"),
    "graphs_gib": re.compile(r"Graph capturing finished in [\d.]+ secs, took ([\d.]+) GiB"),
    "activation_gib": re.compile(r"([\d.]+) GiB for peak activation"),
    "not_torch_gib": re.compile(r"([\d.]+) GiB for non-torch"),
}
MULTICAST = re.compile(r"multicast|NVLS|mnnvl", re.IGNORECASE)


class Printed(NamedTuple):
    """Figures of a start."""

    by_process: dict[str, dict[str, float]]
    """Process as vLLM names it (`Worker_TP0`, `EngineCore_DP0`) → figure → value."""
    multicast_lines: tuple[str, ...]
    """What the log says of NVLink multicast."""

    def of(self, figure: str) -> dict[str, float]:
        """One figure by process."""
        return {process: each[figure] for process, each in self.by_process.items() if figure in each}

    def least(self, figure: str) -> float | None:
        """The smallest: of memory for the cache it is the one that counts."""
        return min(self.of(figure).values(), default=None)

    def most(self, figure: str) -> float | None:
        """The largest."""
        return max(self.of(figure).values(), default=None)


def read(log: str) -> Printed:
    """Read a server's log. A process that says a figure twice is taken at its last word."""
    found: dict[str, dict[str, float]] = {}
    lines = []
    for match in LINE.finditer(log):
        message = match["message"]
        if MULTICAST.search(message) and "non-default args" not in message:
            lines.append(match[0][:300])
        for name, pattern in FIGURES.items():
            if (figure := pattern.search(message)) is not None:
                text = next(group for group in figure.groups() if group is not None)
                found.setdefault(match["process"], {})[name] = float(text.replace(",", ""))
    return Printed(found, tuple(lines[:20]))


def table(rows: Iterable[tuple[str, float | None, float | None]]) -> dict[str, dict[str, float | None]]:
    """Name, predicted and printed, with the error of the prediction in percent."""
    return {
        name: {
            "predicted": None if ours is None else round(ours, 2),
            "printed": theirs,
            "error_percent": None if not ours or not theirs else round(100 * (ours - theirs) / theirs, 1),
        }
        for name, ours, theirs in rows
    }


class Claim(NamedTuple):
    """Something that is said of V4's KV cache, and the ratio that decides on it."""

    id: str
    says: str
    expected: str
    refuted: str


CLAIMS = (
    Claim(
        "replicated",
        "every tensor parallel rank holds the whole KV cache",
        "a GiB of a rank holds as many tokens as without tensor parallelism: ratio 1",
        "a GiB of a rank holds TP times as many: the ranks divide the cache",
    ),
    Claim(
        "multiplied",
        "data parallelism multiplies the KV cache",
        "each engine prints a cache of its own: together DP times one of them",
        "one cache was printed, or the engines share one",
    ),
)


def judge(printed: Printed, parallel: Mapping[str, int], tokens_if_replicated: float | None) -> dict[str, Any]:
    """Verdicts on the claims from one start: `shown`, `refuted`, or why neither.

    Args:
        parallel: `tp` and `dp`.
        tokens_if_replicated: what one engine holds in the memory that was printed, if each rank has the whole cache.
    """
    verdicts: dict[str, Any] = {}
    tokens = printed.of("kv_tokens")
    tp, dp = parallel["tp"], parallel["dp"]
    if tp > 1 and tokens and tokens_if_replicated:
        ratio = min(tokens.values()) / tokens_if_replicated
        verdicts["replicated"] = {"ratio": round(ratio, 3), "verdict": nearer(ratio, 1, tp)}
    if dp > 1 and tokens:
        ratio = sum(tokens.values()) / max(tokens.values())
        verdicts["multiplied"] = {"ratio": round(ratio, 3), "engines": len(tokens), "verdict": nearer(ratio, dp, 1)}
    return verdicts


def nearer(ratio: float, claimed: float, otherwise: float) -> str:
    """Which of both a ratio is near to, by factors: within a third of the way between them."""
    if ratio <= 0:
        return "unclear"
    place = math.log(ratio / claimed) / math.log(otherwise / claimed)
    return "shown" if abs(place) < 1 / 3 else "refuted" if abs(place - 1) < 1 / 3 else "unclear"
