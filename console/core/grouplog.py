"""The logs of a group's machines as one: by time, each line with its machine, nothing lost, and in an order that stays.

A line's machine goes into its process, `(Worker_TP0 pid=7)` becomes `(node-a/Worker_TP0 pid=7)`: whatever reads a log
by process reads it by machine too.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from console.core.logtimes import stamp_s

__all__ = ["HOLD_S", "HOST_CHARS_MAX", "Merger", "short_hosts", "with_node"]

HOST_CHARS_MAX: Final = 28
"""Of a machine's name, so that a process fits beside it into what the parser takes for one (64)."""
HOLD_S: Final = 2.0
"""A line waits so long for earlier ones of other machines; logs are copied ten times a second."""
YEAR_S: Final = 366 * 86_400.0
"""A stamp further from the start of the group is none."""

_PREFIX = re.compile(r"\((?P<proc>[^()]{1,32}?) (?P<pid>pid=\d{1,10}(?:, ip=[\w.:]{1,64})?)\)")
_UNSAFE = re.compile(r"[()\s/]+")


def short_hosts(hosts: Sequence[str]) -> tuple[str, ...]:
    """Names of machines as lines have them: short, without what would end a process's name, and different."""
    found: list[str] = []
    for rank, host in enumerate(hosts):
        name = _UNSAFE.sub("-", host)[:HOST_CHARS_MAX]
        found.append(name if name and name not in found else f"{name[: HOST_CHARS_MAX - 4]}-{rank}")
    return tuple(found)


def with_node(text: str, host: str, pid: int) -> str:
    """A line with its machine.

    Args:
        text: the clean line.
        host: of `short_hosts`.
        pid: of the server's first process, which writes the lines that name none.
    """
    found = _PREFIX.match(text)
    if found is not None:
        return f"({host}/{found['proc']} {found['pid']}){text[found.end() :]}"
    if text.startswith("{") and '"levelname"' in text:
        try:
            fields = msgspec.json.decode(text, type=dict[str, Any])
        except msgspec.DecodeError:
            pass
        else:
            fields["vllm_process_name"] = f"{host}/{fields.get('vllm_process_name') or ''}"
            return msgspec.json.encode(fields).decode()
    return f"({host}/ pid={pid}) {text}"


class _Stream:
    """One machine's lines that wait."""

    def __init__(self) -> None:
        self.lines: deque[tuple[float, float, str]] = deque()
        """Its time, when it came, and the line."""
        self.time_s = 0.0
        """Of its newest line. A line without a time has that of the one before it: a traceback stays together."""


class Merger:
    """Puts lines in order as they come.

    Lines of one machine keep their order. Between machines the earlier one comes first, and at the same second that of
    the lower rank. A line that comes later than `HOLD_S` after a later one of another machine (its machine was cut off)
    stands where it came.

    Args:
        hosts: of the machines, by rank.
        created_s: of the group, in Unix time: a stamp has no year.
    """

    def __init__(self, hosts: Sequence[str], created_s: float) -> None:
        self._hosts = short_hosts(hosts)
        self._created_s = created_s
        self._streams = tuple(_Stream() for _ in hosts)

    def feed(self, rank: int, lines: Sequence[str], *, pid: int, now_s: float, offset_s: float = 0.0) -> None:
        """Lines of one machine.

        Args:
            rank: of the machine.
            lines: clean ones.
            pid: of its server's first process.
            now_s: seconds that never go back.
            offset_s: how far that machine's local time is ahead of UTC.
        """
        stream = self._streams[rank]
        for text in lines:
            at = stamp_s(text, self._created_s)
            if at is not None and abs(at - self._created_s) < YEAR_S:
                stream.time_s = max(at - offset_s, stream.time_s)
            stream.lines.append((stream.time_s, now_s, with_node(text, self._hosts[rank], pid)))

    @property
    def waiting(self) -> int:
        """Lines that wait."""
        return sum(len(stream.lines) for stream in self._streams)

    def take(self, now_s: float, *, done: bool = False, behind: Sequence[bool] = ()) -> list[str]:
        """Lines whose turn it is.

        Args:
            now_s: as in `feed`.
            done: nothing more comes.
            behind: by rank, whether that machine's copy still has lines that were not fed: they are waited for.
        """
        out: list[str] = []
        while True:
            ready = [(stream.lines[0][0], rank) for rank, stream in enumerate(self._streams) if stream.lines]
            if not ready:
                return out
            _, rank = min(ready)
            empty = [each for each, stream in enumerate(self._streams) if not stream.lines]
            if any(each < len(behind) and behind[each] for each in empty):
                return out
            _, came_s, text = self._streams[rank].lines[0]
            if empty and not done and now_s - came_s < HOLD_S:
                return out
            self._streams[rank].lines.popleft()
            out.append(text)
