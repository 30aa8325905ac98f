"""`--profile` on the real engine: start, figures, chat, hints, faults, signals, and nothing left behind."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import subprocess
import termios
import time
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.e2e.world import World, wait_for

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]


def test_start_chat_status_logs_and_a_stop_that_drains(world: World) -> None:
    headless = world.headless()
    headless.wait_ready()

    phases = [line["phase"] for line in headless.of("phase")]
    assert phases[0] == "config"
    assert "memory" in phases
    assert phases == sorted(
        phases, key=["config", "download", "weights", "compile", "memory", "graphs", "server"].index
    )
    assert f"{world.url}/v1" in headless.said
    elapsed = [line["elapsed_s"] for line in headless.of("phase")]
    assert elapsed == sorted(elapsed)

    answer = httpx.post(
        f"{world.url}/v1/chat/completions",
        json={"model": "tiny", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 8},
        timeout=60.0,
        trust_env=False,
    )
    assert answer.status_code == 200
    assert answer.json()["usage"]["completion_tokens"] > 0

    with world.spawn(["watch", "--json"]) as watching:
        assert watching.stdout is not None
        seen = json.loads(watching.stdout.readline())
        watching.terminate()
        watching.communicate()
    assert (seen["state"], seen["supervised"]) == ("ready", True)
    assert seen["snapshot"]["sources"]

    chat = world.json("chat", "Say something", "--max-tokens", "12")
    assert chat["completion_tokens"] > 0
    assert chat["ttft_s"] > 0

    def counted() -> Any:
        document = world.status()
        engine = document["snapshot"].get("engine") or {}
        return document if engine.get("generation_tokens_total", 0) > chat["completion_tokens"] else None

    document = wait_for("both answers to be counted", counted)
    snapshot = document["snapshot"]
    assert snapshot["status"]["state"] == "ready"
    assert snapshot["engine"]["kv_cache_tokens"] == 2_097_152
    assert snapshot["host"]["tree_processes"] >= 3
    sources = {source["name"]: source for source in snapshot["sources"]}
    assert sources["metrics"].get("error") is None
    assert snapshot.get("gpus") is None
    assert sources["gpu"]["error"]
    assert document["run"]["url"] == world.url

    text = world.run("logs").stdout
    assert "Application startup complete" in text
    assert len(world.run("logs", "-n", "3").stdout.splitlines()) == 3

    second = world.run("--profile", "cpu-smoke", "--set", f"serve.port={world.port}")
    assert second.returncode == 6
    assert f"Port {world.port} is taken" in second.stderr
    assert f"pid {document['run']['server_pid']}" in second.stderr

    measure_and_compare(world, document["run"]["id"])

    body = {"model": "tiny", "messages": [{"role": "user", "content": "x"}], "max_tokens": 900, "ignore_eos": True}
    with httpx.Client(base_url=world.url, timeout=60.0, trust_env=False) as http:
        with http.stream("POST", "/v1/chat/completions", json={**body, "stream": True}) as stream:
            lines = stream.iter_lines()
            next(lines)
            headless.interrupt(signal.SIGINT)
            rest = list(lines)
    assert "data: [DONE]" in rest, "the request in flight was cut"
    assert headless.wait_end() == 0
    assert headless.states()[-1] == "stopped"
    assert all(json.loads(line) for line in headless.raw), "stdout holds JSON lines only"
    assert not world.engine_processes()
    after = world.run("status")
    assert after.returncode == 5
    assert "stopped" in after.stdout


def measure_and_compare(world: World, run: str) -> None:
    """`bench` with vLLM's own client: what it counts is what the server counts, and a row compares with itself."""
    before = world.status()["snapshot"]["engine"]["generation_tokens_total"]
    done = world.run("bench", "--shape", "random", "--concurrency", "1,4", "--requests", "8", "--json", timeout_s=600.0)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["run_id"], [point["concurrency"] for point in result["points"]]) == (run, [1, 4])
    assert result["input_tokens"] + result["output_tokens"] <= 1024
    for point in result["points"]:
        assert (point["completed"], point.get("failed", 0)) == (8, 0)
        tokens = point["output_tokens_per_s"] * point["duration_s"]
        assert tokens == pytest.approx(8 * result["output_tokens"], rel=0.01)
        assert 0 < point["ttft_p50_s"] <= point["ttft_p99_s"] < point["e2e_p99_s"]
        assert point["tpot_p50_s"] > 0
        assert point["itl_p99_s"] > 0
        assert point.get("gpu_util_percent") is None
    warm_up = 4
    expected = before + (16 + warm_up) * result["output_tokens"]
    wait_for("the server's count", lambda: world.status()["snapshot"]["engine"]["generation_tokens_total"] == expected)
    listed = world.json("bench", "list", run)["results"]
    assert [each["id"] for each in listed] == [result["id"]]


