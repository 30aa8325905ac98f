"""Where a replay is: a position that runs with the clock, times a speed, and can be held and moved.

Pure: the caller brings the time, in seconds of a clock that never goes back.
"""

from __future__ import annotations

from typing import Final

import msgspec

__all__ = ["SPEEDS", "Playback"]

SPEEDS: Final = (1, 4, 16, 64, 256)
"""A day at the last one takes under six minutes."""


class Playback(msgspec.Struct, frozen=True, kw_only=True):
    """One moment of playing: every change gives a new one."""

    begin_s: float
    """Unix time at which the recording begins."""
    end_s: float
    at_s: float
    """Position at the moment `set_s` of the clock."""
    set_s: float = 0.0
    speed: int = 1
    paused: bool = False

    def position_s(self, now_s: float) -> float:
        """The position, in Unix time."""
        moved = 0.0 if self.paused else max(0.0, now_s - self.set_s) * self.speed
        return min(self.at_s + moved, self.end_s)

    def ended(self, now_s: float) -> bool:
        """The recording is over."""
        return self.position_s(now_s) >= self.end_s

    def toggled(self, now_s: float) -> Playback:
        """Held, or going on; from the end it begins again."""
        if self.ended(now_s):
            return msgspec.structs.replace(self, at_s=self.begin_s, set_s=now_s, paused=False)
        return msgspec.structs.replace(self, at_s=self.position_s(now_s), set_s=now_s, paused=not self.paused)

    def faster(self, now_s: float, step: int) -> Playback:
        """The next speed, or with -1 the one before; beyond the table nothing changes."""
        index = min(max(SPEEDS.index(self.speed) + step, 0), len(SPEEDS) - 1)
        return msgspec.structs.replace(self, at_s=self.position_s(now_s), set_s=now_s, speed=SPEEDS[index])

    def sought(self, now_s: float, to_s: float) -> Playback:
        """At another position, inside the recording."""
        return msgspec.structs.replace(self, at_s=min(max(to_s, self.begin_s), self.end_s), set_s=now_s)
