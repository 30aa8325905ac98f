"""Chats on disk: one JSON-lines file per run, private to its owner, read again when the run is opened again."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from console.io.paths import conversations_dir, make_private_dir

__all__ = ["FILE_BYTES_MAX", "TURNS_MAX", "Turn", "append", "path_for", "read"]

TURNS_MAX = 400
"""Turns read again."""
FILE_BYTES_MAX = 16 * 1024 * 1024
"""Of a longer file only the end is read."""


class Turn(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One side of an exchange, and for an answer how it went."""

    role: str
    """`user`, `assistant`, or `new`: a new conversation begins here."""
    content: str = ""
    reasoning: str = ""
    time_s: float = 0.0
    ttft_s: float | None = None
    elapsed_s: float | None = None
    completion_tokens: int | None = None
    prompt_tokens: int | None = None
    finish_reason: str | None = None
    error: str = ""
    stopped: bool = False


def path_for(run_id: str) -> Path:
    """File of this run's chats."""
    return conversations_dir() / f"{run_id}.jsonl"


def append(run_id: str, turns: Sequence[Turn]) -> None:
    """Add turns to the run's file.

    Raises:
        OSError: it cannot be written.
        console.core.errors.StateError: its directory cannot be made.
    """
    make_private_dir(conversations_dir())
    lines = b"".join(msgspec.json.encode(turn) + b"\n" for turn in turns)
    handle = os.open(path_for(run_id), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(handle, "ab") as file:
        file.write(lines)


def read(run_id: str) -> list[Turn]:
    """The run's newest turns, oldest first. Lines that cannot be read are passed over."""
    try:
        with path_for(run_id).open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - FILE_BYTES_MAX, 0))
            lines = file.read(FILE_BYTES_MAX).splitlines()
    except OSError:
        return []
    turns: list[Turn] = []
    for row in lines[-TURNS_MAX:]:
        try:
            turns.append(msgspec.json.decode(row, type=Turn))
        except msgspec.DecodeError:
            continue
    return turns