@pytest.mark.parametrize(
    ("settings", "cause"),
    [
        (("serve.extra.no-such-flag=1",), "flag"),
        (("serve.max_model_len=1024", "serve.num_gpu_blocks_override=2", "serve.block_size=32"), "context"),
    ],
    ids=["unknown-flag", "context-too-long"],
)
def test_a_start_that_fails_names_cause_remedy_and_log(world: World, settings: tuple[str, ...], cause: str) -> None:
    headless = world.headless(*settings)
    assert headless.wait_end(300.0) == 1
    failure = headless.of("failure")[0]
    assert failure["diagnosis"]["cause"], headless.said
    assert failure["diagnosis"]["remedy"]
    assert cause in json.dumps(failure["diagnosis"]).lower()
    for word in ("cause:", "remedy:", "log:"):
        assert word in headless.said
    assert Path(failure["log"]).read_text(encoding="utf-8")
    assert not world.engine_processes()


def test_a_server_killed_from_outside_leaves_no_orphan_and_is_a_failure(world: World) -> None:
    headless = world.headless()
    headless.wait_ready()
    info = world.status()["run"]
    members = world.engine_processes()
    names = " ".join(name for process in members for name in process.cmdline())
    assert "VLLM::EngineCore" in names
    assert "VLLM::Worker" in names
    psutil.Process(info["server_pid"]).kill()
    assert headless.wait_end() == 1
    assert headless.states()[-1] == "crashed"
    assert "SIGKILL" in headless.said
    assert not [process for process in members if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


def test_stop_while_it_loads(world: World) -> None:
    headless = world.headless()
    wait_for("loading to begin", lambda: headless.of("phase"), 60.0)
    headless.interrupt(signal.SIGTERM)
    assert headless.wait_end() == 143
    assert not world.engine_processes()


def state_seen(world: World) -> str:
    """The state in the newest snapshot; empty while there is none to be had."""
    return str((((world.status() or {}).get("snapshot") or {}).get("status") or {}).get("state", ""))


def test_it_goes_on_serving_when_its_terminal_vanishes_and_a_lost_supervisor_is_replaced(world: World) -> None:
    parent, terminal = pty.openpty()
    child = subprocess.Popen(
        world.command("--profile", "cpu-smoke", "--set", f"serve.port={world.port}"),
        env=world.env,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509
    )
    os.close(terminal)

    def healthy() -> bool:
        try:
            return httpx.get(f"{world.url}/health", timeout=5.0, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    wait_for("the server to be healthy", healthy, 300.0)
    # On a starved machine `status` may give up on the supervisor once, and then knows the run alone.
    wait_for("the supervisor to know", lambda: state_seen(world) == "ready")
    before = world.status()["run"]
    os.close(parent)
    child.wait(20.0)
    time.sleep(2.0)
    wait_for("the supervisor to be there", lambda: state_seen(world))
    assert state_seen(world) == "ready"
    document = world.status()
    assert document["run"]["server_pid"] == before["server_pid"]

    psutil.Process(before["supervisor_pid"]).kill()

    def replaced() -> bool:
        now = world.status()
        return now is not None and bool(now["supervised"]) and now["run"]["supervisor_pid"] != before["supervisor_pid"]

    wait_for("another supervisor", replaced, 30.0)
    assert healthy()
    stopped = world.run("stop", "--json")
    assert json.loads(stopped.stdout)["state"] == "stopped", stopped.stderr
    assert stopped.returncode == 0
    assert not world.engine_processes()


def test_detach_returns_once_ready(world: World) -> None:
    headless = world.headless(options=("--detach",))
    assert headless.wait_end(300.0) == 0
    assert headless.states()[-1] == "ready"
    assert world.status()["snapshot"]["status"]["state"] == "ready"
    stopped = world.run("stop")
    assert stopped.returncode == 0
    assert not world.engine_processes()


def test_not_ready_in_time_has_its_own_exit_code(world: World) -> None:
    headless = world.headless(options=("--ready-timeout", "3"))
    assert headless.wait_end() == 4
    assert headless.of("failure")[0]["diagnosis"]["cause"] == "ready-timeout"
    assert not world.engine_processes()
