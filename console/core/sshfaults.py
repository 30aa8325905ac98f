"""What OpenSSH said when it could not do something, as an error with its remedy.

Rows of a table, first match wins. The words are those of `ssh(1)` since OpenSSH 7; it translates none of them.
"""

from __future__ import annotations

import re
import shlex
from enum import StrEnum
from typing import NamedTuple

from console.core.errors import RemoteError
from console.core.text import clean

__all__ = ["COMMAND_NOT_FOUND", "CONNECTION_FAILED", "Cause", "ssh_error"]

CONNECTION_FAILED = 255
"""Exit status of `ssh` for its own failures, not those of the command there."""
COMMAND_NOT_FOUND = 127
"""Exit status of every shell for a command that is not there."""
SAID_LINES = 3


class Cause(StrEnum):
    """Why a host cannot be used."""

    HOST_UNKNOWN = "host-unknown"
    KEY_REFUSED = "key-refused"
    HOST_KEY_CHANGED = "host-key-changed"
    HOST_KEY_UNKNOWN = "host-key-unknown"
    UNREACHABLE = "unreachable"
    CONFIGURATION = "configuration"
    FORWARD_REFUSED = "forward-refused"
    NOT_INSTALLED = "not-installed"
    OTHER_VERSION = "other-version"
    LOST = "lost"


class _Row(NamedTuple):
    words: str
    cause: Cause
    title: str
    fix: str
    """With `{host}`, as one would type it."""


_ROWS = (
    _Row(
        "REMOTE HOST IDENTIFICATION HAS CHANGED",
        Cause.HOST_KEY_CHANGED,
        "The host's key is not the one that is known",
        "Somebody may be in between. Ask whoever runs the machine; if its key was really renewed, remove the old one: "
        "ssh-keygen -R {name}, then log in once: ssh {host}",
    ),
    _Row(
        "Could not resolve hostname|Name or service not known",
        Cause.HOST_UNKNOWN,
        "There is no such host",
        "Check the name, or give it a HostName in ~/.ssh/config. To see what ssh makes of it: ssh -G {host}",
    ),
    _Row(
        r"Host key verification failed|No \S+ host key is known",
        Cause.HOST_KEY_UNKNOWN,
        "The host's key is not known here",
        "Log in once and compare the fingerprint that is shown: ssh {host}",
    ),
    _Row(
        r"Permission denied \(|Too many authentication failures|no such identity",
        Cause.KEY_REFUSED,
        "The host refused every key and password",
        "Make this work first: ssh {host}. A key with a passphrase is best held by the agent: ssh-add",
    ),
    _Row(
        "Bad configuration option|Bad owner or permissions|Can't open user config|terminating, .* bad configuration",
        Cause.CONFIGURATION,
        "ssh cannot use its configuration",
        "Correct the line that it names; to check: ssh -G {host}",
    ),
    _Row(
        "forwarding request failed|administratively prohibited|remote port forwarding failed|open failed",
        Cause.FORWARD_REFUSED,
        "The host refuses to forward",
        "In its sshd_config, AllowStreamLocalForwarding and AllowTcpForwarding must be `yes` or `local`.",
    ),
    _Row(
        "Connection refused|Connection timed out|Operation timed out|No route to host|Network is unreachable"
        "|Connection (reset|closed)|banner exchange|kex_exchange_identification|not responding|Broken pipe",
        Cause.UNREACHABLE,
        "The host cannot be reached",
        "Is it up, and its SSH port the one of ~/.ssh/config? Try: ssh {host}",
    ),
    _Row(
        "Control socket connect|mux_client|disconnected by",
        Cause.LOST,
        "The connection to the host was lost",
        "Try it again; by hand: ssh {host}",
    ),
)
_OTHERWISE = _Row("", Cause.UNREACHABLE, "ssh could not connect to the host", "Make this work first: ssh {host}")
_INSTALL = (
    "Install it there, in any Python of 3.11 or later (uv tool install dsv4-console, or pip install dsv4-console), "
    "or say where it is: --remote-command PATH, or `command` of its `[host]` in config.toml."
)


def ssh_error(host: str, said: str, code: int = CONNECTION_FAILED, command: str = "") -> RemoteError:
    """The error for a failed `ssh`.

    Args:
        host: as the operator named it: `user@box`, or a `Host` of their configuration.
        said: what it wrote on stderr.
        code: its exit status.
        command: what was to run there.
    """
    lines = [line for line in map(clean, said.splitlines()) if line.strip(" @")]
    message = "\n".join((host, *lines[-SAID_LINES:]))
    if code == COMMAND_NOT_FOUND:
        title = f"{command or 'The command'} is not there"
        return RemoteError(title, message, _INSTALL, Cause.NOT_INSTALLED)
    row = next((row for row in _ROWS if re.search(row.words, said)), _OTHERWISE)
    fix = row.fix.format(host=shlex.quote(host), name=shlex.quote(host.rpartition("@")[2]))
    return RemoteError(row.title, message, fix, row.cause)
