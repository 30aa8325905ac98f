"""What the supervisor reads out of the server's log: the phase of a start, its figures, and why it failed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from console.core.diagnosis import Diagnoser
from console.core.kernels import KernelTracker, LogFigures
from console.core.logparse import LineParser, parse_line
from console.core.models import Diagnosis
from console.core.phases import PhaseTracker, PhaseUpdate, StartFacts
from console.core.text import Redactor
from console.io.logtail import LogTail
from console.io.secrets import known_secrets

__all__ = ["LogWatch"]

PAGES_PER_READ = 8
"""At most this many pages at a time, so that a flood of lines does not hold up the supervisor's other work."""
PAGES_AT_END = 64
"""When the server has ended, its last words count."""
READ_TIME_S = 0.1
"""At most this long at a time, for the same reason."""
BEHIND_BYTES_MAX = 16 * 1024 * 1024
"""Further behind the server's writing, lines are skipped: what it does now matters more."""
LAST_BYTES = 4 * 1024 * 1024
"""Read after that."""

CATCH_UP_READS_MAX = 2_000
"""4 GB of log at most; what comes after is read as it would be anyway."""


class LogWatch:
    """Follows `server.log` over several attempts: after a restart only the new attempt's lines count."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._tail = LogTail(path, Redactor(known_secrets()))
        self.skipped_lines = 0
        """Lines that came faster than they can be looked at; the log has them."""
        self._begin()

    def _begin(self) -> None:
        self._parser = LineParser()
        self._phases = PhaseTracker()
        self._kernels = KernelTracker()
        self._diagnoser = Diagnoser()

    @property
    def facts(self) -> StartFacts:
        """Figures of the present attempt."""
        return self._phases.facts

    @property
    def figures(self) -> LogFigures:
        """What the log says of the server as it runs."""
        facts, kernels = self.facts, self._kernels
        return LogFigures(
            kv_tokens=facts.kv_cache_tokens,
            step_tokens=facts.step_tokens,
            kernels_compiled=kernels.total,
            kernel_compiling=kernels.compiling or None,
        )

    @property
    def size_bytes(self) -> int:
        """Size of the log file now; 0 before there is one."""
        try:
            return self._path.stat().st_size
        except OSError:
            return 0

    def close(self) -> None:
        """Let go of the file."""
        self._tail.close()

    def mark_attempt(self) -> None:
        """Forget what was seen: a new attempt writes from here on."""
        for _ in self.read(last=True):
            pass
        self._begin()

    def catch_up(self) -> None:
        """Take in all that is there already without telling of it: an earlier supervisor has told."""
        for _ in range(CATCH_UP_READS_MAX):
            before = self._tail.lines_read
            for _update in self.read(last=False):
                pass
            if self._tail.lines_read == before:
                return

    def read(self, *, last: bool = False) -> Iterator[PhaseUpdate]:
        """Take in what came since the last call; yields each change of phase or of its detail.

        Args:
            last: the server has ended, so a line without its end counts too.
        """
        until_s = time.monotonic() + READ_TIME_S
        with contextlib.suppress(OSError):
            if self.size_bytes - self._tail.offset > BEHIND_BYTES_MAX:
                self.skipped_lines += self._tail.skip_to_last(LAST_BYTES)
        for _ in range(PAGES_AT_END if last else PAGES_PER_READ):
            try:
                page = self._tail.read(flush=last)
            except OSError:
                return  # a log that cannot be read now is read later; the server is none the worse
            if not page.lines:
                break
            for number, text in enumerate(page.lines, page.first_line):
                line = self._parser.parse(text)
                self._diagnoser.feed(number, line)
                self._kernels.feed(line)
                update = self._phases.feed(line)
                if update is not None:
                    yield update
            if not last and time.monotonic() > until_s:
                break
        # A progress bar gets its newline only at its end, so how far it is stands in the unfinished line.
        if self._tail.partial and (update := self._phases.feed(parse_line(self._tail.partial))) is not None:
            yield update

    def diagnosis(self, exit_code: int | None) -> Diagnosis | None:
        """Why the present attempt failed, as far as its log tells."""
        return self._diagnoser.result(exit_code)
