"""`dsv4-console report`: one archive of a run for a bug tracker."""

from __future__ import annotations

import argparse
from pathlib import Path

from console.cli.output import Output
from console.client.report import write_report
from console.core.errors import ExitCode
from console.core.units import bytes_text
from console.io import runs

__all__ = ["report"]


def report(arguments: argparse.Namespace, output: Output) -> int:
    """Write the archive, and say what is in it and what is not."""
    run, info = runs.find_run(arguments.run_name)
    target = Path(arguments.report_file or f"dsv4-report-{info.id}.tar.gz").absolute()
    missing = write_report(run, info, target)
    for name, why in missing:
        output.say(f"left out {name}: {why}")
    size = target.stat().st_size
    output.say(
        f"{bytes_text(size)}; keys and tokens are hidden. Host name and paths are in it: read it before you publish it"
    )
    output.data(str(target))
    output.document({"report": str(target), "size_bytes": size, "left_out": dict(missing)})
    return ExitCode.OK
