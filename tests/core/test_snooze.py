"""Snoozed hints: for how long, what brings them back, and that their number is bounded."""

from __future__ import annotations

import msgspec
import pytest

from console.core.models import Hint, Level
from console.core.snooze import SNOOZE_TIMES, SNOOZES_MAX, Snooze, made, put_aside, snooze_of, with_it, without

HINT = Hint(id="kv-fp8", title="Use an fp8 KV cache", level=Level.WARN)
NOW_S = 1000.0
STARTED_S = 400.0


@pytest.mark.parametrize("seconds", [time.seconds for time in SNOOZE_TIMES if time.seconds])
def test_it_ends_by_itself(seconds: float) -> None:
    snooze = made(HINT, seconds, NOW_S, STARTED_S)
    assert snooze_of(HINT, (snooze,), NOW_S, STARTED_S) == snooze
    assert snooze_of(HINT, (snooze,), NOW_S + seconds - 1, 900.0) == snooze, "a restart does not end it"
    assert snooze_of(HINT, (snooze,), NOW_S + seconds, STARTED_S) is None


def test_until_the_next_start() -> None:
    snooze = made(HINT, None, NOW_S, STARTED_S)
    assert snooze_of(HINT, (snooze,), NOW_S + 1e6, STARTED_S) == snooze
    assert snooze_of(HINT, (snooze,), NOW_S + 10, STARTED_S + 5) is None
    assert put_aside(snooze, NOW_S) == "snoozed until the next start"


def test_what_gets_worse_comes_back_and_what_gets_better_does_not() -> None:
    snooze = made(HINT, 1800.0, NOW_S, None)
    assert snooze_of(msgspec.structs.replace(HINT, level=Level.BAD), (snooze,), NOW_S, None) is None
    assert snooze_of(msgspec.structs.replace(HINT, level=Level.INFO), (snooze,), NOW_S, None) == snooze


def test_a_clock_that_is_set_back_makes_no_snooze_longer() -> None:
    snooze = made(HINT, 1800.0, NOW_S, None)
    assert snooze_of(HINT, (snooze,), NOW_S - 7200, None) is None


def test_one_per_hint_and_no_more_than_the_limit() -> None:
    first, second = made(HINT, 1800.0, NOW_S, None), made(HINT, 3600.0, NOW_S + 5, None)
    assert with_it((first,), second) == (second,)
    assert without((second,), HINT.id) == ()
    many: tuple[Snooze, ...] = ()
    for number in range(SNOOZES_MAX + 10):
        many = with_it(many, Snooze(hint=str(number), level=Level.WARN, since_s=0.0, until_s=1.0))
    assert len(many) == SNOOZES_MAX
    assert many[-1].hint == str(SNOOZES_MAX + 9)


def test_what_is_left_is_said() -> None:
    assert put_aside(made(HINT, 1800.0, NOW_S, None), NOW_S + 30) == "snoozed, 29m30s left"
