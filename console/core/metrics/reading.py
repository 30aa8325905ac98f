"""How scrapes of one server become `EngineReading`s: every figure of the table, from the module that reckons it."""

from __future__ import annotations

import math

from console.core.kernels import LogFigures
from console.core.liveness import Marks
from console.core.metrics.engines import engine_shares, imbalance, marks_of
from console.core.metrics.goodput import goodput
from console.core.metrics.scrape import (
    by_label,
    cache_config,
    combined,
    highest_bound,
    http_errors,
    kv_cache_tokens,
    whole,
)
from console.core.metrics.session import Session
from console.core.metrics.table import (
    ACCEPTED,
    ACCEPTED_BY_POSITION,
    DECODE,
    DRAFT_TOKENS,
    DRAFTS,
    E2E,
    EXTERNAL_HITS,
    EXTERNAL_QUERIES,
    FINISHED,
    FLOPS,
    GENERATION,
    GENERATION_LENGTH,
    HITS,
    ITERATION,
    ITL,
    LENGTH_CAPPED,
    METRICS,
    PREEMPTIONS,
    PREFILL,
    PROMPT,
    PROMPT_BY_SOURCE,
    PROMPT_LENGTH,
    QUERIES,
    QUEUE,
    READ_BYTES,
    REJECTIONS,
    RUNNING,
    TPOT,
    TTFT,
    USAGE,
    WAITING,
    WAITING_BY_REASON,
    WRITE_BYTES,
    Families,
    Kind,
)
from console.core.metrics.windows import Windows
from console.core.models import EngineReading
from console.core.profile import TargetsSection

__all__ = ["EngineMetrics"]

SINGLE = tuple(row for row in METRICS if row.kind in (Kind.GAUGE, Kind.COUNTER))
NO_TARGETS = TargetsSection()
NOT_TOLD = LogFigures()


