"""Hints about a server that this console did not start: what `/metrics` alone can tell, and why the rest stays open.

Its settings and its machine are not known here. So only rules that judge the requests themselves have a say, they
propose no change of a profile, and every other rule says what it would need.
"""

from __future__ import annotations

import msgspec

from console.core.hints.engine import HintEngine
from console.core.hints.rule import Finding, Rule
from console.core.hints.rules_capacity import CONTEXT_UNUSED
from console.core.hints.rules_host import IDLE_SPEND
from console.core.hints.rules_latency import TTFT_QUEUE
from console.core.hints.rules_memory import KV_CACHE_FULL
from console.core.hints.rules_requests import ANSWERS_CUT, CLIENT_ERRORS, PREFIX_CACHE_USELESS, SERVER_ERRORS
from console.core.hints.setting import Setting
from console.core.hints.table import RULES
from console.core.hints.window import Window
from console.core.models import Hint, HintState, Level, Sample
from console.core.profile import ModelSection, Profile, ProfileSection

__all__ = ["JUDGED", "WatchedHints", "open_reason"]

JUDGED: tuple[Rule, ...] = (
    SERVER_ERRORS,
    KV_CACHE_FULL,
    TTFT_QUEUE,
    IDLE_SPEND,
    CONTEXT_UNUSED,
    PREFIX_CACHE_USELESS,
    ANSWERS_CUT,
    CLIENT_ERRORS,
)
"""Their evidence comes from `/metrics`, `/v1/models` and the price alone; in the order of the table."""
GPU_NEEDS = frozenset(
    {
        "utilization",
        "gpus",
        "gpu-memory",
        "gpu-temperature",
        "gpu-power",
        "gpu-throttle",
        "gpu-errors",
        "gpu-repairs",
        "pcie-link",
        "pcie-traffic",
        "nvlink",
    }
)
HOST_NEEDS = frozenset({"host-cpu", "host-memory", "open-files"})
NO_GPU = "its GPUs: NVML is asked on the machine itself, and this server is watched over HTTP"
NO_HOST = "its machine: CPU, memory and files are read there, and this server is watched over HTTP"
NO_PRICE = "its price: usd_per_hour is not set in its [watch.NAME] of config.toml"
NO_PROFILE = "its settings: this console did not start it, so no profile is known"


def open_reason(rule: Rule) -> str:
    """Why a rule cannot be judged; empty for one that can."""
    if rule in JUDGED:
        return ""
    needs = set(rule.needs)
    return NO_GPU if needs & GPU_NEEDS else NO_HOST if needs & HOST_NEEDS else NO_PROFILE


def _without_change(rule: Rule) -> Rule:
    """The rule with its evidence, and without a proposal: there is no profile that it could change."""

    def judge(window: Window, setting: Setting, held_s: float) -> Finding | None:
        found = rule.judge(window, setting, held_s)
        return None if found is None else msgspec.structs.replace(found, change=(), basis=())

    return msgspec.structs.replace(rule, judge=judge)


class WatchedHints:
    """Hints of one endpoint.

    Args:
        model: as it is served.
        max_model_len: in tokens, as `/v1/models` tells it; `None` where it does not.
        usd_per_hour: of its machine, where the operator says it.
        engine_version: of vLLM, as `/version` tells it.
    """

    def __init__(
        self,
        model: str,
        *,
        max_model_len: int | None = None,
        usd_per_hour: float | None = None,
        engine_version: str | None = None,
    ) -> None:
        blank = Profile(profile=ProfileSection(title=model), model=ModelSection(id=model or "unknown"))
        priced = tuple(rule for rule in JUDGED if usd_per_hour or rule is not IDLE_SPEND)
        self._engine = HintEngine(
            blank,
            max_model_len=max_model_len,
            usd_per_hour=usd_per_hour,
            engine_version=engine_version,
            rules=tuple(map(_without_change, priced)),
        )
        self._open = tuple(
            Hint(
                id=rule.id,
                title=rule.title,
                level=Level.INFO,
                state=HintState.UNJUDGED,
                missing=reason,
                doc=rule.doc,
            )
            for rule in RULES
            if (reason := open_reason(rule) or ("" if rule in priced else NO_PRICE))
        )

    def update(self, sample: Sample) -> tuple[Hint, ...]:
        """Take in one sample; hints that hold first, then the rules that cannot be judged, with the reason."""
        judged = self._engine.update(sample)
        return (*judged, *self._open) if sample.engine is not None else judged
