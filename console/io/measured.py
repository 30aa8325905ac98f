"""What runs on this machine reached, read from their own records."""

from __future__ import annotations

import time

from console.core.catalogue.speeds import Measurement
from console.core.cost import best_minute
from console.core.errors import StateError
from console.io import runs

__all__ = ["measurements"]

RUNS_READ_MAX = 10
"""Only so many of the newest runs are searched."""


def measurements(profile_name: str | None = None) -> tuple[Measurement, ...]:
    """The best minute of each of the newest runs that held one, newest first.

    Args:
        profile_name: only runs of this profile.

    Raises:
        StateError: the runs cannot be read. A damaged run is passed over.
    """
    found = []
    wanted = [pair for pair in runs.list_runs() if profile_name in (None, pair[1].profile_name)]
    for run, info in wanted[:RUNS_READ_MAX]:
        try:
            profile = run.read_launch().profile
            rate = best_minute(run.samples(only=("engine.generation_tokens_per_s",)))
        except (StateError, OSError):
            continue
        if rate is None:
            continue
        hardware = profile.hardware
        found.append(
            Measurement(
                hardware=hardware.text,
                architecture=profile.model.architecture or "",
                profile=info.profile_name,
                engine=f"vLLM {info.engine_version}".strip(),
                tokens_per_s=rate,
                run=info.id,
                date=time.strftime("%Y-%m-%d", time.localtime(info.created_s)),
            )
        )
    return tuple(found)
