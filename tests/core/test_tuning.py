"""The decision on measured differences, the table of parameters, and the search, over landscapes that are known."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from console.core.bench import BenchPoint, Shape
from console.core.errors import UsageError
from console.core.models import GpuReading, ProfileChange
from console.core.overrides import apply_changes
from console.core.profile import Profile
from console.core.profile_read import FIELDS
from console.core.tune_parameters import PARAMETERS, Facts, allowed, chosen
from console.core.tune_report import TuneReport, change_words, comment_of, markdown
from console.core.tuning import (
    Attempt,
    Bounds,
    Search,
    Verdict,
    Workload,
    decide,
    gain_of,
    next_candidate,
    over_bound,
    told,
)

H200 = tuple(GpuReading(index=index, name="NVIDIA H200", memory_total_bytes=141 * 2**30) for index in range(4))


def profile(**serve: Any) -> Profile:
    data = {
        "profile": {"title": "t"},
        "model": {"id": "m"},
        "hardware": {"gpu": "H200", "count": 4},
        "serve": serve,
        "engine": {"kind": "cuda"},
    }
    return msgspec.convert(data, Profile)


def points(*rates: float, failed: int = 0) -> tuple[BenchPoint, ...]:
    return tuple(
        BenchPoint(
            shape=Shape.CHAT,
            concurrency=16,
            seed=seed,
            started_s=1.0,
            duration_s=10.0,
            completed=64 - failed,
            failed=failed,
            requests_per_s=1.0,
            output_tokens_per_s=rate,
            total_tokens_per_s=2 * rate,
            ttft_mean_s=0.064,
            tpot_mean_s=0.004,
        )
        for seed, rate in enumerate(rates)
    )


BEFORE = points(1000, 1010, 990)
DECISIONS: dict[str, tuple[tuple[BenchPoint, ...], Verdict]] = {
    "three times": (points(3100, 3200, 3000), Verdict.WON),
    "the same": (BEFORE, Verdict.NOISE),
    "a little more, far apart": (points(900, 1200, 1100), Verdict.NOISE),
    "surely more, but not worth it": (points(1010, 1020.1, 999.9), Verdict.NOISE),
    "half": (points(500, 505, 495), Verdict.LOST),
    "failed requests": (points(3000, 3000, 3000, failed=1), Verdict.FAILED),
    "nothing": (points(0, 0, 0), Verdict.FAILED),
    "too few repeats": (points(3000, 3000), Verdict.NOISE),
}


@pytest.mark.parametrize("case", list(DECISIONS))
def test_decisions(case: str) -> None:
    after, verdict = DECISIONS[case]
    before = BEFORE[: len(after)]
    assert decide(before, after)[0] is verdict


def test_a_gain_in_words() -> None:
    gain = gain_of(points(1000, 1000, 1000), points(3000, 3200, 3400))
    assert gain is not None
    assert gain.text.startswith("3.2× output tok/s (")
    assert gain.text.endswith(", 3 repeats)")
    change = ProfileChange(key="serve.max_num_seqs", before=2, after=16)
    text = comment_of(change, gain, Workload(shape=Shape.CHAT, concurrency=16), "2026-11-23")
    assert text.startswith("2026-11-23: 2 → 16: 3.2× output tok/s (")
    assert text.endswith("chat at 16")


def test_the_table_has_keys_that_profiles_have() -> None:
    for row in PARAMETERS:
        section, name = row.key.split(".")[:2]
        assert name in FIELDS[section], row.key
        assert row.why
    assert len({row.name for row in PARAMETERS}) == len(PARAMETERS)


SERVES: dict[str, dict[str, Any]] = {
    "plain": {},
    "small": {"max_num_seqs": 2},
    "large": {"max_num_seqs": 1024, "max_num_batched_tokens": 1024},
    "eager": {"enforce_eager": True, "enable_prefix_caching": False},
    "drafts": {"speculative_config": {"method": "mtp", "num_speculative_tokens": 3}, "max_num_seqs": 64},
    "unchunked": {"extra": {"enable_chunked_prefill": False}, "max_model_len": 8192, "max_num_batched_tokens": 8192},
}


@pytest.mark.parametrize("case", list(SERVES))
@pytest.mark.parametrize("row", PARAMETERS, ids=lambda row: row.name)
def test_each_value_of_the_table_makes_a_profile_that_vllm_takes(case: str, row: Any) -> None:
    base = profile(**SERVES[case])
    for value in row.values(Facts(profile=base, start=base, concurrency=48, gpus=H200)):
        change = (ProfileChange(key=row.key, after=value),)
        assert apply_changes(base, change) != base
        if row.key == "serve.max_num_batched_tokens":
            assert allowed(base, change, H200)


VALUES: dict[str, tuple[dict[str, Any], str, int, tuple[Any, ...]]] = {
    "room for the load, then half of it": ({"max_num_seqs": 2}, "max_num_seqs", 16, (16, 8, 4, 1)),
    "never more than the load": ({"max_num_seqs": 64}, "max_num_seqs", 16, ()),
    "twice and half": ({"max_num_batched_tokens": 8192}, "max_num_batched_tokens", 16, (16384, 4096)),
    "not above what is known to crash": ({"max_num_batched_tokens": 16384}, "max_num_batched_tokens", 16, (8192,)),
    "not below the sequences": (
        {"max_num_batched_tokens": 2048, "max_num_seqs": 2048},
        "max_num_batched_tokens",
        16,
        (4096,),
    ),
    "not below an unchunked context": (SERVES["unchunked"], "max_num_batched_tokens", 16, (16384,)),
    "one draft more or less": (SERVES["drafts"], "num_speculative_tokens", 16, (4, 2)),
    "no drafts": ({}, "num_speculative_tokens", 16, ()),
    "graphs": ({"enforce_eager": True}, "enforce_eager", 16, (False,)),
    "memory": ({"gpu_memory_utilization": 0.95}, "gpu_memory_utilization", 16, ()),
    "prefix caching": ({}, "enable_prefix_caching", 16, (False,)),
}


@pytest.mark.parametrize("case", list(VALUES))
def test_values(case: str) -> None:
    serve, name, concurrency, expected = VALUES[case]
    (row,) = chosen([name])
    base = profile(**serve)
    assert row.values(Facts(profile=base, start=base, concurrency=concurrency, gpus=H200)) == expected


def test_parameters_by_name() -> None:
    assert [row.name for row in chosen(["max_num_batched_tokens", "serve.max_num_seqs"])] == [
        "max_num_batched_tokens",
        "max_num_seqs",
    ]
    assert all(row.default for row in chosen([]))
    assert "kv_cache_dtype" not in {row.name for row in chosen([])}, "answers may change"
    with pytest.raises(UsageError, match="max_num_sqs"):
        chosen(["max_num_sqs"])


Landscape = Callable[[Profile], float]


def walk(search: Search, landscape: Landscape, attempts_max: int = 40) -> Search:
    """Measure without noise until the search is done."""
    best = points(*(landscape(search.profile) * part for part in (1, 1.001, 0.999)))
    for _ in range(attempts_max):
        search, candidate = next_candidate(search)
        if candidate is None:
            return search
        rate = landscape(apply_changes(search.profile, candidate))
        after = points(*(rate * part for part in (1, 1.001, 0.999)))
        verdict, gain, why = decide(best, after)
        search = told(search, Attempt(change=candidate, verdict=verdict, gain=gain, points=after, why=why))
        if verdict is Verdict.WON:
            best = after
    raise AssertionError("it did not end")


def capped(settings_: Profile) -> float:
    """Throughput grows with the sequences that the load of 16 fills; nothing else matters."""
    return 600.0 * min(settings_.serve.max_num_seqs or 256, 16)


def test_it_finds_what_the_load_needs_in_one_step_and_stops_in_the_noise() -> None:
    base = profile(max_num_seqs=2)
    found = walk(
        Search(
            profile=base,
            parameters=chosen(["max_num_seqs", "max_num_batched_tokens"]),
            concurrency=16,
            gpus=H200,
        ),
        capped,
    )
    assert found.best == (ProfileChange(key="serve.max_num_seqs", before=2, after=16),)
    assert found.attempts[0].verdict is Verdict.WON
    assert {attempt.verdict for attempt in found.attempts[1:]} <= {Verdict.NOISE, Verdict.LOST}
    assert len(found.attempts) == 3


def test_a_proposal_of_a_hint_comes_first() -> None:
    proposal = (ProfileChange(key="serve.max_num_seqs", before=2, after=12),)
    other = (ProfileChange(key="serve.kv_cache_dtype", after="fp8"),)
    search = Search(
        profile=profile(max_num_seqs=2),
        parameters=chosen(["max_num_seqs"]),
        concurrency=16,
        gpus=H200,
        proposals=(other, proposal),
    )
    _, candidate = next_candidate(search)
    assert candidate is not None
    assert [(each.key, each.after) for each in candidate] == [("serve.max_num_seqs", 12)], "within the parameters"


def test_after_a_loss_it_takes_the_next_value_and_after_a_win_it_goes_on_from_there() -> None:
    def landscape(settings_: Profile) -> float:
        """Too many sequences preempt; larger steps help up to 16,384."""
        serve = settings_.serve
        seqs = serve.max_num_seqs or 256
        return (100.0 * seqs if seqs <= 32 else 500.0) * (serve.max_num_batched_tokens or 8192) ** 0.5

    found = walk(
        Search(
            profile=profile(max_num_seqs=8, max_num_batched_tokens=4096),
            parameters=chosen(["max_num_seqs", "max_num_batched_tokens"]),
            concurrency=128,
            gpus=H200,
        ),
        landscape,
    )
    assert {each.key: each.after for each in found.best} == {
        "serve.max_num_seqs": 32,
        "serve.max_num_batched_tokens": 16384,
    }


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 300),
    st.sampled_from(sorted(SERVES)),
    st.dictionaries(st.integers(0, 10_000), st.floats(0.1, 10.0), min_size=1),
)
def test_every_search_ends_and_measures_nothing_twice(concurrency: int, case: str, rates: dict[int, float]) -> None:
    keys = list(rates)

    def landscape(settings_: Profile) -> float:
        return 100 * rates[keys[zlib.crc32(repr(settings_.serve).encode()) % len(keys)]]

    base = profile(**SERVES[case])
    search = Search(profile=base, parameters=chosen([]), concurrency=concurrency, gpus=H200)
    found = walk(search, landscape, attempts_max=400)
    tried = [repr(sorted((each.key, repr(each.after)) for each in attempt.change)) for attempt in found.attempts]
    assert len(tried) == len(set(tried))
    assert all(allowed(base, attempt.change, H200) for attempt in found.attempts)
    if found.best:
        assert any(attempt.change == found.best and attempt.verdict is Verdict.WON for attempt in found.attempts)


BOUNDS: dict[str, tuple[Bounds, float, int, str]] = {
    "none": (Bounds(), 1e9, 3, ""),
    "time left": (Bounds(seconds=1000), 300, 1, ""),
    "too long": (Bounds(seconds=1000), 500, 1, "longer than"),
    "money left": (Bounds(usd=20, usd_per_hour=30), 1200, 1, ""),
    "too dear": (Bounds(usd=20, usd_per_hour=30), 2000, 1, "$20.00"),
    "no price": (Bounds(usd=20), 1e9, 1, ""),
    "enough trials": (Bounds(attempts=2), 0, 2, "2 trials"),
}


@pytest.mark.parametrize("case", list(BOUNDS))
def test_bounds(case: str) -> None:
    bounds, elapsed_s, count, said = BOUNDS[case]
    attempt = Attempt(change=(), verdict=Verdict.NOISE, duration_s=600)
    answer = over_bound(bounds, elapsed_s, (attempt,) * count)
    assert (said in answer) if said else answer == ""


def test_a_report_says_what_was_tried_what_won_by_how_much_and_how_sure() -> None:
    change = (ProfileChange(key="serve.max_num_seqs", before=2, after=16),)
    after = points(3100, 3200, 3000)
    gain = gain_of(BEFORE, after)
    failed = Attempt(
        change=(ProfileChange(key="serve.enforce_eager", before=True, after=False),),
        verdict=Verdict.FAILED,
        why="out | of\nmemory",
    )
    report = TuneReport(
        id="x-tune",
        created_s=1.0,
        run_id="r",
        profile_name="p",
        model="m",
        engine_version="0.32.0",
        workload=Workload(),
        before=BEFORE,
        attempts=(Attempt(change=change, verdict=Verdict.WON, gain=gain, points=after), failed),
        winner=change,
        gain=gain,
        why="every gain that is left is inside the noise",
        kept=True,
        saved="/p.toml",
        duration_s=600,
        usd=5.0,
    )
    text = markdown(report, "2026-11-23")
    for part in ("max_num_seqs 2 → 16", "3.1×", "64 ms", "won", "failed: out / of memory", "inside the noise", "$5.00"):
        assert part in text, part
    assert "enforce_eager true → false" in change_words(failed.change)
    assert msgspec.json.decode(msgspec.json.encode(report), type=TuneReport) == report
    nothing = msgspec.structs.replace(report, winner=(), gain=None, kept=False, saved="", usd=None)
    assert "Nothing won" in markdown(nothing, "2026-11-23")
