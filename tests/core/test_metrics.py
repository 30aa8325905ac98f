from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from console.core.kernels import LogFigures
from console.core.metrics import METRICS, OF_NO_FAMILY, SAMPLE_NAMES, EngineMetrics, Families, Kind, Point
from console.core.models import EngineReading

Labels = Mapping[str, str]


def gauge(*values: float, **labels: str) -> tuple[Point, ...]:
    return tuple(Point("", {"engine": str(index), **labels}, value) for index, value in enumerate(values))


def counter(*values: float) -> tuple[Point, ...]:
    return tuple(Point("_total", {"engine": str(index)}, value) for index, value in enumerate(values))


def histogram(counts: Mapping[str, float], total: float, engine: str = "0") -> tuple[Point, ...]:
    lines = [Point("_bucket", {"engine": engine, "le": bound}, count) for bound, count in counts.items()]
    return (*lines, Point("_sum", {"engine": engine}, total), Point("_count", {"engine": engine}, counts["+Inf"]))


def cache_info(**labels: str) -> Point:
    return Point("", labels, 1.0)


def feed(*scrapes: Families, step_s: float = 1.0) -> EngineReading:
    metrics = EngineMetrics()
    readings = [metrics.feed(scrape, index * step_s) for index, scrape in enumerate(scrapes)]
    return readings[-1]


def test_table_names_each_family_once_and_covers_the_reading() -> None:
    names = [row.name for row in METRICS]
    assert len(names) == len(set(names))
    assert {name for name in names if not name.startswith("vllm:")} == {"http_requests"}
    assert not any(row.name.endswith("_total") for row in METRICS if row.kind is not Kind.HISTOGRAM)
    fields = {field.name for field in msgspec.structs.fields(EngineReading)}
    assert {field for row in METRICS for field in row.fields} | set(OF_NO_FAMILY) == fields
    assert all(row.label and row.window_s > 0 for row in METRICS)


def test_sample_names_follow_the_kind() -> None:
    assert SAMPLE_NAMES["vllm:prompt_tokens_total"] == ("vllm:prompt_tokens", "_total")
    assert SAMPLE_NAMES["vllm:num_requests_running"] == ("vllm:num_requests_running", "")
    histograms = [row.name for row in METRICS if row.kind is Kind.HISTOGRAM]
    assert all(f"{name}_bucket" in SAMPLE_NAMES for name in histograms)


def test_missing_families_are_unknown_and_not_zero() -> None:
    reading = feed({}, {})
    known: dict[str, Any] = {
        field.name: getattr(reading, field.name)
        for field in msgspec.structs.fields(EngineReading)
        if getattr(reading, field.name) is not None
    }
    assert known == {"engines": 1, "by_engine": (), "resets_total": 0, "busy_s": 0.0, "idle_s": 0.0}


def test_engines_are_added_up_or_averaged() -> None:
    reading = feed(
        {
            "vllm:kv_cache_usage_perc": gauge(0.2, 0.6),
            "vllm:num_requests_running": gauge(3, 4),
            "vllm:num_requests_waiting": gauge(0, 2),
            "vllm:generation_tokens": counter(10, 20),
        },
        {
            "vllm:kv_cache_usage_perc": gauge(0.2, 0.6),
            "vllm:num_requests_running": gauge(3, 4),
            "vllm:num_requests_waiting": gauge(0, 2),
            "vllm:generation_tokens": counter(110, 220),
        },
    )
    assert reading.kv_cache_usage == pytest.approx(0.4)
    assert (reading.running, reading.waiting, reading.engines) == (7, 2, 2)
    assert reading.generation_tokens_total == 330
    assert reading.generation_tokens_per_s == 300


def test_series_of_one_engine_are_added_up() -> None:
    reasons = [Point("_total", {"engine": "0", "finished_reason": reason}, 2.0) for reason in ("stop", "length")]
    assert feed({"vllm:request_success": reasons}).requests_finished_total == 4


def test_a_family_that_vanishes_becomes_unknown() -> None:
    first = {"vllm:generation_tokens": counter(10), "vllm:num_requests_running": gauge(1)}
    second = {"vllm:generation_tokens": counter(20), "vllm:num_requests_running": gauge(1)}
    reading = feed(first, second, {"vllm:num_requests_running": gauge(1)})
    assert reading.generation_tokens_per_s is None
    assert reading.generation_tokens_total is None


def test_not_a_number_is_unknown() -> None:
    assert feed({"vllm:kv_cache_usage_perc": gauge(float("nan"))}).kv_cache_usage is None


