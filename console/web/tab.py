"""One browser tab: the console as a child process, which ends with its tab and with this server."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
from asyncio.subprocess import Process
from collections.abc import Mapping, Sequence
from typing import Any, Final

from textual_serve.app_service import AppService

from console.io.process import die_with_parent
from console.web import BROWSER_DRIVER, TOKEN_VARIABLE

__all__ = ["Tab"]

WIDTH_MAX: Final = 500
HEIGHT_MAX: Final = 200
"""Of a terminal in cells: more than any screen has, and little enough to paint."""
QUIT_WAIT_S: Final = 3.0
"""Between asking the UI to end and SIGTERM."""
TERMINATE_WAIT_S: Final = 2.0
"""Between SIGTERM and SIGKILL."""
FRAMES_PER_S: Final = "30"
"""Over a tunnel more only queues."""
LEFT_OUT: Final = (TOKEN_VARIABLE, "TMUX", "STY", "COLUMNS", "LINES")
"""Of our environment: the token is none of the child's business, and it paints in the browser, not in our terminal."""


class Tab(AppService):
    """textual-serve's service, without a shell, with bounds, and with an end that does not depend on the UI."""

    def __init__(self, argv: Sequence[str], environment: Mapping[str, str], **options: Any) -> None:
        super().__init__(shlex.join(argv), **options)
        self._argv = tuple(argv)
        self._environment = environment

    def _build_environment(self, width: int = 80, height: int = 24) -> dict[str, str]:
        kept = {name: value for name, value in self._environment.items() if name not in LEFT_OUT}
        return {
            **kept,
            "TEXTUAL_DRIVER": BROWSER_DRIVER,
            "TEXTUAL_FPS": FRAMES_PER_S,
            "TEXTUAL_COLOR_SYSTEM": "truecolor",
            "TERM": "xterm-256color",
            "COLORTERM": "truecolor",
            # textual's web driver takes its first size from these two.
            "COLUMNS": str(width),
            "ROWS": str(height),
        }

    async def _open_app_process(self, width: int = 80, height: int = 24) -> Process:
        process = await asyncio.create_subprocess_exec(
            *self._argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=self._build_environment(*bounded(width, height)),
            # ctrl+c in our terminal is ours to act on, and a killed server leaves no UI behind.
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
        # What the UI says before it paints goes to our own stderr; textual-serve wants something to read all the same.
        process.stderr = asyncio.StreamReader()
        process.stderr.feed_eof()
        self._process, self._stdin = process, process.stdin
        return process

    async def run(self) -> None:
        """Pass on what the UI paints. One that ended without a word, killed perhaps, ends its page too."""
        try:
            await super().run()
        finally:
            await self.remote_close()

    async def set_terminal_size(self, width: int, height: int) -> None:
        """Tell the UI the size of the browser's window in cells."""
        await super().set_terminal_size(*bounded(width, height))

    async def stop(self) -> None:
        """End the UI: ask it, then SIGTERM, then SIGKILL."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            await self.send_meta({"type": "quit"})
            for wait_s, end in ((QUIT_WAIT_S, process.terminate), (TERMINATE_WAIT_S, process.kill)):
                if await self._over(process, wait_s):
                    break
                with contextlib.suppress(ProcessLookupError):
                    end()
        await process.wait()
        if self._task is not None:
            self._task.cancel()  # it may wait for a browser that no longer takes what it is sent
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    @staticmethod
    async def _over(process: Process, wait_s: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await process.wait()
        return process.returncode is not None


def bounded(width: int, height: int) -> tuple[int, int]:
    """A size that can be painted, whatever the browser says."""
    return min(max(int(width), 1), WIDTH_MAX), min(max(int(height), 1), HEIGHT_MAX)
