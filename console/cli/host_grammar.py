"""The grammar of `--host`: on which machine. Separate so that the parser stays a list of commands."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from console.core.errors import UsageError

__all__ = ["ELSEWHERE", "FLEET", "HOST_OPTIONS", "LAUNCH", "add", "check_none", "gather", "one_machine", "options"]

AFTER = "host_after"
LAUNCH = "launch.run"
"""What runs where no command is named."""
FLEET = "fleet.fleet"
"""Stays here with one machine too: what it shows is this one and those."""
ELSEWHERE = "remote.pass_on"
"""What runs instead of a command that is meant for another machine."""
HOSTS_STAY = (FLEET, "export.export")
"""Commands that ask several machines from here."""
HOST_OPTIONS: dict[str, dict[str, Any]] = {
    "--host": {
        "metavar": "USER@BOX",
        "action": "append",
        "help": "on that machine, over SSH: the UI here, every other command there; given again: the fleet of them all",
    },
    "--ssh-config": {"metavar": "FILE", "help": "for --host and --hosts: instead of ~/.ssh/config"},
    "--remote-command": {
        "metavar": "COMMAND",
        "help": "for --host and --hosts: dsv4-console there, where it is not on PATH",
    },
}
"""Options that say on which machine; each takes one value."""


def options(parser: argparse.ArgumentParser | argparse._ArgumentGroup, default: Any = None) -> None:
    """Add them. With `argparse.SUPPRESS` as default what stood before the command is kept."""
    for option, what in HOST_OPTIONS.items():
        # A command's own list would replace the one before it: both are put together by `gather`.
        after = option == "--host" and default is argparse.SUPPRESS
        parser.add_argument(option, default=default, **{**what, **({"dest": AFTER} if after else {})})


def gather(arguments: argparse.Namespace) -> None:
    """Put the machines that stand before a command and after it together, each once, as `machines`.

    `host` is the only one; `None` where there is none or are several.

    Raises:
        UsageError: several, and the command is about one machine.
    """
    named = [*(arguments.host or ()), *getattr(arguments, AFTER, ())]
    arguments.machines = tuple(dict.fromkeys(named))
    stays = arguments.function in HOSTS_STAY
    if len(arguments.machines) > 1 and not stays and (arguments.function != LAUNCH or arguments.profile is not None):
        raise one_machine(arguments.machines)
    arguments.host = arguments.machines[0] if len(arguments.machines) == 1 else None


def one_machine(hosts: Sequence[str]) -> UsageError:
    """What is said where a command is about one machine and several are named."""
    return UsageError(
        "This is about one machine",
        f"--host names {len(hosts)}: {', '.join(hosts)}",
        "Name one of them. Several: dsv4-console fleet, export proxy, and the terminal UI. One server over several "
        "machines: --profile NAME --hosts A,B.",
    )


def check_none(arguments: argparse.Namespace) -> None:
    """Raises UsageError where something is said about another machine, and none is named."""
    if arguments.machines:
        return
    for option in HOST_OPTIONS:
        if getattr(arguments, option.removeprefix("--").replace("-", "_")) is not None:
            raise UsageError(
                f"{option} needs --host or --hosts", "it is about another machine", "See: dsv4-console --help"
            )


def add(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the command that the other side runs."""
    verb = commands.add_parser("far-end", help="what --host talks to on the other machine; not for people")
    verb.add_argument("--engine", metavar="ENGINE", dest="far_engine")
    verb.add_argument("--allow-public-without-key", action="store_true", dest="far_allow_public")
    verb.set_defaults(function="remote.far_end")
