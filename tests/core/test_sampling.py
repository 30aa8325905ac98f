"""Samples as columns, merged with age: nothing that an operator looks for is averaged away."""

from __future__ import annotations

import math
import random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.core import models
from console.core.models import (
    EngineReading,
    EngineShare,
    GpuProcess,
    GpuReading,
    HostReading,
    Percentiles,
    Sample,
    ServerState,
    Throttle,
)
from console.core.samplecode import CodeError, decode, encode
from console.core.sampling import (
    REDUCE,
    STATE_ORDER,
    Columns,
    Reduce,
    concat,
    flatten,
    from_rows,
    groups,
    reduce,
    rule,
    slim,
    thin,
    to_samples,
    within,
)
from tests.io.day import full_sample


def columns(*samples: Sample) -> Columns:
    return from_rows([flatten(sample) for sample in samples])


def ready(time_s: float, **engine: Any) -> Sample:
    return Sample(time_s=time_s, state=ServerState.READY, engine=EngineReading(**engine) if engine else None)


def merged(*samples: Sample, width_s: float = 60.0) -> list[Sample]:
    made = columns(*samples)
    return list(to_samples(reduce(made, groups(made, width_s))))


ODD = (
    Sample(time_s=1.0, state=ServerState.STARTING),
    Sample(time_s=2.0, state=ServerState.READY, gpus=(), host=HostReading(), engine=EngineReading()),
    Sample(time_s=2.5, state=ServerState.READY, gpus=(GpuReading(index=0, throttle=()),)),
    Sample(
        time_s=3.25,
        state=ServerState.UNHEALTHY,
        gpus=(
            GpuReading(index=0),
            GpuReading(index=1, throttle=(Throttle.IDLE,), mig=True, processes=(GpuProcess(pid=3),)),
        ),
        engine=EngineReading(
            finished_by_reason={"stop": 3, "odd.name": 1},
            http_errors_by_status={"404": 2},
            by_engine=(EngineShare(engine="0", running=1), EngineShare(engine="1")),
            spec_acceptance_by_position=(0.9, 0.5),
            ttft=Percentiles(),
        ),
    ),
    full_sample(4.0),
)


def test_samples_survive_columns_and_bytes() -> None:
    assert tuple(to_samples(columns(*ODD))) == ODD
    assert tuple(to_samples(decode(encode(columns(*ODD))))) == ODD
    for sample in ODD:
        assert tuple(to_samples(decode(encode(columns(sample))))) == (sample,)


@given(
    st.lists(
        st.one_of(
            st.none(),
            st.integers(-(2**70), 2**70),
            st.floats(),
            st.booleans(),
            st.text(max_size=3),
            st.lists(st.text(max_size=2), max_size=2),
        ),
        min_size=1,
        max_size=30,
    )
)
def test_any_column_comes_back(values: list[Any]) -> None:
    values = [value if type(value) is not int or -(2**63) <= value < 2**63 else None for value in values]
    back = decode(encode(Columns(len(values), {"x": values}))).data["x"]
    numbers = [value for value in values if type(value) in (int, float)]
    only_numbers = len(numbers) == len([value for value in values if value is not None])
    largest = max(map(abs, numbers), default=0.0)
    for before, after in zip(values, back, strict=True):
        if only_numbers and before is not None and math.isfinite(largest):
            assert after == pytest.approx(before, abs=max(largest * 1e-5, 1e-9))
        else:
            assert after == before or (before != before and after != after)


def test_six_digits_of_the_largest_and_milliseconds_are_kept() -> None:
    data = {"time_s": [1.8e9 + 0.1234, 1.8e9 + 1.5], "x": [123.45678, 0.00012345]}
    back = decode(encode(Columns(2, data))).data
    assert back["time_s"] == [1_800_000_000.123, 1_800_000_001.5]
    assert back["x"] == [123.457, 0.0]


@pytest.mark.parametrize("damage", range(40))
def test_damaged_bytes_are_refused_or_are_columns(damage: int) -> None:
    noise = random.Random(damage)
    data = bytearray(encode(columns(*ODD)))
    data[noise.randrange(len(data))] ^= 1 << noise.randrange(8)
    with pytest.raises(CodeError):
        decode(bytes(data))


def test_only_what_is_wanted_is_read() -> None:
    back = decode(encode(columns(full_sample(1.0))), only=("engine.running",))
    assert set(back.data) == {"time_s", "state", "engine.running"}
    (sample,) = to_samples(back)
    assert sample.engine == EngineReading(running=64)


def test_a_peak_stays_a_peak_and_a_rate_becomes_its_mean() -> None:
    samples = [ready(float(t), kv_cache_usage=0.2, generation_tokens_per_s=100.0, waiting=0) for t in range(60)]
    samples[17] = ready(17.0, kv_cache_usage=0.99, generation_tokens_per_s=700.0, waiting=40, preemptions_total=3)
    (one,) = merged(*samples)
    assert one == Sample(
        time_s=59.0,
        state=ServerState.READY,
        count=60,
        span_s=59.0,
        engine=EngineReading(kv_cache_usage=0.99, generation_tokens_per_s=110.0, waiting=40, preemptions_total=3),
    )


