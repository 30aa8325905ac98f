"""Conversations on disk: one file of records each, private to its owner, only ever added to.

A file begins with its `Begun`. Lines that cannot be read are passed over, so that a torn line costs itself alone.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from console.core.chat_conversation import Begun, Conversation, Record, markdown_of, replayed
from console.core.errors import StateError
from console.io.paths import conversations_dir, make_private_dir, state_dir

__all__ = [
    "CONVERSATIONS_MAX",
    "FILE_BYTES_MAX",
    "add",
    "begin",
    "export",
    "export_path",
    "latest",
    "listed",
    "path_for",
    "read",
    "remove",
]

FILE_BYTES_MAX = 64 * 1024 * 1024
"""A file grows no further, so that a conversation is always read whole: sixteen of the longest answers."""
CONVERSATIONS_MAX = 500
"""Newest that are listed and searched."""
NAME_TRIES = 100
SLUG_CHARS = 40
PRIVATE = 0o600

decoder = msgspec.json.Decoder(Record)


def path_for(conversation_id: str) -> Path:
    """File of this conversation."""
    return conversations_dir() / f"{conversation_id}.jsonl"


def begin(begun: Begun) -> str:
    """Make the file of a new conversation; returns its id.

    Raises:
        OSError: it cannot be written.
        StateError: its directory cannot be made.
    """
    make_private_dir(conversations_dir())
    stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(begun.time_s))
    for number in range(1, NAME_TRIES):
        name = f"{stamp}-{number:02d}"
        try:
            handle = os.open(path_for(name), os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE)
        except FileExistsError:
            continue
        os.close(handle)
        add(name, [begun])
        return name
    raise StateError("Cannot begin a conversation", f"{conversations_dir()} has {NAME_TRIES} of this second")


def add(conversation_id: str, records: Sequence[Record]) -> None:
    """Add records in one write.

    Raises:
        OSError: they cannot be written, the file is full or gone; half a line never stays.
    """
    data = b"".join(msgspec.json.encode(record) + b"\n" for record in records)
    handle = os.open(path_for(conversation_id), os.O_RDWR | os.O_APPEND)
    with os.fdopen(handle, "ab", buffering=0) as file:
        size = file.tell()
        if size and os.pread(file.fileno(), 1, size - 1) != b"\n":
            data = b"\n" + data  # a torn line must not spoil the next one
        if size + len(data) > FILE_BYTES_MAX:
            raise OSError(errno.EFBIG, f"it is full ({FILE_BYTES_MAX // 2**20} MiB); begin a new one")
        written = file.write(data)
        if written != len(data):
            file.truncate(size)
            raise OSError(f"only {written} of {len(data)} bytes fit")


def read(conversation_id: str) -> Conversation | None:
    """The conversation as it stands; `None` if there is none of this id."""
    path = path_for(conversation_id)
    try:
        with path.open("rb") as file:
            return replayed(_records(file.read(FILE_BYTES_MAX).splitlines()), conversation_id)
    except OSError:
        return None


def _records(lines: Sequence[bytes]) -> Iterator[Record]:
    for line in lines:
        with contextlib.suppress(msgspec.DecodeError):
            yield decoder.decode(line)


def _files() -> list[Path]:
    """Newest change first."""
    found = []
    with contextlib.suppress(OSError):
        for path in conversations_dir().glob("*.jsonl"):
            with contextlib.suppress(OSError):
                found.append((path.stat().st_mtime, path.name, path))
    return [path for *_, path in sorted(found, reverse=True)[:CONVERSATIONS_MAX]]


def listed() -> tuple[Conversation, ...]:
    """Conversations that have a turn, newest change first."""
    found = (read(path.stem) for path in _files())
    return tuple(each for each in found if each is not None and each.turns)


def latest(run_id: str) -> Conversation | None:
    """The newest conversation of a run."""
    wanted = msgspec.json.encode(run_id)
    for path in _files():
        with contextlib.suppress(OSError), path.open("rb") as file:
            if wanted in file.readline():
                found = read(path.stem)
                if found is not None and found.run_id == run_id:
                    return found
    return None


def remove(conversation_id: str) -> None:
    """Delete a conversation for good.

    Raises:
        OSError: it cannot be deleted.
    """
    path_for(conversation_id).unlink(missing_ok=True)


def export_path(conversation: Conversation) -> Path:
    """Where an export goes unless the operator says otherwise."""
    slug = re.sub(r"[^a-z0-9]+", "-", conversation.title.lower()).strip("-")[:SLUG_CHARS].strip("-")
    return state_dir() / "exports" / f"{conversation.id or 'chat'}-{slug or 'conversation'}.md"


def export(conversation: Conversation, path: Path) -> Path:
    """Write a conversation as Markdown, readable by its owner alone. Nothing is overwritten.

    Raises:
        OSError: it cannot be written, or exists.
        StateError: the directory for exports cannot be made.
    """
    if path.parent == export_path(conversation).parent:
        make_private_dir(path.parent)
    begun = time.strftime("%Y-%m-%d %H:%M", time.localtime(conversation.begun_s)) if conversation.begun_s else "–"
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE)
    with os.fdopen(handle, "w", encoding="utf-8", errors="replace") as file:
        file.write(markdown_of(conversation, begun))
    return path
