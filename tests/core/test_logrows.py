"""What is shown of a log: filters, folds, gaps; and that no line is ever lost or out of order."""

from __future__ import annotations

from bisect import bisect_right
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.core import logstore
from console.core.logfacts import FOLD_ROWS, Facts, Names
from console.core.logparse import PROCESSES_MAX
from console.core.logrows import ALL, Rows, Wanted
from console.core.logstore import LogStore, Seen
from console.core.logtimes import stamp_s

NEAR_S = 1_763_900_000.0
"""2025-11-23."""


def info(proc: str, text: str, second: int = 0, level: str = "INFO") -> str:
    clock = f"12:{second // 60:02d}:{second % 60:02d}"
    return f"({proc} pid={sum(proc.encode())}) {level} 11-23 {clock} [x.py:1] {text}"


def stored(lines: list[str]) -> LogStore:
    store = LogStore(lambda text: stamp_s(text, NEAR_S))
    store.add(1, lines)
    return store


def rows_of(store: LogStore, wanted: Wanted = ALL, fold: bool = True, opened: tuple[int, ...] = ()) -> list[int]:
    rows = Rows()
    rows.wanted, rows.fold, rows.opened = wanted, fold, set(opened)
    rows.update(store)
    return list(rows.numbers)


TRACE = [
    "(EngineCore pid=9) ERROR 11-23 12:00:01 [core.py:1] EngineCore failed to start.",
    "(EngineCore pid=9) ERROR 11-23 12:00:01 [core.py:1] Traceback (most recent call last):",
    '(EngineCore pid=9) ERROR 11-23 12:00:01 [core.py:1]   File "a.py", line 1, in f',
    "(Worker_TP0 pid=7) INFO 11-23 12:00:01 [w.py:1] between",
    "(EngineCore pid=9) ERROR 11-23 12:00:01 [core.py:1]     g()",
    "(EngineCore pid=9) ERROR 11-23 12:00:01 [core.py:1] ValueError: no",
    "(EngineCore pid=9) INFO 11-23 12:00:02 [core.py:1] over",
]


def test_a_traceback_is_folded_up_to_its_exception_though_others_write_between() -> None:
    store = stored(TRACE)
    assert rows_of(store) == [1, 2, 4, 6, 7]
    facts = store.parts[0].facts
    assert facts.under(2) == [3, 5]
    assert facts.count_under(2) == 2
    assert facts.head(5) == 2
    assert rows_of(store, opened=(2,)) == [1, 2, 3, 4, 5, 6, 7]
    assert rows_of(store, fold=False) == [1, 2, 3, 4, 5, 6, 7]
    assert rows_of(store, Wanted(level=3)) == [1, 2, 6]


def test_a_traceback_without_a_level_is_an_error_to_its_last_line() -> None:
    store = stored(["Traceback (most recent call last):", '  File "a.py"', "", "my.Odd: no", "on"])
    assert rows_of(store) == [1, 4, 5]
    assert rows_of(store, Wanted(level=3), fold=False) == [1, 2, 3, 4]


def test_repeats_fold_while_they_are_near_and_show_again_later() -> None:
    lines = [info("A", "same", i) for i in range(5)] + [info("A", f"other {i}", 9) for i in range(FOLD_ROWS)]
    lines += [info("A", "same", 30), info("B", "same", 30), info("A", "same", 31, "WARNING")]
    store = stored(lines)
    n = 5 + FOLD_ROWS
    assert rows_of(store) == [1, *range(6, n + 1), n + 1, n + 2, n + 3]
    assert store.parts[0].facts.under(1) == [2, 3, 4, 5]


def test_bars_of_several_workers_fold_each_under_its_own() -> None:
    lines = [
        f"(Worker_TP{i % 2} pid={i % 2 + 1}) Loading safetensors shards:  {i}% Completed | {i}/46 [00:12<00:20]"
        for i in range(20)
    ]
    store = stored([*lines, "Capturing CUDA graphs:  35%|###   | 12/35 [00:01<00:02, 10.7it/s]", "100% sure | [no"])
    assert rows_of(store) == [1, 2, 21, 22]
    assert store.parts[0].facts.last_under(1) == 19
    assert store.parts[0].facts.last_under(2) == 20


