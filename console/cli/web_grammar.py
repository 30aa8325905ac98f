"""The options of `dsv4-console web`: its own, and those of the terminal UI. Imports nothing heavy."""

from __future__ import annotations

import argparse
import copy
from typing import Any, Final

from console.web import ADDRESS, PORT_DEFAULT, TOKEN_VARIABLE

__all__ = ["PREFIX", "add"]

PREFIX: Final = "ui_"
"""Before the name of an option that is handed on to the UI: the program itself has options of the same names."""
HANDED_ON: Final = ("engine", "allow_public_without_key")
"""Of the options of launching, those that the UI takes too."""
PORT_MAX: Final = 65_535


def add(commands: Any, common: argparse.ArgumentParser, screen: argparse._ArgumentGroup) -> None:
    """Add the command to the commands of the program.

    Args:
        commands: where it goes.
        common: options of all commands.
        screen: the options of the terminal UI, every one of which works in a browser too.
    """
    verb = commands.add_parser(
        "web",
        parents=[common],
        help="the same console in a browser, on this machine alone",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=(
            f"Serve the console to browsers on {ADDRESS}; needs the extra `web`. Each tab is one more console on the "
            f"same\nservers; ctrl+c ends all of them and no server. {TOKEN_VARIABLE} in the environment is the token;\n"
            "without it each start has a random one.\n\n"
            f"From another machine: ssh -L {PORT_DEFAULT}:{ADDRESS}:{PORT_DEFAULT} MACHINE, then open the printed "
            "address there."
        ),
    )
    verb.add_argument(
        "--port", metavar="N", type=_port, default=PORT_DEFAULT, dest="web_port", help=f"({PORT_DEFAULT}); 0: any"
    )
    ui = verb.add_argument_group("terminal UI")
    for action in (*screen._group_actions, *(_launching(screen, name) for name in HANDED_ON)):
        # The program's own row, under another name: an option that the UI gets, the browser gets.
        mine = copy.copy(action)
        mine.dest = PREFIX + action.dest
        ui._add_action(mine)
    verb.set_defaults(function="web.web")


def _launching(group: argparse._ArgumentGroup, name: str) -> argparse.Action:
    return next(action for action in group._actions if action.dest == name)


def _port(text: str) -> int:
    port = int(text) if text.isdecimal() and len(text) <= 5 else -1
    if not 0 <= port <= PORT_MAX:
        raise argparse.ArgumentTypeError(f"found {text!r}; allowed: a port from 1 to {PORT_MAX}, or 0 for a free one")
    return port
