"""The weights of a plan: whether a launch would have to download them, and their download."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from console.client.api import DownloadOffer, LaunchPlan
from console.core.command import GENERATED, is_local_model
from console.core.download import DownloadProgress, DownloadResult, is_repository
from console.core.errors import DownloadError, EngineError, UsageError
from console.core.profile import Profile
from console.io import preflight as probes
from console.io.download import download as run_download

__all__ = ["download", "is_downloaded", "offer"]

COMPLETE_SHARE = 0.98
"""Sizes in profiles are whole gigabytes; so much of one counts as all of it."""


def is_downloaded(profile: Profile) -> bool:
    """Whether the model of this profile comes from the hub: no directory, and not made by this program."""
    name = profile.model.id
    local = name.startswith(GENERATED) or is_local_model(name) or Path(name).expanduser().is_dir()
    return not local and is_repository(name)


def offer(plan: LaunchPlan) -> DownloadOffer | None:
    """What vLLM would have to download at its start, as far as a look at the cache tells; `None` for nothing."""
    profile = plan.profile
    environment = probes.read_environment(profile.env)
    other_hub = {**os.environ, **profile.env}.get("VLLM_USE_MODELSCOPE", "").lower() in ("1", "true")
    if not is_downloaded(profile) or profile.serve.load_format == "dummy" or environment.hf_offline or other_hub:
        return None
    try:
        weights = probes.read_weights(profile)
    except OSError:
        return None
    total = profile.model.weights_gb * 1e9 if profile.model.weights_gb else None
    if weights.exists and (total is None or weights.bytes_present >= total * COMPLETE_SHARE):
        return None
    return DownloadOffer(
        model=profile.model.id, path=weights.path, bytes_total=total, bytes_present=weights.bytes_present
    )


async def download(
    plan: LaunchPlan, progress: Callable[[DownloadProgress], None], revision: str | None = None
) -> DownloadResult:
    """Download the model of a plan with its engine.

    Raises:
        UsageError: its model does not come from the hub.
        EngineError: the plan has no engine.
        DownloadError: see `console.io.download.download`.
    """
    profile = plan.profile
    if not is_downloaded(profile):
        raise UsageError("There is nothing to download", f"{profile.model.id} does not come from the hub")
    if plan.engine_name is None:
        raise EngineError("A download needs an engine", "none for this profile is here", f"Run: {plan.install_offer}")
    if probes.read_environment(profile.env).hf_offline:
        raise DownloadError(
            "Downloads are switched off", "HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set", "Unset it and try again."
        )
    return await run_download(
        profile.model.id,
        revision or profile.model.revision,
        probes.cache_of(profile),
        Path(plan.argv[0]),
        profile.env,
        progress,
    )
