"""Runs of several machines in one list: their ids here, and what stands for a machine that does not answer.

Two machines may have runs of the same id: they begin with the second of the launch. So each is called by its machine
too: `host:NAME/ID`. A machine of which it is not known what runs there is a row of its own, `host:NAME/`.
"""

from __future__ import annotations

from urllib.parse import urlsplit

import msgspec

from console.core.models import RunInfo
from console.core.nodes import is_loopback

__all__ = ["called_here", "id_here", "id_there", "is_machine", "machine_of", "machine_row", "served_from"]

MARK = "host:"
EVERYWHERE = ("0.0.0.0", "::", "")  # noqa: S104 - read, not bound
"""What a server listens on that every address of its machine reaches."""


def id_here(host: str, run_id: str) -> str:
    """A run of that machine, as it is called here."""
    return f"{MARK}{host}/{run_id}"


def id_there(run_id: str) -> str:
    """As its own machine calls it."""
    return run_id.rpartition("/")[2] if run_id.startswith(MARK) else run_id


def machine_of(run_id: str) -> str:
    """The machine, as `--host` named it; empty for what is of this one or watched."""
    return run_id.removeprefix(MARK).rpartition("/")[0] if run_id.startswith(MARK) else ""


def called_here(host: str, run: RunInfo) -> RunInfo:
    """The run as it is called here."""
    return msgspec.structs.replace(run, id=id_here(host, run.id))


def machine_row(host: str) -> RunInfo:
    """What stands for a machine of which it is not known what runs there."""
    return RunInfo(id=id_here(host, ""), profile_name=host)


def is_machine(run_id: str) -> bool:
    """Whether this stands for a machine, and for no server."""
    return bool(machine_of(run_id)) and not id_there(run_id)


def served_from(run: RunInfo, address: str) -> str:
    """Where others reach the server of another machine; empty where only that machine itself does.

    Args:
        run: of that machine.
        address: of the machine, as others know it.
    """
    parts = urlsplit(run.url)
    host = parts.hostname or ""
    bound = _bound(run)
    if bound in EVERYWHERE:
        return f"http://{f'[{address}]' if ':' in address else address}:{parts.port or 80}"
    return "" if is_loopback(host) else run.url


def _bound(run: RunInfo) -> str | None:
    """`--host` of the server's command; `None` where it says none, or the run has no command."""
    words = run.argv
    for place, word in enumerate(words):
        if word == "--host" and place + 1 < len(words):
            return words[place + 1]
        if word.startswith("--host="):
            return word.partition("=")[2]
    return None
