"""`watch` and the metrics endpoint on a real supervisor with the scripted server."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from console.cli.watch import tick_line
from console.core.models import GpuReading, Hint, Phase, ServerState, ServerStatus, Snapshot
from console.core.statusdoc import StatusDocument
from tests.e2e.world import free_port, wait_for
from tests.io.day import full_sample
from tests.process.fake_world import FakeWorld

pytestmark = pytest.mark.timeout(90)


@pytest.fixture
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeWorld]:
    world = FakeWorld(tmp_path_factory.mktemp("world"))
    yield world
    world.close()


class Watching:
    """A `watch` that goes on, and what it printed so far."""

    def __init__(self, world: FakeWorld, *arguments: str) -> None:
        self.child = subprocess.Popen(
            world.command("watch", *arguments),
            env=world.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self.child.stdout is not None
        for line in self.child.stdout:
            self.lines.append(line)

    def end(self) -> int:
        """Its exit code."""
        code = self.child.wait(40)
        self._thread.join(10)
        assert self.child.stderr is not None
        self.child.stderr.close()
        assert self.child.stdout is not None
        self.child.stdout.close()
        return code

    @property
    def documents(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]


def test_each_tick_is_a_document_until_the_run_is_over(world: FakeWorld) -> None:
    world.detached()
    watching = Watching(world, "--json")
    wait_for("three ticks", lambda: len(watching.lines) >= 3, 30)
    assert world.run("stop").returncode == 0
    assert watching.end() == 0
    documents = watching.documents
    for line in watching.lines:
        msgspec.json.decode(line, type=StatusDocument)
    assert documents[0]["state"] == "ready"
    assert documents[0]["supervised"]
    assert documents[-1]["state"] == "stopped"
    ticks = [document["snapshot"]["seq"] for document in documents if document["snapshot"]]
    assert ticks == sorted(set(ticks))
    assert set(documents[0]) == set(json.loads(world.run("status", "--json", "--once").stdout))


def test_a_crash_ends_it_with_1_and_a_signal_with_130(world: FakeWorld) -> None:
    document = world.detached()
    interrupted = Watching(world)
    watching = Watching(world)
    wait_for("lines", lambda: interrupted.lines and watching.lines, 30)
    interrupted.child.send_signal(signal.SIGINT)
    assert interrupted.end() == 130
    assert "READY" in watching.lines[0]
    psutil.Process(document["run"]["server_pid"]).kill()
    assert watching.end() == 1
    assert "CRASHED" in watching.lines[-1]
    wait_for("the supervisor to leave", lambda: not world.status()["supervised"], 30)
    assert world.run("watch").returncode == 5, "nothing runs any more"


def test_a_lost_supervisor_is_waited_for(world: FakeWorld) -> None:
    document = world.detached()
    watching = Watching(world, "--json", "--period", "0.5")
    wait_for("a tick", lambda: watching.lines, 30)
    psutil.Process(document["run"]["supervisor_pid"]).kill()
    old = document["run"]["supervisor_pid"]
    wait_for(
        "a tick of the next supervisor",
        lambda: any(each["run"].get("supervisor_pid") not in {None, old} for each in watching.documents),
        40,
    )
    assert world.run("stop").returncode == 0
    assert watching.end() == 0


def test_a_period_makes_fewer_ticks_and_misses_no_state(world: FakeWorld) -> None:
    world.detached()
    watching = Watching(world, "--json", "--period", "3600")
    wait_for("a tick", lambda: watching.lines, 30)
    assert world.run("stop").returncode == 0
    assert watching.end() == 0
    states = [document["state"] for document in watching.documents]
    assert states[0] == "ready"
    assert states[-1] == "stopped"
    assert len(states) <= 4


def figures(port: int) -> dict[str, float]:
    text = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=10.0, trust_env=False).text
    return {
        sample.name + "".join(f"[{value}]" for value in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_prometheus_sees_the_server(world: FakeWorld) -> None:
    port = free_port()
    world.detached("--set", f"supervise.metrics_port={port}")
    found = figures(port)
    assert found["dsv4_console_server_state[ready]"] == 1
    assert found["dsv4_console_server_starts_total"] == 1
    wait_for("the engine's figures", lambda: "dsv4_console_requests_running" in figures(port), 30)
    assert figures(port)["dsv4_console_source_up[metrics]"] == 1


def test_a_taken_port_is_a_note_and_no_end(world: FakeWorld) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        folder = world.home / "config" / "dsv4-console"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.toml").write_text(f"metrics_port = {port}\n", encoding="utf-8")
        assert world.detached()["state"] == "ready"
        (events,) = world.runs.glob("*/events.jsonl")
        assert f"cannot listen on 127.0.0.1:{port}" in events.read_text(encoding="utf-8")


def test_a_line_for_people() -> None:
    full = full_sample(0.0)
    status = ServerStatus(state=ServerState.READY)
    snapshot = Snapshot(seq=1, time_s=0.0, status=status, gpus=full.gpus, engine=full.engine)
    line = tick_line(msgspec.structs.replace(snapshot, hints=(Hint(id="kv-bound", title="t"),)))
    assert line[8:] == "  READY      run 64  wait 12  KV 81%  out 3.9k/s  TTFT p95 91 ms  GPU 97%  ▲ kv-bound"
    loading = ServerStatus(state=ServerState.LOADING, phase=Phase.WEIGHTS, progress=0.5, phase_detail="shard 23/46")
    line = tick_line(Snapshot(seq=1, time_s=0.0, status=loading, gpus=(GpuReading(index=0),)))
    assert line[8:] == "  LOADING    weights 50% shard 23/46"
