"""One connection to another machine, by the operator's own OpenSSH: commands, sockets and ports over one login.

Only the `ssh` command is driven. It reads the operator's configuration, agent and known hosts and asks its own
questions (passphrase, password, an unknown host's fingerprint); nothing here answers one or turns a check off.

The first `ssh` is the master of a connection that the others share through its control socket (`ControlMaster`), in a
directory that nobody else can enter. It runs `cat` there, which ends when its stdin does: however this process ends,
the connection ends with it. Nothing listens on a network port: forwarded sockets and ports are Unix sockets here.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import shlex
import shutil
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from console.core.errors import RemoteError, UsageError
from console.core.sshfaults import COMMAND_NOT_FOUND, CONNECTION_FAILED, Cause, ssh_error
from console.io.ssh_pipes import END_TIMEOUT_S, Conversation, Said, pipe_of, private_directory

__all__ = ["Finished", "SshConnection", "SshTarget", "address_of", "end_command"]

CONSOLE: Final = "dsv4-console"
ALIVE_INTERVAL_S: Final = 5
ALIVE_COUNT: Final = 3
"""A line that says nothing for 15 s is taken for broken; TCP alone would take a quarter of an hour."""
CONNECT_TIMEOUT_S: Final = 20
"""Of an attempt that nobody watches."""
END_LOOK_S: Final = 0.01
CONTROL_TIMEOUT_S: Final = 30.0
COMMAND_MISSING: Final = (126, COMMAND_NOT_FOUND)
"""126 is a command that may not be executed."""
_READY = "dsv4-console: connected"


class SshTarget(NamedTuple):
    """A machine as the operator named it."""

    host: str
    """`user@box`, or a `Host` of their SSH configuration."""
    config: Path | None = None
    """Another configuration than `~/.ssh/config` (`ssh -F`)."""
    command: str = CONSOLE
    """The console there, as one would type it in a shell there: a path, or words with options."""

    def check(self) -> SshTarget:
        """Itself, if `ssh` would take it for a host and nothing else.

        Raises:
            UsageError: the name is empty or looks like an option, or `ssh` is not installed.
        """
        if not self.host or self.host.startswith("-") or not self.host.isprintable() or " " in self.host:
            raise UsageError("This is no name of a host", f"found {self.host!r}", "For example: --host user@box")
        if shutil.which("ssh") is None:
            raise UsageError("OpenSSH is not installed here", "there is no `ssh` on PATH", "Install openssh-client.")
        return self

    def ssh(self, *options: str) -> list[str]:
        """`ssh` with the operator's configuration and these options, before everything else."""
        return ["ssh", *(("-F", str(self.config)) if self.config is not None else ()), *options]

    def console(self, arguments: Sequence[str]) -> str:
        """The console there with these arguments, as one line for the shell there.

        A login shell, since it alone has what the operator's profile says: PATH, tokens, caches.
        """
        line = f"exec {self.command} {shlex.join(arguments)}".rstrip()
        return f'exec "$SHELL" -lc {shlex.quote(line)}'

    def direct(self, arguments: Sequence[str], *, terminal: bool) -> list[str]:
        """The console there with these arguments, over a connection of its own, as a command here.

        Args:
            arguments: of `dsv4-console`.
            terminal: it gets one there, so that it can ask and Ctrl+C reaches it.
        """
        options = ["-o", "RemoteCommand=none", "-o", "ClearAllForwardings=yes", "-tt" if terminal else "-T"]
        return self.ssh(*options, "--", self.host, self.console(arguments))


class Finished(NamedTuple):
    """A command that ended there."""

    code: int
    stdout: bytes
    stderr: str


