"""A real `sshd` of a test's own: on 127.0.0.1, with its own keys and client configuration. ~/.ssh is never touched."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil
import pytest

from tests.e2e.world import free_port

__all__ = ["HOST", "Sshd", "need_sshd"]

HOST = "gpu-box"
SSHD = "/usr/sbin/sshd"
START_S = 60.0
PRIVILEGE_DIRECTORY = Path("/run/sshd")


def need_sshd() -> None:
    """Skip the test where there is no OpenSSH server, or it could not be started."""
    for program in ("ssh", "ssh-keygen", SSHD):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed (apt-get install openssh-server)")
    if os.getuid() == 0:
        PRIVILEGE_DIRECTORY.mkdir(mode=0o755, exist_ok=True)


class Sshd:
    """A server that lets this user in, and what a client needs for it.

    Args:
        directory: for its files; the server refuses keys that others could write, so it is made private.
        env: the environment of what is started there. A login shell of the test, not the developer's own.
        host: what the client calls it.
        address: where it listens.
        enter: words before the command that starts it, for example to enter a network namespace.
    """

    def __init__(
        self,
        directory: Path,
        env: Mapping[str, str],
        *,
        host: str = HOST,
        address: str = "127.0.0.1",
        enter: Sequence[str] = (),
    ) -> None:
        self.address = address
        self._enter = tuple(enter)
        directory.mkdir(mode=0o700, parents=True)
        self.directory = directory
        self.port = free_port()
        self.config = directory / "ssh_config"
        self.known_hosts = directory / "known_hosts"
        self._server: subprocess.Popen[bytes] | None = None
        for name in ("host_key", "user_key"):
            self.make_key(name)
        shutil.copy(directory / "user_key.pub", directory / "authorized_keys")
        self.know(directory / "host_key.pub")
        self._write_shell(env)
        (directory / "sshd_config").write_text(
            f"""\
ListenAddress {address}
Port {self.port}
HostKey {directory}/host_key
PidFile none
AuthorizedKeysFile {directory}/authorized_keys
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
PermitUserRC no
SetEnv SHELL={directory}/shell
ForceCommand {directory}/forced
LogLevel VERBOSE
MaxStartups 100
""",
            encoding="utf-8",
        )
        self.config.write_text(
            f"""\
Host {host}
  HostName {address}
  Port {self.port}
  User {pwd.getpwuid(os.getuid()).pw_name}
  IdentityFile {directory}/user_key
  IdentitiesOnly yes
  IdentityAgent none
  UserKnownHostsFile {self.known_hosts}
  GlobalKnownHostsFile none
""",
            encoding="utf-8",
        )
        self.start()

    def make_key(self, name: str) -> Path:
        """A new key pair; gives the public half."""
        path = self.directory / name
        path.unlink(missing_ok=True)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
        return path.with_suffix(".pub")

    def know(self, public_key: Path) -> None:
        """Make this the key that the client knows of the host."""
        kind, key = public_key.read_text().split()[:2]
        self.known_hosts.write_text(f"[{self.address}]:{self.port} {kind} {key}\n", encoding="utf-8")

    def start(self) -> None:
        """Listen, until `stop`."""
        log = self.directory / "sshd.log"
        self._server = subprocess.Popen(
            [*self._enter, SSHD, "-D", "-f", str(self.directory / "sshd_config"), "-E", str(log)]
        )
        end = time.monotonic() + START_S
        while time.monotonic() < end and self._server.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection((self.address, self.port), 5.0):
                return
            time.sleep(0.05)
        self.stop()
        pytest.skip(f"sshd does not start here: {log.read_text(errors='replace')[-500:]}")

    def connections(self) -> list[psutil.Process]:
        """Its children: one per connection."""
        with contextlib.suppress(psutil.NoSuchProcess):
            if self._server is not None:
                return psutil.Process(self._server.pid).children(recursive=True)
        return []

    def drop(self) -> None:
        """Cut every connection without a word to the client."""
        for process in self.connections():
            with contextlib.suppress(psutil.NoSuchProcess):
                if process.name().startswith("sshd"):
                    process.kill()

    def freeze(self) -> None:
        """Let every connection fall silent, as a network that is gone does."""
        for process in self.connections():
            with contextlib.suppress(psutil.NoSuchProcess):
                if process.name().startswith("sshd"):
                    process.suspend()

    def stop(self) -> None:
        """Listen no more, and cut what is connected."""
        left = self.connections()
        if self._server is not None:
            self._server.kill()
            self._server.wait()
            self._server = None
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                if process.name().startswith("sshd"):
                    process.kill()

    def _write_shell(self, env: Mapping[str, str]) -> None:
        """The shell that a login gets: `/bin/sh` in the environment of the test's world."""
        words = [f"{key}={value}" for key, value in env.items() if key not in ("SHELL", "PWD", "OLDPWD", "_")]
        quoted = " ".join("'" + word.replace("'", "'\\''") + "'" for word in words)
        shell = self.directory / "shell"
        # Of a login shell only the environment matters here: `-lc` becomes `-c`, so that no profile of ours is read.
        shell.write_text(
            f'#!/bin/sh\n[ "$1" = -lc ] && {{ shift; set -- -c "$@"; }}\n'
            f'exec env -i {quoted} SHELL=\'{shell}\' SSH_CONNECTION="$SSH_CONNECTION" /bin/sh "$@"\n',
            encoding="utf-8",
        )
        shell.chmod(0o755)
        forced = self.directory / "forced"
        forced.write_text(f"#!/bin/sh\nexec '{shell}' -c \"$SSH_ORIGINAL_COMMAND\"\n", encoding="utf-8")
        forced.chmod(0o755)
