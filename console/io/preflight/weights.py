"""How much of a checkpoint is on disk already, and how much room is left where the rest would go."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from console.core.command import GENERATED, is_local_model
from console.core.preflight import Weights
from console.core.profile import Profile
from console.io.hubcache import is_resumable, repository_path

__all__ = ["cache_of", "hub_cache", "read_weights"]

WEIGHT_SUFFIXES = frozenset({".safetensors", ".bin", ".pt", ".pth", ".gguf"})
FILES_MAX = 20_000
"""More files than this are not counted: no checkpoint has them."""
JSON_BYTES_MAX = 64 * 1024 * 1024
"""An index of a checkpoint with many experts has some tens of megabytes."""


def hub_cache(env: Mapping[str, str]) -> Path:
    """Where huggingface_hub keeps downloads, by its rules."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if env.get(name):
            return Path(env[name]).expanduser()
    if env.get("HF_HOME"):
        return Path(env["HF_HOME"]).expanduser() / "hub"
    return Path(env.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "huggingface" / "hub"


def read_weights(profile: Profile | None) -> Weights:
    """Look at the checkpoint of a profile; without one, at the cache.

    Raises:
        OSError: the file system does not answer in a way that helps.
    """
    cache = hub_cache({**os.environ, **(profile.env if profile else {})})
    if profile is None or profile.model.id.startswith(GENERATED):
        return Weights(path=str(cache), free_bytes=_free(cache))
    name = profile.model.id
    folder = Path(name).expanduser()
    if is_local_model(name) or folder.is_dir():
        return _directory(folder)
    return _download(cache_of(profile), name, profile.model.revision or "main")


def cache_of(profile: Profile) -> Path:
    """Where vLLM looks for the checkpoint of this profile, and puts it."""
    chosen = next(
        (value for key, value in profile.serve.extra.items() if key.replace("-", "_") == "download_dir"), None
    )
    return Path(chosen).expanduser() if isinstance(chosen, str) else hub_cache({**os.environ, **profile.env})


def _directory(folder: Path) -> Weights:
    if not folder.is_dir():
        return Weights(path=str(folder), local=True, exists=False)
    files = _files(folder)
    return Weights(
        path=str(folder),
        local=True,
        bytes_present=sum(files.values()),
        free_bytes=_free(folder),
        has_config=(folder / "config.json").is_file() or any(path.suffix == ".gguf" for path in files),
        weight_files=sum(path.suffix in WEIGHT_SUFFIXES for path in files),
        missing_files=_missing(folder, files),
        attention_heads=_heads(folder),
    )


def _download(cache: Path, name: str, revision: str) -> Weights:
    repository = repository_path(cache, name)
    snapshot = repository / "snapshots" / _commit(repository, revision)
    here = snapshot.is_dir() and bool(_files(snapshot))
    # What a broken download left counts where it is taken up again.
    partial = {path: size for path, size in _files(repository / "blobs").items() if is_resumable(path.name)}
    files = _files(snapshot) if here else {}
    return Weights(
        path=str(cache),
        exists=here,
        bytes_present=sum(files.values()) + sum(partial.values()),
        free_bytes=_free(cache),
        weight_files=sum(path.suffix in WEIGHT_SUFFIXES for path in files),
        attention_heads=_heads(snapshot) if here else None,
    )


def _commit(repository: Path, revision: str) -> str:
    """The commit that a branch or tag stood for when it was last looked at; a commit stands for itself."""
    try:
        return (repository / "refs" / revision).read_text(encoding="ascii").strip() or revision
    except (OSError, ValueError):
        return revision


def _files(folder: Path) -> dict[Path, int]:
    """Files below `folder` with their sizes, links followed. Empty if it is not there."""
    found: dict[Path, int] = {}
    for path in _walk(folder):
        with contextlib.suppress(OSError):
            found[path] = path.stat().st_size
        if len(found) >= FILES_MAX:
            break
    return found


def _walk(folder: Path) -> Iterator[Path]:
    for root, _, names in os.walk(folder):
        for name in names:
            yield Path(root) / name


def _missing(folder: Path, files: Mapping[Path, int]) -> tuple[str, ...]:
    """Files that the checkpoint's index names and that are not there."""
    index = _json(folder / "model.safetensors.index.json").get("weight_map")
    if not isinstance(index, dict):
        return ()
    there = {str(path.relative_to(folder)) for path in files}
    return tuple(sorted({name for name in index.values() if isinstance(name, str)} - there))


def _heads(folder: Path) -> int | None:
    config = _json(folder / "config.json")
    inner = config.get("text_config")
    for table in (config, inner if isinstance(inner, dict) else {}):
        heads = table.get("num_attention_heads")
        if isinstance(heads, int) and heads > 0:
            return heads
    return None


def _json(path: Path) -> dict[str, object]:
    try:
        with path.open("rb") as file:
            value = msgspec.json.decode(file.read(JSON_BYTES_MAX))
    except (OSError, msgspec.DecodeError):
        return {}
    return value if isinstance(value, dict) else {}


def _free(path: Path) -> int | None:
    """Free bytes where `path` is or would be made."""
    for folder in (path, *path.absolute().parents):
        if folder.exists():
            return shutil.disk_usage(folder).free
    return None
