"""The lines of a log in memory, compressed block by block: a million lines in about 20 MiB, any of them in a
millisecond.

Parts with consecutive numbers; between them lie lines that are not read yet, or that are no longer kept. The file is
not read again to show a line: its old parts are gzip files that can only be read from their start, and a recording has
no file at all.
"""

from __future__ import annotations

import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from console.core.logfacts import Facts, Names

__all__ = ["BLOCK_LINES", "Block", "LogStore", "Part", "Seen", "unpack"]

BLOCK_LINES: Final = 2_048
"""A few hundred KiB of text: packed in 3 ms, unpacked in half of one."""
PAGES_KEPT: Final = 12
"""Unpacked blocks: what is in sight, and what the next keys bring."""
LEVEL: Final = 1
"""Of zlib: 7 times smaller; level 6 makes it 9 times for four times the time."""


class Block(NamedTuple):
    """Lines that will not change."""

    first_line: int
    size: int
    """Lines."""
    data: bytes


def unpack(data: bytes) -> list[str]:
    """The lines of a block."""
    return zlib.decompress(data).decode("utf-8", "surrogatepass").split("\n")


def _pack(lines: Sequence[str]) -> bytes:
    text = "\n".join(lines)
    if text.count("\n") != len(lines) - 1:
        text = "\n".join(line.replace("\n", " ") for line in lines)
    return zlib.compress(text.encode("utf-8", "surrogatepass"), LEVEL)


class Part:
    """Lines with consecutive numbers."""

    def __init__(self, first_line: int, facts: Facts) -> None:
        self.first_line = first_line
        self.blocks: list[Block] = []
        self.open: list[str] = []
        """The newest lines, not packed yet."""
        self.facts = facts
        self.packed_bytes = 0

    @property
    def open_line(self) -> int:
        """Number of the first line in `open`."""
        return self.blocks[-1].first_line + self.blocks[-1].size if self.blocks else self.first_line

    @property
    def last_line(self) -> int:
        """One less than `first_line` when there is none."""
        return self.open_line + len(self.open) - 1

    def add(self, lines: Sequence[str]) -> None:
        """The next lines."""
        self.facts.feed(lines)
        self.open.extend(lines)
        while len(self.open) >= 2 * BLOCK_LINES:
            data = _pack(self.open[:BLOCK_LINES])
            self.blocks.append(Block(self.open_line, BLOCK_LINES, data))
            self.packed_bytes += len(data)
            del self.open[:BLOCK_LINES]

    def block_index(self, number: int) -> int:
        """Which block holds this line; all but an opened one are of one size."""
        low, high = 0, len(self.blocks)
        while low < high:
            middle = (low + high) // 2
            if self.blocks[middle].first_line + self.blocks[middle].size <= number:
                low = middle + 1
            else:
                high = middle
        return low

    def truncate(self, first_gone: int) -> None:
        """Forget this line and those after it."""
        if first_gone < self.open_line:
            index = self.block_index(max(first_gone, self.first_line))
            rest = unpack(self.blocks[index].data)
            self.open = rest
            del self.blocks[index:]
            self.packed_bytes = sum(len(block.data) for block in self.blocks)
        del self.open[max(first_gone - self.open_line, 0) :]
        self.facts.truncate(first_gone)

    def drop_blocks(self, count: int) -> None:
        """Forget the oldest blocks; where there are none, the open lines."""
        if self.blocks:
            gone = self.blocks[:count]
            del self.blocks[:count]
            self.packed_bytes -= sum(len(block.data) for block in gone)
            self.first_line = gone[-1].first_line + gone[-1].size
        else:
            self.first_line, self.open = self.last_line + 1, []
        self.facts.drop(self.first_line)


class Seen:
    """Which line numbers somebody has been through, as a few stretches."""

    def __init__(self) -> None:
        self._stretches: list[tuple[int, int]] = []

    @property
    def count(self) -> int:
        """How many lines."""
        return sum(last - first + 1 for first, last in self._stretches)

    def add(self, first: int, last: int) -> None:
        """These too."""
        rest = [stretch for stretch in self._stretches if stretch[1] < first - 1 or stretch[0] > last + 1]
        joined = [stretch for stretch in self._stretches if stretch not in rest] + [(first, last)]
        rest.append((min(s[0] for s in joined), max(s[1] for s in joined)))
        self._stretches = sorted(rest)

    def missing(self, first: int, last: int) -> tuple[int, int] | None:
        """The newest stretch of `first` to `last` that was not seen."""
        for low, high in reversed(self._stretches):
            if low <= last <= high:
                last = low - 1
            elif high < last:
                first = max(first, high + 1)
                break
        return (first, last) if first <= last else None

    def cut(self, first_gone: int) -> None:
        """This line and those after it are other lines from now on."""
        self._stretches = [(low, min(high, first_gone - 1)) for low, high in self._stretches if low < first_gone]


