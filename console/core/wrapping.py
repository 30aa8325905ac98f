"""Takes off what others put before a line of vLLM's log: container runtimes, journald, Kubernetes, docker compose.

Separate from `logparse`, which knows vLLM's own formats: a log that this program wrote has none of this, a log that
somebody sends has often one or two of it.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from console.core.logparse import LineParser, LogLine
from console.core.text import clean

__all__ = ["AnyLogParser", "unwrap"]

LAYERS_MAX: Final = 3
"""Prefixes taken off one line: compose before a time before a stream is the most that was seen."""

_TIME = r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z|[+-]\d\d:?\d\d)"
_LAYERS: Final = (
    # kubelet's files (CRI): `2026-11-23T11:58:03.123456789Z stdout F …`
    re.compile(rf"{_TIME} (?:stdout|stderr) [FP] ?"),
    # journalctl -o short-iso: `2026-11-23T11:58:03+0000 host vllm[71]: …`
    re.compile(rf"{_TIME} [\w.-]{{1,255}} [^\s\[\]:]{{1,64}}\[\d{{1,10}}\]: ?"),
    # docker logs -t, kubectl logs --timestamps: `2026-11-23T11:58:03.123456789Z …`
    re.compile(rf"{_TIME} ?"),
    # journalctl, syslog: `Nov 23 11:58:03 host vllm[71]: …`
    re.compile(
        r"[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d(?:\.\d{1,9})? [\w.-]{1,255} [^\s\[\]:]{1,64}(?:\[\d{1,10}\])?: ?"
    ),
    # docker compose: `vllm-1  | …`
    re.compile(r"[A-Za-z0-9][\w.-]{0,127}? {0,32}\| ?(?=\(|[A-Z]|Traceback| |\{|\d|$)"),
    # kubectl logs --prefix: `[pod/vllm-0/vllm] …`
    re.compile(r"\[pod/[\w./-]{1,255}\] ?"),
)
_DOCKER: Final = '{"log":'


class _DockerLine(msgspec.Struct):
    """One line of docker's `json-file` log driver."""

    log: str
    stream: str


_docker_decoder = msgspec.json.Decoder(_DockerLine)


def unwrap(text: str) -> str:
    """The line as vLLM wrote it; a line that nobody wrapped is returned as it is."""
    for _ in range(LAYERS_MAX):
        inner = _inner(text)
        if inner is None:
            break
        text = inner
    return text


def _inner(text: str) -> str | None:
    first = text[:1]
    if first == "(" or not text:
        return None  # vLLM's own prefix, or nothing: the most frequent by far
    if text.startswith(_DOCKER):
        try:
            return clean(_docker_decoder.decode(text).log.rstrip("\r\n"))
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
    for layer in _LAYERS:
        found = layer.match(text)
        if found is not None:
            return text[found.end() :]
    return None


class AnyLogParser:
    """As `LineParser`, for a log from elsewhere. `text` of a line stays the line as it stands in the file."""

    def __init__(self) -> None:
        self._parser = LineParser()

    def parse(self, text: str) -> LogLine:
        """Read the next clean line."""
        inner = unwrap(text)
        line = self._parser.parse(inner)
        if inner is text:
            return line
        changes: dict[str, Any] = {"text": text}
        return msgspec.structs.replace(line, **changes)
