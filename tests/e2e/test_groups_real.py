"""A group of two machines with a real vLLM each: network namespaces, a real `sshd`, one engine over both."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from console.io.tinymodel import resolve_model
from tests.e2e.world import load, wait_for
from tests.netns import Machines, need_namespaces
from tests.process.test_groups import Groups, failures, killed_worker, over, wait_ready

READY_TIMEOUT_S = 400.0
LOAD_ANSWERS = 8


@pytest.fixture
def groups(tmp_path: Path, data_home: Path) -> Iterator[Groups]:
    need_namespaces()
    with Machines(tmp_path, data_home) as machines:
        world = Groups(tmp_path, machines)
        try:
            yield world
        finally:
            left = {machine.name: world.everything(machine) for machine in machines.all}
            world.close()
        assert not any(left.values()), f"the test left {left}"


@pytest.mark.real
@pytest.mark.timeout(1200)
def test_two_machines_serve_lose_a_worker_and_serve_again(
    groups: Groups, data_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(data_home))
    resolve_model("generated:tiny-llama")
    headless = groups.launch("--set", "supervise.restart=on-failure", interface="eth0")
    wait_ready(headless, limit_s=READY_TIMEOUT_S)
    url = groups.group()["url"]
    body = {"model": "tiny", "messages": [{"role": "user", "content": "one two"}], "max_tokens": 8, "ignore_eos": True}
    answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=120.0, trust_env=False)
    assert answer.status_code == 200, answer.text
    assert "tp2" in answer.json()["system_fingerprint"], "both ranks are one engine"
    with load(url, 2, max_tokens=16) as statuses:
        wait_for("a load to be answered", lambda: len(statuses) >= LOAD_ANSWERS, READY_TIMEOUT_S)
    assert set(statuses) == {200}
    killed_worker(groups, groups.member)
    wait_for("the death to be told", lambda: failures(headless), READY_TIMEOUT_S)
    (failure,) = failures(headless)
    assert (failure["host"], failure["rank"]) == ("node-b", 1), headless.said
    wait_ready(headless, attempt=2, limit_s=READY_TIMEOUT_S)
    answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=120.0, trust_env=False)
    assert answer.status_code == 200, answer.text
    headless.interrupt()
    said = over(groups, headless)
    assert headless.child.returncode == 0, said
    assert [groups.info(machine)["state"] for machine in groups.machines.all] == ["stopped", "stopped"], said
