"""The samples of one run on disk: append-only segments of blocks, finer for the newest hours, bounded for ever.

`samples/now.blocks` takes the newest samples, a few per block. Every `SEAL_ROWS` of them are written once to each tier
(`1s-…`, `10s-…`, `60s-…`, merged by `console.core.sampling`), and `now.blocks` starts anew; its oldest segments go
where a tier has too many. All blocks carry the running numbers of the samples in them, so that a reader puts the tiers
together without overlap, whatever the clock did. A block that a crash tore or a disk damaged costs that block only.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from console.core.models import Sample
from console.core.samplecode import CodeError, decode, encode
from console.core.sampling import Columns, concat, flatten, from_rows, groups, reduce, thin, to_samples, within

__all__ = [
    "SEAL_ROWS",
    "TIERS",
    "SampleStore",
    "Tier",
    "append_whole",
    "read_blocks",
    "read_columns",
    "read_samples",
    "time_range",
]

SEAL_ROWS: Final = 300
"""Samples that are written to the tiers together: five minutes at 1 Hz."""
NOW_ROWS_MAX: Final = 1_200
"""Where the tiers cannot be written, so many samples wait; more are refused."""
MAGIC: Final = b"DSB1"
HEADER: Final = struct.Struct("<4sIIIIQdd")
"""Magic, length of the payload, CRC-32 of all that follows, ticks, samples, number of the first tick, first and last
wall-clock time."""
CRC_FROM: Final = 12
"""Offset in the header from which on the checksum counts."""
PAYLOAD_MAX: Final = 16 * 1024 * 1024
MIB: Final = 1024 * 1024


class Tier(NamedTuple):
    """One resolution."""

    name: str
    width_s: float
    """Samples of so many seconds become one; 0 keeps all."""
    rows_max: int
    """Samples of one segment."""
    segments_max: int
    bytes_max: int
    """Of all its segments."""


TIERS: Final = (
    Tier("1s", 0.0, 3_600, 7, 24 * MIB),
    Tier("10s", 10.0, 2_160, 9, 24 * MIB),
    Tier("60s", 60.0, 1_440, 31, 32 * MIB),
)
"""Finest first: the newest six hours, two days, a month."""


class Block(NamedTuple):
    """Where one block is and what is in it."""

    path: Path
    offset: int
    length: int
    """Of the payload."""
    crc: int
    ticks: int
    """That it stands for."""
    rows: int
    first: int
    """Number of the first tick."""
    first_s: float
    last_s: float

    @property
    def end(self) -> int:
        """Number of the first tick after it."""
        return self.first + self.ticks

    @property
    def end_offset(self) -> int:
        """Of the first byte after it."""
        return self.offset + HEADER.size + self.length


class SampleStore:
    """Writes samples of one run. There is one writer at a time: the supervisor that holds the run."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._now_path = folder / "now.blocks"
        self._opened = False
        self._next = 0
        self._now_rows = 0

    def append(self, samples: Sequence[Sample]) -> None:
        """Write samples, whole or not at all.

        Raises:
            OSError: they could not be written, or the tiers could not be for long.
        """
        if not samples:
            return
        self._open()
        if self._now_rows >= SEAL_ROWS:
            self._seal_if_possible()
        if self._now_rows >= NOW_ROWS_MAX:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        columns = from_rows([flatten(sample) for sample in samples])
        append_whole(self._now_path, _frame(columns, self._next, columns.rows))
        self._next += columns.rows
        self._now_rows += columns.rows
        if self._now_rows >= SEAL_ROWS:
            self._seal_if_possible()

    def seal(self, columns: Columns, first: int, count: int) -> None:
        """Write ticks to every tier that does not have them yet.

        Raises:
            OSError: a tier could not be written.
        """
        merged: dict[Tier, Columns] = {}
        for tier in TIERS:
            merged[tier] = columns = reduce(columns, groups(columns, tier.width_s)) if tier.width_s else columns
        for tier in reversed(TIERS):
            segments = _segments(self._folder, tier)
            blocks = scan(segments[-1]) if segments else []
            if blocks and blocks[-1].end > first:
                continue
            path = segments[-1] if segments else None
            if path is None or sum(block.rows for block in blocks) >= tier.rows_max or not blocks:
                path = self._folder / f"{tier.name}-{first:012d}.blocks"
            append_whole(path, _frame(merged[tier], first, count))
            _prune(_segments(self._folder, tier), tier)

    def _open(self) -> None:
        """Cut off what a crash has torn, and find out where to go on."""
        if self._opened:
            return
        self._folder.mkdir(mode=0o700, exist_ok=True)
        ends = [0]
        for tier in TIERS:
            if segments := _segments(self._folder, tier):
                ends += [block.end for block in _mend(segments[-1])]
        waiting = _mend(self._now_path)
        self._next = max(ends + [block.end for block in waiting])
        self._now_rows = sum(block.rows for block in waiting)
        # A supervisor that was lost while it wrote the tiers: what one of them has, all must get.
        if waiting and waiting[0].first < max(ends):
            self._seal_if_possible()
        self._opened = True

    def _seal_if_possible(self) -> None:
        """A full disk leaves the samples where they are; it is tried again with the next ones."""
        blocks = scan(self._now_path)
        with contextlib.suppress(OSError):
            parts = [columns for block in blocks if (columns := _load(block)) is not None]
            if parts:
                whole = concat(parts)
                self.seal(whole, blocks[0].first, blocks[-1].end - blocks[0].first)
            self._now_path.unlink(missing_ok=True)
            self._now_rows = 0


