"""The grammar of the command line. Imports nothing heavy: `--help` must answer at once."""

from __future__ import annotations

import argparse
from typing import NoReturn

from console import __version__

__all__ = ["parse"]

PROG = "dsv4-console"

EPILOG = """\
exit codes: 0 done · 1 the server failed · 2 usage or profile · 3 engine, GPU, port or directory ·
4 not ready in time · 5 nothing is running · 130 SIGINT · 143 SIGTERM

Without a command it opens the console, or attaches to the server that is running.
Files: profiles in $XDG_CONFIG_HOME/dsv4-console/profiles, engines in $XDG_DATA_HOME/dsv4-console/engines,
runs and logs in $XDG_STATE_HOME/dsv4-console/runs."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}\n  → {self.prog} --help\n")


def parse(argv: list[str]) -> argparse.Namespace:
    """Read a command line; prints and exits for `--help`, `--version` and mistakes (exit code 2)."""
    parser = build()
    arguments = parser.parse_args(argv)
    arguments.run = _resolve(arguments.function)
    return arguments


def _resolve(function: str) -> object:
    """`module.name` to the function, imported only now."""
    import importlib

    module, _, name = function.rpartition(".")
    return getattr(importlib.import_module(f"console.cli.{module}"), name)


def build() -> argparse.ArgumentParser:
    """The whole grammar."""
    common = _Parser(add_help=False)
    common.add_argument("--json", action="store_true", help="print JSON on stdout and nothing else there")
    parser = _Parser(
        prog=PROG,
        description="Serve DeepSeek V4 with vLLM: pick a profile, launch, watch, chat.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"{PROG} {__version__}")
    _launch_options(parser)
    parser.set_defaults(function="launch.run")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=_Parser)
    _profiles(commands, common)
    _engine(commands, common)
    _runs(commands, common)
    return parser


def _launch_options(parser: argparse.ArgumentParser) -> None:
    launch = parser.add_argument_group("launching")
    launch.add_argument("--profile", metavar="NAME", help="launch this profile without the UI (a name or a .toml file)")
    launch.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        dest="overrides",
        help="change a profile value, e.g. serve.max_num_seqs=64",
    )
    launch.add_argument("--engine", metavar="ENGINE", help="installed engine, or path of a vllm command")
    launch.add_argument("--dry-run", action="store_true", help="print the exact command and environment; run nothing")
    launch.add_argument("--detach", action="store_true", help="return once it is ready; the server goes on")
    launch.add_argument("--yes", action="store_true", help="install a missing engine without asking")
    launch.add_argument(
        "--drain-timeout", metavar="S", type=_seconds, help="on a signal, let requests finish for so long"
    )
    launch.add_argument("--ready-timeout", metavar="S", type=_seconds, help="give up if it is not ready by then")
    launch.add_argument(
        "--status-interval", metavar="S", type=_seconds, default=10.0, help="seconds between status lines (10)"
    )
    launch.add_argument("--json", action="store_true", help="print JSON lines on stdout and nothing else there")
    screen = parser.add_argument_group("terminal UI")
    screen.add_argument("--attach", metavar="RUN", help="open the UI on this run")
    screen.add_argument("--ascii", action="store_true", help="plain ASCII glyphs")
    screen.add_argument("--no-mouse", action="store_true", help="leave the mouse to the terminal")


def _profiles(commands: argparse._SubParsersAction[_Parser], common: _Parser) -> None:
    group = commands.add_parser("profiles", help="list, show and check profiles")
    verbs = group.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=_Parser)
    verb = verbs.add_parser("list", parents=[common], help="all profiles, those that suit this machine first")
    verb.set_defaults(function="profiles.list_profiles")
    verb = verbs.add_parser("show", parents=[common], help="one profile, its command and whether it fits")
    verb.add_argument("name", metavar="NAME")
    verb.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], dest="overrides")
    verb.set_defaults(function="profiles.show")
    verb = verbs.add_parser("check", parents=[common], help="read profiles strictly; all mistakes at once")
    verb.add_argument("paths", metavar="FILE_OR_NAME", nargs="*", help="default: all shipped and own profiles")
    verb.set_defaults(function="profiles.check")


def _engine(commands: argparse._SubParsersAction[_Parser], common: _Parser) -> None:
    group = commands.add_parser("engine", help="install, list and remove vLLM environments")
    verbs = group.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=_Parser)
    verb = verbs.add_parser("install", parents=[common], help="make an environment for one vLLM version")
    verb.add_argument("engine_version", metavar="VERSION", nargs="?", help="default: the newest tested one")
    verb.add_argument("--cpu", action="store_true", help="the CPU build, for machines without a GPU")
    verb.add_argument("--force", action="store_true", help="replace an engine of the same name")
    verb.set_defaults(function="engine.install")
    verb = verbs.add_parser("list", parents=[common], help="installed engines, and vllm on PATH")
    verb.set_defaults(function="engine.list_engines")
    verb = verbs.add_parser("remove", parents=[common], help="delete an installed engine")
    verb.add_argument("name", metavar="NAME")
    verb.add_argument("--yes", action="store_true", help="do not ask")
    verb.set_defaults(function="engine.remove")


def _runs(commands: argparse._SubParsersAction[_Parser], common: _Parser) -> None:
    verb = commands.add_parser("status", parents=[common], help="what runs, and how it does")
    verb.add_argument("run_name", metavar="RUN", nargs="?", help="run or profile; default: what is running")
    verb.set_defaults(function="runs.status")
    verb = commands.add_parser("logs", parents=[common], help="the server's log")
    verb.add_argument("run_name", metavar="RUN", nargs="?")
    verb.add_argument("-f", "--follow", action="store_true", help="go on as it grows, until the run is over")
    verb.add_argument("-n", "--lines", type=_count, metavar="N", help="only the last N lines")
    verb.set_defaults(function="runs.logs")
    verb = commands.add_parser("stop", parents=[common], help="stop the server, after its requests")
    verb.add_argument("run_name", metavar="RUN", nargs="?")
    verb.add_argument("--drain-timeout", metavar="S", type=_seconds, help="let requests finish for so long")
    verb.set_defaults(function="runs.stop")
    verb = commands.add_parser("chat", parents=[common], help="ask the served model")
    verb.add_argument("prompt", metavar="PROMPT", nargs="?", help="default: read it from stdin, or converse on a TTY")
    verb.add_argument("--run", metavar="RUN", dest="run_name")
    verb.add_argument("--system", metavar="TEXT", help="system prompt")
    verb.add_argument("--max-tokens", metavar="N", type=_count)
    verb.add_argument("--temperature", metavar="T", type=float)
    verb.set_defaults(function="chat.chat")


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 86_400:
        raise argparse.ArgumentTypeError("seconds between 0 and 86400")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("a number from 1")
    return value
