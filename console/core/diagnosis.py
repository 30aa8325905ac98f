"""Finds in a server's log why it failed: the earliest known cause, else the earliest error of its engine.

A failure inside vLLM is reported several times: by the worker that met it, then by the engine that lost the worker,
then by the API server that lost the engine. So the first report counts, and the later ones only where there is no
other. What a start survived, and what follows a wanted stop, is no failure.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from console.core.failures import FAILURES, Failure, FailureLevel, Stage
from console.core.failures.changes import read_settings
from console.core.logparse import PROCESSES_MAX, LineParser, LogLevel, LogLine, parse_line
from console.core.models import Diagnosis
from console.core.text import clean, redact, truncate_line
from console.core.wrapping import unwrap

__all__ = ["EXITS", "Diagnoser", "Exit", "diagnose", "quoted"]

BLOCKS_MAX: Final = 8
"""Errors kept in full, of engine and of API server each."""
BLOCK_LINES_MAX: Final = 12
"""Last lines kept of one error."""
DETAIL_LINES_MAX: Final = 2
"""Lines after an exception that belong to it (pydantic says there what is wrong)."""
TAIL_LINES_MAX: Final = 6
"""Last lines of the log kept for an end that nothing explains."""
TITLE_CHARS_MAX: Final = 200
QUOTED_CHARS_MAX: Final = 300

_ENGINE_PROCESSES: Final = ("EngineCore", "Worker", "VllmWorker", "RayWorker")
_EXCEPTION = re.compile(r"(?:[A-Za-z_]\w*\.)*(?:[A-Z]\w*)?(?:Error|Exception|Exit|Interrupt|Failure)(?=:|$)")
_TRACEBACK: Final = "Traceback (most recent call last):"
_WANTED_STOP: Final = (
    "[shutdown] API server: shutdown triggered",
    "[shutdown] EngineCore: trigger received",
    "Shutting down",
)
"""A process took a signal. Other `[shutdown]` lines come before the error too, when a part cleans up after itself."""
_ASGI: Final = "Exception in ASGI application"
"""Uvicorn's answer to an error in one request; its traceback is bare."""
_PYDANTIC = re.compile(r"\d+ validation errors? for \w+$")
_UP: Final = "Application startup complete."
"""What came before was survived."""
_NEW_START: Final = "non-default args:"
"""What came before belongs to an earlier start in the same file."""
_BATCHED_TOKENS = re.compile(r"Chunked prefill is enabled with max_num_batched_tokens=(\d+)")
_NOT_WHILE_SERVING: Final = frozenset({Stage.ARGUMENTS, Stage.CONFIG, Stage.DOWNLOAD})
"""A server that is up does none of this: such a text comes from a request."""
_NEEDLES: Final = tuple((needle, row) for row in FAILURES for needle in row.needles)
_AT_INFO: Final = tuple(row for row in FAILURES if row.at_info)
_PRECONDITIONS: Final = tuple({row.after for row in FAILURES if row.after})


class Exit(msgspec.Struct, frozen=True, kw_only=True):
    """What an exit status says where the log says nothing."""

    code: int
    title: str
    why: str
    remedy: str


EXITS: Final[tuple[Exit, ...]] = (
    Exit(
        code=2,
        title="vLLM did not accept its arguments",
        why="Exit status 2 is that of its argument parser.",
        remedy="Read the last lines of the log, and compare the command with `vllm serve --help=all`.",
    ),
    Exit(
        code=-9,
        title="The server was killed with SIGKILL",
        why="The kernel does this when the memory of the machine or container runs out; otherwise it was a person.",
        remedy="Look for `Out of memory` in `dmesg -T` and at the container's memory limit.",
    ),
    Exit(
        code=-15,
        title="The server was ended from outside with SIGTERM",
        why="This program did not ask for it.",
        remedy="Ask the job scheduler, the container runtime, or whoever else uses this machine.",
    ),
    Exit(
        code=-11,
        title="The server crashed in native code",
        why="It ended with a segmentation fault.",
        remedy="Start it again; if it comes back, report it with this log and try another vLLM release.",
    ),
    Exit(
        code=-7,
        title="The server died of a bus error",
        why="The usual reason is a full /dev/shm.",
        remedy="Look at `df -h /dev/shm`; give a container more with `--ipc=host` or `--shm-size=64g`.",
    ),
    Exit(
        code=-6,
        title="The server aborted in native code",
        why="A library stopped the process with SIGABRT.",
        remedy="Read the last lines of the log; they name the library.",
    ),
)
_SHELL_SIGNAL_BASE: Final = 128