class SshConnection:
    """A connection to one machine. `open` it while the terminal is still the operator's.

    Args:
        target: where to.
    """

    def __init__(self, target: SshTarget) -> None:
        self.target = target.check()
        self._directory: Path | None = None
        self._master: subprocess.Popen[bytes] | None = None
        self._said: Said | None = None
        self._numbers = itertools.count(1)
        self._forwards: dict[str, Path] = {}

    @property
    def is_alive(self) -> bool:
        """The connection stands, as far as `ssh` knows: it notices a dead line after 15 s."""
        return self._master is not None and self._master.poll() is None

    @property
    def pid(self) -> int | None:
        """Process of the master."""
        return self._master.pid if self._master is not None else None

    def open(self, *, ask: bool = True) -> None:
        """Log in. Blocks for as long as that takes, with questions of OpenSSH on the terminal.

        Args:
            ask: OpenSSH may ask; otherwise it fails where it would have to, and after 20 s.

        Raises:
            RemoteError: it did not come about; `cause` and remedy say why.
        """
        self.close()
        self._directory = private_directory()
        options = {
            "ControlMaster": "yes",
            "ControlPath": self._control,
            "ControlPersist": "no",
            "ServerAliveInterval": str(ALIVE_INTERVAL_S),
            "ServerAliveCountMax": str(ALIVE_COUNT),
            "ExitOnForwardFailure": "yes",
            "StreamLocalBindUnlink": "yes",
            # What the operator's configuration adds to every login would be in the way of a second one.
            "ClearAllForwardings": "yes",
            "RemoteCommand": "none",
            "LogLevel": "INFO",
        }
        if not ask:
            options |= {"BatchMode": "yes", "ConnectTimeout": str(CONNECT_TIMEOUT_S)}
        master = subprocess.Popen(
            self.target.ssh("-T", *_options(options), "--", self.target.host, f"echo {_READY}; exec cat >/dev/null"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=not ask,
        )
        self._master = master
        if self._closed():  # meanwhile, by who does not want to wait
            self.close()
            raise self._lost("it was given up")
        # Its questions go to the terminal by themselves; what it says besides is for the operator's eyes too.
        said = self._said = Said(pipe_of(master.stderr), aloud=ask)
        try:
            for line in pipe_of(master.stdout):
                if line.strip() == _READY.encode():
                    said.quiet()
                    return
            master.wait()
        except BaseException:
            self.close()
            raise
        text = said.text(wait=True)
        self.close()
        raise ssh_error(self.target.host, text)

    async def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float | None = None) -> Finished:
        """Run a command there, word by word as given, and wait for its end.

        Args:
            argv: the command; it is quoted for a POSIX shell, which a login has.
            stdin: what it reads.
            timeout_s: it is given up after so long.

        Raises:
            RemoteError: the connection is lost or refuses. What the command itself does is in `code`.
            TimeoutError: it took longer.
        """
        return await self._run(shlex.join(argv), stdin, timeout_s)

    async def run_console(
        self, arguments: Sequence[str], *, stdin: bytes = b"", timeout_s: float | None = None
    ) -> Finished:
        """Run `dsv4-console` there with these arguments. Raises as `run`, and RemoteError where it is not installed."""
        done = await self._run(self.target.console(arguments), stdin, timeout_s)
        self.check_installed(done.code, done.stderr)
        return done

    def ask_console(self, arguments: Sequence[str]) -> Finished:
        """As `run_console`, where no event loop runs yet; it reads nothing. Blocks. Raises as `run_console`."""
        done = subprocess.run(
            self._there(self.target.console(arguments)), stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
        finished = Finished(done.returncode, done.stdout, done.stderr.decode(errors="replace"))
        self._check(finished)
        return finished

    def talk(self, arguments: Sequence[str]) -> Conversation:
        """Start `dsv4-console` there and talk with it; it ends with the connection at the latest.

        Raises:
            RemoteError: the connection is lost.
        """
        here, there = socket.socketpair()
        with there:
            process = subprocess.Popen(
                self._there(self.target.console(arguments)),
                stdin=there.fileno(),
                stdout=there.fileno(),
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        return Conversation(process, here)

    def check_installed(self, code: int | None, said: str) -> None:
        """Raises RemoteError if a command ended so because the console is not installed there."""
        if code in COMMAND_MISSING:
            raise ssh_error(self.target.host, said, COMMAND_NOT_FOUND, self.target.command)

    async def forward_socket(self, remote_path: str) -> Path:
        """A Unix socket here that leads to one there. Whether somebody listens there shows when it is opened.

        Raises:
            RemoteError: the connection is lost, or the host forwards nothing.
        """
        return await self._forward(_escape(remote_path))

    async def forward_port(self, port: int, address: str = "127.0.0.1") -> Path:
        """A Unix socket here that leads to a TCP port there, as seen from there. Raises as `forward_socket`."""
        return await self._forward(f"[{address}]:{port}" if ":" in address else f"{address}:{port}")

    def close(self) -> None:
        """End the connection and everything that runs over it. May be called again."""
        master, self._master = self._master, None
        if master is not None:
            with contextlib.suppress(OSError):
                pipe_of(master.stdin).close()
            master.terminate()
            try:
                master.wait(END_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                master.kill()
                master.wait()
            pipe_of(master.stdout).close()
        if self._said is not None:
            self._said.text(wait=True)
            self._said = None
        self._forwards.clear()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None

    @property
    def _control(self) -> str:
        return str(self._path("c"))

    def _closed(self) -> bool:
        return self._directory is None

    def _path(self, name: str) -> Path:
        if self._directory is None:
            raise self._lost()
        return self._directory / name

    def _lost(self, said: str = "") -> RemoteError:
        said = said or (self._said.text() if self._said is not None else "")
        found = ssh_error(self.target.host, said)
        return RemoteError("The connection to the host was lost", found.message, found.fix, Cause.LOST)

    def _through(self, *options: str) -> list[str]:
        """`ssh` over this connection. It must never make one of its own, which could ask: then it fails."""
        only = {"ControlMaster": "no", "ControlPath": self._control, "BatchMode": "yes", "ProxyCommand": "false"}
        return [*_options(only), *options]

    def _there(self, line: str) -> list[str]:
        if not self.is_alive:
            raise self._lost()
        plain = {"ClearAllForwardings": "yes", "RemoteCommand": "none"}
        return self.target.ssh(*self._through(*_options(plain)), "-T", "--", self.target.host, line)

    def _check(self, done: Finished) -> None:
        self.check_installed(done.code, done.stderr)
        if done.code == CONNECTION_FAILED and not self.is_alive:
            raise self._lost(done.stderr)

    async def _run(self, line: str, stdin: bytes, timeout_s: float | None) -> Finished:
        process = await asyncio.create_subprocess_exec(
            *self._there(line),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(timeout_s):
                out, err = await process.communicate(stdin)
        finally:
            await end_command(process)
        said = err.decode(errors="replace")
        if process.returncode == CONNECTION_FAILED and not self.is_alive:
            raise self._lost(said)
        return Finished(process.returncode or 0, out, said)

    async def _forward(self, there: str) -> Path:
        if there in self._forwards:
            return self._forwards[there]
        here = self._path(f"f{next(self._numbers)}")
        # The configuration's own forwards are not asked for again: this client needs nothing from it but the socket.
        process = await asyncio.create_subprocess_exec(
            *("ssh", "-F", "none", *self._through(), "-O", "forward"),
            *("-L", f"{_escape(str(here))}:{there}", "--", self.target.host),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(CONTROL_TIMEOUT_S):
                _, err = await process.communicate()
        except TimeoutError:
            raise self._lost("the connection does not answer") from None
        finally:
            await end_command(process)
        if process.returncode != 0:
            raise self._lost() if not self.is_alive else ssh_error(self.target.host, err.decode(errors="replace"))
        self._forwards[there] = here
        return here


def address_of(target: SshTarget) -> str:
    """The address behind a host's name, as the operator's SSH configuration has it.

    Raises:
        RemoteError: ssh cannot read its configuration.
    """
    target.check()
    done = subprocess.run(target.ssh("-G", "--", target.host), capture_output=True, text=True, check=False)
    for line in done.stdout.splitlines():
        key, _, value = line.partition(" ")
        if key == "hostname" and value:
            return value
    raise RemoteError(f"ssh does not know {target.host}", done.stderr.strip(), "Check the name.")


async def end_command(process: asyncio.subprocess.Process) -> None:
    """Kill a command of a connection, if it runs, and let go of its pipes: the master holds their other ends."""
    process._transport.close()  # type: ignore[attr-defined]  # its `wait` would wait for those ends
    while process.returncode is None:
        await asyncio.sleep(END_LOOK_S)


def _options(table: dict[str, str]) -> list[str]:
    return [word for key, value in table.items() for word in ("-o", f"{key}={value}")]


def _escape(path: str) -> str:
    """A path inside `-L`, where `:` separates and `%` begins a token."""
    return path.replace("\\", "\\\\").replace(":", "\\:").replace("%", "%%")
