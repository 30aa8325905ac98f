"""Servers of several machines in one list, over a real `sshd` in two network namespaces, with the scripted server."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from console.core.fleet import FleetDocument, FleetRow, FleetState
from tests.e2e.world import free_port, wait_for
from tests.netns import Machines, need_namespaces
from tests.process.fake_world import FakeWorld
from tests.process.test_groups import Groups
from tests.tmux import Tmux

pytestmark = pytest.mark.timeout(400)
WAIT_S = 120.0
PORT = 8000
"""The same on both machines, as their servers have it in the field."""
HOSTS = ("--host", "node-a", "--host", "node-b")


class Hosts(Groups):
    """The operator's machine, and two with a server each: all of one port, one profile and maybe one id."""

    def there(self, name: str, *words: str) -> None:
        """Launch on a machine."""
        done = self.run("--host", name, *self.config, "--profile", "cpu-smoke", "--detach", *words)
        assert done.returncode == 0, done.stderr

    @property
    def config(self) -> tuple[str, ...]:
        """How SSH knows the machines."""
        return "--ssh-config", str(self.machines.config)

    def fleet(self, *words: str) -> FleetDocument:
        """`fleet` of these machines."""
        done = self.run("fleet", "--json", *self.config, *words)
        assert done.returncode == 0, done.stderr
        return msgspec.json.decode(done.stdout, type=FleetDocument)


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    need_namespaces()
    folder = tmp_path_factory.mktemp("hosts")
    with Machines(folder) as machines:
        world = Hosts(folder, machines)
        try:
            a, b = machines.all
            a.fake(load_s=0.1, load="8,2,0.41,1900")
            b.fake(load_s=0.1, load="3,0,0.12,700")
            price = ("--set", f"serve.port={PORT}", "--set", "cost.usd_per_hour=7.5")
            # One listens on its address, the other as every profile does at first: on 127.0.0.1 of its machine.
            world.there("node-a", *price, "--set", f"serve.host={a.address}", "--allow-public-without-key")
            world.there("node-b", *price)
            yield world
        finally:
            left = {machine.name: world.everything(machine) for machine in machines.all}
            world.close()
    assert all(left.values()), "both ran until the end"


def by_host(found: FleetDocument) -> dict[str, FleetRow]:
    return {row.host: row for row in found.rows}


def test_the_runs_of_all_machines_in_one_table(hosts: Hosts) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    found = hosts.fleet(*HOSTS, "--watch", nobody)
    rows = by_host(found)
    assert set(rows) == {"", "node-a", "node-b"}
    assert (rows[""].state, rows[""].watched) == (FleetState.UNREACHABLE, True)
    assert (rows["node-a"].why, rows["node-a"].running, rows["node-a"].waiting) == ("", 8, 2)
    assert (rows["node-b"].state, rows["node-b"].running, rows["node-b"].waiting) == (FleetState.READY, 3, 0)
    assert rows["node-b"].url == f"http://127.0.0.1:{PORT}", "as that machine reaches it"
    assert rows["node-a"].generation_tokens_per_s is not None
    totals = found.totals
    assert (totals.servers, totals.ready, totals.machines_away) == (3, 2, 0)
    assert (totals.running, totals.waiting, totals.usd_per_hour) == (11, 2, 15.0)
    # Options before the command and after it are one list; and one machine is shown beside this one too.
    assert set(by_host(hosts.fleet("--host", "node-b"))) == {"node-b"}
    done = hosts.run("--host", "node-a", *hosts.config, "fleet", "--host", "node-b")
    assert done.returncode == 0, done.stderr
    assert "node-a/cpu-smoke" in done.stdout
    assert f"http://127.0.0.1:{PORT} on node-b" in done.stdout
    assert "2 of 2 ready" in done.stdout


def test_what_is_watched_and_runs_there_is_one_server(hosts: Hosts) -> None:
    rows = hosts.fleet("--host", "node-a", "--watch", f"http://{hosts.head.address}:{PORT}").rows
    assert [(row.host, row.watched) for row in rows] == [("node-a", False)]


def test_a_machine_that_cannot_be_reached_is_a_row_with_its_reason(hosts: Hosts) -> None:
    hosts.member.cut(hosts.machines.operator)
    try:
        found = hosts.fleet(*HOSTS)
    finally:
        hosts.member.restore()
    rows = by_host(found)
    assert rows["node-a"].state is FleetState.READY
    assert rows["node-b"].is_machine
    assert (rows["node-b"].state, rows["node-b"].why.partition(":")[0]) == (
        FleetState.UNREACHABLE,
        "The host cannot be reached",
    )
    assert (found.totals.servers, found.totals.ready, found.totals.machines_away) == (1, 1, 1)
    # A name that SSH does not know fails at once, and says so.
    found = hosts.fleet("--host", "node-a", "--host", "no-such-machine.invalid")
    row = by_host(found)["no-such-machine.invalid"]
    assert row.state is FleetState.UNREACHABLE
    assert "no such host" in row.why
    assert by_host(found)["node-a"].state is FleetState.READY


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("status",), "This is about one machine"),
        (("--profile", "cpu-smoke"), "--hosts A,B"),
        (("export", "last"), "This is about one machine"),
        (("--attach", "x"), "--attach is about one machine"),
        (("--demo",), "--demo plays what is here"),
    ],
)
def test_what_is_about_one_machine_says_so(tmp_path: Path, words: tuple[str, ...], says: str) -> None:
    done = FakeWorld(tmp_path).run("--host", "a", "--host", "b", *words)
    assert done.returncode == 2, done.stderr
    assert says in done.stderr


