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
    watch = watched((0, (2, 10, 5)), (60, (2, 10, 5)), (119, (2, 10, 5)))
    assert standstill(watch, 119.0, LIMIT_S) == ""
    assert "2 requests" in standstill(watch, 120.0, LIMIT_S)
    assert "120 s" in standstill(watch, 120.0, LIMIT_S)


def test_an_idle_engine_does_not_hang_however_long() -> None:
    watch = watched((0, (0, 10, 5)), (10_000, (0, 10, 5)))
    assert standstill(watch, 10_000.0, LIMIT_S) == ""


def test_a_request_after_idle_hours_has_the_whole_limit() -> None:
    watch = watched((0, (0, 10)), (10_000, (1, 10)), (10_100, (1, 10)))
    assert standstill(watch, 10_100.0, LIMIT_S) == ""
    assert standstill(watch, 10_120.0, LIMIT_S)


def test_a_long_prefill_moves_the_kv_cache_and_is_no_hang() -> None:
    steps = [(30.0 * n, (1.0, 1_000.0, 0.0, 0.01 * n)) for n in range(100)]
    assert standstill(watched(*steps), 30.0 * 99 + 29, LIMIT_S) == ""


def test_one_engine_of_two_is_found_while_the_other_works() -> None:
    watch = Watch()
    for now in range(0, 200, 10):
        watch = look(watch, {"0": (1.0, float(now)), "1": (3.0, 7.0)}, float(now))
    assert standstill(watch, 190.0, LIMIT_S).startswith("engine 1 has 3 requests")

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
        assert standstill(watch, now_s + pause_s, 100.1) == ""


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
