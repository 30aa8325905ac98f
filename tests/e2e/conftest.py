"""A world for each end-to-end test, in which nothing is left."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.world import World


@pytest.fixture
def world(tmp_path: Path, data_home: Path) -> Iterator[World]:
    """Directories and a port of this test alone; afterwards no process of it is left."""
    world = World(tmp_path, data_home)
    try:
        yield world
    finally:
        left = world.engine_processes()
        world.close()
    assert not left, f"the test left {left}"
