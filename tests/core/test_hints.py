"""Each hint rule with series that fire it and near misses that do not."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from console.core.models import GpuReading, HostReading, Percentiles, ProfileChange, Sample
from tests.core.hint_series import CPU, GIB, Series, firing, gpu, profile, steady, unjudged, watch

TWO = {"serve": {"max_num_seqs": 2}}


class TestRaiseMaxNumSeqs:
    def test_waiting_at_the_cap_with_idle_gpus(self) -> None:
        hint = firing(watch(steady(), profile(**TWO)))["raise-max-num-seqs"]
        assert hint.change == (ProfileChange(key="serve.max_num_seqs", before=2, after=16),)
        text = " ".join(hint.evidence)
        assert "GPU utilization 50%" in text
        assert "2 requests run of at most 2, 14 wait." in text
        assert "about 2,000 tokens" in text  # 0.04 × 100,000 / 2
        assert "This has held for 1 min." in text
        assert hint.gain.startswith("Up to 8× the requests")
        assert "1,000 tok/s" in hint.gain
        assert hint.risk

    def test_mean_is_over_the_gpus_that_hold_the_model(self) -> None:
        idle = gpu(1, util_percent=0.0, memory_used_bytes=GIB)
        assert "raise-max-num-seqs" in firing(watch(steady([gpu(), idle]), profile(**TWO)))
        busy = gpu(util_percent=90.0)
        assert "raise-max-num-seqs" not in firing(watch(steady([busy, idle]), profile(**TWO)))

    @pytest.mark.parametrize(
        ("usage", "after"),
        [(0.04, 16), (0.2, 8), (0.4, 4), (0.55, 3), (0.6, None), (0.0, 16)],
        ids=["all that want", "room for 8.5", "room for 4.25", "room for 3.1", "room for 2.8: too little", "empty"],
    )
    def test_kv_headroom_limits_the_raise(self, usage: float, after: int | None) -> None:
        found = firing(watch(steady(kv_cache_usage=usage), profile(**TWO)))
        hint = found.get("raise-max-num-seqs")
        assert (hint.change[0].after if hint else None) == after

    def test_room_between_two_powers_of_two_is_used(self) -> None:
        series = steady(running=64, waiting=100, kv_cache_usage=0.54)
        change = firing(watch(series, profile(serve={"max_num_seqs": 64})))["raise-max-num-seqs"].change
        assert change[0].after == 96

    @pytest.mark.parametrize(
        "values",
        [{"waiting": 0}, {"running": 1}, {"kv_cache_usage": 0.9}, {"generation_tokens_total": 5}],
        ids=["nothing waits", "below the cap", "KV cache full", "engine hangs"],
    )
    def test_near_misses(self, values: dict[str, Any]) -> None:
        found = firing(watch(steady(**values), profile(**TWO)))
        assert not {"raise-max-num-seqs", "sequence-cap"} & set(found)

    def test_high_utilization_leaves_the_softer_hint(self) -> None:
        found = firing(watch(steady([gpu(util_percent=95.0)]), profile(**TWO)))
        assert "raise-max-num-seqs" not in found
        assert found["sequence-cap"].change == (ProfileChange(key="serve.max_num_seqs", before=2, after=16),)
        assert "how much is not known" in found["sequence-cap"].gain

    def test_the_softer_hint_wants_a_kv_cache_that_is_half_empty(self) -> None:
        full = steady([gpu(util_percent=95.0)], kv_cache_usage=0.55)
        assert "sequence-cap" not in firing(watch(full, profile(**TWO)))

    def test_a_request_that_waits_now_and_then_is_no_queue(self) -> None:
        def seldom(second: int) -> Sample:
            return steady(waiting=int(second % 3 == 0))(second)

        assert not {"raise-max-num-seqs", "sequence-cap"} & set(firing(watch(seldom, profile(**TWO))))

    def test_only_one_of_the_two_shows(self) -> None:
        assert "sequence-cap" not in firing(watch(steady(), profile(**TWO)))

    def test_unset_in_the_profile_takes_the_default_of_vllm(self) -> None:
        series = steady(running=1024, waiting=900, kv_cache_usage=0.1)
        assert "sequence-cap" not in firing(watch(series, profile()))  # 1,024 is the most that is proposed
        small = {"hardware": {"gpu": "A100", "count": 1, "memory_gib": 80}}
        a100 = gpu(name="NVIDIA A100-SXM4-80GB")
        series = steady([a100], running=256, waiting=200, kv_cache_usage=0.1)
        change = firing(watch(series, profile(**small)))["raise-max-num-seqs"].change[0]
        assert (change.before, change.after) == (None, 512)

    def test_the_running_limit_wins_over_the_profile(self) -> None:
        found = firing(watch(steady(), profile(), max_num_seqs=2))
        assert found["raise-max-num-seqs"].change[0].after == 16

    def test_data_parallel_engines_each_have_the_cap(self) -> None:
        series = steady(running=4, waiting=28, engines=2, kv_cache_usage=0.01)
        hint = firing(watch(series, profile(**TWO)))["raise-max-num-seqs"]
        assert hint.change[0].after == 16
        assert "per engine" in " ".join(hint.evidence)
        assert "raise-max-num-seqs" not in firing(watch(steady(engines=2), profile(**TWO)))

    def test_never_above_the_batched_tokens(self) -> None:
        settings = {"max_num_seqs": 2, "max_num_batched_tokens": 24}
        assert firing(watch(steady(), profile(serve=settings)))["raise-max-num-seqs"].change[0].after == 16
        settings["speculative_config"] = {"method": "mtp", "num_speculative_tokens": 2}  # type: ignore[assignment]
        assert firing(watch(steady(), profile(serve=settings)))["raise-max-num-seqs"].change[0].after == 8

    def test_on_the_cpu_build_the_servers_processes_stand_in(self) -> None:
        host = HostReading(cpu_percent=99.0, cpu_count=2, tree_cpu_percent=110.0)
        hint = firing(watch(steady(None, host), profile(**CPU, **TWO)))["raise-max-num-seqs"]
        assert "55% of 2 cores (host CPU stands in for GPU utilization)" in hint.evidence[0]

    def test_on_a_busy_cpu_the_softer_hint_shows(self) -> None:
        host = HostReading(cpu_percent=99.0, cpu_count=2, tree_cpu_percent=180.0)
        found = firing(watch(steady(None, host), profile(**CPU, **TWO)))
        assert "raise-max-num-seqs" not in found
        assert found["sequence-cap"].change[0].after == 16

    def test_without_nvml_it_says_so_and_the_cap_is_still_seen(self) -> None:
        found = watch(steady(None), profile(**TWO))
        assert unjudged(found)["raise-max-num-seqs"].startswith("GPU utilization: no NVML on this machine")
        assert "sequence-cap" in firing(found)


class TestLoadTooSmall:
    def test_few_requests_and_idle_gpus(self) -> None:
        hint = firing(watch(steady(running=3, waiting=0), profile()))["load-too-small"]
        assert hint.change == ()
        assert "the load is too small" in hint.gain

    @pytest.mark.parametrize(
        "series",
        [
            steady(running=0, waiting=0),
            steady(running=3, waiting=5),
            steady([gpu(util_percent=70.0)], running=3, waiting=0),
        ],
        ids=["idle", "some wait", "utilization at 70%"],
    )
    def test_near_misses(self, series: Series) -> None:
        assert "load-too-small" not in firing(watch(series, profile()))

    def test_not_when_it_sits_at_the_cap(self) -> None:
        assert "load-too-small" not in firing(watch(steady(running=2, waiting=0), profile(**TWO)))


def preempting(second: int) -> Sample:
    """As on a KV cache of 2,048 tokens under 16 clients: usage swings up to 94%, requests are thrown out."""
    usage = (0.70, 0.82, 0.94, 0.78)[second % 4]
    values = {"kv_cache_usage": usage, "kv_cache_tokens": 2048, "preemptions_total": second // 2}
    return steady(running=8, waiting=8, **values)(second)


class TestKvCacheFull:
    def test_preemptions_with_swinging_usage_lower_the_cap(self) -> None:
        settings = {"max_num_seqs": 16, "kv_cache_dtype": "fp8", "num_gpu_blocks_override": 64}
        hint = firing(watch(preempting, profile(serve=settings)))["kv-cache-full"]
        assert hint.change == (ProfileChange(key="serve.max_num_seqs", before=16, after=6),)
        text = " ".join(hint.evidence)
        assert "of 2,048 tokens, peak 94%" in text
        assert "15 preemptions in 30 s." in text
        assert "num_gpu_blocks_override = 64" in hint.gain

    def test_preemptions_alone_tell_even_if_each_sample_missed_the_peak(self) -> None:
        def unseen(second: int) -> Sample:
            return steady(running=8, waiting=8, kv_cache_usage=0.7, preemptions_total=second // 4)(second)

        assert "kv-cache-full" in firing(watch(unseen, profile(serve={"max_num_seqs": 16})))

    def test_a_single_peak_without_preemption_is_not_full(self) -> None:
        def peaky(second: int) -> Sample:
            return steady(running=8, waiting=8, kv_cache_usage=0.92 if second % 10 == 0 else 0.6)(second)

        assert "kv-cache-full" not in firing(watch(peaky, profile(serve={"max_num_seqs": 16})))

    def test_on_the_cpu_build_no_fp8_is_proposed(self) -> None:
        hint = firing(watch(preempting, profile(**CPU, serve={"max_num_seqs": 16})))["kv-cache-full"]
        assert hint.change[0].key == "serve.max_num_seqs"

    def test_fp8_where_it_is_sixteen_bits(self) -> None:
        hint = firing(watch(preempting, profile(serve={"max_num_seqs": 16})))["kv-cache-full"]
        assert hint.change == (ProfileChange(key="serve.kv_cache_dtype", before=None, after="fp8"),)

    def test_no_fp8_on_an_a100(self) -> None:
        series = steady([gpu(name="NVIDIA A100-SXM4-80GB")], kv_cache_usage=0.95, waiting=5, running=100)
        hint = firing(watch(series, profile(serve={"max_num_seqs": 256})))["kv-cache-full"]
        assert hint.change[0].after == 96

    def test_v4_has_fp8_already_and_hears_of_data_parallel_attention(self) -> None:
        v4 = profile(
            model={"id": "deepseek-ai/DeepSeek-V4-Flash", "architecture": "deepseek-v4-flash"},
            serve={"max_num_seqs": 16, "tensor_parallel_size": 8},
        )
        hint = firing(watch(preempting, v4))["kv-cache-full"]
        assert hint.change[0].key == "serve.max_num_seqs"
        assert "data_parallel_size = 8" in hint.gain

    def test_one_long_request_lowers_the_context(self) -> None:
        series = steady(running=1, waiting=3, kv_cache_usage=0.95)
        of = profile(serve={"max_model_len": "128k", "kv_cache_dtype": "fp8"})
        hint = firing(watch(series, of, max_model_len=131_072))["kv-cache-full"]
        assert hint.change == (ProfileChange(key="serve.max_model_len", before="128k", after=65_536),)

    def test_cap_and_cache_full_together_leave_nothing_to_lower(self) -> None:
        series = steady(running=16, waiting=3, kv_cache_usage=0.92)
        hint = firing(watch(series, profile(serve={"max_num_seqs": 16, "kv_cache_dtype": "fp8"})))["kv-cache-full"]
        assert hint.change == ()
        assert "more memory" in hint.gain

    @pytest.mark.parametrize(
        "series",
        [
            steady(running=8, waiting=0, kv_cache_usage=0.95),
            steady(running=8, waiting=8, kv_cache_usage=0.80),
            steady(running=8, waiting=8, kv_cache_usage=0.5, preemptions_total=900),
        ],
        ids=["full but nothing waits", "80%", "preemptions of long ago"],
    )
    def test_near_misses(self, series: Series) -> None:
        assert "kv-cache-full" not in firing(watch(series, profile(serve={"max_num_seqs": 16})))

    def test_a_counter_reset_is_no_preemption(self) -> None:
        def restarted(second: int) -> Sample:
            return steady(kv_cache_usage=0.7, preemptions_total=500 if second < 70 else 0)(second)

        assert "kv-cache-full" not in firing(watch(restarted, profile(serve={"max_num_seqs": 16})))


class TestIdleSpend:
    IDLE = staticmethod(steady(running=0, waiting=0, generation_tokens_total=7, requests_finished_total=3))

    def test_dollars_spent_on_nothing(self) -> None:
        found = firing(watch(self.IDLE, profile(cost={"usd_per_hour": 30}), seconds=722))
        text = " ".join(found["idle-spend"].evidence)
        assert "for 12 min." in text
        assert "At $30.00 an hour that is $6.0" in text

    def test_not_before_ten_minutes(self) -> None:
        assert "idle-spend" not in firing(watch(self.IDLE, profile(cost={"usd_per_hour": 30}), seconds=590))

    def test_the_time_is_a_parameter(self) -> None:
        found = watch(self.IDLE, profile(cost={"usd_per_hour": 30}), seconds=40, idle_hold_s=30.0)
        assert "idle-spend" in firing(found)

    @pytest.mark.parametrize("counter", ["generation_tokens_total", "requests_finished_total"])
    def test_a_short_request_between_two_samples_counts(self, counter: str) -> None:
        def now_and_then(second: int) -> Sample:
            counters = {"generation_tokens_total": 7, "requests_finished_total": 3, counter: 50 + second // 300}
            return steady(running=0, waiting=0, **counters)(second)

        assert "idle-spend" not in firing(watch(now_and_then, profile(cost={"usd_per_hour": 30}), seconds=1300))

    def test_no_price_says_so(self) -> None:
        assert "usd_per_hour is not set" in unjudged(watch(self.IDLE, profile()))["idle-spend"]

    def test_a_machine_that_costs_nothing(self) -> None:
        found = watch(self.IDLE, profile(cost={"usd_per_hour": 0}), seconds=700)
        assert "idle-spend" not in firing(found)
        assert "idle-spend" not in unjudged(found)


SLOW_PREFILL = {
    "running": 20,
    "waiting": 6,
    "kv_cache_usage": 0.4,
    "ttft": Percentiles(p50_s=2.0, p95_s=4.0, count=50),
    "itl": Percentiles(p50_s=0.03, p95_s=0.2, count=5000),
}


class TestPrefillBudget:
    def test_room_everywhere_but_requests_wait(self) -> None:
        hint = firing(watch(steady(**SLOW_PREFILL), profile(serve={"max_num_seqs": 128})))["prefill-budget"]
        assert hint.change == (ProfileChange(key="serve.max_num_batched_tokens", before=None, after=16_384),)
        assert "TTFT p95 4.00 s beside 30 ms" in " ".join(hint.evidence)

    @pytest.mark.parametrize(
        "values",
        [
            {"waiting": 0},
            {"running": 128},
            {"kv_cache_usage": 0.9},
            {"ttft": Percentiles(p95_s=0.5)},
            {"ttft": None},
            {"itl": Percentiles(p50_s=0.5)},
        ],
        ids=["nothing waits", "at the cap", "KV cache full", "quick", "no TTFT yet", "slow tokens too"],
    )
    def test_near_misses(self, values: dict[str, Any]) -> None:
        series = steady(**(SLOW_PREFILL | values))
        assert "prefill-budget" not in firing(watch(series, profile(serve={"max_num_seqs": 128})))

    def test_never_above_what_is_known_to_work(self) -> None:
        of = profile(serve={"max_num_seqs": 128, "max_num_batched_tokens": 16_384})
        assert "prefill-budget" not in firing(watch(steady(**SLOW_PREFILL), of))


OFF = {"serve": {"enable_prefix_caching": False}}
FOUR = tuple(gpu(index) for index in range(4))

OTHER_RULES = [
    ("prefix-cache-off", steady(mean_prompt_tokens=3000.0), OFF, True),
    ("prefix-cache-off", steady(mean_prompt_tokens=100.0), OFF, False),
    ("prefix-cache-off", steady(mean_prompt_tokens=3000.0), {}, False),
    ("gpus-unused", steady([gpu(), gpu(1, memory_used_bytes=GIB, util_percent=0.0)]), {}, True),
    ("gpus-unused", steady([gpu(), gpu(1, memory_used_bytes=GIB, util_percent=40.0)]), {}, False),
    ("gpus-unused", steady(FOUR), {}, False),
    ("gpus-uneven", steady([*FOUR[:3], gpu(3, util_percent=90.0)]), {}, True),
    ("gpus-uneven", steady([*FOUR[:3], gpu(3, util_percent=79.0)]), {}, False),
    ("gpus-uneven", steady([*FOUR[:3], gpu(3, util_percent=90.0)], running=0), {}, False),
    ("gpu-hot", steady([*FOUR[:3], gpu(3, temperature_c=88.0)]), {}, True),
    ("gpu-hot", steady([*FOUR[:3], gpu(3, temperature_c=84.0)]), {}, False),
    ("host-cpu", steady(host=HostReading(cpu_percent=97.0)), {}, True),
    ("host-cpu", steady(host=HostReading(cpu_percent=80.0)), {}, False),
    ("host-cpu", steady([gpu(util_percent=95.0)], HostReading(cpu_percent=97.0)), {}, False),
    ("host-memory", steady(host=HostReading(memory_used_bytes=97, memory_total_bytes=100)), {}, True),
    ("host-memory", steady(host=HostReading(memory_used_bytes=94, memory_total_bytes=100)), {}, False),
    ("eager-mode", steady(), {"serve": {"enforce_eager": True}}, True),
    ("eager-mode", steady(running=0), {"serve": {"enforce_eager": True}}, False),
    ("eager-mode", steady(), {}, False),
    ("eager-mode", steady(None), CPU | {"serve": {"enforce_eager": True}}, False),
]


@pytest.mark.parametrize(("rule", "series", "tables", "fires"), OTHER_RULES)
def test_machine_rules(rule: str, series: Series, tables: dict[str, Any], fires: bool) -> None:
    assert (rule in firing(watch(series, profile(**tables), seconds=150))) is fires


@pytest.mark.parametrize(("nodes", "share"), [(1, "$10.00"), (2, "$5.00")])
def test_the_share_of_idle_gpus_is_of_one_machines_price(nodes: int, share: str) -> None:
    """A price is of all machines, and the GPUs are those of one."""
    of = profile(cost={"usd_per_hour": 20.0}, hardware={"gpu": "H200", "count": 2, "nodes": nodes})
    idle = steady([gpu(), gpu(1, memory_used_bytes=GIB, util_percent=0.0)])
    text = " ".join(firing(watch(idle, of, seconds=150))["gpus-unused"].evidence)
    assert f"That share of the machine costs {share} an hour" in text


@pytest.mark.parametrize(
    ("gpus", "words"),
    [
        (None, "no NVML"),
        ((), "the driver shows no GPU"),
        ((gpu(util_percent=None),), "the driver does not report it"),
    ],
)
def test_missing_gpu_figures_are_told_apart(gpus: tuple[GpuReading, ...] | None, words: str) -> None:
    assert words in unjudged(watch(steady(gpus), profile()))["load-too-small"]


def test_missing_metrics_are_named() -> None:
    def silent(second: int) -> Sample:
        return msgspec.structs.replace(steady()(second), engine=None)

    missing = unjudged(watch(silent, profile(**TWO)))
    assert "running and waiting requests: no answer from /metrics" in missing["kv-cache-full"]
    assert "KV cache usage: no answer from /metrics" in missing["kv-cache-full"]


def test_one_missing_answer_is_not_a_missing_source() -> None:
    def holes(second: int) -> Sample:
        sample = steady()(second)
        return msgspec.structs.replace(sample, engine=None, gpus=None) if second % 5 == 4 else sample

    found = watch(holes, profile(**TWO), seconds=95)
    assert "raise-max-num-seqs" in firing(found)
    assert not {"raise-max-num-seqs", "kv-cache-full", "load-too-small", "gpu-hot"} & set(unjudged(found))
