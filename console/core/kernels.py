"""What only the log tells of a server that runs: above all the kernels that vLLM compiles while requests wait.

vLLM compiles DeepSeek V4's kernels for the shapes it meets. What its warm-up missed comes at the first requests: 16 s a
kernel were seen on two H200 (vLLM 0.26, TileLang), with all requests standing still meanwhile.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from console.core.logparse import LogLine

__all__ = ["KernelTracker", "LogFigures"]

_SERVES: Final = ("Kernel JIT monitor activated", "Application startup complete")
"""From here on a compilation is one that requests may wait for."""
_WARNED: Final = re.compile(r"JIT compilation during inference: (?P<kernel>[\w.]+?)\.?(?:\s|$)")
_TILELANG: Final = re.compile(r"TileLang (?P<what>begins|completes) to compile kernel `(?P<kernel>\w+)`")
_MARK: Final = "ompil"
"""In each sentence about a compilation: a cheap look at lines that come by the thousand."""


class LogFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What only the log tells of a server that runs."""

    kv_tokens: int | None = None
    """Size of one engine's KV cache, as it was printed at the start."""
    step_tokens: int | None = None
    """Tokens that one step of the scheduler may take, where drafts leave fewer than `max_num_batched_tokens`."""
    kernels_compiled: int | None = None
    """`KernelTracker.total`; `None` where no log is read."""
    kernel_compiling: str | None = None


class KernelTracker:
    """Follows one start of the server."""

    def __init__(self) -> None:
        self._serves = False
        self._compiled: dict[str, int] = {}
        self._warned: dict[str, str] = {}
        self._open: dict[str, str] = {}

    @property
    def total(self) -> int:
        """Begun since the server serves, by the process that began most: ranks compile the same ones side by side."""
        return max(self._compiled.values(), default=0)

    @property
    def compiling(self) -> str:
        """Name of one that is not done; empty if all are. Only TileLang tells when it is done."""
        return next(iter(self._open.values()), "")

    def feed(self, line: LogLine) -> None:
        """Take the next line."""
        message = line.message
        if not self._serves:
            self._serves = message.startswith(_SERVES)
            return
        if _MARK not in message:
            return
        process = line.proc or ""
        if (found := _TILELANG.search(message)) is not None:
            self._tilelang(process, found["what"], found["kernel"])
        elif (found := _WARNED.search(message)) is not None:
            self._compiled[process] = self._compiled.get(process, 0) + 1
            self._warned[process] = found["kernel"]

    def _tilelang(self, process: str, what: str, kernel: str) -> None:
        if what == "completes":
            self._open.pop(process, None)
            return
        self._open[process] = kernel
        # The first time in a process it is announced by the warning, which is counted already.
        if self._warned.pop(process, None) != kernel:
            self._compiled[process] = self._compiled.get(process, 0) + 1
