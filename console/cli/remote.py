"""`--host`: the UI here on a server there, every other command there as it is; and the far end that makes it so."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from console.cli.host_grammar import HOST_OPTIONS
from console.cli.output import Output, is_terminal
from console.core.errors import ExitCode, RemoteError, UsageError
from console.core.sshfaults import CONNECTION_FAILED, ssh_error
from console.io.config import read_configuration

if TYPE_CHECKING:
    from console.client.remote.line import Line
    from console.io.ssh import SshTarget

__all__ = ["Reached", "far_end", "line_to", "lines_to", "pass_on", "target_of", "without_host"]

LOG_IN_S = 5.0
"""So long all machines together have to let us in before the screen is painted, or the table made."""
SAID_BYTES_MAX = 4096
NOT_THERE = ("keys.keys", "keys.reference", "web.web")
"""Commands about this terminal, which nobody there has."""


def target_of(arguments: argparse.Namespace, host: str | None = None) -> SshTarget:
    """The machine that is meant.

    Args:
        arguments: of the command line.
        host: which, where it names several.

    Raises:
        UsageError: it is no name of a host, or the configuration has a mistake.
    """
    from console.io.ssh import CONSOLE, SshTarget

    host = host or arguments.host
    section = read_configuration().host.get(host)
    command = arguments.remote_command or (section.command if section else "") or CONSOLE
    config = Path(arguments.ssh_config).expanduser() if arguments.ssh_config else None
    return SshTarget(host, config, command).check()


def line_to(arguments: argparse.Namespace) -> Line:
    """The line for the UI, opened: whatever OpenSSH asks it asks now.

    Raises:
        RemoteError: it did not come about, or there is no console that speaks with this one.
    """
    from console.client.remote.line import Line

    options = ["--engine", arguments.engine] if arguments.engine is not None else []
    if arguments.allow_public_without_key:
        options.append("--allow-public-without-key")
    line = Line(target_of(arguments), options)
    line.open()
    return line


class Reached(NamedTuple):
    """A line to one of several machines."""

    line: Line
    error: RemoteError | None
    """Why it is not logged in yet; the line tries it again by itself."""


def lines_to(arguments: argparse.Namespace) -> tuple[Reached, ...]:
    """A line to each machine that is named, logged in as far as that goes now: no machine holds up the others.

    All are tried at a time, without a question. Then, one after the other and where there is a terminal, those at which
    OpenSSH has to ask.

    Raises:
        UsageError: one is no name of a host, or the configuration has a mistake.
    """
    from console.client.remote.line import MUST_ASK, Line

    lines = tuple(Line(target_of(arguments, host)) for host in arguments.machines)
    errors: dict[Line, RemoteError] = {}

    def log_in(line: Line) -> None:
        try:
            line.ssh.open(ask=False)
        except RemoteError as error:
            errors[line] = error

    threads = [(line, threading.Thread(target=log_in, args=(line,), daemon=True)) for line in lines]
    for _, thread in threads:
        thread.start()
    until_s = time.monotonic() + LOG_IN_S
    for line, thread in threads:
        thread.join(max(until_s - time.monotonic(), 0.0))
        if thread.is_alive():
            line.ssh.close()  # ends the attempt; the line makes its own ones
            thread.join()
            errors[line] = RemoteError("The host cannot be reached", f"no answer within {LOG_IN_S:.0f} s")
    for line, error in tuple(errors.items()) if is_terminal(sys.stdin, sys.stderr) else ():
        if error.cause in MUST_ASK:
            try:
                line.ssh.open(ask=True)
                del errors[line]
            except RemoteError as again:
                errors[line] = again
    return tuple(Reached(line, errors.get(line)) for line in lines)


def pass_on(arguments: argparse.Namespace, _output: Output) -> int:
    """Run the same command there; its exit code is ours.

    Raises:
        RemoteError: `ssh` failed, or the console is not installed there.
        UsageError: the command is about this machine.
    """
    if arguments.command in NOT_THERE:
        raise UsageError("This command is about this machine", "", "Leave --host out.")
    target = target_of(arguments)
    terminal = is_terminal(sys.stdin, sys.stdout, sys.stderr)
    argv = target.direct(without_host(arguments.typed), terminal=terminal)
    with subprocess.Popen(argv, stderr=None if terminal else subprocess.PIPE) as child:
        said = b""
        while child.stderr is not None and (data := os.read(child.stderr.fileno(), SAID_BYTES_MAX)):
            said = (said + data)[-SAID_BYTES_MAX:]
            sys.stderr.buffer.write(data)
            sys.stderr.flush()
        code = child.wait()
    if code in (CONNECTION_FAILED, 127):
        raise ssh_error(target.host, said.decode(errors="replace"), code, target.command)
    return code if code >= 0 else 128 - code


def without_host(words: list[str]) -> list[str]:
    """The words of a command line without `--host` and what belongs to it."""
    kept: list[str] = []
    skip = False
    for place, word in enumerate(words):
        if skip:
            skip = False
        elif word == "--":
            return [*kept, *words[place:]]
        elif word in HOST_OPTIONS:
            skip = True
        elif not word.startswith(tuple(f"{option}=" for option in HOST_OPTIONS)):
            kept.append(word)
    return kept


def far_end(arguments: argparse.Namespace, _output: Output) -> int:
    """Answer the calls of a console elsewhere on stdin and stdout, until it hangs up."""
    from console.cli import tasks
    from console.client.backend import LocalBackend
    from console.client.remote.far import Far, serve_stdio

    backend = LocalBackend(arguments.far_engine, allow_public=arguments.far_allow_public)
    tasks.run(serve_stdio(Far(backend)))
    return ExitCode.OK
