"""How vLLM's production-stack router may choose a server. Imports nothing: the command line's grammar reads it."""

from __future__ import annotations

from typing import Final

__all__ = ["ROUTINGS"]

ROUTINGS: Final = ("roundrobin", "session", "prefixaware")
"""Of its `--routing-logic`; `kvaware`, `priority` and `disaggregated_prefill` need more than a list of servers."""
