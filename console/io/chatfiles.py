"""Files beside a chat: what is attached as text, the prompt library, and copies for terminals without a clipboard."""

from __future__ import annotations

import os
import stat
import tomllib
from pathlib import Path

from console.core.chat_conversation import File
from console.core.chat_prompts import SHIPPED, Prompt
from console.core.errors import StateError, UsageError
from console.io.paths import config_dir, make_private_dir, state_dir
from console.io.runs import write_atomic

__all__ = ["ATTACH_BYTES_MAX", "attach", "draft", "keep_copy", "keep_draft", "prompts", "prompts_path"]

ATTACH_BYTES_MAX = 1024 * 1024
"""About 300,000 tokens."""
PROMPTS_BYTES_MAX = 1024 * 1024
PROMPTS_MAX = 200
TITLE_CHARS_MAX = 80


def attach(typed: str) -> File:
    """Read a file as text.

    Raises:
        UsageError: it is none, too large, or not text; the message says which.
    """
    path = Path(typed.strip()).expanduser()
    title = "This file cannot be attached"
    try:
        # Not blocking: a named pipe would wait for a writer for ever.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with os.fdopen(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise UsageError(title, f"{path} is no regular file")
            data = file.read(ATTACH_BYTES_MAX + 1)
    except ValueError as error:
        raise UsageError(title, f"{typed!r}: {error}") from error
    except OSError as error:
        raise UsageError(title, f"{path}: {error.strerror}") from error
    if len(data) > ATTACH_BYTES_MAX:
        raise UsageError(title, f"{path} is larger than {ATTACH_BYTES_MAX // 1024} KiB")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(title, f"{path} is not text: byte {error.start:,} is no UTF-8") from error
    if "\0" in text:
        raise UsageError(title, f"{path} is not text: it has a zero byte at {text.index(chr(0)):,}")
    return File(name=path.name, text=text)


def prompts_path() -> Path:
    """The operator's own prompts."""
    return config_dir() / "prompts.toml"


def prompts() -> tuple[Prompt, ...]:
    """The operator's own prompts, then those that come with the program.

    Raises:
        StateError: the operator's file cannot be understood.
    """
    path = prompts_path()
    title, fix = "Your prompts cannot be read", 'Each prompt is a line or more: "its title" = """its text"""'
    try:
        with path.open("rb") as file:
            data = file.read(PROMPTS_BYTES_MAX + 1)
        if len(data) > PROMPTS_BYTES_MAX:
            raise StateError(title, f"{path}: longer than {PROMPTS_BYTES_MAX // 1024} KiB", fix)
        table = tomllib.loads(data.decode("utf-8-sig"))
    except FileNotFoundError:
        return SHIPPED
    except OSError as error:
        raise StateError(title, f"{path}: {error.strerror}", fix) from error
    except ValueError as error:
        raise StateError(title, f"{path}: {error}", fix) from error
    own = []
    for name, text in list(table.items())[:PROMPTS_MAX]:
        if not isinstance(text, str):
            raise StateError(title, f"{path}: {name!r} is no text", fix)
        own.append(Prompt(name[:TITLE_CHARS_MAX], text.strip("\n"), own=True))
    return (*own, *SHIPPED)


def keep_copy(name: str, text: str) -> Path:
    """Write what was copied to a file, readable by its owner alone, in place of the copy before.

    Raises:
        OSError: it cannot be written.
        StateError: its directory cannot be made.
    """
    path = make_private_dir(state_dir() / "copied") / name
    write_atomic(path, text.encode("utf-8", "replace"), sync=False)
    return path


def draft_path() -> Path:
    """What was written and not sent yet."""
    return state_dir() / "chat-draft.txt"


def keep_draft(text: str) -> None:
    """Keep what is written and not sent; nothing removes what was kept.

    Raises:
        OSError: it cannot be written.
        StateError: its directory cannot be made.
    """
    if text:
        make_private_dir(state_dir())
        write_atomic(draft_path(), text.encode("utf-8", "replace"), sync=False)
    else:
        draft_path().unlink(missing_ok=True)


def draft() -> str:
    """What was kept."""
    try:
        with draft_path().open("rb") as file:
            return file.read(ATTACH_BYTES_MAX).decode("utf-8", "replace")
    except OSError:
        return ""
