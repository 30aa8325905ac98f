"""The process that searches: packed lines in, hits out, until its input ends.

A process of its own because a pattern can take for ever on one line (`(a+)+$`), and nothing ends Python's `re` in the
middle of that but a signal that ends the process. A timer of the kernel sends it, so that it ends even without us.
"""

from __future__ import annotations

import signal
import struct
import sys
from array import array
from typing import BinaryIO

import msgspec

from console.core.logsearch import Matcher
from console.core.logstore import unpack

__all__ = ["FRAME", "REFUSED", "main"]

FRAME = struct.Struct("<QI")
"""First line and length: of packed lines in bytes, of an answer in hits."""
REFUSED = 2**64 - 1
"""In place of a first line: no pattern; the length is that of the reason."""
CPU_S = 2.0
"""Of a block of lines, which takes milliseconds otherwise."""


def _read(source: BinaryIO) -> tuple[int, bytes] | None:
    head = source.read(FRAME.size)
    if len(head) < FRAME.size:
        return None
    number, size = FRAME.unpack(head)
    return number, source.read(size)


def main() -> int:
    """Search until the input ends."""
    source, target = sys.stdin.buffer, sys.stdout.buffer
    signal.signal(signal.SIGVTALRM, signal.SIG_DFL)
    asked = _read(source)
    if asked is None:
        return 0
    signal.setitimer(signal.ITIMER_VIRTUAL, CPU_S)
    try:
        matcher = Matcher(**msgspec.json.decode(asked[1]))
    except ValueError as error:
        reason = str(error).encode()
        target.write(FRAME.pack(REFUSED, len(reason)) + reason)
        target.flush()
        return 0
    while (piece := _read(source)) is not None:
        signal.setitimer(signal.ITIMER_VIRTUAL, CPU_S)
        found = matcher.find(unpack(piece[1]))
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        lines = array("I", (piece[0] + index for index, _, _ in found))
        spans = array("I", (min(begin, 0xFFFF) << 16 | min(end, 0xFFFF) for _, begin, end in found))
        target.write(FRAME.pack(piece[0], len(found)) + lines.tobytes() + spans.tobytes())
        target.flush()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
