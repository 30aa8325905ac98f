"""The options of `dsv4-console bench`. Imports nothing heavy: `--help` must answer at once."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

__all__ = ["add"]

ROWS_MAX = 32
CLIENTS_MAX = 65_536
REPEATS_MAX = 100
REQUESTS_MAX = 10**7
SEED_MAX = 2**31


def add(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command to the commands of the program."""
    verb = commands.add_parser(
        "bench",
        parents=[common],
        help="measure a server with vLLM's own benchmark; compare what was measured",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=(
            "Measure the running server, or with --profile one that is launched for it and stopped again.\n\n"
            "  bench list [RUN]     what was measured\n"
            "  bench compare A B    two of them: ids, runs, profiles, or `last`"
        ),
    )
    verb.add_argument("bench_words", metavar="RUN", nargs="*", help="default: what is running")
    verb.add_argument("--profile", metavar="NAME", dest="bench_profile", help="launch this, measure it, stop it")
    verb.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], dest="bench_overrides")
    verb.add_argument("--engine", metavar="ENGINE", dest="bench_engine", help="with --profile: as when launching")
    verb.add_argument(
        "--shape", choices=("chat", "code", "long", "random"), default="chat", dest="bench_shape", help="of the load"
    )
    verb.add_argument(
        "--concurrency",
        metavar="N,N,…",
        type=_counts,
        default=(1, 8, 32, 128),
        dest="bench_concurrency",
        help="requests in flight at once, one row each (1,8,32,128)",
    )
    verb.add_argument(
        "--repeats",
        metavar="N",
        type=_whole(1, REPEATS_MAX),
        default=1,
        dest="bench_repeats",
        help="from 3 on, a comparison is judged (1)",
    )
    verb.add_argument(
        "--requests",
        metavar="N",
        type=_whole(1, REQUESTS_MAX),
        dest="bench_requests",
        help="of each row; default: 4 per client, 8 at least",
    )
    verb.add_argument(
        "--seed",
        metavar="N",
        type=_whole(0, SEED_MAX),
        default=0,
        dest="bench_seed",
        help="the same seed sends the same prompts (0)",
    )
    verb.set_defaults(function="bench.bench")


def _whole(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"found {text!r}; allowed: a whole number from {least} to {most}")
        return value

    return read


def _counts(text: str) -> tuple[int, ...]:
    """For example `1,8,32`: each once, in the order that they are given."""
    read = _whole(1, CLIENTS_MAX)
    found = tuple(dict.fromkeys(read(part.strip()) for part in text.split(",")))
    if len(found) > ROWS_MAX:
        raise argparse.ArgumentTypeError(f"at most {ROWS_MAX} of them")
    return found
