"""Money and idle deadlines with a scripted server: the supervisor as its own process, and the whole command line."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from console.io.runs import RunDir
from tests.e2e.world import Headless, wait_for
from tests.process.fake_world import FakeWorld

pytestmark = pytest.mark.timeout(120)

PRICE = "cost.usd_per_hour=36"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[FakeWorld]:
    world = FakeWorld(tmp_path)
    yield world
    world.close()


def the_run(world: FakeWorld) -> RunDir:
    (path,) = world.runs.iterdir()
    return RunDir(path)


def money(world: FakeWorld) -> Any:
    return (world.status() or {}).get("money") or {}


def later(now: Any, before: Any) -> Any:
    """`now`, if it is some seconds further, and its figures too."""
    further = now.get("total_s", 0) > before["total_s"] + 3 and now["output_tokens"] > before["output_tokens"]
    return now if further else None


def ready(world: FakeWorld, *settings: str) -> Headless:
    headless = world.headless(*settings)
    headless.wait_ready()
    return headless


def test_an_idle_server_is_warned_of_and_stopped_and_no_policy_restarts_it(world: FakeWorld) -> None:
    headless = ready(world, PRICE, "supervise.idle_warn_s=5", "supervise.idle_stop_s=8", "supervise.restart=always")
    assert headless.wait_end() == 0
    said = headless.said
    reason = "idle for 8s: stopped to save $36.00/h"
    assert f"stopping: {reason}" in said
    assert f"stopped: {reason}" in said
    assert headless.states()[-2:] == ["stopping", "stopped"]
    assert headless.states().count("ready") == 1
    (warning,) = [line["text"] for line in headless.of("note") if line["text"].startswith("idle for 5s")]
    assert "spent on nothing. It is stopped in" in warning
    assert f"dsv4-console keep {the_run(world).id}" in warning
    hints = [line["hint"] for line in headless.of("hint") if line["hint"]["id"] == "idle-spend"]
    assert len(hints) == 1
    assert any("The server is stopped in" in line for line in hints[0]["evidence"])
    assert not world.engine_processes()

    last = headless.narration[-1]
    assert last.startswith("this run: ")
    assert "idle " in last
    summary = headless.of("summary")[-1]["money"]
    assert summary["seconds"]["idle"] >= 7.5
    assert summary["total_usd"] == pytest.approx(summary["total_s"] / 100)

    after = world.run("status")
    assert after.returncode == 5
    assert reason in after.stdout
    assert last.removeprefix("this run: ") in after.stdout
    (row,) = world.json("runs", "list")["runs"]
    assert row["total_usd"] == pytest.approx(summary["total_usd"], abs=0.01)


def test_a_request_resets_the_deadline_and_keep_postpones_it(world: FakeWorld) -> None:
    headless = ready(world, PRICE, "supervise.idle_warn_s=10", "supervise.idle_stop_s=600")
    wait_for("the warning", lambda: money(world).get("idle_warned"), 30.0)
    # It comes with the next look, which `keep` may be ahead of.
    wait_for("the hint", lambda: any(line["hint"]["id"] == "idle-spend" for line in headless.of("hint")), 20.0)
    kept = world.json("keep")
    assert kept["money"]["idle_counted_s"] < 3
    assert kept["money"]["idle_s"] >= 10
    assert not kept["money"].get("idle_warned", False)
    wait_for("the hint to go", lambda: any(line["id"] == "idle-spend" for line in headless.of("hint-over")), 20.0)
    wait_for("the warning again", lambda: money(world).get("idle_warned"), 30.0)

    world.post("/fake", {"running": 2, "rate": 50})
    wait_for("serving", lambda: money(world).get("seconds", {}).get("serving", 0) >= 2, 20.0)
    busy = money(world)
    assert busy["idle_s"] == 0
    assert busy["output_tokens"] > 0
    assert busy["usd_per_million"] > 0
    assert "no longer idle" in headless.said
    text = world.run("status").stdout
    assert "$36.00/h  since launch: " in text
    assert "per million output tokens" in text
    headless.interrupt()
    assert headless.wait_end() == 0


def test_without_a_deadline_there_is_nothing_to_keep_and_without_a_price_no_dollars(world: FakeWorld) -> None:
    headless = ready(world)
    kept = world.run("keep", "--json")
    assert kept.returncode == 2
    assert "there is no idle deadline" in kept.stdout + kept.stderr
    document = wait_for("some idle time", lambda: money(world).get("seconds", {}).get("idle") and money(world))
    assert document["missing"].startswith("no price: set usd_per_hour")
    assert "total_usd" not in document
    assert "no price: set usd_per_hour" in world.run("status").stdout
    headless.interrupt()
    assert headless.wait_end() == 0
    assert "no price" in headless.narration[-1]
    wait_for("nobody to ask", lambda: world.run("keep").returncode == 5, 20.0)


def test_the_ledger_survives_supervisor_and_server(world: FakeWorld) -> None:
    headless = ready(world, PRICE, "supervise.restart=on-failure")
    world.post("/fake", {"running": 2, "rate": 100})
    wait_for("tokens", lambda: money(world).get("output_tokens", 0) > 100, 30.0)
    before = money(world)
    info = world.status()["run"]
    os.kill(info["supervisor_pid"], signal.SIGKILL)
    after = wait_for("a successor", lambda: later(money(world), before), 40.0)
    assert world.status()["run"]["supervisor_pid"] != info["supervisor_pid"]
    assert after["seconds"]["loading"] == pytest.approx(before["seconds"]["loading"], abs=0.01)
    assert after["seconds"].get("unwatched", 0) == 0, "it was back before anything was unknown"

    world.post("/fake", {"running": 0, "rate": 0})
    counted = wait_for("no more tokens", lambda: money(world).get("idle_s", 0) >= 2 and money(world), 30.0)
    os.kill(info["server_pid"], signal.SIGKILL)

    def again() -> Any:
        found = world.status() or {}
        state = ((found.get("snapshot") or {}).get("status") or {}).get("state")
        return state == "ready" and found["run"]["server_pid"] != info["server_pid"] and found["money"]

    restarted = wait_for("the next server", again, 60.0)
    assert restarted["seconds"]["down"] > 0
    assert restarted["output_tokens"] == counted["output_tokens"]
    headless.interrupt()
    headless.wait_end()
    tally = json.loads(the_run(world).money_path.read_bytes())
    assert tally["output_tokens"] == counted["output_tokens"]


def test_a_damaged_ledger_begins_anew(world: FakeWorld) -> None:
    headless = ready(world, PRICE)
    wait_for("a written ledger", the_run(world).money_path.exists, 20.0)
    info = world.status()["run"]
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in (info["guardian_pid"], info["supervisor_pid"]):
            os.kill(pid, number)
    the_run(world).money_path.write_text("{")
    found = wait_for("a new ledger", lambda: money(world).get("total_s") and money(world), 40.0)
    assert found["total_s"] < 30
    headless.interrupt()
    headless.wait_end()
