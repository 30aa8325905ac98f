"""`dsv4-console runs list|prune`: what earlier launches left, and what may go."""

from __future__ import annotations

import argparse

import msgspec

from console.cli.output import Output
from console.core.errors import ExitCode
from console.core.money import money_of
from console.core.money_words import amount_text
from console.core.units import bytes_text
from console.io import runs
from console.io.config import read_configuration
from console.io.pruning import disk_bytes, prune_runs

__all__ = ["list_all", "prune"]


def list_all(_arguments: argparse.Namespace, output: Output) -> int:
    """All runs, newest first, with state, cost and disk space."""
    rows = []
    for run, info in runs.list_runs():
        state = info.state if not runs.is_live(info) else f"{info.state}, alive"
        size = disk_bytes(run.path)
        tally = run.read_money()
        usd = money_of(tally, info.usd_per_hour).total_usd if tally else None
        output.data(f"{info.id:<48} {state:<16} {bytes_text(size):>10} {amount_text(usd):>10}")
        rows.append(
            {"id": info.id, "state": info.state, "live": runs.is_live(info), "size_bytes": size, "total_usd": usd}
        )
    for path, why in runs.damaged_runs():
        output.data(f"{path.name:<48} {'damaged':<16} {bytes_text(disk_bytes(path)):>10}  {why}")
        rows.append({"id": path.name, "state": "damaged", "live": None, "size_bytes": disk_bytes(path)})
    if not rows:
        output.say("there are no runs")
    output.document({"runs": rows})
    return ExitCode.OK


def prune(arguments: argparse.Namespace, output: Output) -> int:
    """Remove old runs by the limits of `config.toml`, or of the command line; never one that is alive."""
    limits = read_configuration()
    if arguments.keep is not None:
        limits = msgspec.structs.replace(limits, runs_kept=arguments.keep)
    gone = prune_runs(limits, dry_run=arguments.prune_dry_run)
    for each in gone:
        output.data(f"{each.id:<48} {bytes_text(each.size_bytes):>10}  {each.why}")
    verb = "would be removed" if arguments.prune_dry_run else "removed"
    size = bytes_text(sum(each.size_bytes for each in gone))
    output.say(f"{len(gone)} {'run' if len(gone) == 1 else 'runs'} {verb}, {size}")
    for path, why in runs.damaged_runs():
        output.say(f"left alone: {path} ({why}); remove it by hand if nothing of it runs")
    output.document({"removed": msgspec.to_builtins(gone), "dry_run": arguments.prune_dry_run})
    return ExitCode.OK
