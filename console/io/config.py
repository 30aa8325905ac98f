"""The operator's `config.toml`: what holds for every launch unless the command line says otherwise."""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from console.core.errors import StateError, UsageError
from console.core.profile import CostSection
from console.io import paths

__all__ = ["Configuration", "read_configuration"]

CONFIG_BYTES_MAX = 256 * 1024
"""A longer file is no configuration."""


class Configuration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`config.toml`."""

    engine: str | None = None
    """Engine for profiles that name none: an installed engine's name, or a path to a `vllm` command."""
    runs_kept: Annotated[int, Meta(ge=1, le=100_000)] = 30
    """Runs kept, the newest; those that are alive are never removed."""
    runs_gib: Annotated[float, Meta(gt=0)] = 20.0
    """Disk space of all runs together, GiB; beyond it the oldest go, though never the newest."""
    price: dict[str, CostSection] = {}
    """What machines cost, for profiles that say no price: `[price.8xH100]`, or `[price.H100]` for one GPU."""


def read_configuration() -> Configuration:
    """Read `config.toml`; without one, everything is left open.

    Raises:
        StateError: it cannot be read.
        UsageError: it has mistakes, all of which are in the message.
    """
    path = paths.config_dir() / "config.toml"
    try:
        with path.open("rb") as file:
            data = file.read(CONFIG_BYTES_MAX + 1)
    except FileNotFoundError:
        return Configuration()
    except OSError as error:
        raise StateError("Cannot read the configuration", f"{path}: {error.strerror}", "Make it readable.") from error
    if len(data) > CONFIG_BYTES_MAX:
        raise _mistakes([f"{path}: longer than {CONFIG_BYTES_MAX // 1024} KiB"])
    try:
        table = tomllib.loads(data.decode("utf-8-sig"))
    except ValueError as error:
        raise _mistakes([f"{path}: {error}"]) from error
    if wrong := [line for key, value in table.items() if (line := _wrong(path, key, value))]:
        raise _mistakes(wrong)
    return msgspec.convert(table, Configuration)


def _wrong(path: Path, key: str, value: Any) -> str:
    """What is wrong with one key; empty if nothing is."""
    known = Configuration.__struct_fields__
    if key not in known:
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
        return f"{path}: {key}: no such key; nearest known key: {near[0]}"
    try:
        msgspec.convert({key: value}, Configuration)
    except msgspec.ValidationError as error:
        return f"{path}: {key}: found {value!r}; {str(error).partition(' - ')[0]}"
    return ""


def _mistakes(lines: list[str]) -> UsageError:
    known = ", ".join(Configuration.__struct_fields__)
    return UsageError("The configuration has a mistake", "\n".join(lines), f"Correct the file. Known keys: {known}")
