"""What the log pane must know of every line to filter and fold it: level, process, time, and what it is folded under.

Ten bytes a line in columns, filled once as lines arrive, in order. Separate from `logparse`, which reads one line
whole: a million objects would cost a gigabyte.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from console.core.logparse import PROCESSES_MAX, LogLevel, parse_line

__all__ = ["FOLD_ROWS", "LEVELS", "Facts", "Names", "level_of"]

LEVELS: Final = (LogLevel.DEBUG, LogLevel.INFO, LogLevel.WARNING, LogLevel.ERROR, LogLevel.CRITICAL)
"""By rank. A line that states none counts as INFO."""
FOLD_ROWS: Final = 16
"""A line repeats one of the last so many shown rows, or it is shown again: what goes on stays in sight."""
STAMPS_KEPT: Final = 4_096
NO_TIME: Final = 0

_RANKS: Final[dict[str, int]] = {str(level): rank for rank, level in enumerate(LEVELS)}
_HEAD = re.compile(
    r"(?:\((?P<proc>[^()]{1,64}?) pid=(?P<pid>\d{1,10})(?:, ip=[\w.:]{1,64})?\) ?)?"
    r"(?:(?P<level>DEBUG|INFO|WARNING|ERROR|CRITICAL) "
    r"(?P<time>\d\d-\d\d \d\d:\d\d:\d\d) \[(?:[^\]]{1,200})\] ?)?"
)
"""As `logparse` reads it, without what is not kept here."""
_PROGRESS = re.compile(r"(.{0,120}?)\s{0,8}\d{1,3}%(?: Completed)? ?\|.{0,200}?\[")
"""A tqdm bar: `Loading safetensors checkpoint shards:  35% Completed | 16/46 [00:12<00:20,  1.51it/s]`."""
_CLIENT = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}:\d{1,5}(?= - \")")
"""Who sent a request, in uvicorn's lines: the port differs each time."""
_TRACE = re.compile(r"[ +|]{0,16}(?:Exception Group )?Traceback \(most recent call last\):")


