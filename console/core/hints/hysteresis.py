"""One rule's memory: since when its condition is true, whether it fires, and which change it stands by."""

from __future__ import annotations

from console.core.hints.rule import Finding
from console.core.models import ProfileChange

__all__ = ["Tracker"]


class Tracker:
    """Fires once the condition was true for `hold_s` and stops once it was false for `clear_s`.

    The change on show is kept while the figures wander: another one takes its place only after it was the answer
    for `hold_s`. So nobody is told 16, then 32, then 16 again.
    """

    def __init__(self, hold_s: float, clear_s: float) -> None:
        self.hold_s = hold_s
        self.clear_s = clear_s
        self.firing = False
        self.shown: Finding | None = None
        self._true_since: float | None = None
        self._last_true: float | None = None
        self._false_since: float | None = None
        self._rival: tuple[ProfileChange, ...] | None = None
        self._rival_since = 0.0

    @property
    def holds(self) -> bool:
        """Whether it fires and its condition is true now, not only lately."""
        return self.firing and self._false_since is None

    def held_s(self, now: float) -> float:
        """Seconds for which the condition has been true, as of `now`."""
        return 0.0 if self._true_since is None else max(0.0, now - self._true_since)

    @property
    def shown_held_s(self) -> float:
        """Seconds from when the condition became true to when it last was."""
        return 0.0 if self._true_since is None or self._last_true is None else self._last_true - self._true_since

    def update(self, now: float, finding: Finding | None) -> None:
        """Take in this tick's judgement."""
        if finding is None:
            self._miss(now)
        else:
            self._hit(now, finding)

    def _hit(self, now: float, finding: Finding) -> None:
        self._false_since = None
        self._last_true = now
        if self._true_since is None:
            self._true_since = now
        self.shown = self._steady(now, finding)
        if now - self._true_since >= self.hold_s:
            self.firing = True

    def _miss(self, now: float) -> None:
        if not self.firing:
            self._true_since = self.shown = self._rival = None
            return
        if self._false_since is None:
            self._false_since = now
        if now - self._false_since >= self.clear_s:
            self.firing = False
            self._true_since = self.shown = self._rival = self._false_since = None

    def _steady(self, now: float, finding: Finding) -> Finding:
        """This tick's evidence with the change that is stood by."""
        shown = self.shown
        if shown is None or not self.firing or finding.change == shown.change:
            self._rival = None
            return finding
        if finding.change != self._rival:
            self._rival, self._rival_since = finding.change, now
        if now - self._rival_since >= self.hold_s:
            self._rival = None
            return finding
        return Finding(
            evidence=finding.evidence, basis=shown.basis, change=shown.change, gain=shown.gain, risk=shown.risk
        )
