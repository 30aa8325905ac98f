from __future__ import annotations

import contextlib
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.core.metrics import SAMPLE_NAMES, EngineMetrics
from console.io import prometheus
from console.io.prometheus import ExpositionReader, MetricsError

RECORDED = (Path(__file__).parent.parent / "data" / "metrics" / "metrics-after-bench.txt").read_text()
ZEROED = re.sub(r"^(vllm:(?!cache_config)\S*) \S+$", r"\1 0.0", RECORDED, flags=re.MULTILINE)


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


def test_only_wanted_families_are_kept() -> None:
    families = ExpositionReader().read(RECORDED)
    assert set(families) == {family for family, _ in SAMPLE_NAMES.values()}


def test_a_second_scrape_parses_no_labels_again(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = ExpositionReader()
    first = reader.read(RECORDED)
    monkeypatch.setattr(prometheus, "parse_series", lambda series: pytest.fail(f"parsed again: {series}"))
    assert reader.read(RECORDED) == first


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