class EngineMetrics:
    """Turns scrapes of one server into readings. A new server gets a new one.

    Args:
        targets: `[targets]` of its profile.
        max_model_len: its longest context, where known: a bound of what any request can have had.
    """

    def __init__(self, targets: TargetsSection = NO_TARGETS, max_model_len: int | None = None) -> None:
        self._targets = targets
        self._max_model_len = max_model_len
        self._windows = Windows()
        self._session = Session()
        self.marks: Marks | None = None
        """Per engine what moves while it works, as of the last scrape (see `console.core.liveness`)."""

    def feed(self, families: Families, now_s: float, told: LogFigures = NOT_TOLD) -> EngineReading:
        """Take in one scrape; a missing family is `None`.

        Args:
            families: the scrape.
            now_s: when it was read, by a clock that never goes back.
            told: what the server's log says.
        """
        windows, session = self._windows, self._session
        windows.feed(families, now_s)
        values = {row.name: combined(families.get(row.name, ()), row) for row in SINGLE}
        running, waiting = whole(values[RUNNING]), whole(values[WAITING])
        session.feed(running, waiting, values[PROMPT], values[GENERATION], now_s)
        self.marks = marks_of(families)
        histograms = windows.histograms
        cache = cache_config(families)
        waiting_for = by_label(families.get(WAITING_BY_REASON, ()), "reason", Kind.GAUGE)
        reasons = by_label(families.get(FINISHED, ()), "finished_reason", Kind.COUNTER)
        shares = engine_shares(families, windows.counters[GENERATION].apart)
        prompts, answers, context = self._longest()
        engines = max(1, len({point.labels.get("engine", "") for point in families.get(RUNNING, ())}))
        return EngineReading(
            kv_cache_usage=values[USAGE],
            kv_cache_tokens=kv_cache_tokens(cache, told.kv_tokens, engines),
            step_tokens_max=told.step_tokens,
            kernels_compiled_total=told.kernels_compiled,
            kernel_compiling=told.kernel_compiling,
            prefix_caching=cache.prefix_caching,
            cache_dtype=cache.dtype,
            block_size=cache.block_size,
            running=running,
            waiting=waiting,
            running_peak=session.running_peak,
            waiting_peak=session.waiting_peak,
            waiting_capacity=whole(waiting_for.get("capacity")),
            waiting_deferred=whole(waiting_for.get("deferred")),
            prompt_tokens_per_s=windows.per_s(PROMPT),
            prompt_tokens_total=whole(values[PROMPT]),
            prompt_tokens_per_busy_s=session.prompt_per_busy_s,
            prompt_share_by_source=self._sources(),
            generation_tokens_per_s=windows.per_s(GENERATION),
            generation_tokens_total=whole(values[GENERATION]),
            generation_tokens_per_busy_s=session.generation_per_busy_s,
            busy_s=session.busy_s,
            idle_s=session.idle_s,
            iteration_tokens_mean=histograms[ITERATION].mean(),
            preemptions_total=whole(values[PREEMPTIONS]),
            preemptions_per_s=windows.per_s(PREEMPTIONS),
            prefix_cache_hit_rate=at_most_one(windows.share(HITS, QUERIES)),
            prefix_cache_hit_rate_total=at_most_one(ratio(values[HITS], values[QUERIES])),
            external_cache_hit_rate=at_most_one(windows.share(EXTERNAL_HITS, EXTERNAL_QUERIES)),
            ttft=histograms[TTFT].percentiles(),
            itl=histograms[ITL].percentiles(),
            tpot=histograms[TPOT].percentiles(),
            e2e=histograms[E2E].percentiles(),
            queue=histograms[QUEUE].percentiles(),
            prefill=histograms[PREFILL].percentiles(),
            decode=histograms[DECODE].percentiles(),
            prefill_share=self._prefill_share(),
            goodput=goodput(self._targets, histograms[TTFT], histograms[TPOT]),
            requests_finished_total=whole(values[FINISHED]),
            requests_per_s=windows.per_s(FINISHED),
            finished_by_reason={key: round(value) for key, value in reasons.items()} or None,
            length_capped_share=self._capped_share(),
            admission_rejections_total=whole(values[REJECTIONS]),
            http_errors_by_status=http_errors(families),
            prompt_lengths=histograms[PROMPT_LENGTH].lengths(),
            generation_lengths=histograms[GENERATION_LENGTH].lengths(),
            mean_prompt_tokens=histograms[PROMPT_LENGTH].mean(),
            mean_generation_tokens=histograms[GENERATION_LENGTH].mean(),
            longest_prompt_tokens=prompts,
            longest_generation_tokens=answers,
            longest_context_tokens=context,
            spec_acceptance_rate=windows.share(ACCEPTED, DRAFT_TOKENS),
            spec_accepted_length=None if (per_step := windows.share(ACCEPTED, DRAFTS)) is None else 1 + per_step,
            spec_acceptance_by_position=self._by_position(),
            engines=engines,
            by_engine=shares,
            imbalance=imbalance(shares),
            resets_total=windows.resets,
            flops_per_gpu_per_s=windows.per_s(FLOPS) if values[FLOPS] else None,
            memory_bytes_per_gpu_per_s=self._memory_traffic() if values[READ_BYTES] else None,
        )

    def _sources(self) -> dict[str, float] | None:
        grown = self._windows.increase_apart(PROMPT_BY_SOURCE)
        total = math.fsum(grown.values())
        return {name: value / total for name, value in grown.items()} if total else None

    def _prefill_share(self) -> float | None:
        prefill, decode = self._windows.histograms[PREFILL].grown, self._windows.histograms[DECODE].grown
        if prefill is None or decode is None:
            return None
        return ratio(prefill.total, prefill.total + decode.total)

    def _capped_share(self) -> float | None:
        grown = self._windows.increase_apart(FINISHED)
        return ratio(grown.get(LENGTH_CAPPED, 0.0), math.fsum(grown.values()))

    def _by_position(self) -> tuple[float, ...] | None:
        """Share of draft steps whose token at that position was accepted, first position first."""
        drafts = self._windows.increase(DRAFTS)
        apart = self._windows.increase_apart(ACCEPTED_BY_POSITION)
        grown = {int(key): value for key, value in apart.items() if key.isdecimal()}
        if not drafts or not grown:
            return None
        return tuple(grown[position] / drafts for position in sorted(grown))

    def _longest(self) -> tuple[int | None, int | None, int | None]:
        """Upper bounds of the longest prompt, the longest answer and the longest request, of those that finished.

        A bucket above all bounds says nothing by itself, but no request is longer than `max_model_len`.
        """
        limit = math.inf if self._max_model_len is None else float(self._max_model_len)
        tops = [
            None if (all_of_it := self._windows.histograms[name].since_start) is None else highest_bound(all_of_it)
            for name in (PROMPT_LENGTH, GENERATION_LENGTH)
        ]
        known = [top for top in tops if top is not None]
        both = min(limit, math.fsum(known)) if len(known) == 2 else None
        prompt, answer = (None if top is None else min(limit, top) for top in tops)
        return whole(prompt), whole(answer), whole(both)

    def _memory_traffic(self) -> float | None:
        parts = (self._windows.per_s(READ_BYTES), self._windows.per_s(WRITE_BYTES))
        return None if parts[0] is None else math.fsum(part or 0.0 for part in parts)


def ratio(part: float | None, of: float | None) -> float | None:
    """`None` where there is nothing to divide by."""
    return None if part is None or not of else part / of


def at_most_one(share: float | None) -> float | None:
    """Two counters of one scrape may be a step apart."""
    return None if share is None else min(1.0, share)
