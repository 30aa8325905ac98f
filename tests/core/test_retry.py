"""Which failures are tried again, after which wait, and when that ends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.core.failures import FAILURES, Stage
from console.core.models import Diagnosis
from console.core.profile import RestartPolicy
from console.core.retry import (
    _BY_STAGE,
    BACKOFF_MAX_S,
    BY_CAUSE,
    HANG,
    RESTART_WINDOW_S,
    RESTARTS_MAX,
    START_WINDOW_S,
    Attempts,
    FailureClass,
    classify,
    plan_restart,
)

OWN = {"hang", "node-lost", "ready-timeout"}


def of(cause: str | None) -> Diagnosis:
    return Diagnosis(title="t", cause=cause)


def test_the_table_knows_every_stage_and_names_only_causes_that_exist() -> None:
    assert set(_BY_STAGE) == {str(stage) for stage in Stage}
    assert set(BY_CAUSE) <= {row.id for row in FAILURES} | OWN


@pytest.mark.parametrize("cause", sorted({row.id for row in FAILURES} | OWN))
def test_every_known_cause_has_a_class(cause: str) -> None:
    first = classify(of(cause), served=False, proven=False)
    assert isinstance(first, FailureClass)
    assert classify(of(cause), served=True, proven=True) is FailureClass.RUNTIME


@pytest.mark.parametrize(
    ("cause", "kind"),
    [
        ("argument-unknown", "configuration"),
        ("context-above-memory", "configuration"),
        ("gpu-out-of-memory", "configuration"),
        ("heads-not-divisible", "configuration"),
        ("ready-timeout", "configuration"),
        ("model-gated", "configuration"),
        ("port-in-use", "transient"),
        ("memory-taken", "transient"),
        ("nccl-system", "transient"),
        ("worker-killed", "runtime"),
        (None, "configuration"),
    ],
)
def test_classes_of_a_first_start(cause: str | None, kind: str) -> None:
    assert str(classify(of(cause), served=False, proven=False)) == kind


def test_what_worked_before_may_fail_for_a_while() -> None:
    assert classify(of("gpu-out-of-memory"), served=False, proven=True) is FailureClass.TRANSIENT
    assert classify(of(None), served=False, proven=True) is FailureClass.RUNTIME
    assert classify(None, served=False, proven=True) is FailureClass.RUNTIME
    assert classify(of("argument-unknown"), served=False, proven=True) is FailureClass.CONFIGURATION
    assert classify(HANG, served=True, proven=True) is FailureClass.RUNTIME


def test_policies() -> None:
    def waits(policy: RestartPolicy, kind: FailureClass, clean: bool = False) -> bool:
        plan = plan_restart(policy, kind, Attempts(), 0.0, served_s=100.0, clean_exit=clean)
        return plan.wait_s is not None

    runtime = FailureClass.RUNTIME
    assert not waits(RestartPolicy.NEVER, runtime)
    assert waits(RestartPolicy.ON_FAILURE, runtime)
    assert waits(RestartPolicy.ALWAYS, runtime)
    assert not waits(RestartPolicy.ON_FAILURE, runtime, clean=True)
    assert waits(RestartPolicy.ALWAYS, runtime, clean=True)
    for policy in RestartPolicy:
        assert not waits(policy, FailureClass.CONFIGURATION)


def test_starts_that_take_hours_are_counted_too() -> None:
    attempts, now_s, tried = Attempts(), 0.0, 0
    while True:
        now_s += 7_200.0
        plan = plan_restart(
            RestartPolicy.ALWAYS, FailureClass.TRANSIENT, attempts, now_s, served_s=None, clean_exit=False
        )
        attempts = plan.attempts
        if plan.wait_s is None:
            break
        tried += 1
    assert tried == RESTARTS_MAX
    assert "failed starts in a row: given up" in plan.reason


def test_a_server_that_crashes_once_a_day_is_restarted_for_ever() -> None:
    attempts = Attempts()
    for day in range(100):
        plan = plan_restart(
            RestartPolicy.ON_FAILURE,
            FailureClass.RUNTIME,
            attempts,
            day * 86_400.0,
            served_s=86_000.0,
            clean_exit=False,
        )
        assert (plan.wait_s, plan.number) == (2.0, 1)
        attempts = plan.attempts


@given(
    st.lists(
        st.tuples(
            st.floats(min_value=0, max_value=2_000),
            st.one_of(st.none(), st.floats(min_value=0, max_value=START_WINDOW_S * 2)),
            st.sampled_from(FailureClass),
        ),
        max_size=40,
    ),
    st.sampled_from(RestartPolicy),
)
def test_restarts_never_exceed_the_cap_in_any_window(
    ends: list[tuple[float, float | None, FailureClass]], policy: RestartPolicy
) -> None:
    attempts, now_s, restarts, in_a_row = Attempts(), 0.0, [], 0
    for pause_s, served_s, kind in ends:
        now_s += pause_s
        plan = plan_restart(policy, kind, attempts, now_s, served_s=served_s, clean_exit=False)
        attempts = plan.attempts
        if plan.wait_s is None:
            continue
        assert policy is not RestartPolicy.NEVER
        assert kind is not FailureClass.CONFIGURATION
        assert 2.0 <= plan.wait_s <= BACKOFF_MAX_S
        assert 1 <= plan.number <= RESTARTS_MAX
        restarts.append(now_s)
        steady = served_s is not None and served_s >= START_WINDOW_S
        in_a_row = 0 if steady else in_a_row + 1
        assert in_a_row <= RESTARTS_MAX
        assert sum(now_s - when < RESTART_WINDOW_S for when in restarts) <= RESTARTS_MAX