class Names:
    """Process names as small numbers; 0 is no name."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {"": 0}

    def number(self, name: str) -> int:
        """The number of this name. Past the limit all others share the last one."""
        found = self._numbers.get(name)
        if found is None:
            found = min(len(self._numbers), PROCESSES_MAX - 1)
            if len(self._numbers) < PROCESSES_MAX:
                self._numbers[name] = found
        return found

    @property
    def all(self) -> tuple[str, ...]:
        """Names seen, without the empty one, in the order of their first line."""
        return tuple(self._numbers)[1:]


class Facts:
    """Columns over consecutive lines, the first of which is `first_line`.

    Args:
        first_line: number of the first line to come.
        names: shared by all parts of a log.
        stamp_s: reads a line's own time in seconds; `None` if it has none, or none to be believed.
    """

    def __init__(self, first_line: int, names: Names, stamp_s: Callable[[str], float | None]) -> None:
        self.first_line = first_line
        self._names = names
        self._stamp_s = stamp_s
        self.levels = bytearray()
        """Rank in `LEVELS`."""
        self.procs = bytearray()
        self.times = array("I")
        """Seconds as the log writes them (as if its clock were UTC), never falling; `NO_TIME` before the first."""
        self.folded = bytearray()
        """1 where a line is folded under an earlier one."""
        self.links = array("I")
        """Of a folded line the line above it; of another the last line folded under it, or 0."""
        self._stamps: dict[str, int] = {}
        self._traces: dict[str | None, int] = {}
        """Process with an open traceback: where it begins."""
        self._recent: dict[tuple[object, ...], int] = {}
        """What the last shown rows say, and where."""
        self._order: deque[tuple[object, ...]] = deque()

    def __len__(self) -> int:
        return len(self.levels)

    @property
    def last_line(self) -> int:
        """One less than `first_line` when there is none."""
        return self.first_line + len(self.levels) - 1

    def feed(self, lines: Sequence[str]) -> None:
        """Take in the next lines."""
        number = self.last_line
        time = self.times[-1] if self.times else NO_TIME
        # Bound once and collected in lists: this runs for every line of every log.
        match, ranks, stamps, above_of = _HEAD.match, _RANKS, self._stamps, self._above
        known, known_number = "", 0
        levels: list[int] = []
        procs: list[int] = []
        times: list[int] = []
        links: list[int] = []
        base = number + 1
        for text in lines:
            number += 1
            found = match(text)
            proc, pid, stated, stamp = found.groups() if found is not None else (None, None, None, None)
            message = text[found.end() :] if found is not None else text
            rank = None
            if stated is not None:
                rank = ranks[stated]
            elif message[:1] not in (" ", ""):
                parsed = parse_line(text)
                rank = ranks.get(parsed.level) if parsed.level is not None else None
                proc, stamp = parsed.proc or proc, parsed.time
            if stamp is not None:
                at = stamps.get(stamp)
                if at is None:
                    at = self._time(stamp, text)
                time = max(time, at)
            if proc != known:
                known = proc or ""
                known_number = self._names.number(known)
            above, level = above_of(number, pid or proc, message, rank)
            levels.append(level)
            procs.append(known_number)
            times.append(time)
            links.append(above)
            if above >= base:
                links[above - base] = number
            elif above:
                self.links[above - self.first_line] = number
        self.levels += bytes(levels)
        self.procs += bytes(procs)
        self.times.extend(times)
        self.folded += bytes(0 < above < base + i for i, above in enumerate(links))
        self.links.extend(links)

    def _above(self, number: int, who: str | None, message: str, level: int | None) -> tuple[int, int]:
        """What a line is folded under (0: nothing), and its level."""
        rank = level if level is not None else 1
        trace = self._traces.get(who)
        if trace is not None:
            if not message or message[0] == " ":
                return trace, max(rank, 3)
            # The first line at the edge is the exception: it stays in sight.
            del self._traces[who]
            rank = rank if level is not None else 3
        if "Traceback" in message and _TRACE.match(message):
            if len(self._traces) < PROCESSES_MAX:
                self._traces[who] = number
            return 0, max(rank, 3)
        if "%" in message and "[" in message and (bar := _PROGRESS.match(message)) is not None:
            key: tuple[object, ...] = (who, rank, bar[1], "%")
        else:
            key = (who, rank, _CLIENT.sub("", message, 1) if level is not None and ' - "' in message else message)
        above = self._recent.get(key, 0)
        if not above:
            self._recent[key] = number
            self._order.append(key)
            if len(self._order) > FOLD_ROWS:
                del self._recent[self._order.popleft()]
        return above, rank

    def _time(self, stamp: str, text: str) -> int:
        if len(self._stamps) >= STAMPS_KEPT:
            self._stamps.clear()
        found = self._stamp_s(text)
        at = self._stamps[stamp] = int(found) if found is not None and 0 < found < 2**32 else NO_TIME
        return at

    def truncate(self, first_gone: int) -> None:
        """Forget this line and those after it."""
        keep = max(first_gone - self.first_line, 0)
        for column in (self.levels, self.procs, self.times, self.folded, self.links):
            del column[keep:]
        self._traces.clear()
        self._recent.clear()
        self._order.clear()
        for i, last in enumerate(self.links):
            if last >= first_gone and not self.folded[i]:
                self.links[i] = next((n for n in range(self.last_line, self.first_line + i, -1)
                                      if self._is_under(n, self.first_line + i)), 0)  # fmt: skip

    def _is_under(self, number: int, above: int) -> bool:
        index = number - self.first_line
        return bool(self.folded[index]) and self.links[index] == above

    def drop(self, first_kept: int) -> None:
        """Forget the lines before this one. What was folded under them is shown from now on."""
        gone = min(max(first_kept - self.first_line, 0), len(self))
        for column in (self.levels, self.procs, self.times, self.folded, self.links):
            del column[:gone]
        self.first_line += gone
        for i, above in enumerate(self.links):
            if self.folded[i] and above < self.first_line:
                self.folded[i], self.links[i] = 0, 0
        while self._order and self._recent[self._order[0]] < self.first_line:
            del self._recent[self._order.popleft()]
        self._traces = {pid: line for pid, line in self._traces.items() if line >= self.first_line}

    def head(self, number: int) -> int:
        """The line that this one is folded under, or the line itself."""
        index = number - self.first_line
        return self.links[index] if 0 <= index < len(self) and self.folded[index] else number

    def last_under(self, number: int) -> int:
        """The last line folded under this one; 0 if there is none."""
        index = number - self.first_line
        return self.links[index] if 0 <= index < len(self) and not self.folded[index] else 0

    def under(self, number: int) -> list[int]:
        """All lines folded under this one."""
        last = self.last_under(number)
        return [n for n in range(number + 1, last + 1) if self._is_under(n, number)] if last else []

    def count_under(self, number: int) -> int:
        """How many lines are folded under this one."""
        last = self.last_under(number)
        return self.links[number + 1 - self.first_line : last + 1 - self.first_line].count(number) if last else 0

    def at(self, time_s: float) -> int:
        """The first line that was written at this time or later; one past the last if there is none."""
        return self.first_line + bisect_left(self.times, time_s)


def level_of(rank: int) -> LogLevel:
    """The level of this rank."""
    return LEVELS[rank]
