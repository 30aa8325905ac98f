"""What a measured difference says, and a search over settings that asks for one trial after the other. Pure.

Decision: each setting is measured several times with the same loads, and `console.core.bench_compare` says what that
shows: won or lost where the whole 95 % interval of the ratio lies on one side of 1 and the ratio is further from 1 than
`GAIN_MIN`; everything between is noise.

Search: coordinate by coordinate. A win becomes the new best, and the same parameter is asked for more; otherwise its
next value is tried, then the next parameter. It ends when a round over all parameters brings no win, that is when
every gain left is inside the noise.
"""

from __future__ import annotations

import json
from enum import StrEnum
from statistics import fmean
from typing import Any

import msgspec

from console.core.bench import BenchPoint, Shape
from console.core.bench_compare import REPEATS_MIN, compare
from console.core.models import GpuReading, ProfileChange
from console.core.overrides import apply_changes, diff
from console.core.profile import Profile
from console.core.tune_parameters import Facts, Parameter, allowed

__all__ = [
    "GAIN_MIN",
    "Attempt",
    "Bounds",
    "Gain",
    "Search",
    "Verdict",
    "Workload",
    "decide",
    "gain_of",
    "next_candidate",
    "over_bound",
    "told",
]

GAIN_MIN = 0.02
"""A smaller gain is not worth other settings, however sure it is."""


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of the records here."""


class Workload(Record, frozen=True, kw_only=True):
    """What each setting is measured with."""

    shape: Shape = Shape.CHAT
    concurrency: int = 16
    requests: int = 64
    """Of one repeat."""
    repeats: int = REPEATS_MIN
    seed: int = 0
    """Of the first repeat; the next one takes the next number. The same before and after."""


class Verdict(StrEnum):
    """What a trial came to."""

    WON = "won"
    LOST = "lost"
    NOISE = "inside the noise"
    FAILED = "failed"
    """It did not serve, or requests failed."""


class Gain(Record, frozen=True, kw_only=True):
    """Output tokens per second after over before."""

    ratio: float
    """Of the geometric means."""
    low: float | None = None
    """Ends of its 95 % interval; `None` where there are too few repeats for one."""
    high: float | None = None
    repeats: int
    before_tokens_per_s: float
    after_tokens_per_s: float

    @property
    def text(self) -> str:
        """`3.2× output tok/s (3.0 to 3.4, 3 repeats)`."""
        times = "1 repeat" if self.repeats == 1 else f"{self.repeats} repeats"
        ends = f"{self.low:.3g} to {self.high:.3g}, " if self.low is not None and self.high is not None else ""
        return f"{self.ratio:.3g}× output tok/s ({ends}{times})"


class Attempt(Record, frozen=True, kw_only=True):
    """One trial: what was changed against the profile, and what came of it."""

    change: tuple[ProfileChange, ...]
    verdict: Verdict
    gain: Gain | None = None
    """Against the best before it."""
    points: tuple[BenchPoint, ...] = ()
    why: str = ""
    """Why it failed, or a word on the verdict."""
    duration_s: float = 0.0
    """Restart, warm-up and measurement."""


def gain_of(before: tuple[BenchPoint, ...], after: tuple[BenchPoint, ...]) -> Gain | None:
    """How output throughput changed; `None` if one side produced nothing."""
    overall = compare(before, after).overall
    if overall is None:
        return None
    return Gain(
        ratio=overall.ratio,
        low=overall.low,
        high=overall.high,
        repeats=overall.repeats,
        before_tokens_per_s=fmean(point.output_tokens_per_s for point in before),
        after_tokens_per_s=fmean(point.output_tokens_per_s for point in after),
    )


def decide(before: tuple[BenchPoint, ...], after: tuple[BenchPoint, ...]) -> tuple[Verdict, Gain | None, str]:
    """The verdict on `after`, the gain, and a word where the verdict needs one."""
    gain = gain_of(before, after)
    failed = sum(point.failed for point in after)
    if failed > sum(point.failed for point in before):
        return Verdict.FAILED, gain, f"{failed} of {failed + sum(point.completed for point in after)} requests failed"
    if gain is None:
        return Verdict.FAILED, None, "no tokens were produced"
    if gain.low is None or gain.high is None:
        return Verdict.NOISE, gain, f"{REPEATS_MIN} repeats are the least that can tell"
    if gain.low > 1 and gain.ratio >= 1 + GAIN_MIN:
        return Verdict.WON, gain, ""
    if gain.high < 1 and gain.ratio <= 1 - GAIN_MIN:
        return Verdict.LOST, gain, ""
    return Verdict.NOISE, gain, ""


class Bounds(Record, frozen=True, kw_only=True):
    """How far a search may go. `None` is no bound."""

    seconds: float | None = None
    usd: float | None = None
    usd_per_hour: float | None = None
    attempts: int = 20


def over_bound(bounds: Bounds, elapsed_s: float, attempts: tuple[Attempt, ...]) -> str:
    """Which bound another trial would break, in words; empty if none. A trial takes as long as the longest so far."""
    if len(attempts) >= bounds.attempts:
        return f"{bounds.attempts} trials were made"
    next_s = elapsed_s + max((attempt.duration_s for attempt in attempts), default=0.0)
    if bounds.seconds is not None and next_s > bounds.seconds:
        return f"another trial would take longer than {bounds.seconds / 60:.3g} min in all"
    if bounds.usd is not None and bounds.usd_per_hour is not None and next_s / 3600 * bounds.usd_per_hour > bounds.usd:
        return f"another trial would cost more than ${bounds.usd:.2f} in all"
    return ""


class Search(Record, frozen=True, kw_only=True):
    """A search under way."""

    profile: Profile
    """What it began with."""
    parameters: tuple[Parameter, ...]
    concurrency: int
    gpus: tuple[GpuReading, ...] = ()
    proposals: tuple[tuple[ProfileChange, ...], ...] = ()
    """Changes that hints propose; tried first."""
    best: tuple[ProfileChange, ...] = ()
    """Against `profile`."""
    attempts: tuple[Attempt, ...] = ()
    tried: frozenset[str] = frozenset()
    """Settings that were measured or refused."""
    place: int = 0
    """In `parameters`."""
    won_in_round: bool = False


def _name(change: tuple[ProfileChange, ...]) -> str:
    values = {each.key: each.after for each in change}
    return json.dumps(values, sort_keys=True, default=str)


def _with(search: Search, changes: tuple[ProfileChange, ...]) -> tuple[ProfileChange, ...]:
    """The best settings and these, as a difference to the profile."""
    both = apply_changes(apply_changes(search.profile, search.best), changes)
    return diff(search.profile, both)


def next_candidate(search: Search) -> tuple[Search, tuple[ProfileChange, ...] | None]:
    """The settings to try next as a difference to the profile; `None` if nothing is left that could gain."""
    rounds = 0
    keys = {row.key for row in search.parameters}
    for change in search.proposals:
        candidate = _with(search, change)
        if all(each.key in keys for each in change) and _untried(search, candidate):
            return search, candidate
    while rounds < 2 and search.parameters:
        if search.place >= len(search.parameters):
            if not search.won_in_round:
                return search, None
            search = msgspec.structs.replace(search, place=0, won_in_round=False)
            rounds += 1
        row = search.parameters[search.place]
        best = apply_changes(search.profile, search.best)
        facts = Facts(profile=best, start=search.profile, concurrency=search.concurrency, gpus=search.gpus)
        for value in row.values(facts):
            candidate = _with(search, (ProfileChange(key=row.key, after=value),))
            if _untried(search, candidate):
                return search, candidate
        search = msgspec.structs.replace(search, place=search.place + 1)
    return search, None


def _untried(search: Search, candidate: tuple[ProfileChange, ...]) -> bool:
    return bool(candidate) and _name(candidate) not in search.tried and allowed(search.profile, candidate, search.gpus)


def told(search: Search, attempt: Attempt) -> Search:
    """The search with what a trial came to."""
    won = attempt.verdict is Verdict.WON
    changes: dict[str, Any] = {
        "attempts": (*search.attempts, attempt),
        "tried": search.tried | {_name(attempt.change)} | ({_name(search.best)} if won else frozenset()),
    }
    if won:
        changes |= {"best": attempt.change, "won_in_round": True}
    return msgspec.structs.replace(search, **changes)
