"""The terminal UI at 80×24 with `--host`: OpenSSH asks before it, and a drop is seen and survived."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.fake_world import FakeWorld
from tests.remote_world import HOST, RemoteWorld
from tests.sshd import need_sshd
from tests.tmux import Tmux

pytestmark = pytest.mark.timeout(400)
WAIT_S = 90.0
PASSPHRASE = "correct horse"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[RemoteWorld]:
    need_sshd()
    (tmp_path / "there").mkdir()
    remote = RemoteWorld(tmp_path / "here", FakeWorld(tmp_path / "there"))
    try:
        yield remote
    finally:
        remote.close()


def test_questions_drop_and_return(world: RemoteWorld) -> None:
    there = world.there
    assert isinstance(there, FakeWorld)
    there.detached()
    known = world.sshd.known_hosts.read_text()
    world.sshd.known_hosts.write_text("")
    key = world.sshd.directory / "user_key"
    subprocess.run(["ssh-keygen", "-q", "-p", "-P", "", "-N", PASSPHRASE, "-f", str(key)], check=True)
    terminal = Tmux(shlex.join(there.command(*world.options)), world.env)
    try:
        terminal.see("(yes/no", WAIT_S)
        terminal.type("yes")
        terminal.keys("Enter")
        terminal.see("Enter passphrase", WAIT_S)
        terminal.type(PASSPHRASE)
        terminal.keys("Enter")
        screen = terminal.see("● READY", WAIT_S)
        assert HOST in screen.splitlines()[0]
        assert known.split()[2] in world.sshd.known_hosts.read_text(), "OpenSSH itself has written it down"

        world.sshd.drop()
        screen = terminal.see("disconnected, trying again", WAIT_S)
        assert HOST in screen.splitlines()[0]
        terminal.see("ssh-add", WAIT_S)
        assert "Enter passphrase" not in terminal.text
        terminal.keys("s")
        terminal.see(f"Stop cpu-smoke on {HOST}?", WAIT_S)
        terminal.keys("y")
        terminal.see("Not done", WAIT_S)
        terminal.keys("Escape")
        # As if the agent had the key now.
        subprocess.run(["ssh-keygen", "-q", "-p", "-P", PASSPHRASE, "-N", "", "-f", str(key)], check=True)
        terminal.see("● READY", WAIT_S)
        terminal.keys("5")
        terminal.see("out of reach", WAIT_S)
        terminal.keys("q")
        assert f"--host {HOST}" in terminal.see("Leave the console?", WAIT_S)
        terminal.keys("Enter")
        terminal.see("exit=0", WAIT_S)
        assert terminal.state() == "0 0 1"
    finally:
        terminal.close()


def test_a_changed_host_key_ends_it_before_the_screen(world: RemoteWorld) -> None:
    world.sshd.know(world.sshd.make_key("other"))
    terminal = Tmux(shlex.join(world.there.command(*world.options)), world.env)
    try:
        screen = terminal.see("exit=3", WAIT_S)
        assert "not the one that is known" in screen
        assert "ssh-keygen -R" in screen
        assert terminal.state() == "0 0 1"
    finally:
        terminal.close()
