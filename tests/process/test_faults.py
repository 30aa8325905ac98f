"""The machinery of the fault table, with a scripted server: what it measures, and that the table is sound.

All cases on the real engine: `tests/e2e/test_orphans.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.case import FaultWorld, run_case
from tests.faults.cases import CASES
from tests.process.fake_world import install_fake

BY_ID = {case.id: case for case in CASES}
QUICK = ("supervisor-killed", "supervisor-server-killed", "killed-during-restart")


class FakeFaultWorld(FaultWorld):
    """A `FaultWorld` whose engine is the scripted server."""

    def __init__(self, home: Path) -> None:
        super().__init__(home, home / "data")
        self.env |= {"PATH": "/usr/bin:/bin", "FAKE_VLLM_LOAD_S": "2", "FAKE_VLLM_WORKERS": "2"}
        for name in ("VLLM_API_KEY", "HF_TOKEN"):
            self.env.pop(name, None)
        install_fake(home / "data")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[FakeFaultWorld]:
    world = FakeFaultWorld(tmp_path)
    try:
        yield world
    finally:
        world.close()


def test_the_table_is_sound() -> None:
    assert len(BY_ID) == len(CASES)
    for case in CASES:
        assert case.title
        assert case.needs != "server" or (case.expect == "serves" and not case.settings), case.id
        assert case.loaded or case.may_lose, f"{case.id}: without load nothing is counted"


@pytest.mark.parametrize("name", QUICK)
def test_a_case_is_run_and_measured(world: FakeFaultWorld, name: str) -> None:
    case = BY_ID[name]
    world.launch(*case.settings)
    result = run_case(case, world)
    assert result.seen
    assert result.detect_s is not None
    assert (result.recover_s is not None) == (case.expect == "serves")
    assert (result.requests_lost is not None) == case.loaded
    assert result.processes_left == 0
