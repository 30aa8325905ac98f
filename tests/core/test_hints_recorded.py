"""Hints over series recorded, once a second, from vLLM 0.32.0 on two CPU cores.

Under 16 clients `cpu-sequence-cap` ran with `--max-num-seqs 2` (64 tokens in, 100 out); `cpu-kv-cache-full` with 64 KV
blocks of 32 tokens and `--max-num-seqs 16` (64 in, 300 out; 408 preemptions). Many scrapes fell between two bursts and
say 0.
`cpu-one-client-then-16-then-none` ran with `--max-num-seqs 2` and its threads bound to one of two cores, beside other
work: one client, then 16, each with a prompt of its own, then none.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import msgspec

from console.core.hints import HintEngine
from console.core.models import Hint, HintState, ProfileChange, Sample
from console.core.profile import Profile

DATA = Path(__file__).parents[1] / "data" / "hints"


def replay(
    name: str, *, usd_per_hour: float | None = None, idle_hold_s: float | None = None, **serve: int
) -> list[tuple[Sample, dict[str, Hint]]]:
    """Each sample with the hints that fire after it, by id."""
    profile = msgspec.convert(
        {
            "profile": {"title": "recorded"},
            "model": {"id": "generated:tiny"},
            "engine": {"kind": "cpu"},
            "serve": serve,
        },
        Profile,
    )
    engine = HintEngine(profile, usd_per_hour=usd_per_hour, idle_hold_s=idle_hold_s)
    series = [msgspec.json.decode(line, type=Sample) for line in (DATA / f"{name}.jsonl").read_bytes().splitlines()]
    return [
        (sample, {hint.id: hint for hint in engine.update(sample) if hint.state is HintState.FIRING})
        for sample in series
    ]


def test_the_sequence_cap() -> None:
    ticks = replay("cpu-sequence-cap", max_num_seqs=2)
    assert {name for _, hints in ticks for name in hints} == {"sequence-cap"}
    changes = {hints["sequence-cap"].change for _, hints in ticks if hints}
    assert changes == {(ProfileChange(key="serve.max_num_seqs", before=2, after=16),)}
    loaded = next(sample.time_s for sample, _ in ticks if sample.engine and sample.engine.waiting)
    fired = next(sample.time_s for sample, hints in ticks if hints)
    assert fired - loaded < 20
    assert not ticks[-1][1]


def test_the_kv_cache() -> None:
    ticks = replay("cpu-kv-cache-full", max_num_seqs=16, num_gpu_blocks_override=64, block_size=32)
    assert {name for _, hints in ticks for name in hints} == {"kv-cache-full"}
    for _, hints in ticks:
        if hints:
            (change,) = hints["kv-cache-full"].change
            assert change.key == "serve.max_num_seqs"
            assert 4 <= change.after <= 8
            assert "preemptions in" in " ".join(hints["kv-cache-full"].evidence)
    starts = sum(bool(now) and not before for (_, before), (_, now) in pairwise(ticks))
    assert starts == 1
    assert not ticks[-1][1]


def test_one_client_is_too_little_sixteen_wait_and_none_is_money_for_nothing() -> None:
    ticks = replay("cpu-one-client-then-16-then-none", max_num_seqs=2, usd_per_hour=36.0, idle_hold_s=10.0)
    first: dict[str, float] = {}
    for sample, hints in ticks:
        for name in hints:
            first.setdefault(name, sample.time_s)
    cap = min(first.get(name, 1e12) for name in ("raise-max-num-seqs", "sequence-cap"))
    one = next(sample.time_s for sample, _ in ticks if sample.engine and sample.engine.running)
    many = next(sample.time_s for sample, _ in ticks if sample.engine and sample.engine.waiting)
    none = max(sample.time_s for sample, _ in ticks if sample.engine and sample.engine.running)
    assert 10 <= first["load-too-small"] - one <= 40
    assert 10 <= cap - many <= 30
    assert 10 <= first["idle-spend"] - none <= 25
    for sample, hints in ticks:
        if sample.time_s > many + 40:
            assert "load-too-small" not in hints
        if sample.time_s <= none:
            assert "idle-spend" not in hints
    spent = " ".join(ticks[-1][1]["idle-spend"].evidence)
    assert "At $36.00 an hour that is $0." in spent


def test_kernels_that_are_compiled_under_the_first_load() -> None:
    """V4-Flash whole on two H200 (vLLM 0.26) under 256 clients, just started: figures of the compiler, not of the load.

    Without the log's word for it, prompts seemed to wait for the step's budget, and later the load seemed too small.
    The fields about kernels were put in from the log of that run, by the times of its lines.
    """
    ticks = replay("h200-v4-flash-kernels", max_num_batched_tokens=8192)
    fired = {name for _, hints in ticks for name in hints}
    assert fired == {"kernels-compiled"}
    sample, hints = next((sample, hints) for sample, hints in ticks if hints)
    assert sample.engine is not None
    assert sample.engine.generation_tokens_per_s is not None
    assert sample.engine.generation_tokens_per_s < 1
    assert "mhc_pre_big_fuse_broadcast_with_norm_tilelang is not done" in hints["kernels-compiled"].evidence[0]
    assert not hints["kernels-compiled"].change
