"""Logs of several machines as one: nothing lost, each machine's order kept, earlier before later."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.core.grouplog import HOLD_S, Merger, short_hosts, with_node
from console.core.logparse import parse_line
from console.core.logtimes import utc_offset_s

CREATED_S = 1_795_000_000.0
STAMP = time.strftime("%m-%d ", time.gmtime(CREATED_S))


def said(second: int, text: str, proc: str = "Worker_TP0") -> str:
    clock = time.strftime("%H:%M:%S", time.gmtime(CREATED_S + second))
    return f"({proc} pid=7) INFO {STAMP}{clock} [a.py:1] {text}"


@pytest.mark.parametrize(
    ("text", "proc"),
    [
        (said(1, "x"), "node-a/Worker_TP0"),
        ("(EngineCore pid=9, ip=10.0.0.1) hello", "node-a/EngineCore"),
        ("INFO 11-23 11:42:01 [cli.py:1] hello", "node-a/"),
        ("▄▄ ▄█", "node-a/"),
        (json.dumps({"levelname": "INFO", "message": "m", "vllm_process_name": "APIServer"}), "node-a/APIServer"),
        (json.dumps({"levelname": "INFO", "message": "m"}), "node-a/"),
    ],
)
def test_each_line_has_its_machine_and_stays_what_it_was(text: str, proc: str) -> None:
    before, after = parse_line(text), parse_line(with_node(text, "node-a", 5))
    assert after.proc == proc
    assert (after.message, after.level, after.time) == (before.message, before.level, before.time)
    assert after.pid == (before.pid if before.pid is not None or text.startswith("{") else 5)


def test_names_of_machines_end_no_name_of_a_process_and_differ() -> None:
    names = short_hosts(("me@box", "a (b)/c", "x" * 50, "x" * 60, ""))
    assert names[:2] == ("me@box", "a-b-c")
    assert len(set(names)) == 5
    assert all(parse_line(with_node(said(1, "x", "Worker_DP15_TP7_EP15"), name, 1)).proc for name in names)


def test_lines_come_by_time_and_a_traceback_stays_together() -> None:
    merger = Merger(("a", "b"), CREATED_S)
    trace = [said(5, "Traceback:"), "  File x", "ValueError"]
    merger.feed(0, [said(1, "one"), *trace, said(9, "nine")], pid=1, now_s=0.0)
    merger.feed(1, [said(3, "three"), said(5, "five"), said(7, "seven")], pid=2, now_s=0.0)
    texts = [parse_line(line).message for line in merger.take(0.0)]
    assert texts == ["one", "three", "Traceback:", "  File x", "ValueError", "five", "seven"]
    assert merger.waiting == 1
    assert merger.take(HOLD_S - 0.1) == [], "an earlier one may come"
    assert [parse_line(line).message for line in merger.take(HOLD_S)] == ["nine"]


def test_clocks_of_two_zones_are_one_time() -> None:
    merger = Merger(("a", "b"), CREATED_S)
    merger.feed(0, [said(3600 + 2, "second")], pid=1, now_s=0.0, offset_s=3600.0)
    merger.feed(1, [said(1, "first")], pid=2, now_s=0.0)
    assert [parse_line(line).message for line in merger.take(0.0, done=True)] == ["first", "second"]


def test_a_groups_id_tells_the_zone_where_it_was_started() -> None:
    local = time.strftime("%Y%m%d-%H%M%S", time.gmtime(CREATED_S + 7200 + 40))
    assert utc_offset_s(f"group-{local}-flash", CREATED_S, None) == 7200.0


def test_a_copy_that_is_behind_is_waited_for() -> None:
    merger = Merger(("a", "b"), CREATED_S)
    merger.feed(0, [said(9, "late")], pid=1, now_s=0.0)
    assert merger.take(100.0, behind=(False, True)) == []
    assert len(merger.take(100.0, behind=(True, False))) == 1


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 30), st.booleans()), max_size=60), st.lists(st.integers(1, 9))
)
def test_nothing_is_lost_and_each_machine_keeps_its_order(rows: list[tuple[int, int, bool]], steps: list[int]) -> None:
    merger = Merger(("a", "b", "c"), CREATED_S)
    fed: dict[int, list[str]] = {0: [], 1: [], 2: []}
    out: list[str] = []
    now_s = 0.0
    for place, (rank, second, stamped) in enumerate(rows):
        text = said(second, f"line {place}") if stamped else f"line {place}"
        fed[rank].append(f"line {place}")
        merger.feed(rank, [text], pid=1, now_s=now_s)
        if steps:
            now_s += steps[place % len(steps)] / 4
            out += merger.take(now_s)
    out += merger.take(now_s, done=True)
    assert merger.waiting == 0
    for rank, name in enumerate("abc"):
        assert [line.message for text in out if (line := parse_line(text)).proc and line.proc[0] == name] == fed[rank]
