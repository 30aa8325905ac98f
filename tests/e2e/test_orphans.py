"""Every fault of the table on the real engine: it serves and is supervised again, or nothing is left and it is said."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.world import wait_for
from tests.faults.case import FaultCase, FaultWorld, run_case
from tests.faults.cases import CASES
from tests.faults.table import ROW, Row, line

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]

SAID_S = 20.0
"""The supervisor looks for what is left a few times a second, and writes the end down when nothing is."""
SHARED = [case for case in CASES if case.needs == "server"]
OWN = [case for case in CASES if case.needs != "server"]


def name(case: FaultCase) -> str:
    return case.id


@pytest.fixture(scope="class")
def shared(tmp_path_factory: pytest.TempPathFactory, data_home: Path) -> Iterator[FaultWorld]:
    """A server that the cases which leave it serving share. Each case begins with it healthy and supervised."""
    world = FaultWorld(tmp_path_factory.mktemp("shared"), data_home)
    try:
        world.launch()
        yield world
    finally:
        world.close()


class TestShared:
    """A class, so that their server has ended before the other cases start theirs."""

    @pytest.mark.parametrize("case", SHARED, ids=name)
    def test_a_server_that_is_left_serving(
        self, case: FaultCase, shared: FaultWorld, record_property: Callable[[str, object], None]
    ) -> None:
        shared.make_whole()
        result = run_case(case, shared)
        record_property(ROW, line(Row(case, result)))
        assert result.processes_left == 0


@pytest.mark.parametrize("case", OWN, ids=name)
def test_a_server_of_its_own(
    case: FaultCase, tmp_path: Path, data_home: Path, record_property: Callable[[str, object], None]
) -> None:
    world = FaultWorld(tmp_path, data_home)
    try:
        world.prepare(case)
        result = run_case(case, world)
        record_property(ROW, line(Row(case, result)))
        assert result.processes_left == 0
        if case.expect == "nothing left":
            over = {"crashed", "failed", "stopped"} if case.leaves_run else {""}
            wait_for("the run to say what happened", lambda: world.state() in over, SAID_S)
            # A crash is on record at once; that nothing is left of the server is known a moment later.
            wait_for("status to say that nothing runs", lambda: world.run("status").returncode == 5, SAID_S)
    finally:
        world.close()


def test_a_drain_under_load_loses_no_request_that_was_accepted(tmp_path: Path, data_home: Path) -> None:
    world = FaultWorld(tmp_path, data_home)
    try:
        world.launch()
        with world.load(clients=8, tokens=200) as load:
            stopped = world.run("stop")
        assert stopped.returncode == 0
        assert load.done >= 8
        assert load.lost == 0, load.said[:5]
        events = world.events()
        assert any("in flight were finished" in event for event in events) or "waiting for" not in stopped.stderr
        assert not world.engine_processes()
    finally:
        world.close()