def read_samples(
    folder: Path,
    *,
    since_s: float | None = None,
    until_s: float | None = None,
    points_max: int | None = None,
    only: Sequence[str] | None = None,
) -> tuple[Sample, ...]:
    """Samples, oldest first; damaged ones are passed over.

    Args:
        folder: of the store.
        since_s: wall-clock time from which on.
        until_s: and until when.
        points_max: at most so many, evenly over the time.
        only: paths, or beginnings of them, to read; all of them otherwise.
    """
    if points_max is None:
        return tuple(
            sample
            for columns in read_blocks(folder, since_s=since_s, until_s=until_s, only=only)
            for sample in to_samples(columns)
        )
    columns = read_columns(folder, since_s=since_s, until_s=until_s, points_max=points_max, only=only)
    return tuple(to_samples(columns))


def read_columns(
    folder: Path,
    *,
    since_s: float | None = None,
    until_s: float | None = None,
    points_max: int,
    only: Sequence[str] | None = None,
) -> Columns:
    """The same as columns, at most `points_max` samples."""
    known = time_range(folder)
    width_s = 0.0
    if known is not None:
        start_s, end_s = max(since_s or known[0], known[0]), min(until_s or known[1], known[1])
        width_s = max(end_s - start_s, 0.0) / points_max
    blocks = read_blocks(folder, since_s=since_s, until_s=until_s, width_s=width_s, only=only)
    return thin(concat(blocks), points_max)


def read_blocks(
    folder: Path,
    *,
    since_s: float | None = None,
    until_s: float | None = None,
    width_s: float = 0.0,
    only: Sequence[str] | None = None,
) -> Iterator[Columns]:
    """Samples in blocks, oldest first, each tick once.

    Args:
        folder: of the store.
        since_s: wall-clock time from which on.
        until_s: and until when.
        width_s: samples may be so coarse where the store has them; 0 wants the finest.
        only: paths, or beginnings of them, to read.
    """
    # First what waits: once read, it does not matter whether it is written to the tiers meanwhile.
    waiting = [(block, _load(block, only)) for block in scan(folder / "now.blocks")]
    stored: dict[int, list[tuple[Tier, Block]]] = {}
    for tier in TIERS:
        for path in _segments(folder, tier):
            for block in scan(path):
                stored.setdefault(block.first, []).append((tier, block))
    if waiting:
        # While the tiers are written, or were when a supervisor was lost, what waits is finer than what they have.
        begin = waiting[0][0].first
        stored = {at: pairs for at, pairs in stored.items() if at < begin or pairs[0][0] is TIERS[0]}
    end = 0
    for first in sorted(stored):
        choices = stored[first]
        if first < end or not any(_meets(block, since_s, until_s) for _, block in choices):
            continue
        coarse = [pair for pair in choices if pair[0].width_s <= width_s]
        # The coarsest that is fine enough; where it is damaged or gone, what is left, the finest first.
        for _, block in (*coarse[::-1], *(pair for pair in choices if pair not in coarse)):
            columns = _load(block, only)
            if columns is not None:
                end = block.end
                yield within(columns, since_s, until_s)
                break
    sealed = max((block.end for pairs in stored.values() for _, block in pairs), default=0)
    for block, columns in waiting:
        if columns is not None and block.first >= sealed and _meets(block, since_s, until_s):
            yield within(columns, since_s, until_s)


