"""The terminal UI and the fleet on real vLLM through a real `sshd`: attach, chat, stop."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import msgspec
import pytest

from console.core.fleet import FleetDocument, FleetState
from tests.e2e.world import World, wait_for
from tests.remote_world import HOST, RemoteWorld
from tests.sshd import need_sshd
from tests.tmux import Tmux

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]


def in_the_fleet(world: World, remote: RemoteWorld) -> None:
    """The same server as a run of its machine, and watched by its address: seen from a console that has neither."""
    command = world.command("fleet", "--json", *remote.options, "--watch", world.url)
    done = subprocess.run(command, env=remote.env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found = msgspec.json.decode(done.stdout, type=FleetDocument)
    by_host = {row.host: row for row in found.rows}
    there, watched = by_host[HOST], by_host[""]
    assert (there.state, there.watched, there.url) == (FleetState.READY, False, world.url)
    assert (watched.state, watched.watched, watched.url) == (FleetState.READY, True, world.url)
    for row in (there, watched):
        assert (row.model, row.running, row.waiting, row.kv_cache_usage) == ("tiny", 0, 0, 0.0)
    assert (found.totals.servers, found.totals.ready, found.totals.without_figures) == (2, 2, 0)


def test_attach_chat_and_stop_over_ssh(world: World, tmp_path: Path) -> None:
    need_sshd()
    remote = RemoteWorld(tmp_path / "here", world)
    terminal = None
    try:
        port = f"serve.port={world.port}"
        launched = world.run(*remote.options, "--profile", "cpu-smoke", "--set", port, "--detach", timeout_s=400.0)
        assert launched.returncode == 0, launched.stderr
        in_the_fleet(world, remote)
        terminal = Tmux(shlex.join(world.command(*remote.options)), remote.env)
        assert HOST in terminal.see("READY", 120.0).splitlines()[0]
        terminal.keys("3")
        terminal.see("Write a message")
        terminal.type("Say something")
        terminal.keys("Enter")
        terminal.see("tok/s", 120.0)
        terminal.keys("Escape")
        terminal.see("1 overview")
        terminal.keys("2")
        terminal.see("following")
        terminal.keys("g")
        terminal.see("version 0.32.0")
        terminal.keys("s")
        terminal.see(f"Stop cpu-smoke on {HOST}?")
        terminal.keys("y")
        terminal.see("STOPPED", 120.0)
        assert not world.engine_processes()
        terminal.keys("q")
        terminal.see("exit=0")
        wait_for("the supervisor to leave", lambda: not world.status()["supervised"], 60.0)
    finally:
        if terminal is not None:
            terminal.close()
        remote.sshd.stop()
