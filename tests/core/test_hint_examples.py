"""Every rule fires on its examples in its stated time, stops once the trouble is over, and ignores near misses."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from console.core.hints import HintEngine, explain_rules
from console.core.hints.rules_parallel import TP_TO_DP, data_parallel
from console.core.hints.setting import Limits, Setting
from console.core.models import Hint, HintState
from console.core.nodes import gpus_used
from console.core.overrides import apply_changes
from console.core.profile_read import read_profile
from tests.core.hint_examples import EXAMPLES, Example, calm
from tests.core.hint_series import firing, profile, unjudged
from tests.core.node_examples import NODE_EXAMPLES

SHIPPED = Path(__file__).parents[2] / "profiles"
RULES = {doc.id: doc for doc in explain_rules()}
ALL = (*EXAMPLES, *NODE_EXAMPLES)
SLACK_S = 3
"""A few busy samples are needed before some rules look."""


def engine_of(example: Example) -> HintEngine:
    return HintEngine(profile(**example.tables), **example.run)


def ids(example: Example) -> str:
    return f"{example.rule}: {example.name}"


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_has_examples_and_near_misses(rule: str) -> None:
    assert any(each.fires for each in ALL if each.rule == rule)
    assert any(not each.fires for each in ALL if each.rule == rule)


def test_each_example_is_of_a_rule() -> None:
    assert {each.rule for each in ALL} == set(RULES)
    assert len({ids(each) for each in ALL}) == len(ALL)


@pytest.mark.parametrize("example", [each for each in ALL if each.fires], ids=ids)
def test_it_fires_after_its_hold_and_stops_after_its_clear(example: Example) -> None:
    engine, rule, of = engine_of(example), RULES[example.rule], profile(**example.tables)
    fired: Hint | None = None
    begun = int(rule.hold_s + rule.window_s) + SLACK_S
    for second in range(begun + 1):
        fired = firing(engine.update(example.series(second))).get(example.rule)
        if fired:
            break
    assert fired, f"silent for {begun} s"
    assert second >= rule.hold_s
    assert fired.state is HintState.FIRING
    assert fired.evidence
    assert fired.gain or fired.change
    assert fired.doc == rule.doc
    assert fired.level is rule.level
    if fired.change:
        assert fired.risk
        assert apply_changes(of, fired.change) != of
    if example.lasts:
        return
    last = example.series(second)
    after = (example.after or calm)(last)
    for more in range(1, int(rule.window_s + rule.clear_s) + SLACK_S + 1):
        sample = after.__class__(
            time_s=last.time_s + more, state=after.state, gpus=after.gpus, host=after.host, engine=after.engine
        )
        if example.rule not in firing(engine.update(sample)):
            assert more >= rule.clear_s
            return
    raise AssertionError(f"it still fires {more} s after it was over")


@pytest.mark.parametrize("example", [each for each in ALL if not each.fires], ids=ids)
def test_a_near_miss_keeps_still(example: Example) -> None:
    engine, rule = engine_of(example), RULES[example.rule]
    for second in range(int(rule.hold_s + rule.window_s) + 30):
        hints = firing(engine.update(example.series(second)))
        assert example.rule not in hints, hints[example.rule].evidence


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_that_cannot_be_judged_says_why(rule: str) -> None:
    """With no figure of anything: each rule names what it lacks, but for those that need the run's settings alone."""
    example = next(each for each in ALL if each.rule == rule and each.fires)
    engine = HintEngine(profile(**example.tables), **{**example.run, "engine_version": None})
    for second in range(15):
        nothing = msgspec.structs.replace(example.series(second), engine=None, gpus=None, host=None)
        hints = engine.update(nothing)
    assert not firing(hints)
    missing = unjudged(hints)[rule]
    assert any(need in missing for need in RULES[rule].needs)
    assert ": " in missing


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.toml")), ids=lambda path: path.stem)
def test_data_parallel_attention_can_be_made_of_every_shipped_profile(path: Path) -> None:
    of = read_profile(path.read_text(encoding="utf-8"), path.name)
    setting = Setting(of, Limits())
    if not TP_TO_DP.applies(setting):
        return
    found = data_parallel(setting)
    changed = apply_changes(of, found.changes)
    assert gpus_used(changed) == gpus_used(of)
    assert found.engines == gpus_used(of)
    if found.before is not None and found.after is not None and setting.is_v4:
        assert found.after > found.before


def test_the_page_on_hints_counts_the_rules() -> None:
    text = (SHIPPED.parent / "docs" / "tuning.md").read_text(encoding="utf-8")
    assert f"# {len(RULES)} rules;" in text
