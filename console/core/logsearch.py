"""Which lines hold a text or match a pattern, and where in them."""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

__all__ = ["PATTERN_CHARS_MAX", "Hits", "Matcher"]

PATTERN_CHARS_MAX: Final = 500


class Matcher:
    """One search; capitals or not are alike.

    Args:
        text: what is looked for.
        regex: it is a pattern as Python's `re` reads it.

    Raises:
        ValueError: it is no pattern; says why and where.
    """

    def __init__(self, text: str, *, regex: bool) -> None:
        if len(text) > PATTERN_CHARS_MAX:
            raise ValueError(f"longer than {PATTERN_CHARS_MAX} characters")
        try:
            self._pattern = re.compile(text if regex else re.escape(text), re.IGNORECASE)
        except re.error as error:
            where = f" at character {error.pos + 1}" if error.pos is not None else ""
            raise ValueError(f"{error.msg}{where}") from error
        except (OverflowError, RecursionError, MemoryError) as error:
            raise ValueError("too large a pattern") from error
        self._plain = None if regex else text.casefold()

    def find(self, lines: Sequence[str]) -> list[tuple[int, int, int]]:
        """Index, begin and end of the first match in each line that has one."""
        plain, search = self._plain, self._pattern.search
        out = []
        for index, line in enumerate(lines):
            if plain is not None and plain not in line.casefold():
                continue
            found = search(line)
            if found is not None:
                out.append((index, *found.span()))
            elif plain is not None:
                out.append((index, 0, 0))  # alike only when folded: `ß` and `SS`
        return out


class Hits:
    """Numbers of lines that match, in order, with where in the line: eight bytes each."""

    def __init__(self) -> None:
        self.lines: array[int] = array("I")
        self._spans: array[int] = array("I")

    def __len__(self) -> int:
        return len(self.lines)

    def add(self, lines: array[int], spans: array[int]) -> None:
        """Those of a stretch of lines that has not been through."""
        if lines:
            at = bisect_left(self.lines, lines[0])
            self.lines[at:at] = lines
            self._spans[at:at] = spans

    def keep(self, first_line: int, end_line: int) -> None:
        """Forget all before `first_line`, and from `end_line` on."""
        low, high = bisect_left(self.lines, first_line), bisect_left(self.lines, end_line)
        self.lines, self._spans = self.lines[low:high], self._spans[low:high]

    def span(self, number: int) -> tuple[int, int] | None:
        """Where the match is in this line; `None` if it has none."""
        at = bisect_left(self.lines, number)
        if at >= len(self.lines) or self.lines[at] != number:
            return None
        return self._spans[at] >> 16, self._spans[at] & 0xFFFF

    def place(self, number: int) -> int | None:
        """Which of the hits this line is, counted from 1."""
        at = bisect_left(self.lines, number)
        return at + 1 if at < len(self.lines) and self.lines[at] == number else None

    def after(self, number: int) -> int | None:
        """The next line that matches; past the last begins with the first."""
        if not self.lines:
            return None
        at = bisect_left(self.lines, number + 1)
        return self.lines[at if at < len(self.lines) else 0]

    def before(self, number: int) -> int | None:
        """The line before that matches; before the first comes the last."""
        return self.lines[bisect_left(self.lines, number) - 1] if self.lines else None
