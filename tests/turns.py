"""Which tests may run beside which, and which on one worker, when several run them (`tests/run` has two).

Tests marked `alone` measure, or look at all processes of the machine: they wait until no other test runs, and none
begins meanwhile. Locks on files, since the workers are processes.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest
    from xdist.scheduler import LoadScopeScheduling

__all__ = ["TOGETHER", "once_for_all", "scheduler", "scope", "turn"]

TOGETHER = ("tests/e2e/test_orphans.py::TestShared", "tests/e2e/test_groups_real.py::TestTwoMachines")
"""Tests that share a server: one worker runs them in their order. (xdist's own `xdist_group` names them by the node id,
which pytest 9.2 does not let it change.)"""


def scope(nodeid: str) -> str:
    """What one worker runs as a whole: a test, or those that belong together."""
    return next((each for each in TOGETHER if nodeid.startswith(each)), nodeid)


def scheduler(config: pytest.Config, log: object) -> LoadScopeScheduling:
    """Deals tests out one by one, those that belong together at once and first."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return scope(nodeid)

    return Scheduling(config, log)


@contextmanager
def once_for_all(folder: Path, name: str) -> Iterator[None]:
    """One worker at a time."""
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def turn(folder: Path, *, alone: bool) -> Iterator[None]:
    """Wait until a test may run, and hold the place until it has.

    Whoever wants to be alone holds the gate while it waits, or others would go in before it for ever.
    """
    with (folder / "gate.lock").open("w") as gate, (folder / "turn.lock").open("w") as place:
        fcntl.flock(gate, fcntl.LOCK_EX)
        fcntl.flock(place, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(gate, fcntl.LOCK_UN)
        yield
