"""The table of checks, and judging all of it."""

from __future__ import annotations

import msgspec

from console.core.preflight.facts import Facts, NoAnswer
from console.core.preflight.hardware import HARDWARE
from console.core.preflight.machine import MACHINE
from console.core.preflight.report import Check, Preflight, Verdict
from console.core.preflight.rule import Rule
from console.core.preflight.serving import SERVING
from console.core.profile import Profile

__all__ = ["CHECKS", "judge"]

CHECKS: tuple[Rule, ...] = (*HARDWARE, *SERVING, *MACHINE)
"""In the order of the report."""


def judge(
    facts: Facts, profile: Profile | None = None, profile_name: str | None = None, elapsed_s: float = 0.0
) -> Preflight:
    """Judge a launch of `profile`, or without one the machine as such."""
    processes = facts.processes if isinstance(facts.processes, tuple) else ()
    return Preflight(
        profile_name=profile_name,
        checks=tuple(
            check for rule in CHECKS if rule.applies(profile) and (check := _check(rule, facts, profile)) is not None
        ),
        orphans=tuple(process for process in processes if process.orphan),
        elapsed_s=elapsed_s,
    )


def _check(rule: Rule, facts: Facts, profile: Profile | None) -> Check | None:
    for name in rule.needs:
        answer = getattr(facts, name)
        if isinstance(answer, NoAnswer):
            return Check(id=rule.id, title=rule.title, verdict=Verdict.UNKNOWN, text=answer.reason)
    finding = rule.judge(facts, profile)
    return None if finding is None else Check(id=rule.id, title=rule.title, **msgspec.structs.asdict(finding))
