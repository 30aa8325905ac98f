"""Which endpoints a command is to watch: those of its options, and those of `config.toml`."""

from __future__ import annotations

import os
from collections.abc import Sequence

from console.core.errors import UsageError
from console.core.watching import WatchTarget, named_targets, target_of
from console.io.config import read_watched

__all__ = ["targets_from"]


def targets_from(
    urls: Sequence[str] | None, key_env: str | None, configured: Sequence[WatchTarget] | None = None
) -> tuple[WatchTarget, ...]:
    """The endpoints that `--watch` names, then those of `[watch.NAME]`.

    Args:
        key_env: as `--api-key-env` names it.
        configured: in place of those in `config.toml`.

    Raises:
        UsageError: an address is none, or the variable of a key is not set.
        StateError: `config.toml` cannot be read.
    """
    named = [target_of(url, key_env=key_env) for url in urls or ()]
    if key_env is not None and not named:
        raise UsageError(
            "--api-key-env is for the endpoints of --watch", "none is given", "In config.toml: key_env in [watch.NAME]."
        )
    if key_env is not None and not os.environ.get(key_env):
        raise UsageError(
            f"{key_env} is not set",
            "--api-key-env names an environment variable that has the API key",
            f"Set it without writing it down: read -rs {key_env} && export {key_env}",
        )
    return named_targets([*named, *(read_watched() if configured is None else configured)])
