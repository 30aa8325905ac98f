"""All rules at once, over random mixtures of all examples: they never contradict, and each change can be made."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from console.core.hints import HintEngine, explain_rules
from console.core.hints.table import NODE_RULES, RULES
from console.core.models import EngineReading, Hint, HintState, HostReading, Sample
from console.core.overrides import apply_changes
from console.core.profile import Profile
from console.core.profile_checks import judge
from tests.core.hint_examples import EXAMPLES, Example
from tests.core.hint_series import firing, profile, steady

TOPICS = {doc.id: doc.topic for doc in explain_rules()}
SILENCES = {rule.id: rule.silences for rule in (*RULES, *NODE_RULES)}
CLEARS = {doc.id: doc.clear_s for doc in explain_rules()}
RUN = {"engine_version": "0.30.0", "max_model_len": 131_072}

STEP_S = 2
"""Every other second is enough here."""

examples = st.sampled_from(EXAMPLES)
mixtures = st.lists(st.tuples(examples, examples, st.integers(30, 120)), min_size=1, max_size=3)


def over(base: Any, plain: Any, more: Any) -> Any:
    """`base` with every field in which `more` differs from what is plain."""
    changed = {
        name: value
        for name in base.__struct_fields__
        if (value := getattr(more, name)) != getattr(plain, name) and name != "time_s"
    }
    return msgspec.structs.replace(base, **changed)


def mixed(first: Example, second: Example, at: int) -> Sample:
    """The trouble of both examples at once."""
    base, plain, more = first.series(at), steady()(at), second.series(at)
    engine = over(base.engine or EngineReading(), plain.engine, more.engine or EngineReading())
    host = over(base.host or HostReading(), plain.host, more.host or HostReading())
    gpus = more.gpus if more.gpus != plain.gpus else base.gpus
    return msgspec.structs.replace(base, engine=engine, host=host, gpus=gpus)


def series_of(mixture: list[tuple[Example, Example, int]]) -> list[Sample]:
    """One second after the other."""
    found: list[Sample] = []
    begun = 0
    for first, second, length in mixture:
        found += [mixed(first, second, at) for at in range(begun, begun + length, STEP_S)]
        begun += length + length % STEP_S
    return found


def together(first: Example, second: Example) -> Profile:
    """A profile with the settings of both."""
    tables = {name: dict(table) for name, table in first.tables.items()}
    for name, table in second.tables.items():
        tables[name] = tables.get(name, {}) | table
    hardware = tables.get("hardware", {})
    if hardware.get("count", 1) > 1 and len(tables.get("serve", {})) == 0:
        tables["serve"] = {"tensor_parallel_size": hardware["count"]}
    return profile(**tables)


def sound(of: Profile) -> bool:
    """Whether the strict checks let this profile through."""
    return not any(not finding.warning for finding in judge(of))


def check(hints: tuple[Hint, ...], of: Profile) -> dict[str, Hint]:
    """What must be true of the hints of each second."""
    now = firing(hints)
    assert len({TOPICS[name] for name in now}) == len(now)
    keys = [change.key for hint in now.values() for change in hint.change]
    assert len(keys) == len(set(keys)), keys
    assert not {hint.id for hint in hints if hint.state is HintState.UNJUDGED} & set(now)
    assert all(hint.missing for hint in hints if hint.state is HintState.UNJUDGED)
    assert all(hint.evidence and hint.doc for hint in now.values())
    assert all(text and text[-1] in ".:" for hint in now.values() for text in hint.evidence)
    if sound(of):
        for hint in now.values():
            assert sound(apply_changes(of, hint.change)), hint.change
        every = tuple(change for hint in now.values() for change in hint.change)
        assert sound(apply_changes(of, every)), every
    return now


@settings(max_examples=80, deadline=None)
@given(mixtures)
def test_hints_neither_contradict_nor_flap_and_can_be_applied(mixture: list[tuple[Example, Example, int]]) -> None:
    of = together(mixture[0][0], mixture[0][1])
    engine = HintEngine(of, **RUN)
    since: dict[str, tuple[float, set[str]]] = {}
    previous: list[Any] | None = None
    for sample in series_of(mixture):
        second = sample.time_s
        hints = engine.update(sample)
        said = [(hint.id, hint.state, hint.change) for hint in hints]
        now = check(hints, of) if said != previous else firing(hints)
        previous = said
        silenced = {topic for name in now for topic in SILENCES[name]}
        assert not silenced & {TOPICS[name] for name in now}
        claimed = {TOPICS[name] for name in now} | silenced
        keys = {change.key for hint in now.values() for change in hint.change}
        for name in set(since) - set(now):
            begun, own = since[name]
            ousted = TOPICS[name] in claimed or own & keys
            assert ousted or second - begun >= CLEARS[name], name
        since = {
            name: (since[name][0] if name in since else second, {change.key for change in hint.change})
            for name, hint in now.items()
        }


@settings(max_examples=20, deadline=None)
@given(examples, examples)
def test_nothing_proposes_to_undo_what_was_proposed(first: Example, second: Example) -> None:
    """Make each change, let the same figures come again: no rule wants the old value back."""
    of = together(first, second)
    assume(sound(of))
    samples = [mixed(first, second, at) for at in range(0, 134, STEP_S)]
    for hint in firing(last_of(of, samples)).values():
        if not hint.change:
            continue
        changed = apply_changes(of, hint.change)
        undone = {change.key: change.before for change in hint.change}
        for other in firing(last_of(changed, samples)).values():
            for change in other.change:
                assert undone.get(change.key, msgspec.UNSET) != change.after, (hint.id, other.id, change)


def last_of(of: Profile, samples: list[Sample]) -> tuple[Hint, ...]:
    """The hints after the last sample."""
    engine = HintEngine(of, **RUN)
    found: tuple[Hint, ...] = ()
    for sample in samples:
        found = engine.update(sample)
    return found
