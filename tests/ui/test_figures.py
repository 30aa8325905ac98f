"""The figures of the engine as text: what stands where, what speaks up, and what is silent."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from console.core.models import EngineReading, EngineShare, Goodput, Percentiles
from console.tui.paint import line_width, plain
from console.tui.widgets.figure_facts import ENGINES_SHOWN_MAX, FACTS, engine_lines, flow, shown_facts
from console.tui.widgets.figure_texts import Facts, percentile_text, requests_text
from console.tui.widgets.figures import GROUPS_WIDTH, LATENCIES, View, figure_lines, target_mark
from tests.fakes.backend import RUN, gpus
from tests.ui.states import TARGETS, TELLING, TWO

MUCH = (200, 60)


def shown(engine: EngineReading, size: tuple[int, int] = MUCH, run: Any = TARGETS, role: str = "text") -> str:
    view = View(Facts(engine, run, gpus(4)), run.max_num_seqs, [], [], role)
    return "\n".join(plain(row) for row in figure_lines(view, *size))


def test_each_fact_has_a_name_of_its_own_and_says_nothing_of_nothing() -> None:
    assert len({fact.label for fact in FACTS}) == len(FACTS)
    silent = [fact.label for fact in FACTS if not fact.read(Facts(EngineReading(), RUN))]
    # Only that of the prefix cache has a `–`, which stands where its figure always stands.
    assert set(silent) == {fact.label for fact in FACTS} - {"prefix cache"}
    assert not any(fact.alarm(EngineReading()) for fact in FACTS)


@pytest.mark.parametrize("width", [78, 98, 129, 130, 143, 158, 218, 298])
def test_each_fact_is_on_a_tall_screen(width: int) -> None:
    engine = replace(TELLING, by_engine=TWO.by_engine, imbalance=TWO.imbalance, resets_total=1)
    facts = Facts(engine, TARGETS, gpus(4))
    text = shown(engine, (width, 50))
    missing = [fact.label for fact in FACTS if f"{fact.label} {fact.read(facts)}" not in text]
    # On a wide screen that one stands in the table of latencies.
    assert missing == (["p95"] if width >= GROUPS_WIDTH else [])
    if missing:
        assert all(label in text for label, _ in LATENCIES)


@pytest.mark.parametrize("width", [60, 80, 100, 129, 130, 160, 220])
@pytest.mark.parametrize("height", [20, 24, 30, 50])
def test_nothing_is_cut_in_the_middle_of_a_mark(width: int, height: int) -> None:
    text = shown(TELLING, (width, height))
    assert "▲ missed" in text
    assert "▲ errors 4xx 7 5xx 2" in text


def test_a_narrow_screen_has_a_line_for_trouble_and_else_none() -> None:
    calm = replace(
        TELLING, http_errors_by_status={"4xx": 7, "5xx": 0}, admission_rejections_total=0, waiting_deferred=0
    )
    assert len(shown(calm, (78, 24)).split("\n")) == 3
    assert len(shown(TELLING, (78, 24)).split("\n")) == 4


@pytest.mark.parametrize(
    ("p95_s", "target_s", "width", "wanted"),
    [
        (0.9, 1.0, 20, "● met 1.0 s"),
        (1.0, 1.0, 20, "● met 1.0 s"),
        (1.1, 1.0, 20, "▲ missed 1.0 s"),
        (1.1, 1.0, 8, "▲ missed"),
        (None, 1.0, 20, "target 1.0 s"),
        (1.1, None, 20, ""),
    ],
)
def test_a_latency_beside_its_target(p95_s: float | None, target_s: float | None, width: int, wanted: str) -> None:
    assert plain(target_mark(Percentiles(p95_s=p95_s), target_s, "text", width)) == wanted


def test_a_percentile_in_the_lowest_bucket_is_known_to_be_below_its_bound() -> None:
    value = Percentiles(p50_s=0.005, p95_s=0.02, lowest_bound_s=0.01)
    assert percentile_text(value, value.p50_s) == "≤10 ms"
    assert percentile_text(value, value.p95_s) == "20 ms"
    assert percentile_text(value, None) == "–"
    # Whether such a percentile is within a target that is as small, nobody knows.
    low = Percentiles(p95_s=0.009, lowest_bound_s=0.01)
    assert plain(target_mark(low, 0.005, "text", 20)) == "target 5.0 ms"
    assert plain(target_mark(low, 0.02, "text", 20)) == "● met 20 ms"


def test_stale_figures_raise_no_alarm() -> None:
    assert not any(fact.alarm for fact in shown_facts(Facts(TELLING, TARGETS), "muted"))
    roles = {role for _, role in target_mark(Percentiles(p95_s=9.0), 1.0, "muted", 20)}
    assert roles == {"muted"}


def test_goodput_of_one_target_is_one_figure() -> None:
    point = Goodput(share_min=0.8, share_max=0.8, per_s_min=2.0, per_s_max=2.0, ttft_share=0.8)
    assert "goodput 80% 2/s" in shown(replace(TELLING, goodput=point))
    assert "goodput 31–36% 1.2–1.4/s (TTFT 36% TPOT 95%)" in shown(TELLING)


@pytest.mark.parametrize(
    ("per_s", "wanted"), [(None, ""), (0.0, "0/s"), (0.03, "1.8/min"), (0.5, "0.5/s"), (42.0, "42/s")]
)
def test_a_rate_of_requests(per_s: float | None, wanted: str) -> None:
    assert requests_text(per_s) == wanted


def test_a_prefix_cache_that_is_off_says_so() -> None:
    assert "prefix cache off" in shown(replace(TELLING, prefix_caching=False))


@pytest.mark.parametrize("count", [2, ENGINES_SHOWN_MAX, ENGINES_SHOWN_MAX + 3])
def test_engines_beside_one_another(count: int) -> None:
    engines = [EngineShare(engine=str(index), running=index) for index in range(count)]
    rows = [plain(row) for row in engine_lines(engines, 120, "text")]
    assert sum(row.count("wait") for row in rows) == min(count, ENGINES_SHOWN_MAX)
    assert ("and 3 more engines" in rows) is (count > ENGINES_SHOWN_MAX)


@given(st.integers(40, 200), st.integers(0, 12))
def test_facts_keep_to_their_lines(width: int, rows: int) -> None:
    facts = shown_facts(Facts(TELLING, TARGETS, gpus(4)), "text")
    lines, left = flow(facts, width, rows)
    assert len(lines) <= rows
    assert all(line_width(row) <= width for row in lines)
    text = "\n".join(plain(row) for row in lines)
    assert all((plain(fact.spans) in text) is (fact not in left) for fact in facts)