class LogStore:
    """A log, as far as it was read.

    Args:
        stamp_s: reads a line's own time (see `Facts`).
    """

    def __init__(self, stamp_s: Callable[[str], float | None] = lambda text: None) -> None:
        self._stamp_s = stamp_s
        self.names = Names()
        self.parts: list[Part] = []
        """In order; none is empty."""
        self.width = 0
        """Length of the longest line, in characters."""
        self._pages: OrderedDict[int, list[str]] = OrderedDict()

    @property
    def first_line(self) -> int:
        """Number of the first line that is here; 1 when there is none."""
        return self.parts[0].first_line if self.parts else 1

    @property
    def last_line(self) -> int:
        """Number of the newest line; 0 when there is none."""
        return self.parts[-1].last_line if self.parts else 0

    @property
    def count(self) -> int:
        """Lines that are here."""
        return sum(len(part.facts) for part in self.parts)

    @property
    def packed_bytes(self) -> int:
        """Memory taken by packed text."""
        return sum(part.packed_bytes for part in self.parts)

    def gaps(self) -> list[tuple[int, int]]:
        """First and last number of each stretch that is not here."""
        out: list[tuple[int, int]] = []
        next_line = 1
        for part in self.parts:
            if part.first_line > next_line:
                out.append((next_line, part.first_line - 1))
            next_line = part.last_line + 1
        return out

    def part_of(self, number: int) -> Part | None:
        """The part that holds this line."""
        return next((part for part in self.parts if part.first_line <= number <= part.last_line), None)

    def add(self, first_line: int, lines: Sequence[str]) -> None:
        """Lines that are not here yet, after the last of a part or anywhere between two."""
        if not lines:
            return
        place = next((i for i, part in enumerate(self.parts) if part.last_line + 1 == first_line), None)
        if place is None:
            place = sum(part.first_line < first_line for part in self.parts)
            self.parts.insert(place, Part(first_line, Facts(first_line, self.names, self._stamp_s)))
        if place + 1 < len(self.parts):
            lines = lines[: self.parts[place + 1].first_line - first_line]
        self.width = max(self.width, *map(len, lines), 0)
        self.parts[place].add(lines)

    def truncate(self, first_gone: int) -> None:
        """Forget this line and those after it."""
        self._pages.clear()
        while self.parts and self.parts[-1].first_line >= first_gone:
            self.parts.pop()
        if self.parts and self.parts[-1].last_line >= first_gone:
            self.parts[-1].truncate(first_gone)

    def drop_oldest(self, blocks: int) -> None:
        """Forget so many of the oldest blocks, of one part at most."""
        if self.parts:
            self._pages.clear()
            self.parts[0].drop_blocks(blocks)
            if not len(self.parts[0].facts):
                self.parts.pop(0)

    def line(self, number: int) -> str | None:
        """The line with this number, if it is here."""
        part = self.part_of(number)
        if part is None:
            return None
        if number >= part.open_line:
            return part.open[number - part.open_line]
        block = part.blocks[part.block_index(number)]
        return self._page(block)[number - block.first_line]

    def _page(self, block: Block) -> list[str]:
        page = self._pages.get(block.first_line)
        if page is None:
            page = self._pages[block.first_line] = unpack(block.data)
            if len(self._pages) > PAGES_KEPT:
                self._pages.popitem(last=False)
        else:
            self._pages.move_to_end(block.first_line)
        return page

    def lines(self, first_line: int, last_line: int) -> Iterator[tuple[int, str]]:
        """Numbers and lines from `first_line` to `last_line`, those that are here."""
        for number in range(max(first_line, self.first_line), min(last_line, self.last_line) + 1):
            text = self.line(number)
            if text is not None:
                yield number, text

    def pieces(self) -> list[tuple[int, bytes]]:
        """Everything as first lines and packed blocks, in order: what another thread or process can work on."""
        out: list[tuple[int, bytes]] = []
        for part in self.parts:
            out += [(block.first_line, block.data) for block in part.blocks]
            if part.open:
                out.append((part.open_line, _pack(part.open)))
        return out

    def next_piece(self, seen: Seen) -> tuple[int, int, bytes] | None:
        """First line, count and packed text of lines that were not seen, the newest first; `None` if all were."""
        for part in reversed(self.parts):
            if part.open and (piece := self._unseen(seen, part.open_line, part.last_line)):
                return piece
            for block in reversed(part.blocks):
                last = block.first_line + block.size - 1
                rest = seen.missing(block.first_line, last)
                if rest == (block.first_line, last):
                    return *block[:2], block.data
                if rest is not None:
                    return self._unseen(seen, *rest)
        return None

    def _unseen(self, seen: Seen, first: int, last: int) -> tuple[int, int, bytes] | None:
        rest = seen.missing(first, last)
        if rest is None:
            return None
        lines = [text for _, text in self.lines(*rest)]
        return rest[0], len(lines), _pack(lines)

    @property
    def has_times(self) -> bool:
        """Whether any line that is here states its time; times never fall, so the last one tells."""
        return any(part.facts.times and part.facts.times[-1] for part in self.parts)

    def line_at(self, time_s: float) -> int | None:
        """The first line written at this time (as the log writes it) or later; `None` if it may not be here yet.

        After the last line it is the last one.
        """
        next_line = 1
        for part in self.parts:
            number = part.facts.at(time_s)
            if number <= part.last_line:
                gap = number == part.first_line and part.first_line > next_line
                return None if gap else number
            next_line = part.last_line + 1
        return self.last_line or None

    def head(self, number: int) -> int:
        """The line that this one is folded under, or the line itself."""
        part = self.part_of(number)
        return part.facts.head(number) if part is not None else number
