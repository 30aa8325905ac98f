"""A group of two machines with a real vLLM each: network namespaces, a real `sshd`, one engine over both.

All tests share it, in this order: they look at it, then break what only watches, then its parts one by one, each of
which the profile's policy starts again, and stop it. Each begins with a group that serves.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from console.io.tinymodel import resolve_model
from tests.e2e.world import Headless, load, wait_for
from tests.faults.table import GROUP_ROW, group_line
from tests.netns import Machine, Machines, need_namespaces
from tests.process.test_groups import Groups, failures, killed_worker, over, wait_ready
from tests.tmux import Tmux

pytestmark = [pytest.mark.real, pytest.mark.timeout(1200)]

LIMIT_S = 400.0
LOAD_ANSWERS = 8
CUT_ANSWERS = 20
LONG_WAIT_S = 5.0
"""A countdown that is longer is not waited for."""
BODY = {"model": "tiny", "messages": [{"role": "user", "content": "one two"}], "max_tokens": 8, "ignore_eos": True}
MISSED = "/said-while-nobody-heard"
TOOK_OVER = "took over a server whose supervisor was lost"


class Serving:
    """The group, and the console that started it."""

    def __init__(self, groups: Groups) -> None:
        self.groups = groups
        self.headless: Headless = groups.launch("--set", "supervise.restart=on-failure", interface="eth0")
        self.attempt = 1
        self.url = f"http://{groups.head.address}:8000"

    def wait(self) -> None:
        """Until the present attempt serves."""
        wait_ready(self.headless, self.attempt, LIMIT_S)

    def answers(self) -> None:
        """A request is answered, by both as one engine."""
        answer = httpx.post(f"{self.url}/v1/chat/completions", json=BODY, timeout=120.0, trust_env=False)
        assert answer.status_code == 200, answer.text
        assert "tp2" in answer.json()["system_fingerprint"]

    def servers(self) -> list[psutil.Process]:
        """Processes of vLLM on both machines."""
        found = [self.groups.servers(machine) for machine in self.groups.machines.all]
        assert all(found), "each has some"
        return [process for each in found for process in each]

    def screen(self, *options: str) -> Tmux:
        """The terminal UI where the operator is."""
        return Tmux(shlex.join(self.groups.command(*options)), self.groups.env, 100, 30)

    def over_ssh(self) -> Tmux:
        """The terminal UI on the head's machine, by `--host`."""
        return self.screen("--host", self.groups.head.name, "--ssh-config", str(self.groups.machines.config))


@pytest.fixture(scope="class")
def serving(tmp_path_factory: pytest.TempPathFactory, data_home: Path) -> Iterator[Serving]:
    need_namespaces()
    path = tmp_path_factory.mktemp("two")
    with pytest.MonkeyPatch.context() as patch, Machines(path, data_home) as machines:
        patch.setenv("XDG_DATA_HOME", str(data_home))
        resolve_model("generated:tiny-llama")
        groups = Groups(path, machines)
        try:
            yield Serving(groups)
        finally:
            left = {machine.name: groups.everything(machine) for machine in machines.all}
            groups.close()
    assert not any(left.values()), f"the tests left {left}"


