"""How well the terminal keeps up: what moves by itself waits until a slow line has shown the last picture.

After a picture the terminal is asked where its cursor is, which every terminal answers once it has come so far. Until
then, and as long again, nothing is painted but what a key asks for: a line that takes less than is painted would
otherwise fill every buffer on the way, and a key would show after all that was painted before it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["ANSWER_S", "LEAVE_S", "PROMPT_S", "QUESTION", "Pace"]

QUESTION = "\x1b[6n"
"""DSR 6; the answer is `ESC [ row ; column R`."""
ANSWER_S = 10.0
"""However slow a line is, figures move at least this often."""
FIRST_S = 5.0
"""So long a terminal is waited for that has not answered yet: it may be one that never does."""
PROMPT_S = 0.15
"""A terminal that answers within this time is fast: nothing waits."""
LEAVE_S = 1.0
"""So long the end waits for an answer that is on its way, which would else stand at the prompt of the shell."""


class Pace:
    """Questions and answers, and what they say of the line."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._asked_s: float | None = None
        self._late = False
        self._rest_until_s = 0.0
        self._heard = False

    @property
    def waiting(self) -> bool:
        """Whether an answer is waited for."""
        if self._asked_s is None or self._late:
            return False
        if self._clock() - self._asked_s > (ANSWER_S if self._heard else FIRST_S):
            self._late = True
        return not self._late

    @property
    def behind(self) -> bool:
        """Whether the terminal still works at what it was sent, or rests from it."""
        return self.waiting or self._clock() < self._rest_until_s

    def ask(self) -> bool:
        """Whether to ask now; if so, the answer is waited for. One that has never answered is asked once."""
        if self.waiting or (self._late and not self._heard):
            return False
        self._asked_s, self._late = self._clock(), False
        return True

    def answered(self) -> None:
        """The answer has come, perhaps late."""
        if self._asked_s is not None:
            now = self._clock()
            took = now - self._asked_s
            self._rest_until_s = now + min(took, ANSWER_S) if took > PROMPT_S else 0.0
            self._asked_s, self._late, self._heard = None, False, True
