"""Benchmarks as data: loads, what vLLM is told and says, columns, tables, and two of them compared."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import pytest
from msgspec.structs import replace

from console.core.bench import BenchPlan, BenchPoint, BenchProgress, Shape
from console.core.bench_columns import Seen, seen, usd_per_million, with_columns
from console.core.bench_compare import METRICS, STUDENT_T, Verdict, compare, student_t
from console.core.bench_serve import FAILURES, arguments, failure_of, fraction, point_of, tokenizer_options
from console.core.bench_shapes import CONTEXT_TOKENS_MIN, LOADS, SPARE_TOKENS, fitted, requests_for
from console.core.bench_table import COLUMNS, comparison_lines, heading, row_line
from console.core.errors import ServerFailedError
from console.core.models import EngineReading, GpuReading, ServerStatus, Snapshot

RECORDED = Path(__file__).parent.parent / "data" / "bench" / "result-0.32.0.json"
POINT = BenchPoint(
    shape=Shape.CHAT,
    concurrency=8,
    started_s=100.0,
    duration_s=10.0,
    completed=32,
    requests_per_s=3.2,
    output_tokens_per_s=1000.0,
    total_tokens_per_s=2000.0,
    ttft_p50_s=0.2,
)


def rates(*values: float, concurrency: int = 8, ttft_s: float | None = 0.2) -> list[BenchPoint]:
    return [
        replace(POINT, concurrency=concurrency, seed=seed, output_tokens_per_s=value, ttft_p50_s=ttft_s)
        for seed, value in enumerate(values)
    ]


def read(data: bytes) -> BenchPoint:
    return point_of(data, shape=Shape.RANDOM, concurrency=8, seed=3, started_s=5.0)


def test_the_table_of_loads_is_whole() -> None:
    assert set(LOADS) == set(Shape)
    for load in LOADS.values():
        assert load.source.endswith(".")
        assert 0 <= load.prefix_tokens < load.input_tokens


@pytest.mark.parametrize("shape", Shape)
@pytest.mark.parametrize("context", [CONTEXT_TOKENS_MIN, 100, 1024, 2048, 4096, 16_384, None])
def test_a_load_fits_the_context_and_says_when_it_was_made_smaller(shape: Shape, context: int | None) -> None:
    load, note = fitted(shape, context)
    assert load.input_tokens >= 1
    assert load.output_tokens >= 1
    if context is not None:
        assert load.input_tokens + load.output_tokens <= context
    assert bool(note) is (load != LOADS[shape])
    if note:
        assert context is not None
        assert load.input_tokens + load.output_tokens == context - SPARE_TOKENS
        assert f"{load.input_tokens:,} in" in note


def test_a_context_that_is_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match="a context of 31 tokens"):
        fitted(Shape.CHAT, CONTEXT_TOKENS_MIN - 1)


def test_rows_are_repeated_after_all_loads_and_no_seed_comes_twice() -> None:
    rows = BenchPlan(concurrency=(1, 8), repeats=2, seed=40).rows
    assert rows == ((1, 0, 41), (8, 0, 42), (1, 1, 43), (8, 1, 44))
    assert [requests_for(clients) for clients in (1, 2, 8)] == [8, 8, 32]


def test_progress_in_words() -> None:
    assert BenchProgress(row=0, rows=4, concurrency=8, fraction=0.5).text == "warming up  50%"
    assert BenchProgress(row=2, rows=4, concurrency=8, fraction=0.25).text == "row 2 of 4  8 at once  25%"


def test_a_recorded_result() -> None:
    point = read(RECORDED.read_bytes())
    assert (point.completed, point.failed, point.concurrency, point.seed) == (40, 0, 8, 3)
    assert point.duration_s == pytest.approx(0.6164, abs=1e-4)
    assert point.output_tokens_per_s == pytest.approx(2076.51, abs=0.01)
    assert point.total_tokens_per_s == pytest.approx(6281.45, abs=0.01)
    assert point.requests_per_s == pytest.approx(64.89, abs=0.01)
    assert point.ttft_mean_s == pytest.approx(0.031827, abs=1e-6)
    assert point.ttft_p50_s == pytest.approx(0.029510, abs=1e-6)
    assert point.ttft_p99_s == pytest.approx(0.060943, abs=1e-6)
    assert point.tpot_p50_s == pytest.approx(0.0027698, abs=1e-7)
    assert point.itl_p99_s == pytest.approx(0.0090536, abs=1e-7)
    assert point.e2e_mean_s is None


@pytest.mark.parametrize("value", [0, -1.0, "12", None, True])
def test_a_latency_without_a_figure_is_unknown(value: object) -> None:
    result = json.loads(RECORDED.read_bytes()) | {"median_ttft_ms": value}
    assert read(json.dumps(result).encode()).ttft_p50_s is None


def test_what_is_not_a_number_is_unknown_or_refused() -> None:
    text = RECORDED.read_text()
    assert (
        read(text.replace('"median_ttft_ms": 29.509993999909057', '"median_ttft_ms": NaN').encode()).ttft_p50_s is None
    )
    with pytest.raises(ValueError, match="output_throughput is None"):
        read(text.replace('"output_throughput": 2076.512644963406', '"output_throughput": Infinity').encode())


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b"{}"])
def test_garbage_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"not JSON|an object|duration is"):
        read(data)


def test_what_vllm_is_told() -> None:
    told = arguments(
        LOADS[Shape.CODE],
        url="http://127.0.0.1:8000",
        model="m",
        tokenizer="t",
        concurrency=8,
        requests=32,
        seed=7,
        result_dir="/d",
        result_name="r.json",
        more=("--tokenizer-mode", "deepseek_v4"),
    )
    assert told[:2] == ("bench", "serve")
    pairs = dict(itertools.pairwise(told))
    assert pairs["--random-prefix-len"] == "4915"
    assert int(pairs["--random-prefix-len"]) + int(pairs["--random-input-len"]) == 8192
    assert pairs["--random-output-len"] == "256"
    assert (pairs["--max-concurrency"], pairs["--num-prompts"], pairs["--seed"]) == ("8", "32", "7")
    assert pairs["--metric-percentiles"] == "50,99"
    assert {"--ignore-eos", "--save-result"} <= set(told)
    assert told[-2:] == ("--tokenizer-mode", "deepseek_v4")


def test_what_the_tokenizer_needs_is_passed_on() -> None:
    argv = ("vllm", "serve", "m", "--tokenizer-mode", "deepseek_v4", "--trust-remote-code", "--port", "1")
    assert tokenizer_options(argv) == ("--tokenizer-mode", "deepseek_v4", "--trust-remote-code")
    assert tokenizer_options(("vllm", "serve", "m", "--tokenizer-mode=slow")) == ("--tokenizer-mode", "slow")
    assert tokenizer_options(("vllm", "serve", "m")) == ()


@pytest.mark.parametrize(
    ("line", "done"),
    [
        ("  0%|          | 0/200 [00:00<?, ?it/s]", 0.0),
        (" 12%|█▎        | 25/200 [00:01<00:07, 23.50it/s]", 0.125),
        ("100%|██████████| 200/200 [00:09<00:00, 21.1it/s]", 1.0),
        ("100%|██████████| 16/16 [00:09<00:00, 21.1it/s]", None),
        ("Starting main benchmark run...", None),
    ],
)
def test_progress_is_read(line: str, done: float | None) -> None:
    assert fraction(line, 200) == done


SAID = {
    0: "ModuleNotFoundError: No module named 'pandas'",
    1: "vllm: error: unrecognized arguments: --random-prefix-len 3",
    2: "OSError: Can't load tokenizer for 'deepseek-ai/DeepSeek-V4-Flash'.",
    3: "OSError: [Errno 24] Too many open files",
    4: "Error 0: Unauthorized",
    5: "Error 0: Not Found",
    6: "Error 0: Bad Request",
    7: "aiohttp.client_exceptions.ServerDisconnectedError: Server disconnected",
    8: "ClientConnectorError: Cannot connect to host 127.0.0.1:8000 ssl:default",
}


def test_each_known_failure_has_a_line_that_shows_it() -> None:
    assert set(SAID) == set(range(len(FAILURES)))
    for index, row in enumerate(FAILURES):
        lines = ["INFO started", " 12%|█ | 1/8 [00:01<00:07, 1it/s]", '  File "/x.py", line 3, in run', SAID[index]]
        error = failure_of(lines, url="http://u", model="m", tokenizer="t", what="exit code 1")
        assert (type(error), error.title) == (row.error, row.title)
        assert SAID[index] in error.message
        assert "File" not in error.message
        assert "{" not in error.fix


def test_a_missing_module_is_named_and_an_unknown_failure_shows_its_last_lines() -> None:
    error = failure_of([SAID[0]], url="u", model="m", tokenizer="t", what="exit code 1")
    assert "Install pandas into" in error.fix
    other = failure_of([f"line {n}" for n in range(20)], url="u", model="m", tokenizer="t", what="signal 9")
    assert type(other) is ServerFailedError
    assert "signal 9" in other.message
    assert "line 19" in other.message
    assert "line 3" not in other.message.splitlines()


def snapshot(time_s: float, *, kv: float | None = 0.5, gpus: tuple[GpuReading, ...] | None = None) -> Snapshot:
    engine = EngineReading(kv_cache_usage=kv) if kv is not None else None
    return Snapshot(seq=1, time_s=time_s, status=ServerStatus(), gpus=gpus, engine=engine)


def test_columns_are_of_the_time_of_the_row() -> None:
    gpus = tuple(GpuReading(index=index, util_percent=50.0 + 20 * index, power_w=300.0) for index in range(2))
    samples = [seen(snapshot(time_s, kv=kv, gpus=gpus)) for time_s, kv in ((99.9, 0.99), (100.0, 0.2), (110.0, 0.6))]
    filled, notes = with_columns(POINT, samples, 36.0, gpus)
    assert (filled.gpu_util_percent, filled.power_w, filled.kv_cache_peak) == (60.0, 600.0, 0.6)
    assert filled.usd_per_million_tokens == pytest.approx(10.0)
    assert notes == ()


def test_columns_that_are_unknown_say_why() -> None:
    filled, notes = with_columns(POINT, [Seen(time_s=105.0)], None, None)
    assert (filled.gpu_util_percent, filled.power_w, filled.kv_cache_peak) == (None, None, None)
    assert filled.usd_per_million_tokens is None
    assert [note.partition(":")[0] for note in notes] == ["No price", "No GPU figures", "No KV cache figures"]
    short = with_columns(POINT, [Seen(time_s=99.0), Seen(time_s=111.0)], 1.0, ())[1]
    assert any("over before the console could look" in note for note in short)
    silent = (GpuReading(index=0), GpuReading(index=1, power_w=300.0, util_percent=1.0))
    one = seen(snapshot(105.0, gpus=silent))
    assert one.power_w is None  # the sum of some of them would be too small
    assert any("does not tell" in note for note in with_columns(POINT, [one], 1.0, silent)[1])


def test_dollars_per_million() -> None:
    assert usd_per_million(14.4, 4000.0) == pytest.approx(1.0)
    assert usd_per_million(None, 4000.0) is None
    assert usd_per_million(1.0, 0.0) is None


def test_the_table_stands_in_its_columns() -> None:
    assert len(row_line(POINT)) == len(heading())
    assert len(heading()) <= 79
    assert row_line(POINT).split()[:3] == ["8", "1000", "3.2"] or "1.0k" in row_line(POINT)
    assert heading(COLUMNS[:2]) == "conc  tok/s"


def test_three_repeats_tell_a_difference_from_noise() -> None:
    better = compare(rates(100.0, 104.0, 98.0), rates(150.0, 152.0, 151.0)).rows[0].ratios[0]
    assert better.verdict is Verdict.BETTER
    assert better.ratio == pytest.approx((150 * 152 * 151 / (100 * 104 * 98)) ** (1 / 3))
    assert better.low is not None
    assert better.high is not None
    assert 1 < better.low < better.ratio_min < better.ratio < better.ratio_max < better.high
    noise = compare(rates(100.0, 104.0, 98.0), rates(101.0, 99.0, 103.0)).rows[0].ratios[0]
    assert noise.verdict is Verdict.NOISE
    worse = compare(rates(150.0, 152.0, 151.0), rates(100.0, 101.0, 99.0)).rows[0].ratios[0]
    assert worse.verdict is Verdict.WORSE


def test_the_interval_is_the_textbooks() -> None:
    """By hand: ratios 1.1, 1.2, 1.3, so d = 0.09531, 0.18232, 0.26236, mean 0.18000, s 0.08355."""
    ratio = compare(rates(100.0, 100.0, 100.0), rates(110.0, 120.0, 130.0)).rows[0].ratios[0]
    assert ratio.ratio == pytest.approx(1.19721, abs=1e-4)
    assert ratio.low == pytest.approx(math.exp(0.18000 - 4.303 * 0.08355 / math.sqrt(3)), abs=1e-3)
    assert ratio.high == pytest.approx(math.exp(0.18000 + 4.303 * 0.08355 / math.sqrt(3)), abs=1e-3)


def test_shorter_latency_is_better_and_unknown_latency_is_left_out() -> None:
    slow = [replace(point, ttft_p50_s=0.3 + point.seed / 100) for point in rates(1.0, 1.0, 1.0)]
    fast = [replace(point, ttft_p50_s=0.1 + point.seed / 100) for point in rates(1.0, 1.0, 1.0)]
    ratios = compare(slow, fast).rows[0].ratios
    assert [ratio.field for ratio in ratios] == ["output_tokens_per_s", "ttft_p50_s"]
    assert ratios[1].verdict is Verdict.BETTER
    partly = [replace(slow[0], ttft_p50_s=None), *slow[1:]]
    assert [ratio.field for ratio in compare(partly, fast).rows[0].ratios] == ["output_tokens_per_s"]


def test_few_or_unequal_repeats() -> None:
    one = compare(rates(100.0), rates(300.0)).rows[0].ratios[0]
    assert (one.verdict, one.low, one.repeats) == (Verdict.UNSURE, None, 1)
    assert one.ratio == pytest.approx(3.0)
    more = compare(rates(100.0, 101.0, 99.0), rates(200.0, 202.0, 198.0, 201.0)).rows[0]
    assert (more.repeats_before, more.repeats_after, more.ratios[0].verdict) == (3, 4, Verdict.BETTER)
    assert more.ratios[0].ratio_min == pytest.approx(198 / 101)
    same = compare(rates(5.0, 5.0, 5.0), rates(10.0, 10.0, 10.0, 10.0)).rows[0].ratios[0]
    assert (same.low, same.verdict) == (pytest.approx(2.0), Verdict.BETTER)


def test_repeats_are_paired_by_seed_whatever_their_order() -> None:
    before = rates(100.0, 200.0, 300.0)
    assert compare(before, before[::-1]).rows[0].ratios[0].ratio_max == pytest.approx(1.0)
    other = [replace(point, seed=point.seed + 10) for point in before[::-1]]
    assert compare(before, other).rows[0].ratios[0].ratio_max == pytest.approx(3.0)


def test_rows_without_a_partner_and_all_rows_together() -> None:
    before = [*rates(100.0, 101.0, 99.0), *rates(10.0, 10.1, 9.9, concurrency=1), *rates(1.0, concurrency=64)]
    after = [*rates(200.0, 202.0, 198.0), *rates(20.0, 20.2, 19.8, concurrency=1), *rates(1.0, concurrency=32)]
    found = compare(before, after)
    assert [row.concurrency for row in found.rows] == [1, 8]
    assert (found.only_before, found.only_after) == (((Shape.CHAT, 64),), ((Shape.CHAT, 32),))
    assert found.overall is not None
    assert (found.overall.ratio, found.overall.verdict) == (pytest.approx(2.0), Verdict.BETTER)
    lines = comparison_lines(found)
    assert lines[0] == "chat, 1 at once, 3 repeats"
    assert "2.00 (2.00 to 2.00; 95 % 2.00 to 2.00)  better" in lines[1]
    assert "all rows" in lines
    assert lines[-1] == "only in the second: chat, 32 at once"
    assert compare([], after).overall is None
    assert compare([], []).rows == ()


def test_the_table_of_student_falls_and_is_on_the_safe_side() -> None:
    assert [value for _, value in STUDENT_T] == sorted((value for _, value in STUDENT_T), reverse=True)
    assert (student_t(2), student_t(2.9), student_t(11), student_t(1e9)) == (4.303, 4.303, 2.228, 1.980)
    assert {metric.field for metric in METRICS} <= set(BenchPoint.__struct_fields__)
