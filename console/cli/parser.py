"""The grammar of the command line. Imports nothing heavy: `--help` must answer at once."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, NoReturn

from console import __version__
from console.cli import bench_grammar, export_grammar, fleet_grammar, host_grammar, web_grammar
from console.cli.host_grammar import LAUNCH
from console.core.errors import UsageError
from console.core.preferences import THEMES

if TYPE_CHECKING:
    from collections.abc import Callable

    from console.cli.output import Output

__all__ = ["LAUNCH", "parse", "resolve"]

PROG = "dsv4-console"

EPILOG = """\
exit codes: 0 done · 1 the server failed · 2 usage or profile · 3 engine, port or directory ·
4 not ready in time · 5 nothing is running · 6 preflight blocks the launch · 70 a defect here ·
130 SIGINT · 143 SIGTERM, SIGHUP

Without a command it opens the console, or attaches to the server that is running.
Files: profiles in $XDG_CONFIG_HOME/dsv4-console/profiles, engines in $XDG_DATA_HOME/dsv4-console/engines,
runs and logs in $XDG_STATE_HOME/dsv4-console/runs."""


class _Parser(argparse.ArgumentParser):
    def __init__(self, **options: Any) -> None:
        # An option may not be shortened: `--dr` must never come to mean something else in a later version.
        super().__init__(**options, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        raise UsageError(message[:1].upper() + message[1:], "", f"See: {self.prog} --help")


def parse(argv: list[str]) -> argparse.Namespace:
    """Read a command line; prints and exits for `--help` and `--version`.

    Raises:
        UsageError: it cannot be understood.
    """
    parser = build()
    arguments = parser.parse_args(argv)
    arguments.typed = argv
    host_grammar.gather(arguments)
    if arguments.host is None:
        if arguments.group_hosts is None:
            host_grammar.check_none(arguments)
    elif arguments.function != host_grammar.FLEET and (arguments.function != LAUNCH or arguments.profile is not None):
        arguments.command, arguments.function = arguments.function, host_grammar.ELSEWHERE
        return arguments
    if arguments.function != LAUNCH:
        for option, attribute in _LAUNCH_ONLY.items():
            if getattr(arguments, attribute) != parser.get_default(attribute):
                raise UsageError(
                    f"{option} stands before a command that it does not belong to",
                    "it is an option of launching or of the UI",
                    f"See: {PROG} --help, and --help after the command.",
                )
    return arguments


_LAUNCH_ONLY = {
    "--profile": "profile",
    "--set": "overrides",
    "--engine": "engine",
    "--dry-run": "dry_run",
    "--node-rank": "node_rank",
    "--hosts": "group_hosts",
    "--detach": "detach",
    "--force": "force_launch",
    "--allow-public-without-key": "allow_public_without_key",
    "--yes": "yes",
    "--drain-timeout": "drain_timeout",
    "--ready-timeout": "ready_timeout",
    "--status-interval": "status_interval",
    "--attach": "attach",
    "--watch": "watch",
    "--api-key-env": "api_key_env",
    "--replay": "replay",
    "--demo": "demo",
    "--ascii": "ascii",
    "--no-mouse": "no_mouse",
    "--theme": "theme",
    "--readonly": "readonly",
}
"""Options of the program itself; `--json` and `--host` may stand anywhere."""


def resolve(function: str) -> Callable[[argparse.Namespace, Output], int]:
    """What `arguments.function` names, imported only now."""
    import importlib

    module, _, name = function.rpartition(".")
    found: Callable[[argparse.Namespace, Output], int] = getattr(importlib.import_module(f"console.cli.{module}"), name)
    return found


def build() -> argparse.ArgumentParser:
    """The whole grammar."""
    common = _Parser(add_help=False)
    # Without a default of its own, so that `dsv4-console --json status` keeps what stood before the command.
    common.add_argument(
        "--json", action="store_true", default=argparse.SUPPRESS, help="print JSON on stdout and nothing else there"
    )
    host_grammar.options(common, argparse.SUPPRESS)
    parser = _Parser(
        prog=PROG,
        description="Serve DeepSeek V4 with vLLM: pick a profile, launch, watch, chat.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"{PROG} {__version__}")
    screen = _launch_options(parser)
    parser.set_defaults(function=LAUNCH)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=_Parser)
    _profiles(commands, common)
    _catalogue(commands, common)
    _engine(commands, common)
    _download(commands, common)
    _doctor(commands, common)
    _runs(commands, common)
    fleet_grammar.add(commands, common)
    export_grammar.add(commands, common)
    bench_grammar.add(commands, common)
    _node(commands, common)
    _tuning(commands, common)
    _housekeeping(commands, common)
    _diagnose(commands, common)
    _hints(commands, common)
    _keys(commands, common)
    _service(commands, common)
    web_grammar.add(commands, common, screen)
    host_grammar.add(commands)
    return parser


def _launch_options(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """The options of the program itself; gives those of the terminal UI."""
    host_grammar.options(parser.add_argument_group("another machine"))
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
    launch.add_argument(
        "--node-rank",
        metavar="N",
        type=_rank,
        help="with --dry-run: the command of machine N, where there are several",
    )
    launch.add_argument(
        "--hosts",
        metavar="A,B",
        dest="group_hosts",
        help="a profile of several machines: on these, as SSH names them, the head first",
    )
    launch.add_argument("--detach", action="store_true", help="return once it is ready; the server goes on")
    launch.add_argument("--force", action="store_true", dest="force_launch", help="launch although preflight blocks it")
    launch.add_argument(
        "--allow-public-without-key",
        action="store_true",
        help="serve an address that others reach although VLLM_API_KEY is not set; --force does not cover this",
    )
    launch.add_argument(
        "--yes", action="store_true", help="install a missing engine and download missing weights without asking"
    )
    launch.add_argument(
        "--drain-timeout", metavar="S", type=_seconds, help="on a signal, let requests finish for so long"
    )
    launch.add_argument("--ready-timeout", metavar="S", type=_seconds, help="give up if it is not ready by then")
    launch.add_argument(
        "--status-interval", metavar="S", type=_seconds, default=10.0, help="seconds between status lines (10)"
    )
    launch.add_argument("--json", action="store_true", help="print JSON lines on stdout and nothing else there")
    screen = parser.add_argument_group("terminal UI")
    screen.add_argument("--attach", metavar="RUN", help="open the UI on this run, or group of machines")
    fleet_grammar.watch_options(screen)
    screen.add_argument("--replay", metavar="RUN", help="play a recorded run: its name, directory, report, or `last`")
    screen.add_argument("--demo", action="store_true", help="play a recording of a real server on an H100")
    screen.add_argument("--ascii", action="store_true", help="plain ASCII glyphs")
    screen.add_argument("--no-mouse", action="store_true", help="leave the mouse to the terminal")
    screen.add_argument("--theme", metavar="NAME", choices=THEMES, help=f"colours: {', '.join(THEMES)}")
    screen.add_argument("--readonly", action="store_true", help="only look: nothing can be started, stopped or changed")
    return screen


def _profiles(commands: argparse._SubParsersAction[_Parser], common: _Parser) -> None:
    group = commands.add_parser("profiles", help="list, show and check profiles")
    verbs = group.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=_Parser)
    verb = verbs.add_parser("list", parents=[common], help="all profiles, those that suit this machine first")
    verb.set_defaults(function="profiles.list_profiles")
    verb = verbs.add_parser("show", parents=[common], help="one profile, its command and whether it fits")
    verb.add_argument("name", metavar="NAME")
    verb.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], dest="show_overrides")
    verb.set_defaults(function="profiles.show")
    verb = verbs.add_parser("fit", parents=[common], help="memory per GPU, and how many requests of which length")
    verb.add_argument("name", metavar="NAME_OR_DIR", help="a profile, or a directory with a model's config.json")
    verb.add_argument("--gpu", metavar="MODEL", help="another GPU than the profile's, e.g. H200")
    verb.add_argument("--count", metavar="N", type=_count, help="so many GPUs")
    verb.add_argument("--context", metavar="TOKENS", type=_tokens, help="length of a request; 128k is 131072")
    verb.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], dest="show_overrides")
    verb.set_defaults(function="fit.fit_profile")
    verb = verbs.add_parser("check", parents=[common], help="read profiles strictly; all mistakes at once")
    verb.add_argument("paths", metavar="FILE_OR_NAME", nargs="*", help="also a folder; default: all shipped and own")
    verb.set_defaults(function="profiles.check")
    verb = verbs.add_parser("new", parents=[common], help="a profile of your own, made from another one")
    verb.add_argument("name", metavar="NAME")
    verb.add_argument("--from", metavar="OTHER", required=True, dest="source", help="a profile, or a .toml file")
    verb.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], dest="new_overrides")
    verb.set_defaults(function="ownership.new")
    verb = verbs.add_parser("diff", parents=[common], help="what differs between two profiles, key by key")
    verb.add_argument("before", metavar="A")
    verb.add_argument("after", metavar="B")
    verb.set_defaults(function="ownership.diff")
    verb = verbs.add_parser("schema", parents=[common], help="the JSON Schema of a profile, for editors")
    verb.set_defaults(function="ownership.schema")
    verb = verbs.add_parser("reference", parents=[common], help="every key of a profile, in Markdown")
    verb.set_defaults(function="ownership.reference")


def _catalogue(commands: argparse._SubParsersAction[_Parser], common: _Parser) -> None:
    verb = commands.add_parser("models", parents=[common], help="the models compared, and their published speed")
    verb.set_defaults(function="models.models")
    verb = commands.add_parser("cost", parents=[common], help="price per hour and month, and break-even with an API")
    verb.add_argument("name", metavar="PROFILE")
    verb.add_argument("--usd-per-hour", metavar="USD", type=_dollars, help="on demand; default: profile or config.toml")
    verb.add_argument("--spot-usd-per-hour", metavar="USD", type=_dollars)
    verb.add_argument("--api-price", metavar="USD", type=_dollars, help="an API's price per million output tokens")
    verb.add_argument(
        "--throughput", metavar="TOK_S", type=_rate, help="output tokens per second; default: as measured here"
    )
    verb.set_defaults(function="cost.cost")


def _download(commands: argparse._SubParsersAction[_Parser], common: _Parser) -> None:
    verb = commands.add_parser(
        "download", parents=[common], help="the weights of a profile, or what is missing of them; goes on after a break"
    )
    verb.add_argument("name", metavar="PROFILE")
    verb.add_argument("--revision", metavar="REV", help="branch, tag or commit; default: the profile's")
    verb.add_argument("--yes", action="store_true", dest="sure", help="install a missing engine without asking")
    verb.set_defaults(function="download.download")


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
    verb.add_argument("--yes", action="store_true", dest="sure", help="do not ask")
    verb.set_defaults(function="engine.remove")


def _doctor(commands: argparse._SubParsersAction[_Parser], common: _Parser) -> None:
    verb = commands.add_parser("doctor", parents=[common], help="check this machine, and whether a profile can start")
    verb.add_argument("doctor_profile", metavar="PROFILE", nargs="?", help="default: the machine alone")
    verb.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], dest="doctor_overrides")
    verb.add_argument("--engine", metavar="ENGINE", dest="doctor_engine", help="as when launching")
    verb.add_argument(
        "--allow-public-without-key", action="store_true", dest="doctor_allow_public", help="as when launching"
    )
    verb.add_argument(
        "--end-orphans",
        metavar="PID",
        nargs="*",
        type=_count,
        help="end vLLM processes that nobody holds any more: all of them, or those named",
    )
    verb.add_argument("--yes", action="store_true", dest="sure", help="do not ask")
    verb.set_defaults(function="doctor.doctor")


def _runs(commands: argparse._SubParsersAction[_Parser], common: _Parser) -> None:
    verb = commands.add_parser("status", parents=[common], help="what runs, and how it does")
    verb.add_argument("run_name", metavar="RUN", nargs="?", help="run or profile; default: what is running")
    verb.add_argument("--once", action="store_true", help="as without it, for those used to it: look once and end")
    verb.add_argument(
        "--reference", action="store_true", dest="status_reference", help="every field of --json, in Markdown"
    )
    verb.set_defaults(function="runs.status")
    verb = commands.add_parser("logs", parents=[common], help="the server's log")
    verb.add_argument("run_name", metavar="RUN", nargs="?")
    verb.add_argument("-f", "--follow", action="store_true", help="go on as it grows, until the run is over")
    verb.add_argument("-n", "--lines", type=_count, metavar="N", help="only the last N lines")
    verb.set_defaults(function="runs.logs")
    verb = commands.add_parser(
        "stop", parents=[common], help="stop the server, after its requests; or give up a planned restart"
    )
    verb.add_argument("run_name", metavar="RUN", nargs="?")
    verb.add_argument(
        "--drain-timeout", metavar="S", type=_seconds, dest="stop_drain_s", help="let requests finish for so long"
    )
    verb.set_defaults(function="runs.stop")
    verb = commands.add_parser("report", parents=[common], help="one redacted archive of a run for a bug tracker")
    verb.add_argument("run_name", metavar="RUN", nargs="?", help="run or profile; default: the newest")
    verb.add_argument("-o", "--output", metavar="FILE", dest="report_file", help="default: dsv4-report-RUN.tar.gz here")
    verb.set_defaults(function="report.report")
    _telemetry(commands, common)
    verb = commands.add_parser(
        "restart", parents=[common], help="stop the server and start it again; or start a crashed one without waiting"
    )
    verb.add_argument("run_name", metavar="RUN", nargs="?")
    verb.add_argument(
        "--drain-timeout", metavar="S", type=_seconds, dest="stop_drain_s", help="let requests finish for so long"
    )
    verb.set_defaults(function="runs.restart")
    verb = commands.add_parser(
        "keep", parents=[common], help="postpone the idle deadline: do not stop the server although nobody asks it"
    )
    verb.add_argument("run_name", metavar="RUN", nargs="?")
    verb.set_defaults(function="runs.keep")
    verb = commands.add_parser("chat", parents=[common], help="ask the served model")
    verb.add_argument("prompt", metavar="PROMPT", nargs="?", help="default: read it from stdin, or converse on a TTY")
    verb.add_argument("--run", metavar="RUN", dest="run_name")
    verb.add_argument("--system", metavar="TEXT", help="system prompt")
    verb.add_argument("--max-tokens", metavar="N", type=_count)
    verb.add_argument("--temperature", metavar="T", type=_temperature)
    verb.set_defaults(function="chat.chat")


def _node(commands: argparse._SubParsersAction[_Parser], common: _Parser) -> None:
    group = commands.add_parser("node", help="one machine's part of a group; --hosts gives these orders over SSH")
    verbs = group.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=_Parser)
    for name, text in (
        ("check", "what this machine is, for an order on stdin"),
        ("start", "start this machine's part, once, for an order on stdin"),
        ("find", "the run of this machine's part, for an order on stdin"),
    ):
        verb = verbs.add_parser(name, parents=[common], help=text)
        verb.set_defaults(function=f"node.{name}")


def _tuning(commands: argparse._SubParsersAction[_Parser], common: _Parser) -> None:
    verb = commands.add_parser(
        "apply", parents=[common], help="try a change on the running server, measure it, keep it or take it back"
    )
    verb.add_argument("words", metavar="HINT_ID [RUN]", nargs="*", help="a hint that fires; with --set only the run")
    verb.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], dest="apply_overrides")
    verb.add_argument("--yes", action="store_true", dest="sure", help="begin without asking")
    verb.add_argument("--auto", action="store_true", help="never ask: keep what won, take back the rest")
    _workload(verb)
    verb.set_defaults(function="tuning.apply")
    verb = commands.add_parser(
        "tune", parents=[common], help="search for better settings of a profile, unattended and within bounds"
    )
    verb.add_argument("name", metavar="PROFILE", help="launched if it does not run, and then stopped at the end")
    verb.add_argument("--minutes", metavar="N", type=_minutes, default=60.0, help="begin no trial that ends later (60)")
    verb.add_argument("--dollars", metavar="USD", type=_dollars, help="the same by the price per hour")
    verb.add_argument("--parameters", metavar="A,B", help="settings to change; default: all of the table that apply")
    verb.add_argument("--save", action="store_true", help="keep the winner and write it to your profile")
    _workload(verb)
    verb.set_defaults(function="tuning.tune")


def _workload(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--shape", choices=("chat", "code", "long", "random"), default="chat", help="of the load (chat)")
    verb.add_argument(
        "--concurrency", metavar="N", type=_count, help="requests at a time; default: what is in flight, else 32"
    )
    verb.add_argument("--requests", metavar="N", type=_count, help="of one repeat; default: four times as many")
    verb.add_argument("--repeats", metavar="N", type=_repeats, default=3, help="of each measurement (3)")


def _repeats(text: str) -> int:
    return int(_number(text, int, 3, 20, "a whole number from 3 to 20"))


def _minutes(text: str) -> float:
    return _number(text, float, 1, 10_080, "minutes from 1 to 10080")


def _telemetry(commands: argparse._SubParsersAction[_Parser], common: _Parser) -> None:
    verb = commands.add_parser(
        "watch", parents=[common], help="one line, or one JSON document, per second until the run is over"
    )
    verb.add_argument("run_name", metavar="RUN", nargs="?", help="run or profile; default: what is running")
    verb.add_argument(
        "--period",
        metavar="S",
        type=_seconds,
        dest="watch_period_s",
        default=0.0,
        help="at most one in so many seconds",
    )
    verb.set_defaults(function="watch.watch")


def _housekeeping(commands: argparse._SubParsersAction[_Parser], common: _Parser) -> None:
    group = commands.add_parser("runs", help="list and prune what earlier launches left")
    verbs = group.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=_Parser)
    verb = verbs.add_parser("list", parents=[common], help="all runs with state and disk space")
    verb.set_defaults(function="housekeeping.list_all")
    verb = verbs.add_parser("prune", parents=[common], help="remove old runs, never one that is alive")
    verb.add_argument("--dry-run", action="store_true", dest="prune_dry_run", help="only say which")
    verb.add_argument("--keep", metavar="N", type=_count, help="keep the newest N (config.toml: runs_kept, 30)")
    verb.set_defaults(function="housekeeping.prune")


def _diagnose(commands: argparse._SubParsersAction[_Parser], common: _Parser) -> None:
    verb = commands.add_parser(
        "diagnose", parents=[common], help="why a server failed: cause, remedy and line of a log"
    )
    verb.add_argument(
        "log", metavar="LOG", nargs="?", help="a log file of any vLLM server, - for stdin, a run, or `last`"
    )
    verb.add_argument(
        "--reference", action="store_true", dest="failure_reference", help="every known failure, in Markdown"
    )
    verb.add_argument(
        "--exit-code",
        metavar="N",
        type=_exit_status,
        dest="server_exit_code",
        help="what the server ended with, if known",
    )
    verb.set_defaults(function="diagnose.diagnose")


def _hints(commands: argparse._SubParsersAction[_Parser], common: _Parser) -> None:
    group = commands.add_parser("hints", help="the rules behind the hints: evidence, times, change, gain and risk")
    verbs = group.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=_Parser)
    verb = verbs.add_parser("list", parents=[common], help="all rules; --json has every field of each")
    verb.set_defaults(function="hints.list_hints")
    verb = verbs.add_parser("show", parents=[common], help="everything about one rule")
    verb.add_argument("rule", metavar="ID", help="as `hints list` names it")
    verb.set_defaults(function="hints.show")
    verb = verbs.add_parser("reference", parents=[common], help="all rules as a page of Markdown")
    verb.set_defaults(function="hints.reference")


def _keys(commands: argparse._SubParsersAction[_Parser], common: _Parser) -> None:
    group = commands.add_parser("keys", parents=[common], help="the keys of the terminal UI, with your own")
    group.set_defaults(function="keys.keys")
    verbs = group.add_subparsers(title="commands", metavar="COMMAND", parser_class=_Parser)
    verb = verbs.add_parser("reference", parents=[common], help="all keys as a page of Markdown")
    verb.set_defaults(function="keys.reference")


def _exit_status(text: str) -> int:
    return int(_number(text, int, -64, 255, "an exit status from -64 (a signal) to 255"))


def _service(commands: argparse._SubParsersAction[_Parser], common: _Parser) -> None:
    group = commands.add_parser("service", help="run a profile as a systemd service")
    verbs = group.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=_Parser)
    for name, text in (
        ("install", "write the unit of a profile"),
        ("uninstall", "delete the unit of a profile"),
        ("show", "the unit of a profile, or all that are installed"),
    ):
        verb = verbs.add_parser(name, parents=[common], help=text)
        verb.add_argument("--profile", metavar="NAME", dest="service_profile", required=name != "show")
        where = verb.add_mutually_exclusive_group()
        where.add_argument(
            "--user", action="store_const", const=False, dest="system", help="of your own manager (the default)"
        )
        where.add_argument(
            "--system", action="store_const", const=True, help="of the machine: starts at boot; needs root"
        )
        verb.set_defaults(function=f"service.{name}", system=False)
        if name == "install":
            verb.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], dest="service_overrides")
            verb.add_argument("--dry-run", action="store_true", dest="service_dry_run", help="print it, write nothing")
        if name != "show":
            verb.add_argument("--yes", action="store_true", dest="sure", help="do not ask")


def _seconds(text: str) -> float:
    return _number(text, float, 0, 86_400, "seconds from 0 to 86400")


def _dollars(text: str) -> float:
    return _number(text, float, 0.000001, 1e6, "dollars, more than 0")


def _rate(text: str) -> float:
    return _number(text, float, 0.000001, 1e9, "tokens per second, more than 0")


def _rank(text: str) -> int:
    return int(_number(text, int, 0, 63, "a machine's number, from 0"))


def _count(text: str) -> int:
    return int(_number(text, int, 1, 10**9, "a whole number from 1"))


def _tokens(text: str) -> int:
    scale = {"k": 1024, "m": 1024**2}.get(text[-1:].lower(), 1)
    return int(
        _number(text[:-1] if scale > 1 else text, float, 1 / scale, 2**30 / scale, "tokens, like 131072, 128k, 1M")
        * scale
    )


def _temperature(text: str) -> float:
    return _number(text, float, 0, 10, "a number from 0 to 10")


def _number(text: str, kind: type[float], least: float, most: float, allowed: str) -> float:
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not least <= value <= most:
        raise argparse.ArgumentTypeError(f"found {text!r}; allowed: {allowed}")
    return value
