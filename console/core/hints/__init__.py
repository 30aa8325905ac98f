"""Hints: what to change, why, how much it should help and what it may cost.

Rules are rows of one table (`table.RULES`), judged once a second over a short history of samples. `HintEngine` is the
only thing that callers need; `explain_rules` documents the table.
"""

from __future__ import annotations

from console.core.hints.engine import HintEngine, explain_rules
from console.core.hints.rule import RuleDoc

__all__ = ["HintEngine", "RuleDoc", "explain_rules"]
