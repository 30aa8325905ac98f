"""The grammar of `--host`: on which machine. Separate so that the parser stays a list of commands."""

from __future__ import annotations

import argparse
from typing import Any

from console.core.errors import UsageError

__all__ = ["ELSEWHERE", "HOST_OPTIONS", "add", "check_none", "options"]

ELSEWHERE = "remote.pass_on"
"""What runs instead of a command that is meant for another machine."""
HOST_OPTIONS: dict[str, dict[str, Any]] = {
    "--host": {"metavar": "USER@BOX", "help": "on that machine, over SSH: the UI here, every other command there"},
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
        parser.add_argument(option, default=default, **what)


def check_none(arguments: argparse.Namespace) -> None:
    """Raises UsageError where something is said about another machine, and none is named."""
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
