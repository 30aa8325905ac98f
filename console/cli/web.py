"""`dsv4-console web`: the console in a browser."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Final

from console.cli import tasks
from console.cli.launch import check_views
from console.cli.output import Output
from console.cli.web_grammar import PREFIX
from console.core.errors import EngineError, ExitCode, StateError
from console.web import ADDRESS, EXTRA, TOKEN_VARIABLE

__all__ = ["ui_command", "web"]

NEEDED: Final = ("textual_serve", "aiohttp", "aiohttp_jinja2", "jinja2")


def web(arguments: argparse.Namespace, output: Output) -> int:
    """Serve until a signal ends it; ctrl+c is the way to end it, and no failure.

    Raises:
        EngineError: the extra is not installed.
        ConsoleError: there is nothing of the name that `--attach` or `--replay` has, or the port cannot be had.
    """
    try:
        from console.web.access import Access, new_token
        from console.web.server import ConsoleServer
    except ModuleNotFoundError as error:
        if error.name not in NEEDED:
            raise
        raise EngineError("The browser needs textual-serve", f"{error.name} is not installed", EXTRA) from error
    if sys.executable is None:
        raise StateError("The console cannot be started", "this interpreter does not know its own path")
    _check(arguments)
    chosen = os.environ.get(TOKEN_VARIABLE)
    token = new_token(chosen)
    server = ConsoleServer(ui_command(arguments), os.environ, Access(token))

    def listening(port: int) -> None:
        # A token that the operator chose is known; printed, it would end up in the journal of a service.
        shown = f"http://{ADDRESS}:{port}/?token={token if chosen is None else f'${TOKEN_VARIABLE}'}"
        output.data(shown)
        output.line({"url": shown, "address": ADDRESS, "port": port})
        output.say(f"The console is open in a browser there; over SSH: ssh -L {port}:{ADDRESS}:{port} MACHINE")
        output.say("The address has the token of this start in it. ctrl+c ends the consoles, and no server.")

    try:
        tasks.run(server.run(arguments.web_port, listening))
    except tasks.EndedError as ended:
        if ended.exit_code is not ExitCode.INTERRUPTED:
            raise
    return ExitCode.OK


def _check(arguments: argparse.Namespace) -> None:
    """What the UI would refuse is refused here, where it is read, and not in a tab that closes at once."""
    given = {name.removeprefix(PREFIX): value for name, value in vars(arguments).items() if name.startswith(PREFIX)}
    check_views(given)
    if given["watch"] or given["api_key_env"]:
        from console.cli.watched import targets_from

        targets_from(given["watch"], given["api_key_env"], configured=())
    if given["replay"]:
        from console.client import recordings

        recordings.find(given["replay"])
    if given["attach"]:
        from console.io import runs

        runs.find_run(given["attach"])


def ui_command(arguments: argparse.Namespace) -> list[str]:
    """The command of one tab, a word each: no shell reads it."""
    words = [sys.executable, "-P", "-m", "console"]
    for name, value in vars(arguments).items():
        if name.startswith(PREFIX) and value not in (None, False):
            option = f"--{name.removeprefix(PREFIX).replace('_', '-')}"
            values = value if isinstance(value, list) else [value]
            words += [option if each is True else f"{option}={each}" for each in values]
    return words
