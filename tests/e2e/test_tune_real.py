"""The tuning loop on a real engine: from two requests at a time it finds what sixteen clients need, by itself.

And a command that is killed in the middle of a trial costs nothing.
"""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.world import READY_TIMEOUT_S, World, wait_for

pytestmark = [
    pytest.mark.real,
    pytest.mark.alone,
    pytest.mark.timeout(900),
]

LOAD = ("--shape", "chat", "--concurrency", "16", "--requests", "32")


def launch(world: World, max_num_seqs: int) -> None:
    settings = (f"serve.port={world.port}", f"serve.max_num_seqs={max_num_seqs}")
    pairs = [part for pair in settings for part in ("--set", pair)]
    done = world.run("--profile", "cpu-smoke", "--detach", *pairs, timeout_s=READY_TIMEOUT_S)
    assert done.returncode == 0, done.stderr


def stop(world: World) -> None:
    done = world.run("stop", timeout_s=60.0)
    assert done.returncode == 0, done.stderr


def events(world: World) -> list[dict[str, Any]]:
    (run,) = world.runs.iterdir()
    return [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]


def starts(world: World) -> int:
    return sum(event["kind"] == "state" and "→ starting" in event["text"] for event in events(world))


def test_it_finds_three_times_the_throughput_and_stops_inside_the_noise(world: World) -> None:
    launch(world, 2)
    done = world.run(
        "tune", "cpu-smoke", "--parameters", "max_num_seqs,enable_prefix_caching", "--minutes", "14", "--save",
        "--json", *LOAD,
        timeout_s=840,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    report = lines[-1]
    assert report["type"] == "result"
    first = report["attempts"][0]
    assert (first["change"][0]["after"], first["verdict"]) == (16, "won")
    assert report["gain"]["low"] > 1
    assert report["gain"]["ratio"] >= 3, done.stderr
    assert report["attempts"][-1]["verdict"] != "won", "it went on until nothing gained"
    assert starts(world) <= 1 + 5
    assert all(0 < point["kv_cache_peak"] < 1 for point in (*report["before"], *first["points"]))
    assert report["kept"] is True
    saved = Path(report["saved"]).read_text()
    assert "max_num_seqs = 16 # 20" in saved
    assert "output tok/s" in saved
    info = world.status()["run"]
    assert info["max_num_seqs"] == 16
    assert "trial" not in info
    (run,) = world.runs.iterdir()
    assert (run / "tune" / f"{report['id']}.md").exists()
    stop(world)


def test_a_command_that_is_killed_in_the_middle_leaves_the_settings_from_before(world: World) -> None:
    launch(world, 16)
    child = world.spawn(["apply", "--set", "serve.max_num_seqs=4", "--auto", "--json", *LOAD])
    assert child.stdout is not None
    for line in child.stdout:
        if json.loads(line).get("kind") == "restart":
            break
    run = Path(next(world.runs.iterdir()))

    def tried() -> bool:
        return bool(json.loads((run / "run.json").read_text()).get("trial"))

    wait_for("the server to start with other settings", tried, 60.0)
    child.send_signal(signal.SIGKILL)
    wait_for("the settings from before", lambda: _serves(world, 16), 200.0)
    assert any(event["kind"] == "trial" and "went away" in event["text"] for event in events(world))
    stop(world)


def _serves(world: World, limit: int) -> bool:
    status = world.status()
    return (
        status is not None
        and status["state"] == "ready"
        and status["run"]["max_num_seqs"] == limit
        and status["snapshot"]["trial"]["phase"] == "reverted"
    )