def test_a_request_repeats_whatever_its_port() -> None:
    lines = [f'(APIServer pid=1) INFO:     127.0.0.1:{40_000 + i} - "GET /health HTTP/1.1" 200 OK' for i in range(9)]
    assert rows_of(stored(lines)) == [1]
    assert len(rows_of(stored([*lines, lines[0].replace("200 OK", "503 Service Unavailable")]))) == 2


def test_filters() -> None:
    lines = [info("APIServer", f"a {i}", i) for i in range(10)]
    lines += [info("EngineCore", f"e {i}", 10 + i, "WARNING") for i in range(10)]
    lines += ["plain", "ValueError: x"]
    store = stored(lines)
    assert rows_of(store, Wanted(level=2)) == [*range(11, 21), 22]
    assert rows_of(store, Wanted(procs=frozenset({"APIServer"}))) == list(range(1, 11))
    assert rows_of(store, Wanted(procs=frozenset({"", "APIServer"}))) == [*range(1, 11), 21, 22]
    assert rows_of(store, Wanted(procs=frozenset({"nobody"}))) == []
    at = store.parts[0].facts.times[0]
    assert rows_of(store, Wanted(from_s=at + 5, until_s=at + 7)) == [6, 7, 8]
    assert rows_of(store, Wanted(until_s=at + 2.5)) == [1, 2, 3]
    assert rows_of(store, Wanted(from_s=at + 18)) == [19, 20, 21, 22], "lines without a time came with the one before"
    assert Wanted(level=2, procs=frozenset({"B", "A"})).text() == "≥ WARNING · A, B"
    assert store.line_at(at + 12) == 13
    assert store.line_at(at + 1e6) == 22
    assert store.line_at(at - 1e6) == 1


def test_what_repeats_a_line_before_the_span_of_time_is_shown_in_it() -> None:
    store = stored([info("A", "same", i) for i in range(6)])
    at = store.parts[0].facts.times[0]
    assert rows_of(store, Wanted(from_s=at + 3)) == [4, 5, 6]


def test_processes_past_the_limit_share_a_number() -> None:
    names = Names()
    numbers = [names.number(f"p{i}") for i in range(PROCESSES_MAX + 50)]
    assert max(numbers) == PROCESSES_MAX - 1
    assert len(names.all) == PROCESSES_MAX - 1


def test_a_stamp_that_goes_back_does_not_take_the_time_back() -> None:
    facts = Facts(1, Names(), lambda text: float(text.split("|")[1]))
    facts.feed([f"INFO 11-23 12:00:{i:02d} [x.py:1] |{t}" for i, t in enumerate((50, 60, 55, 70))])
    assert list(facts.times) == [50, 60, 60, 70]


LINES = st.lists(
    st.one_of(
        st.sampled_from(TRACE),
        st.builds(
            info,
            st.sampled_from(["A", "B"]),
            st.sampled_from(["x", "y", "z"]),
            st.integers(0, 90),
            st.sampled_from(["DEBUG", "INFO", "ERROR"]),
        ),
        st.text(max_size=8),
        st.sampled_from(["", "  in", "Traceback (most recent call last):", "load:  5%|# | 1/20 [00:01<00:09]"]),
    ),
    max_size=60,
)
WANTED = st.builds(
    Wanted,
    level=st.integers(0, 4),
    procs=st.sampled_from([frozenset(), frozenset({"A"}), frozenset({"", "B"})]),
)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logstore, "BLOCK_LINES", 7)


@given(LINES, WANTED, st.lists(st.integers(1, 9), max_size=20), st.booleans())
def test_rows_grow_as_if_all_lines_had_been_there(
    lines: list[str], wanted: Wanted, steps: list[int], fold: bool
) -> None:
    store, rows = LogStore(lambda text: stamp_s(text, NEAR_S)), Rows()
    rows.wanted, rows.fold = wanted, fold
    at = 0
    for step in [*steps, len(lines)]:
        store.add(at + 1, lines[at : at + step])
        at = min(at + step, len(lines))
        rows.update(store)
    assert list(rows.numbers) == rows_of(stored(lines), wanted, fold)
    assert [text for _, text in store.lines(1, len(lines))] == [line.replace("\n", " ") for line in lines] or (
        [text for _, text in store.lines(1, len(lines))] == lines
    )


