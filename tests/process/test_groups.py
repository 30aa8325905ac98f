"""Groups over a real `sshd` in two network namespaces, with the scripted server: start, stop, every failure."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.e2e.world import Headless, wait_for
from tests.netns import Machine, Machines, need_namespaces
from tests.process.fake_world import FakeWorld

pytestmark = pytest.mark.timeout(300)

LIMIT_S = 120.0


class Groups(FakeWorld):
    """The operator's machine, and the two."""

    def __init__(self, home: Path, machines: Machines) -> None:
        super().__init__(home / "operator", installed=False)
        self.all_of_it = home
        self.machines = machines
        self.head, self.member = machines.all
        self.env["PATH"] = os.environ["PATH"]

    def launch(self, *options: str) -> Headless:
        """Start the group and narrate."""
        arguments = ["--profile", "cpu-smoke-2nodes", "--hosts", "node-a,node-b", "--json"]
        arguments += ["--ssh-config", str(self.machines.config), *options]
        for pair in (f"serve.host={self.head.address}", "network.interface="):
            arguments += ["--set", pair]
        return Headless(self, [*arguments, "--allow-public-without-key"])

    def group(self) -> Any:
        """What `status` says of the group."""
        done = self.run("status", "--json")
        return json.loads(done.stdout)

    def record(self) -> Any:
        """What its coordinator has written."""
        (path,) = (self.home / "state" / "dsv4-console" / "groups").glob("*/group.json")
        return json.loads(path.read_text())

    def servers(self, machine: Machine) -> list[psutil.Process]:
        """Processes of vLLM on a machine: all that write to a server's log there."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                output = str(Path(f"/proc/{process.pid}/fd/1").readlink())
                if output.startswith(str(machine.runs)) and output.endswith("server.log"):
                    if process.status() != psutil.STATUS_ZOMBIE:
                        found.append(process)
        return found

    def server(self, machine: Machine) -> int:
        """The server's first process."""
        return int(self.info(machine)["server_pid"])

    def info(self, machine: Machine) -> Any:
        """`run.json` of its newest run."""
        newest = max(machine.runs.iterdir(), key=lambda path: (path / "run.json").stat().st_ctime)
        return json.loads((newest / "run.json").read_text())

    def kill_supervisor(self, machine: Machine) -> None:
        """Supervisor and guardian, at once."""
        info = self.info(machine)
        for pid in (info["guardian_pid"], info["supervisor_pid"]):
            os.kill(pid, signal.SIGKILL)

    def nothing_runs(self) -> bool:
        """Neither server nor supervisor is left on any machine."""
        return not any(self.everything(machine) for machine in self.machines.all)

    def everything(self, machine: Machine) -> list[psutil.Process]:
        """What a machine still has of servers and supervisors."""
        found = self.servers(machine)
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                words = process.cmdline()
                if "console.supervisor" in words and words[-1].startswith(str(machine.runs)):
                    found.append(process)
        return found

    def close(self) -> None:
        for machine in self.machines.all:
            for process in self.everything(machine):
                with contextlib.suppress(psutil.Error):
                    process.kill()
        super().close()


@pytest.fixture
def groups(tmp_path: Path) -> Iterator[Groups]:
    need_namespaces()
    with Machines(tmp_path) as machines:
        world = Groups(tmp_path, machines)
        try:
            yield world
        finally:
            left = {machine.name: world.everything(machine) for machine in machines.all}
            world.close()
        assert not any(left.values()), f"the test left {left}"


def ready(groups: Groups, *options: str) -> Headless:
    """A group that serves."""
    headless = groups.launch(*options)
    wait_ready(headless)
    return headless


def wait_ready(headless: Headless, attempt: int = 1) -> None:
    def check() -> bool:
        if headless.child.poll() is not None:
            raise AssertionError(f"ended with {headless.child.returncode} before it was ready:\n{headless.said}")
        return any(line["state"] == "ready" and line["attempt"] == attempt for line in headless.of("group"))

    try:
        wait_for("the group to be ready", check, LIMIT_S)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{headless.said}") from None


def over(groups: Groups, headless: Headless) -> str:
    """Wait for the end everywhere; gives what was said."""
    headless.wait_end(LIMIT_S)
    wait_for("nothing to be left on any machine", groups.nothing_runs, LIMIT_S)
    return headless.said


def test_a_group_starts_serves_and_stops(groups: Groups) -> None:
    headless = ready(groups)
    body = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}
    url = groups.group()["url"]
    answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=30.0, trust_env=False)
    assert "word2" in answer.text
    wait_for("the member to know", lambda: groups.group()["nodes"][1]["status"]["state"] == "ready")
    nodes = headless.of("node")
    first = {rank: next(place for place, line in enumerate(nodes) if line["rank"] == rank) for rank in (0, 1)}
    assert first[0] < first[1], "the head starts first"
    headless.interrupt()
    said = over(groups, headless)
    assert headless.child.returncode == 0, said
    ends = [line["rank"] for line in headless.of("node") if line["state"] == "stopped"]
    assert ends == [0, 1], "the head stops first"
    assert "node 1 (node-b)" in said
