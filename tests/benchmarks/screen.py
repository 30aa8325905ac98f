"""A program in a terminal of tmux, looked at as a person would: by what stands on it."""

from __future__ import annotations

import shlex
import subprocess
import time
from collections.abc import Mapping, Sequence

import psutil

__all__ = ["Screen"]

LOOK_S = 0.01
"""Between two looks; a look itself takes about as long, for every program alike."""


class Screen:
    """Starts `argv` at once in a server of tmux of its own; `close` ends both."""

    def __init__(self, name: str, argv: Sequence[str], env: Mapping[str, str], columns: int = 160, rows: int = 50):
        self._tmux = ["tmux", "-L", f"dsv4-bench-{name}", "-f", "/dev/null"]
        command = shlex.join(["exec", *argv])
        size = ["-x", str(columns), "-y", str(rows)]
        self.started = time.perf_counter()
        subprocess.run([*self._tmux, "new-session", "-d", *size, "sh", "-c", command], env=dict(env), check=True)

    def send(self, *keys: str) -> float:
        """Type these, as tmux names them. Returns when."""
        began = time.perf_counter()
        subprocess.run([*self._tmux, "send-keys", *keys], check=False)
        return began

    def text(self) -> str:
        """What stands on it."""
        return subprocess.run(
            [*self._tmux, "capture-pane", "-p"], capture_output=True, text=True, errors="replace", check=False
        ).stdout

    def wait(self, *wanted: str, absent: str = "", timeout_s: float) -> float:
        """Look until all of these stand there, and `absent` does not. Returns when.

        Raises:
            TimeoutError: they never did.
        """
        deadline = time.perf_counter() + timeout_s
        while time.perf_counter() < deadline:
            text = self.text()
            if all(part in text for part in wanted) and not (absent and absent in text):
                return time.perf_counter()
            time.sleep(LOOK_S)
        raise TimeoutError(f"never within {timeout_s:.0f} s: {wanted}; last:\n{self.text()}")

    def rss_mib(self) -> float:
        """Resident memory of the program and what it started."""
        shown = subprocess.run(
            [*self._tmux, "list-panes", "-F", "#{pane_pid}"], capture_output=True, text=True, check=True
        )
        root = psutil.Process(int(shown.stdout.split()[0]))
        return sum(process.memory_info().rss for process in (root, *root.children(recursive=True))) / 2**20

    def close(self) -> None:
        """End it."""
        subprocess.run([*self._tmux, "kill-server"], check=False, capture_output=True)
