"""An engine that outlives its API server, on the real vLLM: found by `doctor`, named, and ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import httpx
import psutil
import pytest

from console.io.tinymodel import resolve_model
from tests.e2e.world import READY_TIMEOUT_S, World, wait_for

pytestmark = [pytest.mark.real, pytest.mark.alone, pytest.mark.timeout(600)]


def healthy(world: World) -> bool:
    try:
        return httpx.get(f"{world.url}/health", timeout=2.0, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def test_an_orphaned_engine_is_found_named_and_ended(
    world: World, data_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The server is started by hand, so that no supervisor has it.
    monkeypatch.setenv("XDG_DATA_HOME", str(data_home))
    resolve_model("generated:tiny-llama")
    plan = world.json("--profile", "cpu-smoke", "--set", f"serve.port={world.port}", "--dry-run")
    with (world.home / "server.log").open("wb") as log:
        server = subprocess.Popen(
            plan["argv"], env={**world.env, **plan["env"]}, stdout=log, stderr=log, start_new_session=True
        )
    try:
        wait_for("the server to be ready", lambda: healthy(world), READY_TIMEOUT_S)
        (engine,) = [
            child
            for child in psutil.Process(server.pid).children()
            if "".join(child.cmdline()[:1]).startswith("VLLM::EngineCore")
        ]
        before = world.json("doctor")
        assert engine.pid not in {each["pid"] for each in before["orphans"]}, "its server still holds it"
        server.kill()
        server.wait(20.0)

        found = world.json("doctor")
        (orphan,) = [each for each in found["orphans"] if each["pid"] == engine.pid]
        assert orphan["title"] == "VLLM::EngineCore"
        assert orphan["memory_bytes"] > 0
        assert f"(pid {engine.pid})" in world.run("doctor").stdout

        done = world.run("doctor", "--yes", "--json", "--end-orphans", str(engine.pid))
        (ended,) = json.loads(done.stdout)["ended"]
        assert (ended["pid"], ended["gone"]) == (engine.pid, True), ended
        wait_for("its end", lambda: not engine.is_running() or engine.status() == psutil.STATUS_ZOMBIE, 20.0)
        after = world.json("doctor")
        assert engine.pid not in {each["pid"] for each in after["orphans"]}
    finally:
        for pid in psutil.pids():
            try:
                if os.getsid(pid) == server.pid:
                    os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        server.wait(20.0)
