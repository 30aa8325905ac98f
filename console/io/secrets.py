"""The values of keys and tokens that are around here, so that they can be hidden wherever they turn up.

A name tells a secret (`VLLM_API_KEY`), and a value that vLLM or a library happens to log does not say its name. So the
values are taken from the environments that have them: this process's, and those of a run's supervisor and server.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from console.core.models import RunInfo
from console.core.text import SECRET_CHARS_MIN, is_secret_name

__all__ = ["known_secrets"]

ENVIRONMENT_BYTES_MAX: Final = 1024 * 1024
_HARMLESS: Final = frozenset({"true", "false", "none", "null", "auto", "0000", "1111"})
"""Values that say nothing, and would hide half of every line."""


def known_secrets(info: RunInfo | None = None) -> tuple[str, ...]:
    """Secret values of this process and, where they can be read, of a run's processes; the longest first."""
    found = set(_secret_values(os.environ.items()))
    for pid in (info.supervisor_pid, info.server_pid) if info is not None else ():
        if pid is not None:
            found |= _of_process(pid)
    return tuple(sorted(found, key=lambda value: (-len(value), value)))


def _of_process(pid: int) -> set[str]:
    try:
        with Path(f"/proc/{pid}/environ").open("rb") as file:
            data = file.read(ENVIRONMENT_BYTES_MAX)
    except OSError:
        return set()
    pairs = (entry.partition("=") for entry in data.decode("utf-8", "surrogateescape").split("\0"))
    return set(_secret_values((name, value) for name, _, value in pairs))


def _secret_values(pairs: Iterable[tuple[str, str]]) -> set[str]:
    return {value for name, value in pairs if is_secret_name(name) and _hidden(value)}


def _hidden(value: str) -> bool:
    path = value.startswith("/")  # of a file with a key in it
    return len(value) >= SECRET_CHARS_MIN and value.lower() not in _HARMLESS and not path