@given(LINES, WANTED)
def test_no_line_is_lost_or_out_of_order(lines: list[str], wanted: Wanted) -> None:
    store = stored(lines)
    numbers = rows_of(store, wanted)
    assert numbers == sorted(set(numbers))
    everything = rows_of(store, wanted, fold=False)
    assert set(numbers) <= set(everything)
    if store.parts:
        facts = store.parts[0].facts
        covered = sorted(n for head in numbers for n in (head, *facts.under(head)))
        assert covered == everything, "each line that fits is shown, or folded under one that is"
        assert rows_of(store, wanted, opened=tuple(numbers)) == everything
        for head in numbers:
            assert facts.count_under(head) == len(facts.under(head))
            assert all(facts.head(n) == head for n in facts.under(head))


@given(LINES, st.integers(0, 60), st.integers(0, 60))
def test_a_gap_is_filled_as_if_it_had_never_been(lines: list[str], one: int, other: int) -> None:
    low, high = sorted((min(one, len(lines)), min(other, len(lines))))
    store, rows = LogStore(lambda text: stamp_s(text, NEAR_S)), Rows()
    rows.fold = False
    for begin, end in ((0, low), (high, len(lines)), (low, high)):
        store.add(begin + 1, lines[begin:end])
        rows.update(store)
        here = [n for n, _ in store.lines(1, len(lines))]
        gaps = [first for first, _ in store.gaps()]
        assert list(rows.numbers) == sorted({*here, *gaps})
    assert list(rows.numbers) == list(range(1, len(lines) + 1))


@given(LINES, st.integers(1, 61))
def test_lines_taken_back_leave_what_was_before(lines: list[str], first_gone: int) -> None:
    store, rows = stored(lines), Rows()
    store.truncate(first_gone)
    rows.update(store)
    assert list(rows.numbers) == rows_of(stored(lines[: first_gone - 1]))
    assert [t for _, t in store.lines(1, 99)] == [t for _, t in stored(lines).lines(1, first_gone - 1)]


@given(LINES, st.integers(1, 4))
def test_dropping_the_oldest_shows_what_was_folded_under_it(lines: list[str], blocks: int) -> None:
    store, rows = stored(lines), Rows()
    rows.update(store)
    store.drop_oldest(blocks)
    rows.update(store)
    fresh = rows_of(store)
    assert list(rows.numbers) == fresh
    facts = store.parts[0].facts if store.parts else None
    shown = {n for n in fresh if n >= store.first_line}
    folded = {n for head in shown for n in facts.under(head)} if facts else set()
    assert shown | folded == set(range(store.first_line, store.last_line + 1)) or not store.parts


@given(LINES, WANTED, st.integers(1, 60))
def test_a_place_is_the_nearest_row_at_or_above_it(lines: list[str], wanted: Wanted, number: int) -> None:
    rows = Rows()
    rows.wanted = wanted
    rows.update(stored(lines))
    index = rows.index_of(number)
    assert index == max(bisect_right(list(rows.numbers), number) - 1, 0)


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 9)), max_size=12), st.integers(1, 40), st.integers(0, 20))
def test_seen_knows_what_is_missing(stretches: list[tuple[int, int]], first: int, more: int) -> None:
    seen, plain = Seen(), set[int]()
    for begin, length in stretches:
        seen.add(begin, begin + length)
        plain |= set(range(begin, begin + length + 1))
    assert seen.count == len(plain)
    missing = seen.missing(first, first + more)
    rest = [n for n in range(first, first + more + 1) if n not in plain]
    if missing is None:
        assert not rest
    else:
        assert missing[1] == rest[-1]
        assert set(range(missing[0], missing[1] + 1)) <= set(rest)
        assert missing[0] - 1 not in rest or missing[0] == first


def test_pieces_are_all_lines_newest_first() -> None:
    lines: list[Any] = [f"line {i}" for i in range(50)]
    store, seen = stored(lines), Seen()
    taken: list[tuple[int, int]] = []
    while (piece := store.next_piece(seen)) is not None:
        first, count, packed = piece
        assert logstore.unpack(packed) == lines[first - 1 : first - 1 + count]
        seen.add(first, first + count - 1)
        taken.append((first, count))
    assert taken == sorted(taken, reverse=True)
    assert sum(count for _, count in taken) == 50