def test_a_proxy_gets_addresses_that_it_reaches(hosts: Hosts) -> None:
    done = hosts.run("export", "proxy", "nginx", *HOSTS, *hosts.config)
    assert done.returncode == 2, done.stdout
    address = hosts.member.address
    assert "Only node-b itself reaches cpu-smoke" in done.stderr
    assert f"--set serve.host={address}" in done.stderr
    assert "--host node-b export proxy nginx" in done.stderr
    run = hosts.info(hosts.head)["id"]
    made = hosts.run("export", "proxy", "vllm-router", f"node-a/{run}", *HOSTS, *hosts.config, "--json")
    assert made.returncode == 0, made.stderr
    text = json.loads(made.stdout)
    assert text["servers"] == [{"name": f"node-a/{run}", "url": f"http://{hosts.head.address}:{PORT}", "model": "tiny"}]
    wrong = hosts.run("export", "proxy", "nginx", "--host", "node-a", "--host", "no.invalid", *hosts.config)
    assert wrong.returncode == 3, "no proxy over less than what was named"


def test_on_one_screen_with_a_machine_that_goes_and_comes_back(hosts: Hosts) -> None:
    env = {**hosts.env, "TERM": "xterm-256color"}
    terminal = Tmux(shlex.join(hosts.command(*HOSTS, *hosts.config)), env, 160, 50)
    try:
        terminal.see("2 of 2 ready", WAIT_S)
        screen = terminal.see("$15.00/h", WAIT_S)
        assert "this machine and node-a, node-b" in screen.splitlines()[0]
        assert "node-a/cpu-smoke" in screen
        assert "node-b/cpu-smoke" in screen
        assert not list((Path(hosts.env["XDG_CACHE_HOME"]) / "dsv4-console").glob("remote/*")), (
            "no log is copied for it"
        )

        assert hosts.member.sshd is not None
        hosts.member.sshd.stop()
        screen = terminal.see("✖ unreachable", WAIT_S)
        assert "1 of 2 ready" in terminal.see("1 of 2 ready", WAIT_S)
        assert "$15.00/h" in screen, "it is paid for, whether or not it is seen"
        terminal.keys("g")
        terminal.see("▸ node-b", WAIT_S)
        terminal.see("The host cannot be reached", WAIT_S)
        hosts.member.sshd.start()
        terminal.see("2 of 2 ready", WAIT_S)

        terminal.keys("Enter")
        screen = terminal.see("● READY", WAIT_S)
        assert "node-b" in screen.splitlines()[0]
        terminal.keys("2")
        terminal.see("following", WAIT_S)
        terminal.keys("s")
        terminal.see("Stop cpu-smoke on node-b?", WAIT_S)
        terminal.keys("Escape")
        terminal.until("no question", lambda: "Stop cpu-smoke" not in terminal.text, WAIT_S)
        terminal.keys("q")
        assert "--host node-a --host node-b" in terminal.see("Leave the console?", WAIT_S)
        terminal.keys("Escape")
        terminal.until("no question", lambda: "Leave the console?" not in terminal.text, WAIT_S)
        terminal.keys("1")
        terminal.see("esc fleet", WAIT_S)
        terminal.keys("Escape")
        terminal.see("2 of 2 ready", WAIT_S)
        # A key is passed over while the run before is still being let go of.
        terminal.until("its end", lambda: ended(terminal), WAIT_S)
        assert terminal.state() == "0 0 1"
    finally:
        terminal.close()


def ended(terminal: Tmux) -> bool:
    """Whether the console was left; else that is asked for."""
    if "exit=0" in terminal.text:
        return True
    terminal.keys("q")
    return False


def test_one_machine_and_what_is_watched_beside_it(hosts: Hosts) -> None:
    """Here the profiles are those of that machine, and the address is asked from here."""
    words = ("--host", "node-b", *hosts.config, "--watch", f"http://{hosts.head.address}:{PORT}")
    terminal = Tmux(shlex.join(hosts.command(*words)), hosts.env, 160, 50)
    try:
        terminal.see("2 of 2 ready", WAIT_S)
        screen = terminal.see("running 11", WAIT_S)
        assert f"{hosts.head.address}:{PORT}" in screen
        terminal.keys("Escape")
        screen = terminal.see("can run on node-b", WAIT_S)
        assert "this machine" not in screen
        assert "node-b" in screen.splitlines()[0]
        terminal.resize(80, 24)
        terminal.until("80 columns", lambda: max(map(len, terminal.text.splitlines())) <= 80, WAIT_S)
        terminal.see("can run on node-b", WAIT_S)
        terminal.keys("q")
        terminal.see("exit=0", WAIT_S)
    finally:
        terminal.close()


def test_a_name_that_must_be_asked_about_is_asked_before_the_screen(hosts: Hosts) -> None:
    assert hosts.member.sshd is not None
    known = hosts.member.sshd.known_hosts.read_text(encoding="utf-8")
    hosts.member.sshd.known_hosts.write_text("", encoding="utf-8")
    terminal = Tmux(shlex.join(hosts.command(*HOSTS, *hosts.config)), hosts.env)
    try:
        terminal.see("(yes/no", WAIT_S)
        terminal.type("yes")
        terminal.keys("Enter")
        terminal.see("2 of 2 ready", WAIT_S)
        terminal.keys("q")
        terminal.see("exit=0", WAIT_S)
    finally:
        terminal.close()
        hosts.member.sshd.known_hosts.write_text(known, encoding="utf-8")
    wait_for("no ssh of ours to be left", lambda: not masters(hosts), WAIT_S)


def masters(hosts: Hosts) -> list[int]:
    """Connections of this world that are still there."""
    return [each.pid for each in hosts.processes() if each.name() == "ssh" and each.pid != os.getpid()]
