"""The grammar of `dsv4-console fleet`, and of the options that name endpoints. Imports nothing heavy."""

from __future__ import annotations

import argparse
from typing import Any

__all__ = ["add", "watch_options"]


def watch_options(group: Any, *, prefix: str = "") -> None:
    """`--watch` and `--api-key-env`.

    Args:
        group: of a parser, or a parser.
        prefix: before the names of the attributes, where the program itself has options of the same names.
    """
    group.add_argument(
        "--watch",
        metavar="URL",
        action="append",
        dest=f"{prefix}watch",
        help="a vLLM that this console did not start, read-only, e.g. http://10.0.0.7:8000; may be given again",
    )
    group.add_argument(
        "--api-key-env",
        metavar="NAME",
        dest=f"{prefix}api_key_env",
        help="environment variable with the API key of the endpoints that --watch names",
    )


def add(commands: argparse._SubParsersAction[Any], common: argparse.ArgumentParser) -> None:
    """The command `fleet`."""
    verb = commands.add_parser(
        "fleet", parents=[common], help="all servers in one table: runs of this machine and watched endpoints"
    )
    watch_options(verb, prefix="fleet_")
    verb.set_defaults(function="fleet.fleet")
