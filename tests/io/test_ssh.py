"""Connections by a real OpenSSH client to a real `sshd`."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from console.core.errors import RemoteError, UsageError
from console.core.sshfaults import Cause
from console.io.ssh import SshConnection, SshTarget
from tests.e2e.world import free_port
from tests.sshd import HOST, Sshd, need_sshd

ECHO = '#!/bin/sh\nprintf "%s|" "$@"\nexit 7\n'


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    need_sshd()
    bin_there = tmp_path / "bin"
    bin_there.mkdir()
    server = Sshd(tmp_path / "sshd", {"PATH": f"{bin_there}:/usr/bin:/bin", "HOME": str(tmp_path)})
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def connection(sshd: Sshd) -> Iterator[SshConnection]:
    one = SshConnection(SshTarget(HOST, sshd.config))
    try:
        yield one
    finally:
        one.close()


def refused(connection: SshConnection) -> RemoteError:
    with pytest.raises(RemoteError) as caught:
        connection.open(ask=False)
    assert not connection.is_alive
    assert HOST in caught.value.message
    return caught.value


async def test_words_arrive_as_they_are(connection: SshConnection) -> None:
    connection.open(ask=False)
    words = ["a b", "it's", '"$HOME"', "`id`", "", "*", "new\nline", "ünï", "--", "-o"]
    done = await connection.run(["printf", "%s|", *words])
    assert (done.code, done.stdout.decode(), done.stderr) == (0, "|".join([*words, ""]), "")
    assert (await connection.run(["sh", "-c", "exit 42"])).code == 42
    assert (await connection.run(["cat"], stdin=b"\x00\xff" * 100_000)).stdout == b"\x00\xff" * 100_000
    with pytest.raises(TimeoutError):
        await connection.run(["sleep", "600"], timeout_s=0.2)


async def test_the_console_there_runs_in_a_login_shell(connection: SshConnection, tmp_path: Path) -> None:
    connection.open(ask=False)
    with pytest.raises(RemoteError) as caught:
        await connection.run_console(["status"])
    assert caught.value.cause == Cause.NOT_INSTALLED
    assert "uv tool install dsv4-console" in caught.value.fix
    command = tmp_path / "bin" / "dsv4-console"
    command.write_text(ECHO)
    command.chmod(0o755)
    done = await connection.run_console(["logs", "a run", "it's"])
    assert (done.code, done.stdout) == (7, b"logs|a run|it's|")


async def test_sockets_and_ports_there_are_sockets_here(connection: SshConnection, tmp_path: Path) -> None:
    connection.open(ask=False)

    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        writer.close()

    there = tmp_path / "a:b %h.sock"
    port = free_port()
    servers = [await asyncio.start_unix_server(greet, there), await asyncio.start_server(greet, "127.0.0.1", port)]
    paths = [await connection.forward_socket(str(there)), await connection.forward_port(port)]
    for path in paths:
        reader, writer = await asyncio.open_unix_connection(path)
        assert await reader.read() == b"hello"
        writer.close()
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert await connection.forward_port(port) == paths[1], "the same one is not made twice"
    for server in servers:
        server.close()
    connection.close()
    assert not paths[0].parent.exists()


async def test_a_lost_connection_is_noticed_and_never_replaced_behind_ones_back(
    connection: SshConnection, sshd: Sshd
) -> None:
    connection.open(ask=False)
    sshd.drop()
    async with asyncio.timeout(60):
        while connection.is_alive:
            await asyncio.sleep(0.05)
    with pytest.raises(RemoteError) as caught:
        await connection.run(["true"])
    assert caught.value.cause == Cause.LOST
    with pytest.raises(RemoteError):
        await connection.forward_port(1)
    connection.open(ask=False)
    assert (await connection.run(["true"])).code == 0


def test_another_key_than_the_known_one(connection: SshConnection, sshd: Sshd) -> None:
    sshd.know(sshd.make_key("other"))
    error = refused(connection)
    assert error.cause == Cause.HOST_KEY_CHANGED
    assert f"ssh-keygen -R {HOST}" in error.fix


def test_an_unknown_host_is_never_taken_unasked(connection: SshConnection, sshd: Sshd) -> None:
    sshd.known_hosts.write_text("")
    assert refused(connection).cause == Cause.HOST_KEY_UNKNOWN
    assert sshd.known_hosts.read_text() == ""


def test_a_key_that_is_refused(connection: SshConnection, sshd: Sshd) -> None:
    (sshd.directory / "authorized_keys").write_text("")
    assert refused(connection).cause == Cause.KEY_REFUSED


def test_nobody_there(connection: SshConnection, sshd: Sshd) -> None:
    sshd.stop()
    assert refused(connection).cause == Cause.UNREACHABLE


def test_a_name_that_is_no_host(sshd: Sshd) -> None:
    connection = SshConnection(SshTarget("no-such-host.invalid", sshd.config))
    with pytest.raises(RemoteError) as caught:
        connection.open(ask=False)
    assert caught.value.cause in (Cause.HOST_UNKNOWN, Cause.UNREACHABLE)
    for name in ("", "-oProxyCommand=touch /tmp/x", "a b", "a\nb"):
        with pytest.raises(UsageError, match="no name of a host"):
            SshConnection(SshTarget(name))


def test_a_mistake_in_the_configuration(connection: SshConnection, sshd: Sshd) -> None:
    sshd.config.write_text("NoSuchOption yes\n")
    assert refused(connection).cause == Cause.CONFIGURATION


def test_forwards_of_the_configuration_do_not_get_in_the_way(connection: SshConnection, sshd: Sshd) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with sshd.config.open("a") as file:
            file.write(f"  LocalForward {port} 127.0.0.1:1\n  RemoteCommand tmux attach\n  ControlMaster auto\n")
        connection.open(ask=False)
        path = asyncio.run(connection.forward_port(1))
        assert path.exists()
        assert asyncio.run(connection.run(["echo", "hi"])).stdout == b"hi\n"


def test_what_a_killed_console_left_is_removed(
    connection: SshConnection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path) if len(str(tmp_path)) < 60 else "/tmp")
    root = Path(os.environ["XDG_RUNTIME_DIR"])
    left = root / "dsv4-ssh-4194399-x"
    left.mkdir()
    connection.open(ask=False)
    assert not left.exists()
