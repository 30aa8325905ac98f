"""Rows, order and totals of a fleet."""

from __future__ import annotations

from msgspec.structs import replace

from console.core.fleet import (
    STALE_S,
    FleetRow,
    FleetState,
    gpus_text,
    row_of,
    totals_of,
    worst_first,
)
from console.core.fleet_words import hints_words, totals_words
from console.core.models import GpuProcess, Hint, Level, RunInfo, ServerState, ServerStatus, SourceStatus
from console.core.watching import WATCH, Trouble
from console.tui.widgets.fleet_list import FLEET_GLYPHS
from tests.fakes.backend import BUSY, READY, RUN, gpu, snapshot


def test_every_state_of_a_server_has_a_word_and_a_glyph() -> None:
    assert {state.value for state in ServerState} <= {state.value for state in FleetState}
    assert set(FLEET_GLYPHS) == set(FleetState)


def test_a_row_has_the_figures_of_the_newest_snapshot() -> None:
    row = row_of(RUN, snapshot(engine=BUSY), age_s=0.4)
    assert (row.state, row.running, row.waiting) == (FleetState.READY, BUSY.running, BUSY.waiting)
    assert row.kv_cache_usage == BUSY.kv_cache_usage
    assert row.ttft_p95_s == (BUSY.ttft.p95_s if BUSY.ttft else None)
    assert row.usd_per_hour == RUN.usd_per_hour


def test_old_figures_are_not_shown_as_those_of_now() -> None:
    row = row_of(RUN, snapshot(engine=BUSY), age_s=STALE_S + 1)
    assert (row.state, row.running, row.generation_tokens_per_s, row.hints) == (FleetState.STALE, None, None, None)
    lost = row_of(RUN, snapshot(engine=BUSY), age_s=0.1, lost="the line broke")
    assert (lost.state, lost.why, lost.running) == (FleetState.LOST, "the line broke", None)
    assert row_of(RUN, None, age_s=None).state is FleetState.ASKING
    metrics = SourceStatus(name="metrics", ok=False, error="no answer within 2 s")
    silent = row_of(RUN, snapshot(engine=None, sources=(metrics,)), age_s=0.1)
    assert (silent.state, silent.why) == (FleetState.STALE, "metrics: no answer within 2 s")


def test_trouble_of_an_endpoint_is_its_state() -> None:
    endpoint = RunInfo(id="watch:a", profile_name="a", url="http://a")
    words = set()
    for trouble in Trouble:
        source = SourceStatus(name=WATCH, ok=False, error=str(trouble))
        status = ServerStatus(state=ServerState.UNHEALTHY, reason="said why")
        row = row_of(endpoint, snapshot(engine=None, status=status, sources=(source,), hints=()), age_s=0.0)
        assert row.watched
        assert row.why == "said why"
        words.add(row.state)
    assert words == {FleetState.UNREACHABLE, FleetState.KEY, FleetState.FOREIGN}


def test_gpus_are_those_of_the_profile_else_those_that_it_holds() -> None:
    named = replace(RUN, env={"CUDA_VISIBLE_DEVICES": "4,5,6,7"})
    assert row_of(named, None, age_s=None).gpus == (4, 5, 6, 7)
    own = (GpuProcess(pid=1, own=True),)
    seen = snapshot(gpus=(gpu(0, processes=()), gpu(1, processes=own), gpu(2, processes=own)))
    assert row_of(RUN, seen, age_s=0.0).gpus == (1, 2)
    assert row_of(RUN, snapshot(gpus=None), age_s=0.0).gpus is None
    assert gpus_text((0, 1, 2, 3)) == "0-3"
    assert gpus_text((0, 2, 5, 6, 7)) == "0,2,5-7"
    assert gpus_text(None) == ""


def base(name: str, state: FleetState, **more: object) -> FleetRow:
    return replace(FleetRow(id=name, name=name, url=f"http://{name}", watched=False, state=state), **more)


def test_worst_first_and_figures_move_no_row() -> None:
    rows = [
        base("ready", FleetState.READY, running=99, hints=()),
        base("warned", FleetState.READY, running=1, hints=("a",), hints_level=Level.WARN),
        base("bad", FleetState.READY, hints=("b",), hints_level=Level.BAD),
        base("gone", FleetState.UNREACHABLE),
        base("crashed", FleetState.CRASHED),
        base("loading", FleetState.LOADING),
    ]
    order = [row.name for row in worst_first(rows)]
    assert order == ["crashed", "gone", "loading", "bad", "warned", "ready"]
    busier = [replace(row, running=1, waiting=5, kv_cache_usage=0.9) for row in rows]
    assert [row.name for row in worst_first(busier)] == order


def test_totals_are_of_what_is_known_and_say_what_is_not() -> None:
    rows = [
        base("a", FleetState.READY, running=3, waiting=0, generation_tokens_per_s=100.0, usd_per_hour=10.0, gpus=(0,)),
        base("b", FleetState.READY, running=4, waiting=1, generation_tokens_per_s=250.0, gpus=(1, 2), hints=("x",)),
        base("c", FleetState.UNREACHABLE),
    ]
    totals = totals_of(rows)
    assert (totals.servers, totals.ready, totals.gpus, totals.running, totals.waiting) == (3, 2, 3, 7, 1)
    assert totals.generation_tokens_per_s == 350.0
    assert (totals.usd_per_hour, totals.without_price, totals.without_figures) == (10.0, 2, 1)
    words = totals_words(totals)
    assert "$10.00/h and 2 without a price" in words
    assert "1 without figures" in words
    nothing = totals_of([base("c", FleetState.UNREACHABLE)])
    assert (nothing.running, nothing.generation_tokens_per_s, nothing.usd_per_hour) == (None, None, None)
    assert "running –" in totals_words(nothing)


def test_hints_that_nobody_judged_are_unknown() -> None:
    assert hints_words(base("a", FleetState.UNREACHABLE)) == "–"
    hint = Hint(id="kv-cache-full", title="full")
    assert hints_words(row_of(RUN, snapshot(status=READY, engine=BUSY, hints=(hint,)), age_s=0.0)) == "▲ kv-cache-full"
