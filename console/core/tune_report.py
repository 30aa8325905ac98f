"""What applying or tuning came to: a record for programs, and the same in Markdown for people."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from console.core.bench import BenchPoint
from console.core.models import ProfileChange
from console.core.tuning import GAIN_MIN, Attempt, Gain, Workload

__all__ = ["Agree", "Step", "TuneReport", "change_words", "comment_of", "markdown"]


class TuneReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`RUN/tune/ID.json`."""

    id: str
    """Sortable: `20261123-201500-apply`."""
    created_s: float
    run_id: str
    profile_name: str
    model: str = ""
    engine_version: str = ""
    workload: Workload
    before: tuple[BenchPoint, ...] = ()
    """What served before, measured."""
    attempts: tuple[Attempt, ...] = ()
    winner: tuple[ProfileChange, ...] = ()
    """Against the profile; empty if nothing won."""
    gain: Gain | None = None
    """Of the winner, against what served before."""
    why: str = ""
    """Why it ended."""
    kept: bool = False
    """The winner serves, and will after a restart."""
    saved: str = ""
    """The profile's file that it was written to."""
    duration_s: float = 0.0
    usd: float | None = None
    """What that time cost; `None` where there is no price."""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """What happens now, for people and for programs."""

    kind: str
    """`measure`, `repeat`, `restart`, `serving`, `verdict`, `back`, `keep` or `note`."""
    text: str
    data: dict[str, Any] = {}


Agree = Callable[[TuneReport], Awaitable[bool]]
"""Whether the winner of this report is to be kept."""


def _value(value: Any) -> str:
    if value is None:
        return "unset"
    return str(value).lower() if isinstance(value, bool) else str(value)


def change_words(change: tuple[ProfileChange, ...]) -> str:
    """`max_num_seqs 2 → 16, enforce_eager true → false`."""
    return ", ".join(
        f"{each.key.removeprefix('serve.')} {_value(each.before)} → {_value(each.after)}" for each in change
    )


def comment_of(change: ProfileChange, gain: Gain | None, workload: Workload, date: str) -> str:
    """What stands beside a setting in the profile: `2026-11-23: 2 → 16: 3.2× output tok/s (…), chat at 16`."""
    measured = gain.text if gain is not None else "not measured"
    load = f"{workload.shape} at {workload.concurrency}"
    return f"{date}: {_value(change.before)} → {_value(change.after)}: {measured}, {load}"


def _latency(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds * 1000:.0f} ms" if seconds < 10 else f"{seconds:.1f} s"


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _figures(points: tuple[BenchPoint, ...]) -> str:
    if not points:
        return " | ".join("–" * 6)
    rate = _mean([point.output_tokens_per_s for point in points]) or 0.0
    ttft = _latency(_mean([point.ttft_mean_s for point in points]))
    tpot = _latency(_mean([point.tpot_mean_s for point in points]))
    util, power = _mean([point.gpu_util_percent for point in points]), _mean([point.power_w for point in points])
    peak = max((point.kv_cache_peak for point in points if point.kv_cache_peak is not None), default=None)
    seen = (
        "–" if util is None else f"{util:.0f} %",
        "–" if peak is None else f"{peak * 100:.0f} %",
        "–" if power is None else f"{power:,.0f} W",
    )
    return " | ".join((f"{rate:,.0f}", ttft, tpot, *seen))


def _interval(gain: Gain | None) -> str:
    if gain is None or gain.low is None or gain.high is None:
        return "–"
    return f"{gain.low:.3g} to {gain.high:.3g}"


def markdown(report: TuneReport, date: str) -> str:
    """The report for people."""
    load = report.workload
    lines = [
        f"# {report.profile_name}, {date}",
        "",
        f"Run {report.run_id}, {report.model}, vLLM {report.engine_version or '?'}. "
        f"Each setting was measured {load.repeats} times with `vllm bench serve`: {load.shape}, "
        f"{load.concurrency} at a time, {load.requests} requests.",
        "",
        "| settings | output tok/s | mean TTFT | mean TPOT | GPU utilization | KV cache peak | power "
        "| against the best before | 95 % interval | verdict |",
        f"|{'---|' * 10}",
        f"| as it was | {_figures(report.before)} | | | |",
    ]
    for attempt in report.attempts:
        ratio = f"{attempt.gain.ratio:.3g}×" if attempt.gain else "–"
        verdict = f"{attempt.verdict}{': ' + attempt.why if attempt.why else ''}".replace("|", "/").replace("\n", " ")
        lines.append(
            f"| {change_words(attempt.change)} | {_figures(attempt.points)} | {ratio} | "
            f"{_interval(attempt.gain)} | {verdict} |"
        )
    lines += ["", f"It ended because {report.why}." if report.why else ""]
    if report.winner:
        gain = f": {report.gain.text}" if report.gain else ""
        lines += ["", f"**{change_words(report.winner)}**{gain} against what served before."]
    else:
        lines += ["", "Nothing won; what served before serves again."]
    state = "It serves." if report.kept else "What served before serves again." if report.winner else ""
    saved = f"Written to {report.saved}." if report.saved else ""
    price = "" if report.usd is None else f", ${report.usd:.2f}"
    lines += ["", " ".join(filter(None, (state, saved, f"It took {report.duration_s / 60:.1f} min{price}.")))]
    lines += [
        "",
        f"Won: the whole 95 % interval of the ratio (paired by load, logarithms, Student's t) is above 1, "
        f"and the ratio is {1 + GAIN_MIN:.2f} or more; lost, the other way round; between is noise.",
        "",
    ]
    return "\n".join(lines)
