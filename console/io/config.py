"""The operator's `config.toml`: what holds for every launch unless the command line says otherwise."""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from console.core.errors import StateError, UsageError
from console.core.preferences import Preferences, ThemeName
from console.core.profile import CostSection
from console.core.watching import WatchSection, WatchTarget, target_of
from console.io import paths

__all__ = ["Configuration", "read_configuration", "read_preferences", "read_watched"]

CONFIG_BYTES_MAX = 256 * 1024
"""A longer file is no configuration."""


class HostSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[host."user@box"]`, by the name that `--host` is given."""

    command: str = ""
    """The console there, as one would type it in a shell there; `--remote-command` goes before it."""


class Configuration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`config.toml`."""

    engine: str | None = None
    """Engine for profiles that name none: an installed engine's name, or a path to a `vllm` command."""
    runs_kept: Annotated[int, Meta(ge=1, le=100_000)] = 30
    """Runs kept, the newest; those that are alive are never removed."""
    runs_gib: Annotated[float, Meta(gt=0)] = 20.0
    """Disk space of all runs together, GiB; beyond it the oldest go, though never the newest."""
    metrics_port: Annotated[int, Meta(ge=1, le=65535)] | None = None
    """Port of 127.0.0.1 for metrics of profiles that name none (`supervise.metrics_port`)."""
    price: dict[str, CostSection] = {}
    """What machines cost, for profiles that say no price: `[price.8xH100]`, or `[price.H100]` for one GPU."""
    host: dict[str, HostSection] = {}
    """Other machines: `[host."user@box"]`."""
    watch: dict[str, WatchSection] = {}
    """Endpoints that this console did not start and watches read-only: `[watch.NAME]` with `url`, `key_env` (the name
    of an environment variable) and `usd_per_hour`."""
    theme: ThemeName = "dark"
    """Colours of the terminal UI; `--theme` goes before it."""
    readonly: bool = False
    """The terminal UI only looks: as `--readonly`."""
    keys: dict[str, Any] = {}
    """The operator's own keys in the terminal UI, `[keys]`; `dsv4-console keys` names the actions and says what is
    wrong with it."""


def read_configuration() -> Configuration:
    """Read `config.toml`; without one, everything is left open.

    Raises:
        StateError: it cannot be read.
        UsageError: it has mistakes, all of which are in the message.
    """
    path, table = _table()
    if wrong := [line for key, value in table.items() if (line := _wrong(path, key, value))]:
        raise _mistakes(wrong)
    return msgspec.convert(table, Configuration)


def read_preferences() -> Preferences:
    """What `config.toml` says of the terminal UI, which starts whatever mistakes are in it, and tells them.

    Raises:
        StateError: it cannot be read.
        UsageError: it is no TOML, or `readonly` is not true or false: then nobody knows what may be changed.
    """
    path, table = _table()
    if wrong := _wrong(path, "readonly", table.get("readonly", False)):
        raise _mistakes([wrong])
    mistakes = {key: line for key, value in table.items() if (line := _wrong(path, key, value))}
    good = {key: table[key] for key in ("theme", "readonly", "keys") if key in table and key not in mistakes}
    return Preferences(**good, path=str(path), mistakes=tuple(mistakes.values()))


def read_watched() -> tuple[WatchTarget, ...]:
    """The endpoints of `[watch.NAME]`, whatever else is wrong in `config.toml`.

    Raises:
        StateError: it cannot be read.
        UsageError: it is no TOML, or an endpoint of it is none.
    """
    path, table = _table()
    found = table.get("watch", {})
    if wrong := _wrong(path, "watch", found):
        raise _mistakes([wrong])
    targets = []
    for name, section in msgspec.convert(found, dict[str, WatchSection]).items():
        try:
            targets.append(
                target_of(section.url, name=name, key_env=section.key_env, usd_per_hour=section.usd_per_hour)
            )
        except UsageError as error:
            raise _mistakes([f"{path}: watch.{name}: {error.title}: {error.message}"]) from error
    return tuple(targets)


def _table() -> tuple[Path, dict[str, Any]]:
    """The file and what it holds; nothing, if there is none."""
    path = paths.config_dir() / "config.toml"
    try:
        with path.open("rb") as file:
            data = file.read(CONFIG_BYTES_MAX + 1)
    except FileNotFoundError:
        return path, {}
    except OSError as error:
        raise StateError("Cannot read the configuration", f"{path}: {error.strerror}", "Make it readable.") from error
    if len(data) > CONFIG_BYTES_MAX:
        raise _mistakes([f"{path}: longer than {CONFIG_BYTES_MAX // 1024} KiB"])
    try:
        return path, tomllib.loads(data.decode("utf-8-sig"))
    except ValueError as error:
        raise _mistakes([f"{path}: {error}"]) from error


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
