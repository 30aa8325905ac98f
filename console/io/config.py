"""The operator's `config.toml`: what holds for every launch unless the command line says otherwise."""

from __future__ import annotations

import tomllib

import msgspec

from console.core.errors import StateError
from console.io import paths

__all__ = ["Configuration", "read_configuration"]


class Configuration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`config.toml`."""

    engine: str | None = None
    """Engine for profiles that name none: an installed engine's name, or a path to a `vllm` command."""


def read_configuration() -> Configuration:
    """Read `config.toml`; without one, everything is left open.

    Raises:
        StateError: it cannot be read, or has a mistake.
    """
    path = paths.config_dir() / "config.toml"
    try:
        return msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), Configuration)
    except FileNotFoundError:
        return Configuration()
    except (OSError, ValueError, msgspec.ValidationError) as error:
        known = ", ".join(Configuration.__struct_fields__)
        raise StateError("The configuration has a mistake", f"{path}: {error}", f"Known keys: {known}") from error
