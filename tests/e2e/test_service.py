"""The headless console as a service manager starts it, on the real engine."""

from __future__ import annotations

import signal
from pathlib import Path

import psutil
import pytest

from tests.e2e.world import World, wait_for
from tests.process.test_service import Manager

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]


def test_ready_is_notified_and_a_stop_leaves_nothing(world: World, tmp_path: Path) -> None:
    manager = Manager(str(tmp_path / "notify"))
    world.env["NOTIFY_SOCKET"] = manager.address
    run = world.headless()
    try:
        run.wait_ready()
        wait_for("READY=1", lambda: "READY=1" in manager.fields, 20)
        states = [field for field in manager.fields if field.startswith("STATUS=")]
        assert any("loading: weights" in field for field in states), states
        run.interrupt(signal.SIGTERM)
        assert run.wait_end() == 0
        assert [p for p in world.processes() if p.status() != psutil.STATUS_ZOMBIE] == []
        assert "STOPPING=1" in manager.fields
    finally:
        manager.close()
