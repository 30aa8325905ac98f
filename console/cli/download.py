"""`dsv4-console download PROFILE`, and the same before a launch: the weights, with how far they are."""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
import time

import msgspec

from console.cli import tasks
from console.cli.output import Output, is_terminal
from console.client.api import Backend, LaunchPlan
from console.core.download import DownloadProgress, DownloadResult, progress_text, start_text
from console.core.errors import EngineError, ExitCode
from console.core.units import UNKNOWN, bytes_text, elapsed_text

__all__ = ["download", "offered", "run_download"]

LINE_INTERVAL_S = 10.0
"""Between lines where no terminal can write over the last one, and between JSON lines."""


def download(arguments: argparse.Namespace, output: Output) -> int:
    """Download the weights of a profile, or what is missing of them."""
    from console.cli.launch import install_missing
    from console.client.backend import LocalBackend
    from console.client.download import is_downloaded

    backend = LocalBackend()
    plan = tasks.run(backend.plan(arguments.name))
    profile = plan.profile
    if not is_downloaded(profile):
        output.say(f"nothing to download: {profile.model.id} does not come from the hub")
        output.line({"type": "nothing", "model": profile.model.id})
        return ExitCode.OK
    if arguments.revision and arguments.revision != profile.model.revision:
        launched, option = profile.model.revision or "the main branch", f"model.revision={arguments.revision}"
        output.say(f"note: the profile launches {launched}; for this one launch with --set {shlex.quote(option)}")
    if plan.engine_name is None:
        plan = install_missing(backend, plan, output, yes=arguments.sure)
    result = run_download(backend, plan, output, arguments.revision)
    output.data(result.path)
    return ExitCode.OK


def offered(backend: Backend, plan: LaunchPlan, output: Output, *, yes: bool) -> bool:
    """Whether the weights of a launch shall be downloaded first; where nobody can be asked, vLLM does it itself."""
    offer = tasks.run(backend.download_offer(plan))
    if offer is None:
        return False
    if yes:
        return True
    if output.json or not is_terminal(sys.stdin, sys.stderr):
        output.say(f"note: {offer.text}; vLLM downloads it at its start, without progress, within ready_timeout_s")
        output.say(f"    → First: dsv4-console download {shlex.quote(plan.profile_name)}, or add --yes")
        return False
    output.say(f"{offer.text}.")
    nobody = EngineError("Nobody can be asked here", offer.text, "Add --yes.")
    return output.ask("Download it first? Without, vLLM does at its start.", default=True, otherwise=nobody)


def run_download(backend: Backend, plan: LaunchPlan, output: Output, revision: str | None = None) -> DownloadResult:
    """Download with narration.

    Raises:
        DownloadError: as the backend says.
        console.cli.tasks.EndedError: a signal ended it, which is told with how to go on.
    """
    narrator = _Narrator(output)
    command = f"dsv4-console download {shlex.quote(plan.profile_name)}"
    if revision:
        command += f" --revision {shlex.quote(revision)}"
    output.say(f"downloading {plan.profile.model.id}")
    try:
        result = tasks.run(backend.download(plan, narrator, revision))
    except tasks.EndedError:
        narrator.end()
        here = narrator.last
        if here is not None:
            output.say(
                f"interrupted: {bytes_text(here.bytes_done)} of {bytes_text(here.bytes_total)} were here, "
                f"{here.files_done} of {here.files_total} files whole; whole files stay"
            )
        output.say(f"  → Go on with: {command}")
        raise
    finally:
        narrator.end()
    rate = bytes_text(result.bytes_downloaded / result.seconds) if result.seconds else UNKNOWN
    came = f"{bytes_text(result.bytes_downloaded)} in {elapsed_text(result.seconds)}, {rate}/s"
    output.say(f"complete: {bytes_text(result.bytes_total)}; {came if result.bytes_downloaded else 'all was here'}")
    output.line({"type": "downloaded", **msgspec.to_builtins(result)})
    return result


class _Narrator:
    """Progress: one line that is written over on a terminal, else a line now and then."""

    def __init__(self, output: Output) -> None:
        self.last: DownloadProgress | None = None
        self._output = output
        self._terminal = is_terminal(sys.stderr)
        self._said_s: float | None = None
        self._open = False

    def __call__(self, progress: DownloadProgress) -> None:
        first, self.last = self.last is None, progress
        now_s = time.monotonic()
        if first:
            self._output.say(f"  {start_text(progress)}")
            self._emit(progress, now_s)
        elif self._terminal and not self._output.json:
            width = max(shutil.get_terminal_size().columns - 1, 20)
            self._output.murmur("\r" + f"  {progress_text(progress)}"[:width].ljust(width))
            self._open = True
        elif self._said_s is None or now_s - self._said_s >= LINE_INTERVAL_S:
            self._output.say(f"  {progress_text(progress)}")
            self._emit(progress, now_s)

    def _emit(self, progress: DownloadProgress, now_s: float) -> None:
        self._said_s = now_s
        self._output.line({"type": "download", **msgspec.to_builtins(progress)})

    def end(self) -> None:
        """Leave the line that is written over."""
        if self._open:
            self._open = False
            self._output.murmur("\n")
