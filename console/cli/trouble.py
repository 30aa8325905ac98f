"""What went wrong, as the operator reads it: what happened, where, what to do; for a defect, where its traceback is."""

from __future__ import annotations

import os
import platform
import sys
import time
import traceback

from console import __version__
from console.cli.output import Output
from console.cli.tasks import EndedError
from console.core.errors import ConsoleError, ExitCode
from console.core.text import is_secret_name, redact
from console.io import paths

__all__ = ["explain"]

DEFECTS_KEPT = 20
"""Tracebacks of defects that are kept, the newest."""


def explain(error: Exception, *, json: bool) -> int:
    """Tell the operator about an error and return its exit code."""
    output = Output(json=json)
    if isinstance(error, EndedError):
        return int(error.exit_code)
    if not isinstance(error, ConsoleError):
        error = _defect(error)
    output.say(f"dsv4-console: error: {error.title}")
    for line in error.message.splitlines():
        output.say(f"  {line}")
    if error.fix:
        output.say(f"  → {error.fix}")
    told = {"title": error.title, "message": error.message, "fix": error.fix, "exit_code": int(error.exit_code)}
    output.line({"error": told})
    return int(error.exit_code)


class DefectError(ConsoleError):
    """Something that this program did not foresee."""

    exit_code = ExitCode.INTERNAL


def _defect(error: Exception) -> DefectError:
    secrets = [value for name, value in os.environ.items() if is_secret_name(name)]
    what = redact(f"{type(error).__name__}: {error}", secrets)
    text = redact("".join(traceback.format_exception(error)), secrets)
    title = "This is a defect in dsv4-console"
    try:
        folder = paths.make_private_dir(paths.state_dir() / "defects")
        for old in sorted(folder.glob("*.txt"))[: -DEFECTS_KEPT + 1]:
            old.unlink(missing_ok=True)
        path = folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
        head = f"dsv4-console {__version__}, Python {platform.python_version()}, {platform.platform()}\n"
        path.write_text(f"{head}{redact(' '.join(sys.argv), secrets)}\n\n{text}", encoding="utf-8")
    except (OSError, ConsoleError):
        return DefectError(title, f"{what}\n{text}", "Report it with this text.")
    return DefectError(title, what, f"Report it with the traceback in {path}. A running server is not affected.")
