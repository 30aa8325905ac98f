from __future__ import annotations

import contextlib
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.core.metrics import METRICS, EngineMetrics
from console.io import prometheus
from console.io.prometheus import ExpositionReader, MetricsError

DATA = Path(__file__).parent.parent / "data" / "metrics"
RECORDED = (DATA / "metrics-after-bench.txt").read_text()
PARALLEL = (DATA / "metrics-dp2-speculation.txt").read_text()
"""Two engines behind two API servers (multiprocess mode), with n-gram speculation, after 100 requests."""


def zeroed(body: str) -> str:
    """The same server before its first request."""
    return re.sub(r"^(vllm:(?!cache_config)\S*) \S+$", r"\1 0.0", body, flags=re.MULTILINE)


ZEROED = zeroed(RECORDED)


def test_recorded_scrape_gives_the_totals_of_the_benchmark() -> None:
    # 40 requests, 2,592 prompt and 1,280 output tokens: what `vllm bench serve` reported for this run.
    reading = EngineMetrics().feed(ExpositionReader().read(RECORDED), 0.0)
    assert reading.requests_finished_total == 40
    assert reading.prompt_tokens_total == 2592
    assert reading.generation_tokens_total == 1280
    assert reading.kv_cache_tokens == 2_097_152
    assert (reading.running, reading.waiting, reading.preemptions_total) == (0, 0, 0)


def test_recorded_scrape_gives_latencies_and_lengths() -> None:
    reader, metrics = ExpositionReader(), EngineMetrics()
    metrics.feed(reader.read(ZEROED), 0.0)
    reading = metrics.feed(reader.read(RECORDED), 4.0)
    assert reading.ttft is not None
    assert reading.ttft.count == 40
    # 20 of 40 lie at or below 0.02 s, 32 below 0.04 s, all below 0.06 s.
    assert reading.ttft.p50_s == pytest.approx(0.02)
    assert reading.ttft.p95_s == pytest.approx(0.04 + 0.02 * 6 / 8)
    assert reading.itl is not None
    assert reading.itl.count == 1240
    assert reading.generation_tokens_per_s == 320
    assert reading.prefix_cache_hit_rate == 0
    assert reading.mean_prompt_tokens == pytest.approx(64.8)
    assert reading.mean_generation_tokens == 32


def test_two_engines_and_speculation_as_recorded() -> None:
    reader, metrics = ExpositionReader(), EngineMetrics(max_model_len=1024)
    metrics.feed(reader.read(zeroed(PARALLEL)), 0.0)
    reading = metrics.feed(reader.read(PARALLEL), 10.0)
    # What `vllm bench serve` reported for this run.
    assert reading.requests_finished_total == 100
    assert (reading.prompt_tokens_total, reading.generation_tokens_total) == (6400, 10_000)
    assert reading.spec_acceptance_rate == pytest.approx(0.007032563828160832)
    assert reading.spec_accepted_length == pytest.approx(1.0207956600361663)
    assert reading.spec_acceptance_by_position == pytest.approx((34 / 2212, 12 / 2212, 0))
    assert reading.finished_by_reason == {"stop": 0, "length": 100, "abort": 0, "error": 0, "repetition": 0}
    assert reading.http_errors_by_status == {"4xx": 0, "5xx": 0}
    # Both engines, each with its own share.
    assert reading.engines == 2
    assert [(one.engine, one.generation_tokens_per_s) for one in reading.by_engine] == [("0", 490), ("1", 510)]
    assert reading.kv_cache_tokens == 2 * 2_097_152
    assert (reading.prefix_caching, reading.cache_dtype, reading.block_size) == (True, "auto", 128)
    for latency in (reading.ttft, reading.tpot, reading.e2e, reading.queue, reading.prefill, reading.decode):
        assert latency is not None
        assert latency.count == 100
    assert reading.prefill_share == pytest.approx(11.12194 / (11.12194 + 82.66068), rel=1e-5)
    assert reading.iteration_tokens_mean == pytest.approx((8036 + 8364) / (1461 + 1632))
    assert reading.longest_context_tokens == 200
    assert reading.resets_total == 0


