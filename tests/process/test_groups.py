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

    def launch(self, *options: str, interface: str = "") -> Headless:
        """Start the group and narrate."""
        arguments = ["--profile", "cpu-smoke-2nodes", "--hosts", "node-a,node-b", "--json"]
        arguments += ["--ssh-config", str(self.machines.config), *options]
        for pair in (f"serve.host={self.head.address}", f"network.interface={interface}"):
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
                ours = output.startswith(str(machine.runs)) and output.endswith("server.log")
                if ours and process.status() != psutil.STATUS_ZOMBIE:
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

    def kill_coordinator(self) -> None:
        """The coordinator and its guardian, at once."""
        pid = self.record()["coordinator_pid"]
        guardian = psutil.Process(pid).ppid()
        for each in (guardian, pid):
            os.kill(each, signal.SIGKILL)
        wait_for("the coordinator to be gone", lambda: not psutil.pid_exists(pid) or gone(pid))

    def nothing_runs(self) -> bool:
        """Neither server nor supervisor is left on any machine."""
        return not any(self.everything(machine) for machine in self.machines.all)

    def coordinators(self) -> list[psutil.Process]:
        """What holds groups together, where the operator is."""
        return [each for each in self.processes() if "console.group" in each.cmdline()]

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


def gone(pid: int) -> bool:
    """Whether a process has ended, collected or not."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    return True


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


def wait_ready(headless: Headless, attempt: int = 1, limit_s: float = LIMIT_S) -> None:
    def check() -> bool:
        if headless.child.poll() is not None:
            raise AssertionError(f"ended with {headless.child.returncode} before it was ready:\n{headless.said}")
        return any(line["state"] == "ready" and line["attempt"] == attempt for line in headless.of("group"))

    try:
        wait_for("the group to be ready", check, limit_s)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{headless.said}") from None


def over(groups: Groups, headless: Headless) -> str:
    """Wait for the end everywhere; gives what was said."""
    headless.wait_end(LIMIT_S)
    wait_for("nothing to be left on any machine", groups.nothing_runs, LIMIT_S)
    wait_for("the coordinator to have ended", lambda: not groups.coordinators(), LIMIT_S)
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
    ends = [line["rank"] for line in headless.of("node") if line["life"] == "over"]
    assert ends == [0, 1], "the head stops first"
    assert [groups.info(machine)["state"] for machine in groups.machines.all] == ["stopped", "stopped"]
    assert "node 1 (node-b)" in said


def failures(headless: Headless) -> list[dict[str, Any]]:
    return headless.of("failure")


def killed_worker(groups: Groups, machine: Machine) -> None:
    """SIGKILL to a worker of the machine's server."""
    (worker,) = (each for each in groups.servers(machine) if each.name().startswith("VLLM::Worker"))
    worker.kill()


def test_a_death_ends_the_group_names_its_node_and_restarts_it(groups: Groups) -> None:
    headless = ready(groups, "--set", "supervise.restart=on-failure")
    killed_worker(groups, groups.member)
    wait_ready(headless, attempt=2)
    os.kill(groups.server(groups.head), signal.SIGKILL)
    wait_ready(headless, attempt=3)
    assert [(line["host"], line["rank"]) for line in failures(headless)] == [("node-b", 1), ("node-a", 0)]
    first, second = (line["text"] for line in failures(headless))
    assert "exited with code 1 while it served" in headless.said
    assert "Worker proc died unexpectedly" in first, "its own diagnosis"
    assert "The server was killed with SIGKILL" in second
    assert [len(list(machine.runs.iterdir())) for machine in groups.machines.all] == [3, 3], "one run per attempt"
    done = groups.run("stop")
    assert done.returncode == 0, done.stderr
    assert "stopped" in done.stdout
    over(groups, headless)
    assert headless.child.returncode == 0


def test_a_failed_start_of_one_node_is_its_own_diagnosis(groups: Groups) -> None:
    groups.member.fake(crash_at="memory", error="oom")
    headless = groups.launch()
    said = over(groups, headless)
    assert headless.child.returncode == 1, said
    (failure,) = failures(headless)
    assert failure["host"] == "node-b"
    assert failure["diagnosis"]["cause"], said
    assert "node 1 (node-b) is why:" in said
    assert "  log:    ssh node-b dsv4-console logs " in said
    assert "memory" in failure["diagnosis"]["title"].lower()
    status = groups.group()
    assert (status["state"], status["culprit"], status["over"]) == ("failed", 1, True)


