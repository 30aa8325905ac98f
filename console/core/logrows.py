"""Which lines of a log are shown: filtered by level, process and time, with repeats, bars and tracebacks folded.

Numbers of lines in order, four bytes each. No line is lost: what is not shown is folded under a row that is, or does
not fit the filter.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from itertools import compress
from typing import Final

import msgspec

from console.core.logfacts import LEVELS, Facts
from console.core.logstore import LogStore

__all__ = ["ALL", "Rows", "Wanted", "shown"]

_BYTE: Final = bytes(range(256))


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """A filter."""

    level: int = 0
    """The least rank in `LEVELS`."""
    procs: frozenset[str] = frozenset()
    """Names of processes; empty wants all, `""` those lines that name none."""
    from_s: float | None = None
    until_s: float | None = None
    """As the log writes its times; the end is included."""

    def text(self) -> str:
        """The filter in words, without its times; empty if it wants everything."""
        level = f"≥ {LEVELS[self.level]}" if self.level else ""
        named = ", ".join(name or "no name" for name in sorted(self.procs))
        return " · ".join(part for part in (level, named) if part)


ALL: Final = Wanted()


def shown(
    facts: Facts, names: tuple[str, ...], first: int, last: int, wanted: Wanted, fold: bool, opened: set[int]
) -> array[int]:
    """Numbers of the lines from `first` to `last` that are shown.

    Args:
        facts: of the part that holds them.
        names: of processes, by their number from 1.
        first: number of a line.
        last: number of a line.
        wanted: the filter.
        fold: fold what can be folded.
        opened: rows whose folded lines are shown nevertheless.
    """
    begin, end = first, last
    if wanted.from_s is not None:
        begin = max(begin, facts.at(wanted.from_s))
    if wanted.until_s is not None:
        end = min(end, facts.at(int(wanted.until_s) + 1) - 1)
    if begin > end:
        return array("I")
    low, high = begin - facts.first_line, end + 1 - facts.first_line
    numbers = range(begin, end + 1)
    # Whole columns at a time: a loop over a million lines would hold up the keys.
    mask = int.from_bytes(b"\x01" * len(numbers), "little")
    if wanted.level:
        table = bytes(rank >= wanted.level for rank in range(256))
        mask &= int.from_bytes(facts.levels[low:high].translate(table), "little")
    if wanted.procs:
        allowed = {0 if not name else names.index(name) + 1 for name in wanted.procs if not name or name in names}
        table = bytes(number in allowed for number in _BYTE)
        mask &= int.from_bytes(facts.procs[low:high].translate(table), "little")
    if fold:
        folded = facts.folded[low:high]
        bounded = wanted.from_s is not None and begin > facts.first_line
        if opened or bounded:
            for index in compress(range(len(folded)), folded):
                above = facts.links[low + index]
                if above in opened or (bounded and above < begin):
                    folded[index] = 0
        mask &= int.from_bytes(folded.translate(bytes((1, 0)) + bytes(254)), "little")
    return array("I", compress(numbers, mask.to_bytes(len(numbers), "little")))


class Rows:
    """What is shown of a store, kept up to date as it grows."""

    def __init__(self) -> None:
        self.wanted = ALL
        self.fold = True
        self.opened: set[int] = set()
        """Rows that were opened by hand."""
        self.numbers: array[int] = array("I")
        """Line numbers in order. The first number of a gap stands for the gap."""
        self._done: list[tuple[int, int]] = []
        """First and last line of what was taken in."""
        self._gaps: list[int] = []

    def __len__(self) -> int:
        return len(self.numbers)

    def clear(self) -> None:
        """Begin anew at the next `update`: the filter has changed, or lines were taken back."""
        self.numbers = array("I")
        self._done, self._gaps = [], []

    def update(self, store: LogStore) -> bool:
        """Take in what the store has more or less than before; whether there was anything."""
        now = [(part.first_line, part.last_line) for part in store.parts]
        if now == self._done:
            return False
        self._remove_gaps()
        if self._done and (not now or now[0][0] > self._done[0][0]):
            # Lines were dropped: what was folded under them is shown now.
            self.clear()
        names = store.names.all
        for part in store.parts:
            before = self._done_in(part.first_line, part.last_line)
            if before is None:
                self._insert(shown(part.facts, names, part.first_line, part.last_line, *self._how))
            elif before[1] < part.last_line:
                self._insert(shown(part.facts, names, before[1] + 1, part.last_line, *self._how))
        self._done = now
        self._gaps = [first for first, _ in store.gaps()]
        for number in self._gaps:
            self.numbers.insert(bisect_left(self.numbers, number), number)
        return True

    @property
    def _how(self) -> tuple[Wanted, bool, set[int]]:
        return self.wanted, self.fold, self.opened

    def _done_in(self, first: int, last: int) -> tuple[int, int] | None:
        return next((done for done in self._done if done[0] == first and done[1] <= last), None)

    def _insert(self, numbers: array[int]) -> None:
        if numbers:
            low, high = bisect_left(self.numbers, numbers[0]), bisect_right(self.numbers, numbers[-1])
            self.numbers[low:high] = numbers

    def _remove_gaps(self) -> None:
        for number in self._gaps:
            index = bisect_left(self.numbers, number)
            if index < len(self.numbers) and self.numbers[index] == number:
                del self.numbers[index]

    def toggle(self, store: LogStore, number: int) -> None:
        """Open what is folded under this row, or fold it again."""
        if number in self.opened:
            self.opened.discard(number)
        else:
            self.opened.add(number)
        self.clear()
        self.update(store)

    def index_of(self, number: int) -> int:
        """The row of this line, or of the nearest one above it that is shown; 0 if there is none."""
        return max(bisect_right(self.numbers, number) - 1, 0)

    @property
    def gaps(self) -> tuple[int, ...]:
        """Rows that stand for a gap."""
        return tuple(self._gaps)

    def is_gap(self, number: int) -> bool:
        """Whether this row stands for lines that are not here."""
        return number in self._gaps
