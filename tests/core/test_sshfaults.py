"""What OpenSSH says, as causes with remedies. The words are those of OpenSSH 9.2 and 10.0."""

from __future__ import annotations

import pytest

from console.core.sshfaults import Cause, ssh_error

CHANGED = """\
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
IT IS POSSIBLE THAT SOMEONE IS DOING SOMETHING NASTY!
Offending ED25519 key in /home/x/.ssh/known_hosts:1
Host key for [box]:22 has changed and you have requested strict checking.
Host key verification failed.
"""


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        (CHANGED, Cause.HOST_KEY_CHANGED),
        ("Host key verification failed.", Cause.HOST_KEY_UNKNOWN),
        ("No ED25519 host key is known for box and you have requested strict checking.", Cause.HOST_KEY_UNKNOWN),
        ("ssh: Could not resolve hostname box: Name or service not known", Cause.HOST_UNKNOWN),
        ("ssh: Could not resolve hostname box: Temporary failure in name resolution", Cause.HOST_UNKNOWN),
        ("me@box: Permission denied (publickey,password).", Cause.KEY_REFUSED),
        ("Received disconnect from 10.0.0.1 port 22:2: Too many authentication failures", Cause.KEY_REFUSED),
        ("ssh: connect to host box port 22: Connection refused", Cause.UNREACHABLE),
        ("ssh: connect to host box port 22: No route to host", Cause.UNREACHABLE),
        ("Timeout, server box not responding.", Cause.UNREACHABLE),
        ("kex_exchange_identification: Connection closed by remote host", Cause.UNREACHABLE),
        ("/home/x/.ssh/config: line 3: Bad configuration option: hostnaem", Cause.CONFIGURATION),
        ("Bad owner or permissions on /home/x/.ssh/config", Cause.CONFIGURATION),
        ("mux_client_forward: forwarding request failed: Port forwarding failed", Cause.FORWARD_REFUSED),
        ("Control socket connect(/run/x/c): No such file or directory", Cause.LOST),
        ("something quite new", Cause.UNREACHABLE),
        ("", Cause.UNREACHABLE),
    ],
)
def test_causes(said: str, cause: Cause) -> None:
    error = ssh_error("me@box", said)
    assert error.cause == cause
    assert error.message.startswith("me@box")
    assert error.fix


def test_remedies_can_be_pasted_and_messages_shown() -> None:
    assert "ssh-keygen -R box," in ssh_error("me@box", CHANGED).fix
    assert "'me@b;x'" in ssh_error("me@b;x", "Permission denied (publickey).").fix
    assert "\x1b" not in ssh_error("box", "\x1b[31mConnection refused\x07").message
    missing = ssh_error("box", "sh: 1: dsv4-console: not found", 127, "dsv4-console")
    assert missing.cause == Cause.NOT_INSTALLED
    assert missing.title == "dsv4-console is not there"
