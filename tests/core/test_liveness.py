"""When figures that stand still mean a hang, and when they do not."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from console.core.liveness import Watch, look, metrics_lost, standstill
from console.core.metrics import EngineMetrics

LIMIT_S = 120.0
MOVES = st.floats(min_value=0, max_value=1e9)


def watched(*marks: tuple[float, tuple[float, ...] | None]) -> Watch:
    watch = Watch()
    for now_s, values in marks:
        watch = look(watch, None if values is None else {"0": values}, now_s)
    return watch


def test_requests_and_no_movement_is_a_hang_after_the_limit() -> None:
    seconds = [(float(now), (2.0, 10.0, 5.0)) for now in range(121)]
    assert standstill(watched(*seconds[:-1]), LIMIT_S) == ""
    found = standstill(watched(*seconds), LIMIT_S)
    assert found == "the engine has 2 requests, and no token and no KV cache block moved for 120 s"


def test_an_idle_engine_does_not_hang_however_long() -> None:
    watch = watched(*((20.0 * n, (0.0, 10.0, 5.0)) for n in range(500)))
    assert standstill(watch, LIMIT_S) == ""


def test_a_request_after_idle_hours_has_the_whole_limit() -> None:
    idle = [(10.0 * n, (0.0, 10.0)) for n in range(1_000)]
    busy = [(9_990.0 + 10 * n, (1.0, 10.0)) for n in range(1, 14)]
    assert standstill(watched(*idle, *busy[:-1]), LIMIT_S) == ""
    assert standstill(watched(*idle, *busy), LIMIT_S)


def test_time_that_was_not_watched_does_not_count() -> None:
    before = [(float(now), (1.0, 10.0)) for now in range(100)]
    assert standstill(watched(*before, (9_000, (1.0, 10.0))), LIMIT_S) == "", "the machine was suspended"
    assert standstill(watched(*before, (500, None)), LIMIT_S) == "", "no figures are no evidence of this kind"


def test_a_long_prefill_moves_the_kv_cache_and_is_no_hang() -> None:
    steps = [(30.0 * n, (1.0, 1_000.0, 0.0, 0.01 * n)) for n in range(100)]
    assert standstill(watched(*steps), LIMIT_S) == ""


def test_one_engine_of_two_is_found_while_the_other_works() -> None:
    watch = Watch()
    for now in range(0, 200, 10):
        watch = look(watch, {"0": (1.0, float(now)), "1": (3.0, 7.0)}, float(now))
    assert standstill(watch, LIMIT_S).startswith("engine 1 has 3 requests")

    watch = watched((0, (0, 1)), (50, None))
    assert metrics_lost(watch, 119, LIMIT_S, health_ok=True, error="no answer within 2 s") == ""
    assert "/metrics has not answered for 120 s" in metrics_lost(watch, 120, LIMIT_S, health_ok=True, error="no answer")
    assert metrics_lost(watch, 500, LIMIT_S, health_ok=False, error="x") == "", "that is health's own matter"
    assert metrics_lost(watch, 500, LIMIT_S, health_ok=True, error=None) == ""
    assert metrics_lost(Watch(), 500, LIMIT_S, health_ok=True, error="HTTP 404") == "", "a server without metrics"


@given(st.lists(st.tuples(MOVES, MOVES), min_size=2, max_size=20), st.floats(min_value=1, max_value=100))
def test_whatever_moves_within_the_limit_never_hangs(values: list[tuple[float, float]], pause_s: float) -> None:
    watch, now_s = Watch(), 0.0
    for number, (prompt, kv) in enumerate(values):
        now_s += pause_s
        watch = look(watch, {"0": (1.0, prompt, kv, float(number))}, now_s)
        assert standstill(watch, 100.1) == ""


def test_marks_come_from_a_scrape_per_engine() -> None:
    from console.io.prometheus import ExpositionReader

    metrics = EngineMetrics()
    body = "".join(
        f'vllm:num_requests_running{{engine="{n}"}} {n + 1}\nvllm:num_requests_waiting{{engine="{n}"}} 0\n'
        f'vllm:generation_tokens_total{{engine="{n}"}} {n * 7}\nvllm:kv_cache_usage_perc{{engine="{n}"}} 0.5\n'
        for n in (0, 1)
    )
    metrics.feed(ExpositionReader().read(body), 1.0)
    assert metrics.marks == {"0": (1, 0, 0, 0, 0, 0.5), "1": (2, 0, 7, 0, 0, 0.5)}
