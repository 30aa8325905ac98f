"""Figures since this server is watched: peaks, and what it does while requests run.

An average over the whole time says little of a server that is idle half of it; so time is told apart by whether
requests ran at the scrape that ends it.
"""

from __future__ import annotations

__all__ = ["GAP_MAX_S", "Session"]

GAP_MAX_S = 15.0
"""Time between two scrapes further apart is counted neither as busy nor as idle: nobody looked."""


class Session:
    """What was seen of one server."""

    def __init__(self) -> None:
        self.running_peak: int | None = None
        self.waiting_peak: int | None = None
        self.busy_s = 0.0
        self.idle_s = 0.0
        self._before: tuple[float, float | None, float | None] | None = None
        self._prompt = 0.0
        self._generation = 0.0

    def feed(
        self, running: int | None, waiting: int | None, prompt: float | None, generation: float | None, now_s: float
    ) -> None:
        """Take in one scrape.

        Args:
            running: requests.
            waiting: requests.
            prompt: tokens since the server started.
            generation: tokens since the server started.
            now_s: a clock that never goes back.
        """
        if running is not None:
            self.running_peak = max(running, self.running_peak or 0)
        if waiting is not None:
            self.waiting_peak = max(waiting, self.waiting_peak or 0)
        before, self._before = self._before, (now_s, prompt, generation)
        if before is None or running is None or not 0 < now_s - before[0] <= GAP_MAX_S:
            return
        moved = grown(before[2], generation)
        if running or moved:
            self.busy_s += now_s - before[0]
            self._prompt += grown(before[1], prompt)
            self._generation += moved
        else:
            self.idle_s += now_s - before[0]

    @property
    def prompt_per_busy_s(self) -> float | None:
        """Prompt tokens per second in which requests ran."""
        return self._prompt / self.busy_s if self.busy_s else None

    @property
    def generation_per_busy_s(self) -> float | None:
        """Output tokens per second in which requests ran."""
        return self._generation / self.busy_s if self.busy_s else None


def grown(before: float | None, now: float | None) -> float:
    """Growth of a counter, which a reset set to zero; 0 where it is not known."""
    if before is None or now is None:
        return 0.0
    return now - before if now >= before else now
