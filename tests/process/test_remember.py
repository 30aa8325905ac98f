"""What a start measured is kept by the supervisor and told before the next one, over the scripted server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.world import wait_for
from tests.process.fake_world import FakeWorld

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeWorld]:
    world = FakeWorld(tmp_path_factory.mktemp("world"))
    yield world
    world.close()


def ledger(world: FakeWorld) -> list[Path]:
    return sorted(Path(world.env["XDG_STATE_HOME"]).glob("dsv4-console/ledger/*.json"))


def test_the_second_start_knows_how_long_it_takes(world: FakeWorld) -> None:
    assert world.json("profiles", "fit", "cpu-smoke")["measured"] == ""
    first = world.detached()["run"]
    assert "expected_ready_s" not in first
    assert len(ledger(world)) == 1
    assert world.run("stop").returncode == 0

    found = world.json("profiles", "fit", "cpu-smoke")["measured"]
    assert "with vLLM 0.32.0+cpu: weights 38.55 GiB" in found
    assert "1,067,264 tokens" in found
    assert "the estimate differs by" in found
    # Another context is another start.
    assert world.json("profiles", "fit", "cpu-smoke", "--set", "serve.max_model_len=512")["measured"] == ""
    shown = world.run("profiles", "show", "cpu-smoke")
    assert "measured here" in shown.stdout

    second = world.detached()["run"]
    assert second["expected_ready_s"] > 0
    assert second["expected"][0]["phase"] == "config"
    assert len(ledger(world)) == 1
    assert world.run("stop").returncode == 0


def test_a_damaged_ledger_is_no_obstacle(world: FakeWorld) -> None:
    world.detached()
    assert world.run("stop").returncode == 0
    (file,) = ledger(world)
    file.write_bytes(b"\x00not json")
    assert world.json("profiles", "fit", "cpu-smoke")["measured"] == ""
    assert "expected_ready_s" not in world.detached()["run"]
    wait_for("the entry is whole again", lambda: b"starts" in file.read_bytes())
    assert world.run("stop").returncode == 0


def test_a_ledger_that_cannot_be_written_costs_a_note(world: FakeWorld) -> None:
    state = Path(world.env["XDG_STATE_HOME"]) / "dsv4-console"
    state.mkdir(parents=True)
    (state / "ledger").write_text("in its place")
    run = world.detached()["run"]
    events = (world.runs / run["id"] / "events.jsonl").read_text(encoding="utf-8")
    assert "could not be kept" in events
    assert world.run("stop").returncode == 0
