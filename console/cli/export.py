"""`dsv4-console export`: the samples of a run for spreadsheets and data frames, and the Grafana dashboard.

A profile's units and manifests, under the same command, are `console.cli.deploy`'s.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Final

import msgspec

from console.cli.host_grammar import one_machine
from console.cli.output import Output
from console.core.errors import ExitCode, NotRunningError, UsageError
from console.core.flat import columns_of
from console.core.sampling import Columns
from console.core.units import bytes_text
from console.io import export as writers
from console.io import runs
from console.io.samplestore import read_blocks

__all__ = ["export"]

GRAFANA: Final = "grafana"
PROXY: Final = "proxy"
DEPLOYMENTS: Final = ("systemd", "compose", "kubernetes")
"""What a profile is exported as; all else that is exported is a run, or the dashboard."""
LAST: Final = "last"
UNITS_S: Final = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}


def export(arguments: argparse.Namespace, output: Output) -> int:
    """Print or write samples, or the dashboard. Exit code 5 if there is no such run or nothing was sampled."""
    _only_for_a_proxy(arguments)
    if arguments.run_name == PROXY:
        from console.cli.proxy import export_proxy

        return export_proxy(arguments, output)
    if len(arguments.machines) > 1:
        raise one_machine(arguments.machines)
    if arguments.run_name in DEPLOYMENTS:
        from console.cli.deploy import export_profile

        return export_profile(arguments, output)
    _only_for_deployments(arguments)
    if arguments.run_name == GRAFANA:
        return _grafana(arguments, output)
    if output.json and (arguments.csv or arguments.parquet):
        raise UsageError("Two formats are asked for", "--json, --csv and --parquet exclude each other", "Choose one.")
    run, info = runs.find_run(None if arguments.run_name == LAST else arguments.run_name)
    if arguments.parquet and not arguments.export_file:
        raise UsageError("Parquet is written to a file", "-o is missing", f"Try: -o {info.id}.parquet")
    known = run.sampled()
    if known is None:
        raise NotRunningError("The run has no samples", str(run.samples_path), "It ended before its first second.")
    since_s = None if arguments.since is None else _since(arguments.since, known[1])

    def blocks() -> Iterable[Columns]:
        # Until the last sample of now: what is added meanwhile has no place in the columns that were counted.
        return read_blocks(run.samples_path, since_s=since_s, until_s=known[1])

    wanted = columns_of(blocks())
    if arguments.export_file is None:
        if output.json:
            for each in writers.json_objects(blocks, wanted):
                output.line(each)
        else:
            for piece in writers.csv_pieces(blocks, wanted):
                output.piece(piece)
        return ExitCode.OK
    target = Path(arguments.export_file).absolute()

    def write(path: Path) -> None:
        if arguments.parquet:
            writers.write_parquet(path, blocks, wanted)
        else:
            writers.write_text(path, (writers.json_pieces if output.json else writers.csv_pieces)(blocks, wanted))

    writers.write_file(target, write)
    samples = sum(block.rows for block in blocks())
    size = target.stat().st_size
    output.say(f"{samples:,} samples, {len(wanted):,} columns, {bytes_text(size)}")
    output.data(str(target))
    output.document({"file": str(target), "samples": samples, "columns": len(wanted), "size_bytes": size})
    return ExitCode.OK


def _only_for_deployments(arguments: argparse.Namespace) -> None:
    """Raises UsageError where a profile's word or option stands beside a run."""
    given = {
        "a second word": arguments.export_profile,
        "--set": arguments.export_overrides,
        "--hosts": arguments.hosts,
        "--image": arguments.image,
        "--namespace": arguments.namespace,
        "--vllm": arguments.vllm,
    }
    for name, value in given.items():
        if value:
            raise UsageError(
                f"{name} is for export {'|'.join(DEPLOYMENTS)}",
                f"and {arguments.run_name!r} is a run or `grafana`",
                "A profile: export kubernetes PROFILE. A run: export RUN.",
            )


def _only_for_a_proxy(arguments: argparse.Namespace) -> None:
    """Raises UsageError where an option of a proxy stands beside something else, or the other way round."""
    if arguments.run_name == PROXY:
        given = {
            "--csv": arguments.csv,
            "--parquet": arguments.parquet,
            "--since": arguments.since,
            "--set": arguments.export_overrides,
            "--hosts": arguments.hosts,
            "--image": arguments.image,
            "--namespace": arguments.namespace,
            "--vllm": arguments.vllm,
        }
        instead = f"and {PROXY!r} is over servers that run"
    else:
        given = {
            "a third word": arguments.proxy_servers,
            "--model": arguments.proxy_model,
            "--api-key-env": arguments.proxy_api_key_env,
        }
        instead = f"and {arguments.run_name!r} is no proxy"
    if wrong := [name for name, value in given.items() if value]:
        raise UsageError(f"{wrong[0]} does not belong here", instead, "See: dsv4-console export --help")


def _since(text: str, end_s: float) -> float:
    """Wall-clock time (Unix) of `90m` before the last sample, or of a date.

    Raises:
        UsageError: it is neither.
    """
    if found := re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text):
        return end_s - float(found[1]) * UNITS_S[found[2]]
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError) as error:
        raise UsageError(
            "--since is not understood",
            f"found {text!r}",
            "Allowed: 30s, 90m, 6h, 2d before the last sample, or a time like 2026-11-23T14:00.",
        ) from error


def _grafana(arguments: argparse.Namespace, output: Output) -> int:
    text = resources.files("console").joinpath("_grafana", "dsv4-console.json").read_text(encoding="utf-8")
    if arguments.export_file is not None:
        target = Path(arguments.export_file).absolute()
        writers.write_file(target, lambda path: writers.write_text(path, (text,)))
        output.data(str(target))
        output.document({"file": str(target)})
        return ExitCode.OK
    output.piece(text)
    output.document(msgspec.json.decode(text))
    return ExitCode.OK