class _Block:
    """One error with its traceback, bounded. The first exception counts: those after it were caused by it."""

    def __init__(self, number: int, line: LogLine, row: Failure | None) -> None:
        self.number = number
        self.source = line.source
        self.known = row is not None
        """Its exception, or without one its first line, is in the table."""
        self.caught = line.source is not None or line.message.startswith(_ASGI)
        """It was logged, so its process went on."""
        self._proc = line.proc
        self._header = line.message
        self._exception = ""
        self._details = 0
        self._lines: deque[str] = deque([line.text], maxlen=BLOCK_LINES_MAX)
        if _EXCEPTION.match(line.message):
            self._exception = line.message
        elif _TRACEBACK in line.message[1:]:
            # The JSON format has a whole traceback in one line.
            starts = [found.start() for found in _EXCEPTION.finditer(line.message)]
            self._exception = line.message[starts[-1] :] if starts else ""
            self.known = row is not None and row.pattern.search(self._exception) is not None

    def add(self, line: LogLine, row: Failure | None) -> None:
        """Take the next line of the same process and place."""
        message = line.message
        if not self._exception:
            self._lines.append(line.text)
            if _EXCEPTION.match(message):
                self._exception = message
                self.known = row is not None
        elif self._details < DETAIL_LINES_MAX:
            if not message.startswith("  "):
                self._details = DETAIL_LINES_MAX
                return
            self._lines.append(line.text)
            if self._details == 0 and _PYDANTIC.search(self._exception):
                self._exception += f": {message.strip()}"
            self._details += 1

    def diagnosis(self) -> Diagnosis:
        said = self._exception or self._header.strip() or "unknown error"
        lines = tuple(self._lines)
        complete = self._header in lines[0]
        where = f"{self._proc}: " if self._proc else ""
        return Diagnosis(
            title=truncate_line(redact(where + said), TITLE_CHARS_MAX),
            remedy="The cause is not among the known ones. Read the log from this line on; search vLLM's issues for "
            "the exception's text.",
            line=self.number,
            text=redact("\n".join(lines if complete else (self._header, "…", *lines))),
        )


class _Match(msgspec.Struct, frozen=True):
    row: Failure
    number: int
    text: str
    found: re.Match[str]
    settings: dict[str, Any]

    def diagnosis(self) -> Diagnosis:
        row = self.row
        groups = {name: redact(value) if value else "?" for name, value in self.found.groupdict().items()}
        return Diagnosis(
            title=truncate_line(row.title.format_map(groups), TITLE_CHARS_MAX),
            cause=row.id,
            why=row.why.format_map(groups),
            remedy=row.remedy,
            line=self.number,
            text=redact(self.text),
            change=row.change(self.found, self.settings) if row.change is not None else (),
        )


