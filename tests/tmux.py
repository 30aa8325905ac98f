"""A program in a real terminal: tmux on a private socket, driven by keys, read as text."""

from __future__ import annotations

import contextlib
import os
import pty
import shutil
import subprocess
import termios
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

__all__ = ["Client", "Tmux"]

POLL_S = 0.05


class Tmux:
    """One tmux session of a fixed size that runs a shell line; `exit=N` appears once that has ended."""

    def __init__(self, line: str, env: Mapping[str, str], width: int = 80, height: int = 24) -> None:
        assert shutil.which("tmux"), "tmux is not installed"
        self._socket = f"dsv4-{uuid.uuid4().hex[:8]}"
        env = {**env, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
        # pytest's workers have COLUMNS and LINES, which outrank the terminal's own size.
        for name in ("TMUX", "COLUMNS", "LINES"):
            env.pop(name, None)
        self._env = env
        shell = f"{line}; echo exit=$?; exec sleep 600"
        self.run("-f", os.devnull, "new-session", "-d", "-x", str(width), "-y", str(height), shell)

    def run(self, *arguments: str) -> str:
        """A command of tmux; gives what it prints."""
        done = subprocess.run(
            ["tmux", "-L", self._socket, *arguments], env=self._env, capture_output=True, text=True, check=True
        )
        return done.stdout

    def keys(self, *names: str) -> None:
        """Press keys by tmux's names (`Enter`, `q`)."""
        self.run("send-keys", *names)

    def type(self, text: str) -> None:
        """Type text as it is."""
        self.run("send-keys", "-l", text)

    def resize(self, width: int, height: int) -> None:
        """Give it another size."""
        self.run("resize-window", "-x", str(width), "-y", str(height))

    @property
    def text(self) -> str:
        """The screen."""
        return self.run("capture-pane", "-p")

    @property
    def colored(self) -> str:
        """The screen with its colours, as escape sequences."""
        return self.run("capture-pane", "-p", "-e")

    def until(self, what: str, condition: Callable[[], object], timeout_s: float = 60.0) -> None:
        """Wait until this holds."""
        end = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < end, f"never: {what}\n{self.text}"
            time.sleep(POLL_S)

    def see(self, text: str, timeout_s: float = 60.0) -> str:
        """Wait until the screen has `text`; gives the screen."""
        shown = [""]

        def there() -> bool:
            shown[0] = self.text
            return text in shown[0]

        self.until(f"{text!r} on the screen", there, timeout_s)
        return shown[0]

    def state(self) -> str:
        """Whether the terminal is as a shell wants it: `mouse alternate-screen cursor`, clean is `0 0 1`."""
        return self.run("display-message", "-p", "#{mouse_any_flag} #{alternate_on} #{cursor_flag}").strip()

    @property
    def pid(self) -> int:
        """The shell in the pane."""
        return int(self.run("display-message", "-p", "#{pane_pid}"))

    def attach(self, width: int, height: int) -> Client:
        """A terminal of this size on it."""
        return Client(["tmux", "-L", self._socket, "-u", "attach"], self._env, width, height)

    def picture(self, path: Path) -> None:
        """Keep the screen with its colours, for whoever looks into a failure."""
        path.write_text(self.colored, encoding="utf-8")

    def close(self) -> None:
        """End tmux and all in it."""
        with contextlib.suppress(subprocess.CalledProcessError):
            self.run("kill-server")


class Client:
    """A pseudo-terminal that a program is attached to, and that can be dropped as a line is dropped."""

    def __init__(self, argv: list[str], env: Mapping[str, str], width: int, height: int) -> None:
        self.got = b""
        self._pid, self._master = pty.fork()
        if self._pid == 0:
            try:
                os.execvpe(argv[0], argv, dict(env))
            finally:
                os._exit(127)
        termios.tcsetwinsize(self._master, (height, width))
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            while data := os.read(self._master, 65_536):
                self.got += data

    def send(self, data: bytes) -> None:
        """Type these bytes."""
        os.write(self._master, data)

    def drop(self) -> None:
        """Close the line without a word."""
        with contextlib.suppress(OSError):
            os.kill(self._pid, 1)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self._pid, 0)
        self._reader.join(5)
        with contextlib.suppress(OSError):
            os.close(self._master)
