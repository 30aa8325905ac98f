"""What a row of the table of failures is, and the profile changes that rows can propose."""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import StrEnum
from typing import Any, Final

import msgspec

from console.core.models import ProfileChange

__all__ = [
    "SHM_REMEDY",
    "SHM_WHY",
    "Failure",
    "FailureLevel",
    "Stage",
    "fewer_sequences",
    "fitting_divisor",
    "set_to",
    "shorter_context",
    "unset_dtype",
]

SHM_WHY: Final = "/dev/shm is full: a container gets 64 MB of it unless told otherwise."  # noqa: S108 - a sentence
SHM_REMEDY: Final = (
    "Give the container more shared memory: `--ipc=host`, or `--shm-size=64g`. On a bare machine look at "
    "`df -h /dev/shm` and remove what a dead server left there."
)

Change = Callable[[re.Match[str]], tuple[ProfileChange, ...]]


class FailureLevel(StrEnum):
    """What a matching line is worth."""

    CAUSE = "cause"
    WRAPPER = "wrapper"
    """Repeats or reports a failure whose cause stands earlier."""
    NOISE = "noise"
    """Looks like an error and is none."""


class Stage(StrEnum):
    """When it appears."""

    ARGUMENTS = "arguments"
    CONFIG = "config"
    DOWNLOAD = "download"
    START = "start"
    LOAD = "load"
    MEMORY = "memory"
    RUN = "run"
    REQUEST = "request"
    """One request fails; the server goes on."""
    EXIT = "exit"


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """One known text."""

    id: str
    needles: tuple[str, ...]
    """One of them stands in every line that `pattern` matches: a cheap test before the pattern is tried."""
    pattern: re.Pattern[str]
    stage: Stage
    title: str
    """A format string over the pattern's named groups."""
    why: str = ""
    remedy: str
    level: FailureLevel = FailureLevel.CAUSE
    change: Change | None = None
    versions: str = ""
    """Releases whose source has the text; empty if it does not depend on vLLM's release."""
    after: str = ""
    """A text that must have come earlier in the log for this row to hold."""
    repeats: int = 1
    """How often it must come before it means anything."""
    at_info: bool = False
    """Also looked for in lines of level INFO."""
    example: str


def set_to(key: str, after: Any, before: str = "") -> Change:
    """A change to a fixed value; `before` names the group that holds the present one."""

    def change(found: re.Match[str]) -> tuple[ProfileChange, ...]:
        return (ProfileChange(key=key, before=found[before] if before else None, after=after),)

    return change


def shorter_context(found: re.Match[str]) -> tuple[ProfileChange, ...]:
    if found["fits"] is None:
        return ()
    return (ProfileChange(key="serve.max_model_len", before=int(found["asked"]), after=int(found["fits"])),)


def fewer_sequences(found: re.Match[str]) -> tuple[ProfileChange, ...]:
    asked = int(found["sequences"])
    return (ProfileChange(key="serve.max_num_seqs", before=asked, after=asked // 2),) if asked > 1 else ()


def fitting_divisor(found: re.Match[str]) -> tuple[ProfileChange, ...]:
    heads, asked = int(found["heads"]), int(found["asked"])
    fitting = next((size for size in range(min(heads, asked), 0, -1) if heads % size == 0), 1)
    return (ProfileChange(key="serve.tensor_parallel_size", before=asked, after=fitting),)


def unset_dtype(found: re.Match[str]) -> tuple[ProfileChange, ...]:
    if found["flag"] != "--dtype":
        return ()
    return (ProfileChange(key="serve.dtype", before=found["value"], after=None),)
