"""What preflight says: checks with verdicts, and what follows from all of them together."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from console.core.preflight.facts import VllmProcess

__all__ = ["MARKS", "Check", "Override", "Preflight", "Verdict"]


class Verdict(StrEnum):
    """What one check found, from harmless to prohibitive."""

    OK = "ok"
    INFO = "info"
    UNKNOWN = "unknown"
    """It could not be asked; `text` says why."""
    WARN = "warn"
    """An estimate says no, or it works worse than it could."""
    BLOCKED = "blocked"
    """The launch would fail, or would expose the server."""


MARKS: dict[Verdict, str] = {
    Verdict.OK: "✓",
    Verdict.INFO: "·",
    Verdict.UNKNOWN: "?",
    Verdict.WARN: "▲",
    Verdict.BLOCKED: "✖",
}


class Override(StrEnum):
    """What lets a launch go on although a check blocks it."""

    FORCE = "--force"
    PUBLIC = "--allow-public-without-key"
    NONE = ""
    """Nothing does: the launch itself would refuse."""


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the report."""

    id: str
    title: str
    verdict: Verdict
    text: str
    """What was found, in one line, with its figures."""
    figures: tuple[str, ...] = ()
    """More of them, one line each."""
    remedy: str = ""
    consequence: str = ""
    """Of a launch all the same, where it is blocked."""
    override: Override = Override.FORCE
    """What lets it pass, where it is blocked."""
    told: bool = False
    """Said at every launch, although nothing is wrong."""


class Preflight(msgspec.Struct, frozen=True, kw_only=True):
    """All checks of one moment."""

    profile_name: str | None = None
    checks: tuple[Check, ...] = ()
    orphans: tuple[VllmProcess, ...] = ()
    """Processes of vLLM that no server and no supervisor holds any more."""
    elapsed_s: float = 0.0
    """How long the probes took."""

    @property
    def verdict(self) -> Verdict:
        """The worst of all checks; `info` and `unknown` count as what they are."""
        order = list(Verdict)
        return max((check.verdict for check in self.checks), key=order.index, default=Verdict.OK)

    @property
    def blocked(self) -> tuple[Check, ...]:
        """Checks that keep a launch from being tried."""
        return tuple(check for check in self.checks if check.verdict is Verdict.BLOCKED)

    @property
    def notable(self) -> tuple[Check, ...]:
        """What an operator should read before a launch."""
        passed = (Verdict.OK, Verdict.INFO)
        return tuple(check for check in self.checks if check.told or check.verdict not in passed)

    def held_by(self, *, force: bool = False) -> tuple[Check, ...]:
        """Blocking checks that the given options do not lift."""
        return tuple(check for check in self.blocked if not (force and check.override is Override.FORCE))