class Diagnoser:
    """Reads a log line by line, in order, in bounded memory. `result` may be asked at any time."""

    def __init__(self) -> None:
        self._tail: deque[tuple[int, str]] = deque(maxlen=TAIL_LINES_MAX)
        self._seen: set[str] = set()
        self._settings: dict[str, Any] = {}
        self._forget()

    def _forget(self, *, serving: bool = False) -> None:
        self._serving = serving
        self._stopping = False
        self._cause: _Match | None = None
        self._request: _Match | None = None
        self._report: _Match | None = None
        self._counts: dict[str, int] = {}
        self._blocks: dict[bool, list[_Block]] = {True: [], False: []}
        """Errors of the engine's processes, and the others."""
        self._open: dict[int | None, _Block] = {}

    def feed(self, number: int, line: LogLine) -> None:
        """Take the next line.

        Args:
            number: its number in the log, counted from 1.
            line: as `LineParser` read it.
        """
        level, message = line.level, line.message
        self._tail.append((number, line.text))
        if level is LogLevel.INFO or level is LogLevel.DEBUG:
            self._feed_info(number, line)
        elif message.startswith(_WANTED_STOP):
            self._stopping = True
        elif not self._stopping and not (level is LogLevel.WARNING and line.source is not None):
            self._feed_other(number, line)

    def _feed_info(self, number: int, line: LogLine) -> None:
        message = line.message
        if message.startswith(_WANTED_STOP):
            self._stopping = True
        elif message.startswith(_UP):
            self._forget(serving=True)
        elif message.startswith(_NEW_START):
            self._forget()
            self._settings = read_settings(message)
        elif found := _BATCHED_TOKENS.match(message):
            self._settings["max_num_batched_tokens"] = int(found[1])
        else:
            for row in _AT_INFO:
                if row.needles[0] in message:
                    self._try(row, number, line)

    def _feed_other(self, number: int, line: LogLine) -> None:
        message = line.message
        if line.level is not LogLevel.WARNING:
            for text in _PRECONDITIONS:
                if text in message:
                    self._seen.add(text)
        error = line.level is LogLevel.ERROR or line.level is LogLevel.CRITICAL
        matched: Failure | None = None
        if not (error and message.startswith("    ")):
            for needle, row in _NEEDLES:
                if needle in message and self._try(row, number, line):
                    matched = row
                    break
        if error and not (matched is not None and matched.level is FailureLevel.NOISE):
            self._feed_block(number, line, matched)

    def _try(self, row: Failure, number: int, line: LogLine) -> bool:
        found = row.pattern.search(line.message)
        if found is None or (row.after and row.after not in self._seen):
            return False
        if self._serving and row.stage in _NOT_WHILE_SERVING:
            return False
        if row.repeats > 1:
            count = self._counts[row.id] = self._counts.get(row.id, 0) + 1
            if count < row.repeats:
                return True
        match = _Match(row, number, line.text, found, self._settings)
        if row.level is FailureLevel.WRAPPER:
            self._report = self._report or match
        elif row.level is FailureLevel.CAUSE and row.stage is Stage.REQUEST:
            self._request = self._request or match
        elif row.level is FailureLevel.CAUSE:
            self._cause = self._cause or match
        return True

    def _feed_block(self, number: int, line: LogLine, matched: Failure | None) -> None:
        block = self._open.get(line.pid)
        if block is not None and block.source == line.source:
            block.add(line, matched)
            return
        engine = line.proc is not None and line.proc.startswith(_ENGINE_PROCESSES)
        block = _Block(number, line, matched)
        del self._blocks[engine][BLOCKS_MAX - 1 :]
        self._blocks[engine].append(block)
        if len(self._open) >= PROCESSES_MAX:
            self._open.clear()
        self._open[line.pid] = block

    def result(self, exit_code: int | None = None) -> Diagnosis | None:
        """The diagnosis, or `None` if the log shows no failure.

        Args:
            exit_code: the server's, as `subprocess` gives it (negative for a signal) or as a shell does; `None`
                while it runs or if it is not known. It counts where the log has no better answer.
        """
        code = exit_code
        if code is not None and code > _SHELL_SIGNAL_BASE:
            code = _SHELL_SIGNAL_BASE - code
        ended = None if self._stopping else next((row for row in EXITS if row.code == code), None)
        killed = ended if code is not None and code < 0 else None
        candidates = (
            self._cause,
            self._own(engine=True),
            killed,
            self._own(engine=False, caught=bool(code) or not self._serving),
            self._request,
            self._report,
            ended,
        )
        best = next((candidate for candidate in candidates if candidate is not None), None)
        if isinstance(best, Exit):
            return self._exit(best)
        if best is not None:
            return best.diagnosis()
        return self._unexplained(code) if code and not self._stopping else None

    def _own(self, *, engine: bool, caught: bool = True) -> _Block | None:
        """The error that reports no other: the last that nobody caught, as it ended its process, else the first.

        Args:
            engine: of the engine's processes, or of the others.
            caught: also one that its process survived, which while it serves is the error of one request.
        """
        own = [block for block in self._blocks[engine] if not block.known and (caught or not block.caught)]
        uncaught = [block for block in own if not block.caught]
        return uncaught[-1] if uncaught else own[0] if own else None

    def _exit(self, row: Exit) -> Diagnosis:
        return Diagnosis(
            title=row.title,
            cause=f"exit{row.code}",
            why=row.why,
            remedy=row.remedy,
            line=self._last,
            text=self._end,
        )

    def _unexplained(self, code: int) -> Diagnosis:
        return Diagnosis(
            title=f"The server ended with exit status {code} and said no reason",
            remedy="Read the last lines of the log.",
            line=self._last,
            text=self._end,
        )

    @property
    def _last(self) -> int | None:
        return self._tail[-1][0] if self._tail else None

    @property
    def _end(self) -> str:
        return redact("\n".join(text for _, text in self._tail))


def quoted(diagnosis: Diagnosis) -> list[str]:
    """The lines of the log that a diagnosis rests on, as one reads them: without prefixes, blank lines and length."""
    lines = [parse_line(unwrap(clean(line))).message.strip() for line in diagnosis.text.splitlines()]
    return [f"{line[:QUOTED_CHARS_MAX]}…" if len(line) > QUOTED_CHARS_MAX else line for line in lines if line]


def diagnose(lines: Iterable[str], exit_code: int | None = None) -> Diagnosis | None:
    """Why the server of this log failed; `None` if the log shows no failure.

    Args:
        lines: the log's lines, from the first.
        exit_code: the server's, if it ended.
    """
    parser, diagnoser = LineParser(), Diagnoser()
    for number, text in enumerate(lines, start=1):
        diagnoser.feed(number, parser.parse(clean(text)))
    return diagnoser.result(exit_code)