def test_serving_outlives_everything_that_only_watches(groups: Groups) -> None:
    headless = ready(groups)
    servers = [groups.server(machine) for machine in groups.machines.all]
    for machine in groups.machines.all:
        groups.kill_supervisor(machine)
    os.kill(groups.record()["coordinator_pid"], signal.SIGKILL)  # its guardian starts another
    supervisors = [groups.info(machine)["supervisor_pid"] for machine in groups.machines.all]

    def supervised() -> bool:
        now = [groups.info(machine)["supervisor_pid"] for machine in groups.machines.all]
        return all(pid not in (None, *supervisors) for pid in now)

    wait_for("both nodes to have new supervisors", supervised, LIMIT_S)
    headless.child.kill()  # the operator's console
    groups.kill_coordinator()
    assert [groups.server(machine) for machine in groups.machines.all] == servers
    assert httpx.get(f"http://{groups.head.address}:8000/health", trust_env=False).status_code == 200
    done = groups.run("status")
    assert "had lost its coordinator and has a new one" in done.stderr
    wait_for("the group to be held again", lambda: groups.group()["state"] == "ready", LIMIT_S)
    done = groups.run("logs", "-n", "5")
    assert "[0 node-a] " in done.stdout
    assert "[1 node-b] " in done.stdout
    assert groups.run("stop").returncode == 0
    wait_for("nothing to be left on any machine", groups.nothing_runs, LIMIT_S)


@pytest.mark.parametrize("killed", [0, 1])
def test_nodes_end_by_themselves_where_nobody_holds_them_together(groups: Groups, killed: int) -> None:
    headless = ready(groups)
    headless.child.kill()
    groups.kill_coordinator()
    dead, other = groups.machines.all[killed], groups.machines.all[1 - killed]
    os.kill(groups.server(dead), signal.SIGKILL)
    wait_for("nothing to be left on any machine", groups.nothing_runs, LIMIT_S)
    reason = groups.info(other)["reason"]
    assert f"node {killed} ({dead.name}" in reason
    assert "its server is gone" in reason
    groups.run("status")
    wait_for("the group to be over", lambda: groups.group()["over"], LIMIT_S)
    assert (groups.group()["culprit"], groups.group()["state"]) == (killed, "crashed")


def test_a_group_goes_on_without_its_operator(groups: Groups) -> None:
    headless = ready(groups)
    servers = [groups.server(machine) for machine in groups.machines.all]
    for machine in groups.machines.all:
        machine.cut(groups.machines.operator)
    wait_for("both to be cut off", lambda: headless.said.count("cut off") >= 2, LIMIT_S)
    assert [groups.server(machine) for machine in groups.machines.all] == servers
    assert all(groups.servers(machine) for machine in groups.machines.all)
    for machine in groups.machines.all:
        machine.restore()

    def found_again() -> bool:
        return all(node["reached"] for node in groups.record()["group"]["nodes"])

    wait_for("both to be found again", found_again, LIMIT_S)
    assert groups.run("stop").returncode == 0
    over(groups, headless)


def test_machines_that_are_not_alike_are_refused(groups: Groups) -> None:
    wrong = groups.launch("--hosts", "node-a")
    assert wrong.wait_end() == 2
    assert "--hosts names 1" in wrong.said
    folder = groups.member.root / "config" / "dsv4-console" / "profiles"
    folder.mkdir(parents=True)
    source = (Path(__file__).parents[2] / "profiles" / "cpu-smoke-2nodes.toml").read_text()
    (folder / "cpu-smoke-2nodes.toml").write_text(source.replace("max_num_seqs = 8", "max_num_seqs = 9"))
    other = groups.launch()
    assert other.wait_end() == 2
    assert "serve.max_num_seqs: 8 on node-a, 9 on node-b" in other.said
    (folder / "cpu-smoke-2nodes.toml").unlink()
    groups.member.cut(groups.head.address)
    silent = groups.launch()
    assert silent.wait_end() == 3
    assert "node-b does not reach the head" in silent.said
    assert not (groups.home / "state" / "dsv4-console" / "groups").exists()
    assert groups.nothing_runs()