def running(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those of them that have not ended."""
    found = []
    for process in processes:
        with contextlib.suppress(psutil.Error):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def killed_server(groups: Groups, machine: Machine) -> None:
    """SIGKILL to the first process of the machine's server: the API server, or the headless node's."""
    os.kill(groups.server(machine), signal.SIGKILL)


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What is done to one part, and what must be said of it."""

    id: str
    title: str
    inject: Callable[[Groups], None]
    says: str
    """Begins the failure that is told."""
    diagnoses: tuple[str, ...]
    """One of these is told as the cause."""
    reason: str
    """Stands in the reason of that machine's end."""
    undo: Callable[[Groups], None] = lambda _: None


KILLED = ("The server was killed with SIGKILL",)
FAULTS = (
    Fault(
        id="link",
        title="the link between both cut by a packet filter, under load",
        inject=lambda groups: groups.member.cut(groups.head.address),
        says="the network between node 0 (node-a) and node 1 (node-b) is why:",
        diagnoses=("The machines of the group do not reach each other",),
        reason="it has not answered for 15 s",
        undo=lambda groups: groups.member.restore(),
    ),
    Fault(
        id="worker",
        title="SIGKILL to the worker on node-b, under load",
        inject=lambda groups: killed_worker(groups, groups.member),
        says="node 1 (node-b) is why:",
        # vLLM logs the worker's exit code only where it has it in time.
        diagnoses=("VllmWorker-1 was killed", "A process of the server ended unexpectedly"),
        reason="vllm serve exited with code 0 while it served",
    ),
    Fault(
        id="headless-node",
        title="SIGKILL to the headless process of node-b, under load",
        inject=lambda groups: killed_server(groups, groups.member),
        says="node 1 (node-b) is why:",
        diagnoses=KILLED,
        reason="vllm serve was killed by SIGKILL while it served",
    ),
    Fault(
        id="api-server",
        title="SIGKILL to the API server on node-a, under load",
        inject=lambda groups: killed_server(groups, groups.head),
        says="node 0 (node-a) is why:",
        diagnoses=KILLED,
        reason="vllm serve was killed by SIGKILL while it served",
    ),
)


class TestTwoMachines:
    """A class, so that one worker runs all of it (`tests/turns.py`)."""

    def test_they_are_one_engine(self, serving: Serving) -> None:
        serving.wait()
        serving.answers()
        with load(serving.url, 2, max_tokens=16) as statuses:
            wait_for("a load to be answered", lambda: len(statuses) >= LOAD_ANSWERS, LIMIT_S)
        assert set(statuses) == {200}

    def test_consoles_that_are_cut_off_come_back_and_show_what_they_missed(
        self, serving: Serving, record_property: Callable[[str, object], None]
    ) -> None:
        serving.wait()
        groups, servers = serving.groups, serving.servers()
        group, host = serving.screen(), serving.over_ssh()
        try:
            group.see("READY", LIMIT_S)
            assert groups.head.name in host.see("READY", LIMIT_S).splitlines()[0]
            # From the head itself, whose way to the operator is cut.
            with load(serving.url, 2, max_tokens=16, first=groups.head.join) as statuses:
                cut_s = time.monotonic()
                for machine in groups.machines.all:
                    machine.cut(groups.machines.operator)
                for machine in groups.machines.all:
                    os.kill(groups.info(machine)["supervisor_pid"], signal.SIGKILL)
                host.see("disconnected, trying again", LIMIT_S)
                group.see("Cut off from here: ", LIMIT_S)
                said_s = time.monotonic() - cut_s
                answered = len(statuses)
                wait_for("the servers to go on", lambda: len(statuses) >= answered + CUT_ANSWERS, LIMIT_S)
            assert set(statuses) == {200}
            assert groups.head.get(serving.url + MISSED) == 404
            for machine in groups.machines.all:
                machine.restore()
            for screen in (host, group):
                screen.see(MISSED, LIMIT_S)
                screen.until("it to be heard again", lambda text=screen: "● READY" in text.text, LIMIT_S)
                screen.until("nobody to be cut off", lambda text=screen: "Cut off" not in text.text, LIMIT_S)
                screen.keys("5")
                screen.see("was out of reach for", LIMIT_S)
                screen.see(TOOK_OVER, LIMIT_S)
            said = "`--host`: disconnected, trying again; the group's: Cut off from here"
            title = "the links to the operator cut by a packet filter, under load"
            record_property(GROUP_ROW, group_line(title, said, said_s, None, None))
            host.keys("3")
            host.see("Write a message")
            host.type("Say something")
            host.keys("Enter")
            host.see("tok/s", LIMIT_S)
        finally:
            group.close()
            host.close()
        assert running(servers) == servers

    def test_serving_outlives_everything_that_only_watches(
        self, serving: Serving, record_property: Callable[[str, object], None]
    ) -> None:
        serving.wait()
        groups, servers = serving.groups, serving.servers()
        screen = serving.screen()
        try:
            screen.see("READY", LIMIT_S)
            (console,) = psutil.Process(screen.pid).children()
            console.kill()
            screen.see("exit=137", LIMIT_S)
        finally:
            screen.close()
        said = "nothing: the servers are the same, and are watched"
        record_property(GROUP_ROW, group_line("SIGKILL to the operator's screen", said, None, None, None))
        for machine in groups.machines.all:
            before, killed_s = groups.info(machine)["supervisor_pid"], time.monotonic()
            os.kill(before, signal.SIGKILL)
            wait_for("another supervisor", lambda m=machine, b=before: supervised(groups.info(m), b), LIMIT_S)
            title = f"SIGKILL to the supervisor of {machine.name}"
            said_s = time.monotonic() - killed_s
            record_property(GROUP_ROW, group_line(title, f"{TOOK_OVER} (ready)", said_s, None, None))
        coordinator, killed_s = groups.record()["coordinator_pid"], time.monotonic()
        os.kill(coordinator, signal.SIGKILL)
        wait_for("another coordinator", lambda: groups.record()["coordinator_pid"] not in (None, coordinator), LIMIT_S)
        said = "another coordinator holds the group together now"
        wait_for("that to be told", lambda: said in serving.headless.said, LIMIT_S)
        said_s = time.monotonic() - killed_s
        record_property(GROUP_ROW, group_line("SIGKILL to the coordinator", said, said_s, None, None))
        serving.answers()
        assert running(servers) == servers

    @pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)
    def test_a_broken_part_is_named_and_nothing_is_left(
        self, fault: Fault, serving: Serving, record_property: Callable[[str, object], None]
    ) -> None:
        serving.wait()
        groups, headless, servers = serving.groups, serving.headless, serving.servers()
        told, planned = len(failures(headless)), len(headless.of("restart"))
        try:
            with load(serving.url, 2, max_tokens=16) as statuses:
                wait_for("a load to be answered", lambda: len(statuses) >= LOAD_ANSWERS, LIMIT_S)
                assert set(statuses) == {200}
                harmed_s = time.monotonic()
                fault.inject(groups)
                wait_for("the group to end", lambda: said_of(headless, serving.attempt), LIMIT_S)
                said_s = time.monotonic() - harmed_s
                wait_for("nothing of it to be left anywhere", lambda: not running(servers), LIMIT_S)
                gone_s = time.monotonic() - harmed_s
                wait_for("the failure to be told", lambda: len(failures(headless)) > told, LIMIT_S)
        finally:
            fault.undo(groups)
        failure = failures(headless)[-1]
        assert failure["text"].startswith(fault.says), headless.said
        assert failure["diagnosis"]["title"] in fault.diagnoses, headless.said
        assert fault.reason in failure["reason"], headless.said
        wait_for("a restart to be planned", lambda: len(headless.of("restart")) > planned, LIMIT_S)
        serving.attempt += 1
        if headless.of("restart")[-1]["left_s"] > LONG_WAIT_S:
            assert groups.run("restart", timeout_s=LIMIT_S).returncode == 0
        serving.wait()
        serving.answers()
        again_s = time.monotonic() - harmed_s
        said = f"{fault.says} {failure['diagnosis']['title']}"
        record_property(GROUP_ROW, group_line(fault.title, said, said_s, gone_s, again_s))

    def test_a_stop_at_the_head_over_ssh_ends_all(
        self, serving: Serving, record_property: Callable[[str, object], None]
    ) -> None:
        serving.wait()
        groups, servers = serving.groups, serving.servers()
        screen = serving.over_ssh()
        try:
            screen.see("READY", LIMIT_S)
            screen.keys("2")
            screen.see("following")
            screen.keys("g")
            screen.see("version 0.32.0")
            screen.keys("s")
            screen.see(f"Stop cpu-smoke-2nodes on {groups.head.name}?")
            asked_s = time.monotonic()
            screen.keys("y")
            wait_for("nothing to be left on either", lambda: not running(servers), LIMIT_S)
            gone_s = time.monotonic() - asked_s
            screen.see("STOPPED", LIMIT_S)
            screen.keys("q")
            screen.see("exit=0")
        finally:
            screen.close()
        said = over(groups, serving.headless)
        assert serving.headless.child.returncode == 0, said
        assert "node 0 (node-a) was stopped there" in said
        assert [groups.info(machine)["state"] for machine in groups.machines.all] == ["stopped", "stopped"], said
        title = "`s` on the head's screen over `--host`"
        record_property(GROUP_ROW, group_line(title, "node 0 (node-a) was stopped there", gone_s, gone_s, None))


def supervised(info: dict[str, Any], before: int) -> bool:
    """Whether another supervisor than this has the server, and knows that it serves."""
    return info["supervisor_pid"] not in (None, before) and info["state"] == "ready"


def said_of(headless: Headless, attempt: int) -> list[dict[str, Any]]:
    """What was told of the end of an attempt of the group."""
    lines = [line for line in headless.of("group") if line["attempt"] == attempt]
    return [line for line in lines if line["state"] in ("stopping", "crashed", "failed")]
