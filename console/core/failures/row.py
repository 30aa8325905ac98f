"""What a row of the table of failures is, and sentences that several rows share."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final

import msgspec

from console.core.failures.changes import Change

__all__ = [
    "SHM_REMEDY",
    "SHM_WHY",
    "Failure",
    "FailureLevel",
    "Stage",
]

SHM_WHY: Final = "/dev/shm is full: a container gets 64 MB of it unless told otherwise."  # noqa: S108 - a sentence
SHM_REMEDY: Final = (
    "Give the container more shared memory: `--ipc=host`, or `--shm-size=64g`. On a bare machine look at "
    "`df -h /dev/shm` and remove what a dead server left there."
)


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
    """The profile change that is the remedy, where one is."""
    versions: str = ""
    """Releases of vLLM whose source has the text; empty where the text is another program's (Python, CUDA, the hub)."""
    after: str = ""
    """A text that must have come earlier in the log for this row to hold."""
    repeats: int = 1
    """How often it must come before it means anything."""
    at_info: bool = False
    """Also looked for in lines of level INFO."""
    example: str