def test_only_wanted_families_are_kept() -> None:
    families = ExpositionReader().read(RECORDED)
    # All but speculation, which this server did not use.
    without = {row.name for row in METRICS if row.name.startswith("vllm:spec_decode")}
    assert without
    assert set(families) == {row.name for row in METRICS} - without


def test_a_second_scrape_parses_no_labels_again(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = ExpositionReader()
    first = reader.read(RECORDED)
    monkeypatch.setattr(prometheus, "parse_series", lambda series: pytest.fail(f"parsed again: {series}"))
    assert reader.read(RECORDED) == first


def test_a_plan_reads_what_reading_by_name_reads() -> None:
    reader = ExpositionReader()
    for body in (zeroed(PARALLEL), PARALLEL, RECORDED, PARALLEL, ZEROED, RECORDED):
        assert reader.read(body) == ExpositionReader().read(body)


def test_a_line_that_comes_later_is_seen() -> None:
    lines = RECORDED.splitlines(keepends=True)
    place = next(index for index, line in enumerate(lines) if line.startswith("http_requests_total"))
    error = 'http_requests_total{handler="/v1/completions",method="POST",status="5xx"} 3.0\n'
    reader = ExpositionReader()
    assert len(reader.read(RECORDED)["http_requests"]) == 2
    assert len(reader.read("".join([*lines[:place], error, *lines[place:]]))["http_requests"]) == 3


def test_a_line_that_takes_the_place_of_another_is_seen_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prometheus, "PLANNED_READS_MAX", 3)
    before = 'vllm:num_requests_running{engine="0"} 1\nother 2\n'
    after = 'vllm:num_requests_running{engine="0"} 1\nvllm:num_requests_waiting{engine="0"} 2\n'
    reader = ExpositionReader()
    reader.read(before)
    assert ["vllm:num_requests_waiting" in reader.read(after) for _ in range(4)] == [False, False, False, True]


def test_labels_may_hold_anything_quoted() -> None:
    body = 'vllm:num_requests_running{engine="0",model_name="a} \\"b\\" # {c,\\\\"} 3 1795435108000\n'
    (point,) = ExpositionReader().read(body)["vllm:num_requests_running"]
    assert point.value == 3
    assert point.labels["model_name"] == 'a} "b" # {c,\\'


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", "without any vLLM metric"),
        ("<html>502 Bad Gateway</html>", "without any vLLM metric"),
        ('{"error":"Unauthorized"}', "without any vLLM metric"),
        ("vllm:num_requests_running{engine=", "cannot be read"),
        ('vllm:num_requests_running{engine="0} 3', "cannot be read"),
        ("vllm:num_requests_running{engine} 3", "cannot be read"),
        ('vllm:num_requests_running{engine="0"} three', "no number"),
        ("vllm:num_requests_running ", "cannot be read"),
    ],
)
def test_broken_text_is_said_in_a_sentence(body: str, message: str) -> None:
    with pytest.raises(MetricsError, match=message):
        ExpositionReader().read(body)


def test_a_too_large_answer_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prometheus, "BODY_BYTES_MAX", 1000)
    with pytest.raises(MetricsError, match="more than"):
        ExpositionReader().read(RECORDED)


def test_remembered_series_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prometheus, "SERIES_MAX", 10)
    reader = ExpositionReader()
    for engine in range(35):
        reader.read(f'vllm:num_requests_running{{engine="{engine}"}} 1\n')
        assert len(reader._series) <= 10


@given(st.text(alphabet='vllm:num_requests_running{engine="0"}, 1.5e\\\n#', max_size=200))
def test_any_text_is_read_or_refused_cleanly(noise: str) -> None:
    with contextlib.suppress(MetricsError):
        assert ExpositionReader().read("vllm:num_requests_running" + noise)
