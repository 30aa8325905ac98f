"""Reads an installer's output as steps with a share of the whole."""

from __future__ import annotations

import re
from collections.abc import Callable

__all__ = ["CHECKED", "CHECKING", "PREPARING", "Progress", "ProgressReader"]

Progress = Callable[[str, float | None], None]
"""Called with a step in words and the share of the whole that is done, 0 to 1, `None` where it is not known."""

# Shares of the whole at which parts of an installation begin: by time, on a fast line and two cores.
PREPARING, RESOLVED, DOWNLOADED, INSTALLED, CHECKING, CHECKED = 0.01, 0.05, 0.5, 0.55, 0.85, 1.0

UNITS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


class ProgressReader:
    """Turns uv's lines into steps. uv names a download when it begins and when it ends, with its size."""

    def __init__(self) -> None:
        self._waiting: dict[str, int] = {}
        self._done_bytes = 0
        self._rows: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], tuple[str, float | None]]], ...] = (
            (
                re.compile(r"Using CPython (\S+)"),
                lambda m: (f"making an environment, Python {m[1]}", None),
            ),
            (re.compile(r"Resolved (\d+) packages?"), lambda m: (f"resolved {m[1]} packages", RESOLVED)),
            (re.compile(r"Downloading (\S+) \(([\d.]+) ?([KMG]?i?B)\)"), self._begun),
            (re.compile(r"Downloaded (\S+)"), self._ended),
            (re.compile(r"Prepared (\d+) packages?"), lambda m: (f"downloaded {m[1]} packages", DOWNLOADED)),
            (re.compile(r"Installed (\d+) packages?"), lambda m: (f"compiling {m[1]} packages", INSTALLED)),
            (re.compile(r"Bytecode compiled (\d+) files?"), lambda m: (f"compiled {m[1]} files", CHECKING)),
        )

    def read(self, line: str) -> tuple[str, float | None] | None:
        """The step that this line tells of, if it tells of one."""
        text = line.strip()
        for pattern, step in self._rows:
            if match := pattern.match(text):
                return step(match)
        return None

    def _begun(self, match: re.Match[str]) -> tuple[str, float | None]:
        self._waiting[match[1]] = int(float(match[2]) * UNITS.get(match[3], 1))
        return self._downloading()

    def _ended(self, match: re.Match[str]) -> tuple[str, float | None]:
        self._done_bytes += self._waiting.pop(match[1], 0)
        return self._downloading()

    def _downloading(self) -> tuple[str, float | None]:
        total = self._done_bytes + sum(self._waiting.values())
        share = self._done_bytes / total if total else 0.0
        fraction = RESOLVED + (DOWNLOADED - RESOLVED) * share
        if not self._waiting:
            return "preparing packages", fraction
        largest = max(self._waiting, key=lambda name: self._waiting[name])
        others = len(self._waiting) - 1
        text = f"downloading {largest} {self._waiting[largest] / UNITS['MiB']:,.0f} MiB"
        return text + (f" and {others} more" if others else ""), fraction
