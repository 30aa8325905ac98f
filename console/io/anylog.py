"""Reads a log that this program did not write: a file or standard input, in pieces, checked to be text first.

Separate from `logtail`, which follows a file of ours while it grows; here the end is the end, and a file that is no
log is refused with what it seems to be.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from console.core.errors import UsageError
from console.core.logparse import LineSplitter

__all__ = ["STDIN", "read_lines"]

STDIN: Final = "-"
READ_BYTES: Final = 256 * 1024
SNIFF_BYTES: Final = 8 * 1024
"""What is looked at to tell text from anything else."""
CONTROL_SHARE_MAX: Final = 0.05
"""Of control bytes in text; in machine code and compressed data every tenth byte is one."""

_TEXT_CONTROLS: Final = frozenset(b"\t\n\r\x08\x0c\x1b")
_PACKED: Final = (
    (b"\x1f\x8b", "gzip", "gzip -dc"),
    (b"\xfd7zXZ\x00", "xz", "xz -dc"),
    (b"\x28\xb5\x2f\xfd", "zstd", "zstd -dc"),
    (b"BZh", "bzip2", "bzip2 -dc"),
)
_UTF16: Final = (b"\xff\xfe", b"\xfe\xff")


def read_lines(name: str) -> Iterator[str]:
    """The clean lines of a log, in bounded memory.

    Args:
        name: path of a file, or `-` for standard input.

    Raises:
        UsageError: it is missing, unreadable, empty, or no text.
    """
    try:
        if name == STDIN:
            if sys.stdin is None:
                raise UsageError("There is no standard input", "", "Name a file.")
            yield from _lines(sys.stdin.buffer, "standard input")
        else:
            with Path(name).open("rb") as file:
                yield from _lines(file, name)
    except OSError as error:
        raise UsageError("Cannot read the log", f"{name}: {error.strerror}", _fix(error)) from error


def _fix(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "Name a file, a run (see: dsv4-console status), `last`, or - for standard input."
    if isinstance(error, PermissionError):
        return "Read it as its owner, for example: sudo cat FILE | dsv4-console diagnose -"
    if isinstance(error, IsADirectoryError):
        return "Name the log file in it, for example server.log."
    return "Check the disk and the file."


def _lines(file: BinaryIO, name: str) -> Iterator[str]:
    splitter = LineSplitter()
    data = file.read(READ_BYTES)
    # A short read is the whole of it.
    if len(data) < READ_BYTES and not data.strip():
        raise UsageError("The log is empty", name, "Give the log that the server wrote, with its standard error.")
    _check_text(data[:SNIFF_BYTES], name)
    while data:
        yield from splitter.feed(data)
        data = file.read(READ_BYTES)
    yield from splitter.flush()


def _check_text(head: bytes, name: str) -> None:
    for magic, kind, tool in _PACKED:
        if head.startswith(magic):
            raise UsageError(f"The log is packed with {kind}", name, f"{tool} FILE | dsv4-console diagnose -")
    if head.startswith(_UTF16):
        raise UsageError(
            "The log is in UTF-16", name, "Convert it: iconv -f UTF-16 -t UTF-8 FILE | dsv4-console diagnose -"
        )
    controls = sum(byte < 0x20 and byte not in _TEXT_CONTROLS for byte in head)
    if controls > len(head) * CONTROL_SHARE_MAX:
        raise UsageError("This is no log", f"{name}: binary data", "Give the text that the server wrote.")