def test_merging_twice_is_as_merging_once() -> None:
    samples = [ready(t + 0.25, running=t % 7, generation_tokens_per_s=float(t)) for t in range(1_200)]
    whole = columns(*samples)
    ten = reduce(whole, groups(whole, 10.0))
    (once,) = {len(to) for to in (groups(ten, 60.0), groups(whole, 60.0))}
    assert once == 20
    twice = list(to_samples(reduce(ten, groups(ten, 60.0))))
    assert [s.engine.generation_tokens_per_s for s in twice if s.engine] == pytest.approx(
        [29.5 + 60 * minute for minute in range(20)]
    )
    assert sum(s.count for s in twice) == 1_200


def test_nothing_is_merged_across_states_gaps_or_sources() -> None:
    def states(*found: Sample) -> list[tuple[str, int]]:
        return [(str(sample.state), sample.count) for sample in merged(*found)]

    down = Sample(time_s=3.0, state=ServerState.CRASHED)
    assert states(ready(1.0), ready(2.0), down, ready(4.0)) == [("ready", 2), ("crashed", 1), ("ready", 1)]
    assert [s.span_s for s in merged(ready(1.0), ready(2.0), ready(30.0), ready(31.0))] == [1.0, 1.0]
    blind = [s.engine is None for s in merged(ready(1.0, running=1), ready(2.0), ready(3.0), ready(4.0, running=1))]
    assert blind == [False, True, False]
    assert len(merged(ready(40.0), ready(41.0), ready(1.0), ready(2.0))) == 2, "a clock that was set back"


def test_worst_of_gpus_is_kept() -> None:
    def gpu(time_s: float, temperature_c: float, free: int, *throttle: Throttle) -> Sample:
        reading = GpuReading(index=0, temperature_c=temperature_c, memory_free_bytes=free, throttle=throttle)
        return Sample(time_s=time_s, state=ServerState.READY, gpus=(reading,))

    (one,) = merged(gpu(1.0, 60.0, 9), gpu(2.0, 91.0, 2, Throttle.SW_THERMAL), gpu(3.0, 70.0, 5, Throttle.POWER_CAP))
    assert one.gpus == (
        GpuReading(
            index=0,
            temperature_c=91.0,
            memory_free_bytes=2,
            throttle=(Throttle.SW_THERMAL, Throttle.POWER_CAP),
        ),
    )


def test_thinning_has_a_bound_whatever_the_states_do() -> None:
    states = (ServerState.READY, ServerState.UNHEALTHY)
    flapping = columns(*(Sample(time_s=float(t), state=states[t % 2]) for t in range(1_000)))
    few = thin(flapping, 100)
    assert few.rows <= 100
    assert set(few.data["state"]) == {"unhealthy"}, "the worst one"
    assert sum(few.data["count"]) == 1_000
    assert thin(flapping, 1_000) is flapping


@given(st.lists(st.floats(0.5, 2_000), min_size=1, max_size=200), st.integers(1, 60))
def test_thinning_keeps_every_tick_and_long_gaps(steps: list[float], points_max: int) -> None:
    times = [sum(steps[:at]) for at in range(len(steps))]
    few = thin(columns(*(ready(time_s) for time_s in times)), points_max)
    assert few.rows <= points_max
    assert sum(count or 1 for count in few.data.get("count", [None] * few.rows)) == len(times)
    assert few.data["time_s"][-1] == pytest.approx(times[-1])


def test_concat_and_within() -> None:
    both = concat((columns(ready(1.0)), columns(ready(2.0, running=3))))
    assert both.data["engine.running"] == [None, 3]
    assert within(both, 1.5, None).times == [2.0]
    assert within(both, None, 1.5).times == [1.0]
    assert within(both, 1.0, 2.0) is both


def test_the_table_names_fields_that_exist_and_states_are_ordered() -> None:
    kinds = (models.Sample, models.GpuReading, models.GpuProcess, models.HostReading, models.EngineReading)
    kinds += (models.EngineShare, models.Percentiles, models.Lengths, models.Goodput)
    names = {name for kind in kinds for name in kind.__struct_fields__}
    assert set(REDUCE) <= names
    assert set(STATE_ORDER) == set(ServerState)
    numeric = {path for path, value in flatten(full_sample(1.0)).items() if isinstance(value, float)}
    last = {path.rpartition(".")[2] for path in numeric if rule(path) is Reduce.LAST}
    assert last == {"time_s", "temperature_limit_c"}, "no reading that moves is lost to its last value"


def test_history_carries_of_a_gpu_what_a_chart_shows() -> None:
    sample = full_sample(1.0)
    few = slim(sample)
    assert few.engine == sample.engine
    assert few.gpus
    assert few.gpus[0].util_percent == 97.0
    assert few.gpus[0].processes is None
    assert len(msgspec.json.encode(few)) * 2_000 < 16 * 2**20, "a whole history fits one message"
