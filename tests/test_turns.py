"""Turns of tests: many at once, or one alone."""

from __future__ import annotations

import threading
from pathlib import Path

from tests.turns import TOGETHER, scope, turn

ROOT = Path(__file__).parents[1]
WAIT_S = 10.0


def test_others_go_together_and_nobody_goes_beside_one_that_wants_to_be_alone(tmp_path: Path) -> None:
    together = threading.Barrier(2, timeout=WAIT_S)
    both, leave, inside = threading.Event(), threading.Event(), threading.Event()

    def other() -> None:
        with turn(tmp_path, alone=False):
            together.wait()
            both.set()
            leave.wait(WAIT_S)

    def alone() -> None:
        with turn(tmp_path, alone=True):
            inside.set()

    others = [threading.Thread(target=other) for _ in range(2)]
    for thread in others:
        thread.start()
    assert both.wait(WAIT_S), "two could not go together"
    waiting = threading.Thread(target=alone)
    waiting.start()
    assert not inside.wait(0.2), "it went in beside another"
    leave.set()
    assert inside.wait(WAIT_S)
    for thread in (*others, waiting):
        thread.join(WAIT_S)
        assert not thread.is_alive()


def test_what_belongs_together_is_there() -> None:
    for each in TOGETHER:
        path, _, name = each.partition("::")
        assert f"class {name}" in (ROOT / path).read_text(encoding="utf-8") if name else (ROOT / path).exists()
        assert scope(f"{each}::test_a[x]") == scope(f"{each}::test_b") == each
    assert scope("tests/core/test_units.py::test_a[x@y]") == "tests/core/test_units.py::test_a[x@y]"
