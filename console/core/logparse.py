"""Turns the server's raw output into lines, and lines into level, process, source and message.

Separate from what the lines mean (`phases`, `diagnosis`): only this module knows vLLM's log formats. Known are the
text format (0.26 to 0.33), its JSON format, uvicorn's, FlashInfer's, PyTorch's and NCCL's lines, Python warnings,
and tracebacks with or without vLLM's process prefix.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum
from typing import Any, Final

import msgspec

from console.core.text import LINE_CHARS_MAX, clean, truncate_line

__all__ = ["PROCESSES_MAX", "LineParser", "LineSplitter", "LogLevel", "LogLine", "parse_line"]

LINE_BYTES_MAX: Final = 64 * 1024
"""Bytes of one line that are looked at. More than is kept of it, as a JSON line holds a whole traceback."""
JSON_FIELD_CHARS_MAX: Final = 1200
"""Characters kept of the message and of the traceback of a JSON line that is too long."""
PROCESSES_MAX: Final = 256
"""Processes whose open traceback is remembered."""

_PREFIX_BYTES = re.compile(rb"\([^()\r\n]{1,64} pid=\d{1,10}\) ?")


class LineSplitter:
    """Bytes in pieces to clean lines. Holds no more than one cut line.

    Of a progress bar (`\\r` without a newline) the last state counts; the process prefix before it is kept.
    """

    def __init__(self) -> None:
        self._prefix = b""
        self._held = b""
        self._cut = 0

    @property
    def partial(self) -> str:
        """The line not yet ended, as it stands: a progress bar, for example. Empty if there is none."""
        prefix, state, _ = _last_state(self._prefix, self._held)
        return _finish(prefix, state, self._cut)

    def feed(self, data: bytes) -> list[str]:
        """The lines that `data` completes."""
        first, *more = data.split(b"\n")
        self._hold(first)
        if not more:
            return []
        *whole, rest = more
        lines = [self.partial, *_whole_lines(whole)]
        self._forget()
        self._hold(rest)
        return lines

    def flush(self) -> list[str]:
        """The last line, if it has no newline."""
        lines = [self.partial] if self._held else []
        self._forget()
        return lines

    def _forget(self) -> None:
        self._prefix, self._held, self._cut = b"", b"", 0

    def _hold(self, data: bytes) -> None:
        if b"\r" in data or b"\r" in self._held:
            prefix, state, blank = _last_state(self._prefix, self._held + data)
            if not state.startswith(self._held):
                self._cut = 0
            self._prefix, self._held = prefix, state + blank
        else:
            self._held += data
        if len(self._held) > LINE_BYTES_MAX:
            self._cut += len(self._held) - LINE_BYTES_MAX
            self._held = self._held[:LINE_BYTES_MAX]


def _whole_lines(lines: list[bytes]) -> Iterable[str]:
    """Clean lines. Where none needs cleaning, all of them together: a tenth of what they cost one by one."""
    data = b"\n".join(lines)
    if not lines or b"\r" in data:
        return map(_whole_line, lines)
    texts = data.decode("utf-8", "replace").split("\n")
    plain = "".join(texts).isprintable() and max(map(len, texts)) <= LINE_CHARS_MAX
    return texts if plain else map(_whole_line, lines)


def _whole_line(line: bytes) -> str:
    if b"\r" not in line:
        return _finish(b"", line, 0)
    prefix, state, _ = _last_state(b"", line)
    return _finish(prefix, state, 0)


def _last_state(prefix: bytes, line: bytes) -> tuple[bytes, bytes, bytes]:
    """What `\\r` leaves of a line: the process prefix overwritten last, the last segment not blank, the blank end."""
    segments = line.split(b"\r")
    last = next((index for index in range(len(segments) - 1, -1, -1) if segments[index].strip()), 0)
    for segment in segments[:last]:
        found = _PREFIX_BYTES.match(segment)
        prefix = found[0] if found is not None else prefix
    return prefix, segments[last], b"\r" + segments[-1] if last < len(segments) - 1 else b""


def _finish(prefix: bytes, line: bytes, cut: int) -> str:
    if prefix and not _PREFIX_BYTES.match(line):
        line = prefix + line
    if len(line) > LINE_BYTES_MAX:
        cut += len(line) - LINE_BYTES_MAX
        line = line[:LINE_BYTES_MAX]
    text = clean(line.decode("utf-8", "replace"))
    if not cut and len(text) <= LINE_CHARS_MAX:
        return text
    if not cut and _is_json(text):
        # Decoding has turned escaped characters into themselves again.
        text = clean(_shorten_json(text))
    return truncate_line(text, already_cut=cut) if cut or len(text) > LINE_CHARS_MAX else text


class LogLevel(StrEnum):
    """Levels of Python's logging."""

    DEBUG = "DEBUG"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"
    CRITICAL = "CRITICAL"


class LogLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the log. `None` is what the line does not tell."""

    text: str
    """The whole line, cleaned."""
    message: str
    """The line without process, level, time and source."""
    proc: str | None = None
    """`APIServer`, `EngineCore`, `EngineCore_DP0`, `Worker_TP0`, …"""
    pid: int | None = None
    level: LogLevel | None = None
    time: str | None = None
    """As written; vLLM's text format has no year: `11-23 11:58:03`."""
    source: str | None = None
    """File and line: `model.py:733`."""


_VLLM = re.compile(
    r"(?:\((?P<proc>[^()]{1,64}?) pid=(?P<pid>\d{1,10})(?:, ip=[\w.:]{1,64})?\) ?)?"
    r"(?:(?P<level>DEBUG|INFO|WARNING|ERROR|CRITICAL) "
    r"(?P<time>\d\d-\d\d \d\d:\d\d:\d\d) \[(?P<source>[^\]]{1,200})\] ?)?"
)
_LEVELS: Final = {str(level): level for level in LogLevel} | {
    "W": LogLevel.WARNING,
    "E": LogLevel.ERROR,
    "F": LogLevel.CRITICAL,
    "I": LogLevel.INFO,
    "WARN": LogLevel.WARNING,
    "error": LogLevel.ERROR,
    "Error": LogLevel.ERROR,
    "Traceback": LogLevel.ERROR,
    "Warning": LogLevel.WARNING,
}

_OTHER: Final = (
    # uvicorn: `INFO:     Application startup complete.`
    (": ", re.compile(r"(?P<level>DEBUG|INFO|WARNING|ERROR|CRITICAL): {1,8}(?P<message>.*)")),
    # FlashInfer: `2026-11-23 11:42:58,159 - INFO - autotuner.py:651 - flashinfer.jit: …`
    (
        " - ",
        re.compile(
            r"(?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)(?:,\d+)? - (?P<level>[A-Z]+) - "
            r"(?:(?P<source>\S+:\d+) - )?(?P<message>.*)"
        ),
    ),
    # TileLang: `2026-11-24 00:38:48  [TileLang:tilelang.jit.kernel:INFO] (kernel.py:133): …`
    (
        "[TileLang:",
        re.compile(
            r"(?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) +\[TileLang:[\w.]+:(?P<level>[A-Z]+)\] "
            r"\((?P<source>\S+:\d+)\): (?P<message>.*)"
        ),
    ),
    # PyTorch C++: `[W1123 11:42:26.010902537 socket.cpp:207] …`
    (
        "]",
        re.compile(
            r"(?:\[rank\d+\]:)?\[(?P<level>[IWEF])(?P<time>\d{4} \d\d:\d\d:\d\d)(?:\.\d+)? (?:\d+ )?"
            r"(?P<source>\S+:\d+)\] ?(?P<message>.*)"
        ),
    ),
    # NCCL: `host:123:456 [0] transport/shm.cc:590 NCCL WARN …`
    ("NCCL ", re.compile(r"\S+:\d+:\d+ \[\d+\] .{0,80}?NCCL (?P<level>WARN|INFO) (?P<message>.*)")),
    # argparse: `vllm serve: error: …`, and vLLM's own `Error: …`
    ("rror: ", re.compile(r"(?:[\w./-]+(?: [a-z-]+)?: (?P<level>error): |(?=Error: ))(?P<message>.*)")),
    # Python warnings: `file.py:138: FutureWarning: …`
    ("Warning: ", re.compile(r"(?P<source>\S+:\d+): \w*(?P<level>Warning): (?P<message>.*)")),
)
"""What stands in such a line, as a cheap test, and its pattern."""
_TRACEBACK: Final = "Traceback (most recent call last):"
_CHAINED: Final = ("During handling of the above exception", "The above exception was the direct cause")
_EXCEPTION = re.compile(r"(?:[A-Za-z_]\w*\.)*(?:[A-Z]\w*)?(?:Error|Exception|Exit|Interrupt|Failure|Iteration)(?::|$)")


