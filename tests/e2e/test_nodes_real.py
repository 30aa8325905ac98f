"""Two nodes of one server: the commands that the program prints, run as two processes on loopback."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest

from console.io.tinymodel import resolve_model
from tests.e2e.world import World, free_port, wait_for

READY_TIMEOUT_S = 600.0
"""Two engines start at once, on cores that other tests use as well: 24 s alone, 240 s were seen."""
END_TIMEOUT_S = 90.0


def start(world: World, plan: dict[str, Any], rank: int) -> subprocess.Popen[bytes]:
    folder = world.home / f"node{rank}"
    folder.mkdir()
    with (folder / "server.log").open("wb") as log:
        return subprocess.Popen(
            plan["argv"],
            env=world.env | plan["env"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def healthy(world: World, nodes: list[subprocess.Popen[bytes]]) -> bool:
    for rank, node in enumerate(nodes):
        if node.poll() is not None:
            text = (world.home / f"node{rank}" / "server.log").read_text(errors="replace")
            raise AssertionError(f"node {rank} ended with {node.returncode}:\n{text[-4000:]}")
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"{world.url}/health", timeout=5.0, trust_env=False).status_code == 200
    return False


def is_open(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5.0):
        return True
    return False


@pytest.mark.real
@pytest.mark.timeout(900)
def test_two_nodes_answer_and_end(world: World, data_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(data_home))
    resolve_model("generated:tiny-llama")
    master = free_port()
    sets = [f"serve.port={world.port}", f"network.master_port={master}"]
    options = ["--profile", "cpu-smoke-2nodes", "--dry-run", *(part for each in sets for part in ("--set", each))]
    plans = [world.json(*options, "--node-rank", str(rank)) for rank in (0, 1)]
    nodes: list[subprocess.Popen[bytes]] = []
    try:
        nodes = [start(world, plan, rank) for rank, plan in enumerate(plans)]
        wait_for("both nodes to serve", lambda: healthy(world, nodes), READY_TIMEOUT_S)
        # What the watch of `export systemd` does every few seconds.
        assert all(is_open(master) for _ in range(3)), "open as long as the first node's server lives"
        body = {"model": "tiny", "prompt": "one two three", "max_tokens": 8, "ignore_eos": True}
        answer = httpx.post(f"{world.url}/v1/completions", json=body, timeout=120.0, trust_env=False)
        assert answer.status_code == 200, answer.text
        assert answer.json()["usage"]["completion_tokens"] == 8
        assert "tp2" in answer.json()["system_fingerprint"], "both ranks are one engine"
        for node in nodes:
            node.send_signal(signal.SIGTERM)
            node.wait(END_TIMEOUT_S)
            assert not is_open(master)
        wait_for("all processes of both nodes to end", lambda: not world.engine_processes(), END_TIMEOUT_S)
    finally:
        for node in nodes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(node.pid, signal.SIGKILL)
            node.wait()