def test_latency_of_two_engines() -> None:
    name = "vllm:time_to_first_token_seconds"
    before = {"0.1": 0.0, "0.2": 0.0, "+Inf": 0.0}
    after = {"0.1": 0.0, "0.2": 10.0, "+Inf": 10.0}
    scrapes = [{name: histogram(counts, 0.0, "0") + histogram(counts, 0.0, "1")} for counts in (before, after)]
    ttft = feed(*scrapes).ttft
    assert ttft is not None
    assert ttft.count == 20
    assert ttft.p50_s == pytest.approx(0.15)
    assert ttft.p99_s == pytest.approx(0.199)


def test_no_request_in_the_window_means_no_percentile() -> None:
    scrape = {"vllm:time_to_first_token_seconds": histogram({"0.1": 5.0, "+Inf": 5.0}, 0.2)}
    ttft = feed(scrape, scrape).ttft
    assert ttft is not None
    assert (ttft.count, ttft.p50_s) == (0, None)


@pytest.mark.parametrize("counts", [{"0.1": 1.0}, {"+Inf": 1.0}, {"what": 1.0, "+Inf": 2.0}])
def test_a_broken_histogram_is_unknown(counts: Mapping[str, float]) -> None:
    points = [Point("_bucket", {"le": bound}, count) for bound, count in counts.items()]
    scrape = {"vllm:time_to_first_token_seconds": points}
    assert feed(scrape, scrape).ttft is None


def test_hit_rate_of_the_window() -> None:
    def scrape(looked_up: float, found: float) -> Families:
        return {"vllm:prefix_cache_queries": counter(looked_up), "vllm:prefix_cache_hits": counter(found)}

    assert feed(scrape(1000, 0), scrape(1000, 0)).prefix_cache_hit_rate is None
    assert feed(scrape(1000, 0), scrape(1400, 300)).prefix_cache_hit_rate == 0.75


def test_mean_lengths_of_the_window() -> None:
    def scrape(count: float, prompts: float, answers: float) -> Families:
        counts = {"100.0": count, "+Inf": count}
        return {
            "vllm:request_prompt_tokens": histogram(counts, prompts),
            "vllm:request_generation_tokens": histogram(counts, answers),
        }

    reading = feed(scrape(10, 5000, 10), scrape(14, 5256, 138))
    assert (reading.mean_prompt_tokens, reading.mean_generation_tokens) == (64.0, 32.0)


@pytest.mark.parametrize(
    ("infos", "tokens"),
    [
        ([{"engine": "0", "kv_cache_size_tokens": "2097152", "num_gpu_blocks": "9", "block_size": "16"}], 2_097_152),
        # Data parallel: tokens are one engine's, blocks are the sum of all engines in each.
        ([{"engine": e, "kv_cache_size_tokens": "500"} for e in "01"], 1000),
        ([{"engine": e, "num_gpu_blocks": "100", "block_size": "16"} for e in "01"], 1600),
        # Two API servers that show the same engine with different labels.
        ([{"engine": "0", "kv_cache_size_tokens": "500", "seen_by": who} for who in "ab"], 500),
        ([{"engine": "0", "kv_cache_size_tokens": "None", "num_gpu_blocks": "4", "block_size": "128"}], 512),
        ([{"engine": "0", "kv_cache_size_tokens": "None", "num_gpu_blocks": "None"}], None),
        ([], None),
    ],
)
def test_cache_size(infos: list[dict[str, str]], tokens: int | None) -> None:
    scrape = {"vllm:cache_config_info": [cache_info(**info) for info in infos]}
    assert feed(scrape).kv_cache_tokens == tokens


@pytest.mark.parametrize(
    ("stated", "blocks", "size", "printed", "tokens"),
    [
        ("None", "927189", "2", 4_865_499, 4_865_499),  # six layers of V4-Flash on one H200: blocks say 1,854,378
        ("361783", "43622", "4", 885_355, 885_355),  # V4-Flash whole on two
        ("2097152", "131072", "16", 2_097_000, 2_097_152),
        ("2097152", "131072", "16", None, 2_097_152),
    ],
)
def test_a_cache_of_several_kinds_is_as_large_as_the_log_says(
    stated: str, blocks: str, size: str, printed: int | None, tokens: int
) -> None:
    """V4 with vLLM 0.26, as its `/metrics` and its log were on H200; then models whose layers are all of one kind."""
    info = cache_info(engine="0", kv_cache_size_tokens=stated, num_gpu_blocks=blocks, block_size=size)
    reading = EngineMetrics().feed({"vllm:cache_config_info": [info]}, 0.0, LogFigures(kv_tokens=printed))
    assert reading.kv_cache_tokens == tokens


def test_the_log_has_one_engines_cache() -> None:
    scrape = {"vllm:num_requests_running": [Point("", {"engine": each}, 0.0) for each in "01"]}
    assert EngineMetrics().feed(scrape, 0.0, LogFigures(kv_tokens=832_707)).kv_cache_tokens == 2 * 832_707