def time_range(folder: Path) -> tuple[float, float] | None:
    """Earliest and latest wall-clock time in the store; `None` if it is empty."""
    blocks = scan(folder / "now.blocks")
    for tier in TIERS:
        for path in _segments(folder, tier):
            blocks += scan(path)
    if not blocks:
        return None
    return min(block.first_s for block in blocks), max(block.last_s for block in blocks)


def _meets(block: Block, since_s: float | None, until_s: float | None) -> bool:
    return (since_s is None or block.last_s >= since_s) and (until_s is None or block.first_s <= until_s)


def _segments(folder: Path, tier: Tier) -> list[Path]:
    """Oldest first."""
    return sorted(folder.glob(f"{tier.name}-*.blocks"))


def _frame(columns: Columns, first: int, count: int) -> bytes:
    payload = encode(columns)
    times = columns.times
    header = HEADER.pack(MAGIC, len(payload), 0, count, columns.rows, first, min(times), max(times))
    crc = zlib.crc32(payload, zlib.crc32(header[CRC_FROM:]))
    return header[: CRC_FROM - 4] + crc.to_bytes(4, "little") + header[CRC_FROM:] + payload


def scan(path: Path) -> list[Block]:
    """The blocks of one file by their headers; what is none between them is passed over. Empty without a file."""
    found: list[Block] = []
    with contextlib.suppress(OSError), path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        offset = 0
        while offset + HEADER.size <= size:
            file.seek(offset)
            block = _block(path, offset, file.read(HEADER.size))
            if block is not None and block.end_offset <= size:
                found.append(block)
                offset = block.end_offset
                continue
            file.seek(offset + 1)
            at = file.read(PAYLOAD_MAX).find(MAGIC)
            if at < 0:
                break
            offset += 1 + at
    return found


def _block(path: Path, offset: int, header: bytes) -> Block | None:
    magic, length, crc, ticks, rows, first, first_s, last_s = HEADER.unpack(header)
    if magic != MAGIC or length > PAYLOAD_MAX or not rows or not ticks:
        return None
    return Block(path, offset, length, crc, ticks, rows, first, first_s, last_s)


def _load(block: Block, only: Sequence[str] | None = None) -> Columns | None:
    """Its samples; `None` if it is damaged or gone."""
    try:
        with block.path.open("rb") as file:
            file.seek(block.offset)
            data = file.read(HEADER.size + block.length)
        if zlib.crc32(data[CRC_FROM:]) != block.crc:
            return None
        return decode(data[HEADER.size :], only)
    except (OSError, CodeError):
        return None


def _mend(path: Path) -> list[Block]:
    """Cut off what follows the last good block. Returns the blocks; empty without a file."""
    if not path.exists():
        return []
    good = [block for block in scan(path) if _load(block, ()) is not None]
    end = good[-1].end_offset if good else 0
    if path.stat().st_size > end:
        os.truncate(path, end)
    return good


def append_whole(path: Path, data: bytes) -> None:
    """Add to a private file all or nothing, so that a full disk leaves no half record that spoils the next one.

    Raises:
        OSError: it does not fit.
    """
    with path.open("ab", buffering=0) as file:
        size = file.tell()
        if size == 0:
            os.fchmod(file.fileno(), 0o600)
        written = file.write(data)
        if written != len(data):
            file.truncate(size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _prune(segments: list[Path], tier: Tier) -> None:
    """Remove the oldest segments of a tier that has too many, never the newest."""
    sizes = [path.stat().st_size for path in segments]
    while len(segments) > 1 and (len(segments) > tier.segments_max or sum(sizes) > tier.bytes_max):
        segments.pop(0).unlink(missing_ok=True)
        sizes.pop(0)