class _JsonLine(msgspec.Struct):
    levelname: str
    message: str
    asctime: str | None = None
    name: str | None = None
    vllm_process_name: str | None = None
    process: int | None = None
    exc_info: str | None = None


def _is_json(text: str) -> bool:
    return text.startswith("{") and '"levelname"' in text


def _shorten_json(text: str) -> str:
    """The same line with the start of its message and the end of its traceback, where the exception is."""
    try:
        fields = msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError:
        return text
    message, trace = fields.get("message"), fields.get("exc_info")
    if isinstance(message, str) and len(message) > JSON_FIELD_CHARS_MAX:
        fields["message"] = truncate_line(message, JSON_FIELD_CHARS_MAX)
    if isinstance(trace, str) and len(trace) > JSON_FIELD_CHARS_MAX:
        cut = len(trace) - JSON_FIELD_CHARS_MAX
        fields["exc_info"] = f"{_TRACEBACK}\n  … [{cut:,} cut]\n{trace[-JSON_FIELD_CHARS_MAX:]}"
    return msgspec.json.encode(fields).decode()


_json_decoder = msgspec.json.Decoder(_JsonLine)


def parse_line(text: str) -> LogLine:
    """Read one clean line on its own. A line of a traceback has no level here; `LineParser` gives it one."""
    found = _VLLM.match(text)
    if found is None:  # pragma: no cover - the pattern matches the empty text
        return LogLine(text=text, message=text)
    proc, pid, level, time, source = found.groups()
    message = text[found.end() :]
    number = int(pid) if pid is not None else None
    if level is not None:
        return LogLine(
            text=text, message=message, proc=proc, pid=number, level=_LEVELS[level], time=time, source=source
        )
    return _parse_other(text, message, proc, number)


def _parse_other(text: str, message: str, proc: str | None, pid: int | None) -> LogLine:
    if _is_json(message):
        parsed = _parse_json(text, message)
        if parsed is not None:
            return parsed
    if message.startswith((" ", "Traceback (")):
        level = LogLevel.ERROR if message.startswith("Traceback (") else None
        return LogLine(text=text, message=message, proc=proc, pid=pid, level=level)
    for needle, pattern in _OTHER:
        if needle in message and (found := pattern.match(message)) is not None:
            parts = found.groupdict()
            return LogLine(
                text=text,
                message=parts["message"],
                proc=proc,
                pid=pid,
                level=_LEVELS.get(parts["level"] or "Error"),
                time=parts.get("time"),
                source=parts.get("source"),
            )
    level = LogLevel.ERROR if _EXCEPTION.match(message) else None
    return LogLine(text=text, message=message, proc=proc, pid=pid, level=level)


def _parse_json(text: str, message: str) -> LogLine | None:
    try:
        read = _json_decoder.decode(message)
    except msgspec.DecodeError:
        return None
    said = read.message if read.exc_info is None else f"{read.message} {read.exc_info}"
    return LogLine(
        text=text,
        message=clean(said),
        proc=None if read.vllm_process_name is None else clean(read.vllm_process_name),
        pid=read.process,
        level=_LEVELS.get(read.levelname),
        time=None if read.asctime is None else clean(read.asctime),
        source=None if read.name is None else clean(read.name),
    )


class LineParser:
    """Reads lines in order, so that the lines of a traceback inherit its level, per process."""

    def __init__(self) -> None:
        self._open: dict[int | None, bool] = {}
        """Process with an open traceback: whether its exception line was seen."""

    def parse(self, text: str) -> LogLine:
        """Read the next line."""
        line = parse_line(text)
        if line.level is LogLevel.ERROR and line.source is None and line.message == _TRACEBACK:
            if len(self._open) < PROCESSES_MAX:
                self._open[line.pid] = False
        elif self._open and line.pid in self._open:
            return self._continued(line)
        return line

    def _continued(self, line: LogLine) -> LogLine:
        message = line.message
        if line.source is not None and line.level is not None:
            del self._open[line.pid]
            return line
        if message and not message.startswith((" ", *_CHAINED)):
            if self._open[line.pid]:
                del self._open[line.pid]
                return line
            self._open[line.pid] = True
        return line if line.level is LogLevel.ERROR else msgspec.structs.replace(line, level=LogLevel.ERROR)
