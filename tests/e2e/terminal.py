"""The product in a real terminal: tmux on a private socket, driven by keys, read as text."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import uuid
from pathlib import Path

from tests.e2e.world import World, wait_for

__all__ = ["Terminal"]


class Terminal:
    """One tmux session of a fixed size that runs a command of a world."""

    def __init__(self, world: World, *arguments: str, width: int = 80, height: int = 24) -> None:
        assert shutil.which("tmux"), "tmux is not installed"
        self._socket = f"dsv4-{uuid.uuid4().hex[:8]}"
        self._world = world
        env = {**world.env, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
        env.pop("TMUX", None)
        self._env = env
        line = f"{shlex.join(world.command(*arguments))}; echo exit=$?; exec sleep 600"
        self._tmux("-f", os.devnull, "new-session", "-d", "-x", str(width), "-y", str(height), line)

    def _tmux(self, *arguments: str) -> str:
        done = subprocess.run(
            ["tmux", "-L", self._socket, *arguments], env=self._env, capture_output=True, text=True, check=True
        )
        return done.stdout

    def keys(self, *names: str) -> None:
        """Press keys by tmux's names (`Enter`, `q`)."""
        self._tmux("send-keys", *names)

    def type(self, text: str) -> None:
        """Type text as it is."""
        self._tmux("send-keys", "-l", text)

    @property
    def text(self) -> str:
        """The screen."""
        return self._tmux("capture-pane", "-p")

    def see(self, text: str, timeout_s: float = 60.0) -> str:
        """Wait until the screen has `text`; gives the screen."""
        try:
            return str(wait_for(f"{text!r} on the screen", lambda: (t := self.text) and text in t and t, timeout_s))
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.text}") from None

    def state(self) -> str:
        """Whether the terminal is as a shell wants it: `mouse alternate-screen cursor`, clean is `0 0 1`."""
        return self._tmux("display-message", "-p", "#{mouse_any_flag} #{alternate_on} #{cursor_flag}").strip()

    def picture(self, path: Path) -> None:
        """Keep the screen with its colours, for whoever looks into a failure."""
        path.write_text(self._tmux("capture-pane", "-p", "-e"), encoding="utf-8")

    def close(self) -> None:
        """End tmux and all in it."""
        with contextlib.suppress(subprocess.CalledProcessError):
            self._tmux("kill-server")
