"""Reads what a local model directory says of itself: config.json and the headers of its safetensors files.

Headers only: the first bytes of each file, so that a checkpoint of a terabyte is read in a blink.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import msgspec

from console.core.errors import UsageError

__all__ = ["Checkpoint", "read_checkpoint"]

HEADER_BYTES_MAX = 64 * 2**20
CONFIG_BYTES_MAX = 16 * 2**20
FILES_MAX = 2000


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A directory's own account of itself."""

    config: dict[str, Any]
    tensors: dict[str, int]
    """Bytes by name; empty where there are no weights."""

    @property
    def size_bytes(self) -> int:
        """Of all tensors."""
        return sum(self.tensors.values())


def read_checkpoint(directory: Path) -> Checkpoint:
    """Read a model directory.

    Raises:
        UsageError: it is no model directory, or a file in it is damaged; the text names the file.
    """
    path = directory / "config.json"
    try:
        if path.stat().st_size > CONFIG_BYTES_MAX:
            raise _damaged(path, "it is too large for a configuration")
        config = json.loads(path.read_bytes())
    except OSError as error:
        raise UsageError(
            "This is no model directory", f"{path}: {error.strerror}", "Name a directory that holds a config.json."
        ) from error
    except ValueError as error:
        raise _damaged(path, str(error)) from error
    if not isinstance(config, dict):
        raise _damaged(path, "it holds no JSON object")
    files = sorted(directory.glob("*.safetensors"))
    if len(files) > FILES_MAX:
        raise _damaged(directory, f"it holds {len(files)} safetensors files, more than {FILES_MAX}")
    tensors: dict[str, int] = {}
    for file in files:
        tensors |= _header(file)
    return Checkpoint(config=config, tensors=tensors)


def _header(path: Path) -> dict[str, int]:
    """Bytes of each tensor of one file. The format: eight bytes of length, little-endian, then JSON."""
    try:
        with path.open("rb") as file:
            start = file.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
            if not 2 <= length <= HEADER_BYTES_MAX:
                raise _damaged(path, "its header has no sensible length")
            header = json.loads(file.read(length))
        sizes = {
            name: int(entry["data_offsets"][1]) - int(entry["data_offsets"][0])
            for name, entry in header.items()
            if name != "__metadata__"
        }
    except OSError as error:
        raise UsageError("Cannot read the weights", f"{path}: {error.strerror}", "Check who owns that file.") from error
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise _damaged(path, str(error)) from error
    if any(size < 0 for size in sizes.values()):
        raise _damaged(path, "a tensor ends before it begins")
    return sizes


def _damaged(path: Path, why: str) -> UsageError:
    return UsageError("The model directory is damaged", f"{path}: {why}", "Download that file again.")
