"""The real engine for the end-to-end tests: installed once per test run, by the product's own command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.world import World


@pytest.fixture(scope="session")
def data_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with a CPU engine in it.

    `DSV4_TEST_DATA_HOME` names a directory to keep and reuse it in between runs while developing.
    """
    kept = os.environ.get("DSV4_TEST_DATA_HOME")
    home = Path(kept) if kept else tmp_path_factory.mktemp("data")
    if not list(home.glob("dsv4-console/engines/*/engine.json")):
        done = subprocess.run(
            [sys.executable, "-P", "-m", "console", "engine", "install", "--cpu", "--json"],
            env={**os.environ, "XDG_DATA_HOME": str(home), "XDG_STATE_HOME": str(home / "state")},
            capture_output=True,
            text=True,
            timeout=1_200,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["version"] == "0.32.0+cpu"
    return home


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
