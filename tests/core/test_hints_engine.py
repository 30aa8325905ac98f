"""The hint engine's promises: hysteresis, no flapping, no contradiction, order, and the table's invariants."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from console.core.hints import HintEngine, explain_rules
from console.core.hints.hysteresis import Tracker
from console.core.hints.needs import NEEDS
from console.core.hints.rule import Finding, Rule
from console.core.hints.table import NODE_RULES, RULES
from console.core.hints.window import BUSY_MIN, GAP_S, HISTORY_S
from console.core.hints.words import duration, latency, percent, plural
from console.core.models import (
    EngineReading,
    GpuReading,
    Hint,
    HintState,
    HostReading,
    Level,
    ProfileChange,
    Sample,
    ServerState,
)
from console.core.profile import Profile, ServeSection

HOLD, CLEAR = 5.0, 8.0
CAP = msgspec.convert(
    {"profile": {"title": "t"}, "model": {"id": "m"}, "serve": {"max_num_seqs": 4}, "cost": {"usd_per_hour": 3}},
    Profile,
)


def sample(second: float, state: ServerState = ServerState.READY, **values: Any) -> Sample:
    """One tick; requests wait at the cap unless `values` say otherwise."""
    base: dict[str, Any] = {
        "running": 4,
        "waiting": 12,
        "kv_cache_usage": 0.05,
        "generation_tokens_total": int(second * 100),
        "preemptions_total": 0,
    }
    return Sample(
        time_s=1e9 + second,
        state=state,
        gpus=(GpuReading(index=0, util_percent=30.0, memory_used_bytes=70, memory_total_bytes=80),),
        host=HostReading(cpu_percent=10.0, cpu_count=8, memory_used_bytes=1, memory_total_bytes=10),
        engine=EngineReading(**(base | values)),
    )


def shown(hints: Sequence[Hint]) -> list[str]:
    """Ids of the hints that fire, in order."""
    return [hint.id for hint in hints if hint.state is HintState.FIRING]


def found(after: int | None = None) -> Finding:
    change = () if after is None else (ProfileChange(key="serve.max_num_seqs", before=2, after=after),)
    return Finding(evidence=("e",), change=change, gain=f"to {after}")


ALL = (*RULES, *NODE_RULES)


class TestTracker:
    def test_fires_once_held_and_stops_once_clear(self) -> None:
        tracker = Tracker(HOLD, CLEAR)
        states = []
        for second in range(30):
            tracker.update(float(second), found() if second < 10 else None)
            states.append(tracker.firing)
        assert states.index(True) == 5
        assert states[5:].index(False) + 5 == 18
        assert not any(states[18:])

    def test_an_interruption_starts_the_hold_again(self) -> None:
        tracker = Tracker(HOLD, CLEAR)
        for second in range(12):
            tracker.update(float(second), None if second % 5 == 4 else found())
            assert not tracker.firing

    def test_held_time_stops_where_the_condition_does(self) -> None:
        tracker = Tracker(HOLD, CLEAR)
        for second in range(14):
            tracker.update(float(second), found() if second <= 10 else None)
        assert tracker.firing
        assert tracker.shown_held_s == 10.0

    def test_the_change_stands_until_another_was_the_answer_for_as_long(self) -> None:
        tracker = Tracker(HOLD, CLEAR)
        seen = []
        for second in range(30):
            wandering = 16 if second < 10 or second % 2 else 32
            tracker.update(float(second), found(wandering if second < 20 else 32))
            seen.append(tracker.shown.change[0].after if tracker.shown else None)
        assert set(seen[:24]) == {16}
        assert set(seen[25:]) == {32}

    @given(st.lists(st.booleans(), max_size=200), st.integers(0, 20), st.integers(1, 20))
    def test_never_flaps(self, truths: list[bool], hold: int, clear: int) -> None:
        tracker = Tracker(float(hold), float(clear))
        firing = [False]
        for second, truth in enumerate(truths):
            tracker.update(float(second), found() if truth else None)
            firing.append(tracker.firing)
            if tracker.firing:
                assert tracker.shown is not None
        turns = [place for place, (a, b) in enumerate(itertools.pairwise(firing)) if a != b]
        starts, stops = turns[::2], turns[1::2]
        assert all(stop - start >= clear for start, stop in zip(starts, stops, strict=False))
        assert all(start - stop > hold - 1 for stop, start in zip(stops, starts[1:], strict=False))


def rule(name: str, topic: str, level: Level, *changes: ProfileChange) -> Rule:
    return Rule(
        id=name, title=name, level=level, topic=topic, needs=(), window_s=5.0, hold_s=0.0, clear_s=1.0,
        judge=lambda window, setting, held_s: Finding(evidence=("e",), change=changes),
        looks_at="", proposes="", gain="", risk="", doc="",
    )  # fmt: skip


class TestSelection:
    def test_the_first_of_a_topic_shows(self) -> None:
        rules = (rule("a", "x", Level.INFO), rule("b", "x", Level.BAD), rule("c", "y", Level.INFO))
        assert shown(HintEngine(CAP, rules=rules).update(sample(0))) == ["a", "c"]

    def test_one_key_is_changed_once(self) -> None:
        up = ProfileChange(key="serve.max_num_seqs", before=4, after=8)
        down = ProfileChange(key="serve.max_num_seqs", before=4, after=2)
        rules = (rule("up", "x", Level.INFO, up), rule("down", "y", Level.INFO, down))
        assert shown(HintEngine(CAP, rules=rules).update(sample(0))) == ["up"]

    def test_the_worst_comes_first(self) -> None:
        rules = (rule("i", "1", Level.INFO), rule("w", "2", Level.WARN), rule("b", "3", Level.BAD))
        assert shown(HintEngine(CAP, rules=rules).update(sample(0))) == ["b", "w", "i"]


class TestLife:
    def fired(self) -> HintEngine:
        engine = HintEngine(CAP)
        for second in range(30):
            hints = engine.update(sample(second))
        assert shown(hints) == ["raise-max-num-seqs"]
        return engine

    def test_fires_within_its_stated_time_and_stops_after_the_change(self) -> None:
        engine = HintEngine(CAP)
        doc = next(doc for doc in explain_rules() if doc.id == "raise-max-num-seqs")
        first = next(second for second in range(60) if shown(engine.update(sample(second))))
        assert doc.hold_s <= first <= doc.hold_s + BUSY_MIN
        gone = next(
            second
            for second in range(first + 1, 200)
            if "raise-max-num-seqs" not in shown(engine.update(sample(second, running=3, waiting=0)))
        )
        assert gone - first <= doc.window_s + doc.clear_s

    @pytest.mark.parametrize("state", [ServerState.STOPPED, ServerState.LOADING, ServerState.CRASHED])
    def test_no_hints_for_a_server_that_is_not_up(self, state: ServerState) -> None:
        engine = self.fired()
        assert engine.update(sample(30, state)) == ()
        assert shown(engine.update(sample(31))) == []

    def test_an_unhealthy_server_is_not_judged(self) -> None:
        engine = self.fired()
        lasting = [second for second in range(30, 90) if shown(engine.update(sample(second, ServerState.UNHEALTHY)))]
        assert 0 < len(lasting) <= 20

    def test_a_gap_and_a_clock_set_back_start_afresh(self) -> None:
        engine = self.fired()
        assert shown(engine.update(sample(29 + GAP_S + 1))) == []
        engine = self.fired()
        assert shown(engine.update(sample(-3600))) == []

    def test_a_sample_a_little_older_changes_nothing(self) -> None:
        engine = self.fired()
        assert shown(engine.update(sample(28.5, running=0, waiting=0))) == ["raise-max-num-seqs"]


readings = st.fixed_dictionaries(
    {
        "running": st.one_of(st.none(), st.integers(0, 5)),
        "waiting": st.one_of(st.none(), st.integers(0, 20)),
        "kv_cache_usage": st.one_of(st.none(), st.floats(0, 1)),
        "preemptions_total": st.one_of(st.none(), st.integers(0, 50)),
        "generation_tokens_total": st.one_of(st.none(), st.integers(0, 10_000)),
    }
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(readings, st.integers(1, 25)), min_size=1, max_size=12))
def test_whatever_the_figures_hints_neither_contradict_nor_flap(phases: list[tuple[dict[str, Any], int]]) -> None:
    engine = HintEngine(CAP)
    topics = {rule.id: rule.topic for rule in RULES}
    clears = {rule.id: rule.clear_s for rule in RULES}
    since: dict[str, int] = {}
    second = 0
    for values, length in phases:
        for _ in range(length):
            hints = engine.update(sample(second, **values))
            now = shown(hints)
            keys = [change.key for hint in hints for change in hint.change]
            assert len(keys) == len(set(keys))
            assert len({topics[name] for name in now}) == len(now)
            assert not {hint.id for hint in hints if hint.state is HintState.UNJUDGED} & set(now)
            for name in set(since) - set(now):
                ousted = topics[name] in {topics[other] for other in now}
                assert ousted or second - since[name] >= clears[name]
            since = {name: since.get(name, second) for name in now}
            for hint in hints:
                assert hint.evidence if hint.state is HintState.FIRING else hint.missing
            second += 1


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 7), st.integers(1, 7))
def test_a_load_that_comes_and_goes_in_seconds_does_not_flap(on: int, off: int) -> None:
    engine = HintEngine(CAP)
    turns, last = 0, False
    for second in range(300):
        busy = second % (on + off) < on
        now = "raise-max-num-seqs" in shown(engine.update(sample(second, **({} if busy else {"waiting": 0}))))
        turns += now != last
        last = now
    assert turns <= 1


class TestTable:
    def test_ids_are_unique_and_words_are_there(self) -> None:
        assert len({rule.id for rule in ALL}) == len(ALL) >= 25
        for doc in explain_rules():
            assert doc.title
            assert doc.looks_at
            assert doc.proposes
            assert doc.needs
            assert doc.gain
            assert doc.doc

    def test_times_fit_the_history(self) -> None:
        for rule in ALL:
            assert 0 < rule.window_s <= HISTORY_S
            assert rule.hold_s > 0
            assert rule.clear_s > 0

    def test_needs_exist_and_each_is_used(self) -> None:
        assert {need for rule in ALL for need in rule.needs} == set(NEEDS)

    def test_every_change_is_of_a_profile_field(self) -> None:
        engine = HintEngine(CAP)
        for second in range(60):
            for hint in engine.update(sample(second)):
                for change in hint.change:
                    assert change.key.removeprefix("serve.") in ServeSection.__struct_fields__

    def test_documentation_is_the_table(self) -> None:
        assert [doc.id for doc in explain_rules()] == [rule.id for rule in ALL]
        assert msgspec.json.encode(explain_rules())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (duration(24.9), "24 s"),
        (duration(725), "12 min"),
        (duration(11_100), "3 h 05 min"),
        (latency(0.0644), "64 ms"),
        (latency(1.044), "1.04 s"),
        (percent(0.0), "0%"),
        (percent(0.041), "4.1%"),
        (percent(0.94), "94%"),
        (plural(1, "request"), "1 request"),
        (plural(0, "GPU"), "0 GPUs"),
        (plural(2.5, "core"), "2.5 cores"),
    ],
)
def test_words(text: str, expected: str) -> None:
    assert text == expected
