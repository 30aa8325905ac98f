"""Every figure of an `EngineReading`, from expositions made by hand."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.core.metrics import EngineMetrics, Families, Point
from console.core.metrics.goodput import share_within
from console.core.metrics.session import GAP_MAX_S
from console.core.models import EngineReading
from console.core.profile import TargetsSection
from console.core.series import Buckets, quantile

TTFT = "vllm:time_to_first_token_seconds"
TPOT = "vllm:request_time_per_output_token_seconds"
LATENCIES = {
    "ttft": TTFT,
    "itl": "vllm:inter_token_latency_seconds",
    "tpot": TPOT,
    "e2e": "vllm:e2e_request_latency_seconds",
    "queue": "vllm:request_queue_time_seconds",
    "prefill": "vllm:request_prefill_time_seconds",
    "decode": "vllm:request_decode_time_seconds",
}
BOUNDS = (0.1, 0.2, 0.4)


def counter(values: Mapping[str, float] | float, label: str = "", engine: str = "0") -> list[Point]:
    split = {"": float(values)} if isinstance(values, int | float) else values
    return [
        Point("_total", {"engine": engine} | ({label: name} if label else {}), value) for name, value in split.items()
    ]


def gauge(*values: float) -> list[Point]:
    return [Point("", {"engine": str(index)}, value) for index, value in enumerate(values)]


def histogram(
    seen: Sequence[float], bounds: Sequence[float] = BOUNDS, engine: str = "0", total: float | None = None
) -> list[Point]:
    """What an exposition shows after these observations."""
    lines = [
        Point("_bucket", {"engine": engine, "le": f"{bound}"}, float(sum(value <= bound for value in seen)))
        for bound in bounds
    ]
    last = Point("_bucket", {"engine": engine, "le": "+Inf"}, float(len(seen)))
    return [*lines, last, Point("_sum", {"engine": engine}, math.fsum(seen) if total is None else total)]


def feed(*scrapes: Families, targets: TargetsSection | None = None, limit: int | None = None) -> EngineReading:
    metrics = EngineMetrics(targets or TargetsSection(), limit)
    readings = [metrics.feed(scrape, float(second)) for second, scrape in enumerate(scrapes)]
    return readings[-1]


@pytest.mark.parametrize(("field", "name"), LATENCIES.items())
def test_each_latency_comes_from_its_histogram(field: str, name: str) -> None:
    reading = feed({name: histogram([])}, {name: histogram([0.15] * 10)})
    value = getattr(reading, field)
    assert (value.count, value.p50_s) == (10, pytest.approx(0.15))
    assert (value.mean_s, value.lowest_bound_s) == (pytest.approx(0.15), 0.1)
    others = set(LATENCIES) - {field}
    assert all(getattr(reading, other) is None for other in others)


def test_bounds_are_those_of_the_exposition() -> None:
    custom = (0.003, 0.007, 9000.0)
    reading = feed({TTFT: histogram([], custom)}, {TTFT: histogram([0.005] * 4, custom)})
    assert reading.ttft is not None
    assert reading.ttft.p50_s == pytest.approx(0.005)


def test_other_bounds_are_another_server() -> None:
    reading = feed(
        {TTFT: histogram([0.15] * 50)},
        {TTFT: histogram([0.005] * 50, (0.01, 0.02))},
        {TTFT: histogram([0.005] * 52, (0.01, 0.02))},
    )
    assert reading.ttft is not None
    assert (reading.ttft.count, reading.resets_total) == (2, 1)


def test_prefill_share_of_the_time_in_prefill_and_decode() -> None:
    prefill, decode = LATENCIES["prefill"], LATENCIES["decode"]
    before = {prefill: histogram([]), decode: histogram([])}
    after = {prefill: histogram([1.0, 1.0]), decode: histogram([3.0, 3.0])}
    assert feed(before, before).prefill_share is None
    assert feed(before, after).prefill_share == 0.25


def test_waiting_by_reason() -> None:
    points = [
        Point("", {"engine": engine, "reason": reason}, value)
        for engine, reason, value in (("0", "capacity", 3.0), ("1", "capacity", 2.0), ("0", "deferred", 1.0))
    ]
    reading = feed({"vllm:num_requests_waiting_by_reason": points})
    assert (reading.waiting_capacity, reading.waiting_deferred) == (5, 1)


def test_finished_by_reason_and_share_cut_at_the_length_cap() -> None:
    def scrape(stop: float, length: float) -> Families:
        return {"vllm:request_success": counter({"stop": stop, "length": length, "abort": 1}, "finished_reason")}

    reading = feed(scrape(90, 10), scrape(93, 11))
    assert reading.finished_by_reason == {"stop": 93, "length": 11, "abort": 1}
    assert reading.length_capped_share == 0.25
    assert reading.requests_per_s == 4
    assert feed(scrape(90, 10), scrape(90, 10)).length_capped_share is None


def test_speculation() -> None:
    def scrape(drafts: float, drafted: float, accepted: float, by_position: Sequence[float]) -> Families:
        positions = {str(index): value for index, value in enumerate(by_position)}
        return {
            "vllm:spec_decode_num_drafts": counter(drafts),
            "vllm:spec_decode_num_draft_tokens": counter(drafted),
            "vllm:spec_decode_num_accepted_tokens": counter(accepted),
            "vllm:spec_decode_num_accepted_tokens_per_pos": counter(positions, "position"),
        }

    before = scrape(100, 300, 10, (5, 3, 2))
    # 50 steps of 3 drafts: 40, 20 and 10 of each position accepted.
    reading = feed(before, scrape(150, 450, 80, (45, 23, 12)))
    assert reading.spec_acceptance_rate == pytest.approx(70 / 150)
    assert reading.spec_accepted_length == pytest.approx(1 + 70 / 50)
    assert reading.spec_acceptance_by_position == pytest.approx((0.8, 0.4, 0.2))
    silent = feed(before, before)
    assert (silent.spec_acceptance_rate, silent.spec_accepted_length, silent.spec_acceptance_by_position) == (None,) * 3


def test_positions_are_in_numeric_order() -> None:
    def scrape(value: float) -> Families:
        positions = {str(index): value * (12 - index) for index in (10, 2, 1, 0, 11, 3, 4, 5, 6, 7, 8, 9)}
        return {
            "vllm:spec_decode_num_drafts": counter(value * 12),
            "vllm:spec_decode_num_accepted_tokens_per_pos": counter(positions, "position"),
        }

    rates = feed(scrape(1), scrape(2)).spec_acceptance_by_position
    assert rates == pytest.approx(tuple((12 - index) / 12 for index in range(12)))


def test_rejections_have_no_engine() -> None:
    points = [Point("_total", {"model_name": "m", "reason": reason}, 2.0) for reason in ("a", "b")]
    assert feed({"vllm:admission_rejections": points}).admission_rejections_total == 4


def test_http_errors_are_those_of_v1() -> None:
    def answer(handler: str, status: str, count: float) -> Point:
        return Point("_total", {"handler": handler, "method": "POST", "status": status}, count)

    answers = [
        answer("/v1/chat/completions", "2xx", 100),
        answer("/v1/chat/completions", "4xx", 3),
        answer("/v1/completions", "404", 2),
        answer("/v1/completions", "5xx", 1),
        answer("/tokenize", "5xx", 50),
        answer("none", "4xx", 50),
    ]
    assert feed({"http_requests": answers}).http_errors_by_status == {"4xx": 5, "5xx": 1}
    assert feed({"http_requests": answers[:1]}).http_errors_by_status == {"4xx": 0, "5xx": 0}


def test_lengths_and_the_longest() -> None:
    prompts, answers = "vllm:request_prompt_tokens", "vllm:request_generation_tokens"
    bounds = (10.0, 100.0, 1000.0)
    start = {prompts: histogram([900.0], bounds), answers: histogram([5.0], bounds)}
    now = {prompts: histogram([900.0, *[50.0] * 4], bounds), answers: histogram([5.0, *[8.0] * 4], bounds)}
    reading = feed(start, now, limit=2048)
    assert reading.prompt_lengths is not None
    assert (reading.prompt_lengths.mean, reading.prompt_lengths.count) == (50, 4)
    assert reading.prompt_lengths.p50 == 55
    assert reading.generation_lengths is not None
    assert reading.generation_lengths.mean == reading.mean_generation_tokens == 8
    longest = (reading.longest_prompt_tokens, reading.longest_generation_tokens, reading.longest_context_tokens)
    assert longest == (1000, 10, 1010)
    assert feed(start, now, limit=950).longest_context_tokens == 950
    # Above the highest bound only the server's own limit is one.
    above = {prompts: histogram([1020.0], bounds), answers: histogram([5.0], bounds)}
    assert feed(above, limit=1024).longest_context_tokens == 1024
    assert feed(above).longest_context_tokens is None
    assert feed({prompts: histogram([], bounds), answers: histogram([], bounds)}).longest_context_tokens is None


def test_tokens_per_step() -> None:
    name = "vllm:iteration_tokens_total"
    bounds = (1.0, 8.0)
    assert feed({name: histogram([4.0], bounds)}, {name: histogram([4.0, 8.0, 2.0], bounds)}).iteration_tokens_mean == 5


def test_the_cache_as_it_was_set_up() -> None:
    labels = {"engine": "0", "enable_prefix_caching": "True", "cache_dtype": "fp8", "block_size": "256"}
    reading = feed({"vllm:cache_config_info": [Point("", labels, 1.0)]})
    assert (reading.prefix_caching, reading.cache_dtype, reading.block_size) == (True, "fp8", 256)
    other = {"engine": "0", "enable_prefix_caching": "None", "block_size": "None"}
    reading = feed({"vllm:cache_config_info": [Point("", other, 1.0)]})
    assert (reading.prefix_caching, reading.cache_dtype, reading.block_size) == (None, None, None)


def test_where_prompt_tokens_came_from() -> None:
    def scrape(computed: float, cached: float) -> Families:
        sources = {"local_compute": computed, "local_cache_hit": cached, "external_kv_transfer": 0.0}
        return {
            "vllm:prompt_tokens_by_source": counter(sources, "source"),
            "vllm:prefix_cache_queries": counter(computed + cached),
            "vllm:prefix_cache_hits": counter(cached),
            "vllm:external_prefix_cache_queries": counter(computed),
            "vllm:external_prefix_cache_hits": counter(computed / 2),
        }

    reading = feed(scrape(1000, 0), scrape(1100, 300))
    assert reading.prompt_share_by_source == {"local_compute": 0.25, "local_cache_hit": 0.75, "external_kv_transfer": 0}
    assert (reading.prefix_cache_hit_rate, reading.prefix_cache_hit_rate_total) == (0.75, 300 / 1400)
    assert reading.external_cache_hit_rate == 0.5
    assert feed(scrape(1000, 0), scrape(1000, 0)).prompt_share_by_source is None


def test_estimated_work_is_unknown_while_it_is_not_counted() -> None:
    names = ("vllm:estimated_flops_per_gpu", "vllm:estimated_read_bytes_per_gpu", "vllm:estimated_write_bytes_per_gpu")
    reading = feed(*({name: counter(0.0) for name in names} for _ in range(2)))
    assert (reading.flops_per_gpu_per_s, reading.memory_bytes_per_gpu_per_s) == (None, None)
    reading = feed({name: counter(1.0) for name in names}, {name: counter(5.0) for name in names})
    assert (reading.flops_per_gpu_per_s, reading.memory_bytes_per_gpu_per_s) == (4, 8)


def test_several_engines_one_by_one() -> None:
    def scrape(*tokens: float) -> Families:
        return {
            "vllm:num_requests_running": gauge(6, 2),
            "vllm:num_requests_waiting": gauge(4, 0),
            "vllm:kv_cache_usage_perc": gauge(0.9, 0.1),
            "vllm:generation_tokens": [
                point for index, value in enumerate(tokens) for point in counter(value, engine=str(index))
            ],
        }

    reading = feed(scrape(0, 0), scrape(300, 100))
    assert [(one.engine, one.running, one.waiting, one.kv_cache_usage) for one in reading.by_engine] == [
        ("0", 6, 4, 0.9),
        ("1", 2, 0, 0.1),
    ]
    assert [one.generation_tokens_per_s for one in reading.by_engine] == [300, 100]
    assert reading.imbalance == pytest.approx(10 / 6)
    assert reading.generation_tokens_per_s == 400


def test_engines_are_in_numeric_order_and_one_is_not_told_apart() -> None:
    many = feed({"vllm:num_requests_running": gauge(*[1.0] * 12)})
    assert [one.engine for one in many.by_engine] == [str(index) for index in range(12)]
    assert many.imbalance == 1
    one = feed({"vllm:num_requests_running": gauge(5)})
    assert (one.by_engine, one.imbalance) == ((), None)
    assert feed({"vllm:num_requests_running": gauge(0, 0)}).imbalance is None


def test_a_gauge_that_several_api_servers_show_counts_once() -> None:
    points = [Point("", {"engine": "0", "pid": pid}, value) for pid, value in (("11", 3.0), ("12", 5.0))]
    reading = feed({"vllm:num_requests_running": points, "vllm:kv_cache_usage_perc": points[:1]})
    assert (reading.running, reading.engines, reading.by_engine) == (5, 1, ())


def test_a_reset_of_one_engine_is_no_loss() -> None:
    def scrape(*tokens: float) -> Families:
        return {
            "vllm:generation_tokens": [
                point for index, value in enumerate(tokens) for point in counter(value, engine=str(index))
            ],
        }

    # Engine 1 starts again at zero and makes 50 tokens; engine 0 makes 100.
    reading = feed(scrape(1000, 1000), scrape(1100, 50))
    assert reading.generation_tokens_per_s == 150
    assert reading.resets_total == 1
    # Totals are the server's own.
    assert reading.generation_tokens_total == 1150


def test_resets_are_counted_once_per_scrape() -> None:
    def scrape(value: float) -> Families:
        seen = [0.15] * int(value)
        return {
            "vllm:generation_tokens": counter(value),
            "vllm:prompt_tokens": counter(value),
            TTFT: histogram(seen),
        }

    assert feed(scrape(10), scrape(12)).resets_total == 0
    assert feed(scrape(10), scrape(2)).resets_total == 1
    again = feed(scrape(10), scrape(2), scrape(6), scrape(1))
    assert again.resets_total == 2
    assert again.ttft is not None
    assert again.ttft.count == 2 + 4 + 1


def test_the_latency_of_one_engine_that_starts_again() -> None:
    def scrape(first: int, second: int) -> Families:
        return {TTFT: histogram([0.15] * first, engine="0") + histogram([0.3] * second, engine="1")}

    reading = feed(scrape(10, 100), scrape(20, 5))
    assert reading.ttft is not None
    assert (reading.ttft.count, reading.resets_total) == (15, 1)


def test_a_series_that_appears_later_began_at_zero() -> None:
    name = "vllm:request_success"
    first = {name: counter({"stop": 5}, "finished_reason")}
    second = {name: counter({"stop": 6, "length": 3}, "finished_reason")}
    assert feed(first, second).length_capped_share == 0.75


def test_a_counter_with_too_many_series_is_watched_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    from console.core.metrics import windows

    monkeypatch.setattr(windows, "SERIES_KEPT_MAX", 5)
    counted = windows.Counter(next(row for row in windows.METRICS if row.name == "http_requests"))
    for second in range(40):
        counted.feed([Point("_total", {"status": f"{second}"}, 1.0)], float(second))
        assert len(counted._last) <= 6
        assert len(counted.apart) <= 6


@given(st.lists(st.lists(st.integers(0, 1000), min_size=2, max_size=2), min_size=2, max_size=20))
def test_growth_is_never_negative_and_adds_up(values: list[list[int]]) -> None:
    """Per engine, what grew is what a reader who knows of each reset would add up."""
    expected = 0
    for before, after in pairwise(values):
        expected += sum(new - old if new >= old else new for old, new in zip(before, after, strict=True))
    scrapes = [
        {"vllm:num_preemptions": [p for index, value in enumerate(row) for p in counter(value, engine=str(index))]}
        for row in values
    ]
    reading = feed(*scrapes)
    assert reading.preemptions_per_s == pytest.approx(expected / (len(values) - 1))
    assert reading.resets_total == sum(
        any(new < old for old, new in zip(before, after, strict=True)) for before, after in pairwise(values)
    )


def test_peaks_and_time_while_requests_run() -> None:
    metrics = EngineMetrics()

    def scrape(running: float, waiting: float, tokens: float) -> Families:
        return {
            "vllm:num_requests_running": gauge(running),
            "vllm:num_requests_waiting": gauge(waiting),
            "vllm:generation_tokens": counter(tokens),
            "vllm:prompt_tokens": counter(tokens / 2),
        }

    metrics.feed(scrape(0, 0, 0), 0.0)
    metrics.feed(scrape(8, 5, 100), 1.0)
    metrics.feed(scrape(4, 0, 300), 2.0)
    metrics.feed(scrape(0, 0, 300), 5.0)
    reading = metrics.feed(scrape(2, 0, 900), 5.0 + GAP_MAX_S + 1)
    assert (reading.running_peak, reading.waiting_peak) == (8, 5)
    assert (reading.busy_s, reading.idle_s) == (2, 3)
    assert (reading.generation_tokens_per_busy_s, reading.prompt_tokens_per_busy_s) == (150, 75)


def goodput_of(
    ttfts: Sequence[float], tpots: Sequence[float], ttft_s: float | None, tpot_s: float | None
) -> EngineReading:
    before = {TTFT: histogram([]), TPOT: histogram([])}
    after = {TTFT: histogram(ttfts), TPOT: histogram(tpots)}
    return feed(before, after, targets=TargetsSection(ttft_s=ttft_s, tpot_s=tpot_s))


def test_goodput_of_two_targets_is_a_range() -> None:
    # 8 of 10 first tokens in time, 7 of 10 requests fast enough: between 5 and 7 of 10 met both.
    found = goodput_of([0.05] * 8 + [0.3] * 2, [0.05] * 7 + [0.3] * 3, 0.1, 0.2).goodput
    assert found is not None
    assert (found.share_min, found.share_max) == (pytest.approx(0.5), pytest.approx(0.7))
    assert (found.per_s_min, found.per_s_max) == (pytest.approx(5), pytest.approx(7))
    assert (found.ttft_share, found.tpot_share) == (0.8, 0.7)


@pytest.mark.parametrize(("ttft_s", "tpot_s", "share"), [(0.1, None, 0.8), (None, 0.2, 0.7)])
def test_goodput_of_one_target_is_a_point(ttft_s: float | None, tpot_s: float | None, share: float) -> None:
    found = goodput_of([0.05] * 8 + [0.3] * 2, [0.05] * 7 + [0.3] * 3, ttft_s, tpot_s).goodput
    assert found is not None
    assert found.share_min == found.share_max == share
    assert found.per_s_min == found.per_s_max == pytest.approx(share * 10)


def test_goodput_is_unknown_without_target_or_request() -> None:
    assert goodput_of([0.05], [0.05], None, None).goodput is None
    assert goodput_of([], [], 0.1, 0.1).goodput is None
    # First tokens came, nothing has finished: there is no request to count yet.
    only = goodput_of([0.05], [], 0.1, 0.1).goodput
    assert only is not None
    assert (only.per_s_max, only.share_min, only.share_max) == (0, 0, 1)


outcomes = st.lists(st.tuples(st.sampled_from((0.05, 0.3)), st.sampled_from((0.05, 0.3))), min_size=1, max_size=40)


@given(outcomes)
def test_goodput_holds_the_truth_however_requests_pair(requests: list[tuple[float, float]]) -> None:
    ttfts, tpots = zip(*requests, strict=True)
    found = goodput_of(ttfts, tpots, 0.1, 0.1).goodput
    assert found is not None
    truth = sum(first <= 0.1 and each <= 0.1 for first, each in requests) / len(requests)
    assert found.share_min - 1e-9 <= truth <= found.share_max + 1e-9


@given(st.lists(st.integers(0, 50), min_size=4, max_size=4), st.floats(0.001, 1.0))
def test_a_share_within_a_target_agrees_with_the_percentile(inside: list[int], limit: float) -> None:
    counts = tuple(float(value) for value in accumulate(inside))
    grown = Buckets((*BOUNDS, math.inf), counts, 0.0)
    share = share_within(limit, grown)
    if counts[-1] == 0:
        assert share is None
        return
    assert share is not None
    assert 0 <= share <= 1
    middle = quantile(share, grown.bounds, grown.counts)
    assert middle is not None
    if share > 0 and limit <= BOUNDS[-1]:
        # The quantile of that share is the limit, or the place before it from which on nothing was observed.
        assert middle <= limit + 1e-9
        assert share_within(middle, grown) == pytest.approx(share)


def test_a_target_beyond_the_last_bound_counts_what_is_below_it() -> None:
    grown = Buckets((*BOUNDS, math.inf), (1.0, 2.0, 3.0, 4.0), 0.0)
    assert share_within(50.0, grown) == 0.75
