"""What the benchmarks run in: scratch directories, the console's command, engines, the rival, and the cleaning up."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from console.io.process import session_members
from tests.benchmarks.terminal import Terminal

__all__ = ["NVITOP", "POSTING", "RIVAL", "Run", "Unavailable", "World"]

RIVAL = "vllmstat==0.9.1"
NVITOP = "nvitop==1.7.2"
POSTING = "posting==2.11.1"
BESIDE = {"posting": ("tree-sitter<0.26",)}
"""What must be older than the newest for a program to run: Posting ends with SIGSEGV on tree-sitter 0.26."""
FAKE = Path(__file__).parents[1] / "fakes" / "fake_vllm.py"
READY_S = 180.0
INSTALL_S = 180.0
STRAYS_MAX = 5


class Unavailable(Exception):
    """Something that a benchmark needs is not there; it is skipped and says why."""


@dataclass
class Run:
    """A detached run of the console."""

    id: str
    url: str
    argv: list[str]
    guardian_pid: int | None
    supervisor_pid: int | None
    server_pid: int | None


class World:
    """Scratch directories and all processes started in them; `close` leaves neither.

    Engines and the model cache are the user's own: installing them is not what is measured.
    """

    def __init__(self, console: Sequence[str] | None, engine: str | None) -> None:
        self.scratch = Path(tempfile.mkdtemp(prefix="dsv4-bench-"))
        self.console = list(console or self._find_console())
        self.engine = engine
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("FAKE_VLLM_")}
        self.env |= {f"XDG_{kind}_HOME": str(self.scratch / kind.lower()) for kind in ("STATE", "CONFIG")}
        self._runs: list[Run] = []
        self._terminals: list[Terminal] = []
        self._rivals: dict[str, str] = {}

    def close(self) -> None:
        """End everything and remove the scratch directory."""
        for terminal in self._terminals:
            terminal.close()
        for run in list(self._runs):
            self.stop(run)
        # A launch that was interrupted may have left a run that nobody noted.
        for _ in range(STRAYS_MAX):
            try:
                stray = self._status()
            except (Unavailable, OSError, subprocess.SubprocessError):
                break
            self._runs.append(stray)
            self.stop(stray)
        shutil.rmtree(self.scratch, ignore_errors=True)

    def __enter__(self) -> World:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @staticmethod
    def _find_console() -> list[str]:
        beside = Path(sys.executable).with_name("dsv4-console")
        return [str(beside)] if beside.exists() else [sys.executable, "-m", "console"]

    def fake_engine(self) -> str:
        """The fake vLLM under the name of a command."""
        command = self.scratch / "fake" / "vllm"
        if not command.exists():
            command.parent.mkdir()
            command.symlink_to(FAKE)
        return str(command)

    def rival(self, requirement: str = RIVAL) -> str:
        """A program of the package index, installed into an environment of its own on first use; gives its command.

        Raises:
            Unavailable: it cannot be installed.
        """
        name = requirement.partition("==")[0]
        if name not in self._rivals:
            place = self.scratch / f"rival-{name}"
            uv = shutil.which("uv")
            python = str(place / "bin" / "python")
            if uv:
                make = [uv, "venv", "-q", "-p", sys.executable, str(place)]
                fill = [uv, "pip", "install", "-q", "--compile-bytecode", "--python", python, requirement]
            else:
                make = [sys.executable, "-m", "venv", str(place)]
                fill = [python, "-m", "pip", "install", "-q", requirement]
            for step in (make, [*fill, *BESIDE.get(name, ())]):
                try:
                    subprocess.run(step, check=True, capture_output=True, text=True, timeout=INSTALL_S)
                except (OSError, subprocess.SubprocessError) as error:
                    said = getattr(error, "stderr", "") or str(error)
                    raise Unavailable(f"{requirement} cannot be installed: {said.strip().splitlines()[-1]}") from error
            self._rivals[name] = str(place / "bin" / name)
        return self._rivals[name]

    def terminal(self, *argv: str, columns: int = 160, rows: int = 50, bytes_per_s: float | None = None) -> Terminal:
        """A program in a terminal that `close` ends at the latest."""
        terminal = Terminal(argv, self.env, columns, rows, bytes_per_s)
        self._terminals.append(terminal)
        return terminal

    def launch(self, profile: str, engine: str | None, *settings: str, env: dict[str, str] | None = None) -> Run:
        """`--profile NAME --detach`, once ready.

        Raises:
            Unavailable: it did not come up.
        """
        port = free_port()
        options = [f"--set={each}" for each in (f"serve.port={port}", *settings)]
        chosen = ["--engine", engine] if engine else []
        command = [
            *self.console,
            "--profile",
            profile,
            *chosen,
            *options,
            "--detach",
            "--ready-timeout",
            f"{READY_S:.0f}",
        ]
        done = subprocess.run(
            command, env=self.env | (env or {}), capture_output=True, text=True, timeout=READY_S + 60, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        with contextlib.suppress(Unavailable):
            self._runs.append(self._status())
        if done.returncode:
            raise Unavailable(f"{profile} did not start (exit {done.returncode}): {done.stderr.strip()[-600:]}")
        run = self._runs[-1]
        if run.supervisor_pid is None or run.server_pid is None:
            raise Unavailable(f"{run.id}: status --json names no process")
        return run

    def _status(self) -> Run:
        done = subprocess.run(
            [*self.console, "status", "--json"], env=self.env, capture_output=True, text=True, timeout=60, check=False
        )
        try:
            document: dict[str, Any] = json.loads(done.stdout)
            if not (document["supervised"] or document["serving"]):
                raise Unavailable("nothing runs")
            info: dict[str, Any] = document["run"]
            return Run(
                info["id"],
                info["url"],
                info.get("argv", []),
                info.get("guardian_pid"),
                info.get("supervisor_pid"),
                info.get("server_pid"),
            )
        except (ValueError, KeyError) as error:
            raise Unavailable(f"status --json (exit {done.returncode}): {done.stderr.strip()[-300:]}") from error

    def stop(self, run: Run) -> None:
        """`stop`, then guardian, supervisor and the server's session by their ids if that was not enough."""
        self._runs.remove(run)
        for pid in (run.guardian_pid, run.supervisor_pid):
            if pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            subprocess.run([*self.console, "stop", run.id], env=self.env, capture_output=True, timeout=90, check=False)
        # The guardian first: it starts a killed supervisor again, in its own session.
        left = [*alive(run.guardian_pid), *alive(run.supervisor_pid)]
        for session in (run.guardian_pid, run.server_pid):
            left += session_members(session) if session is not None else ()
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    @contextlib.contextmanager
    def running(
        self, profile: str, engine: str | None, *settings: str, env: dict[str, str] | None = None
    ) -> Iterator[Run]:
        """`launch` and `stop`."""
        run = self.launch(profile, engine, *settings, env=env)
        try:
            yield run
        finally:
            self.stop(run)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def alive(pid: int | None) -> list[int]:
    """`[pid]` after it had a moment to end, `[]` if it did."""
    if pid is None:
        return []
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return []
        time.sleep(0.05)
    return [pid]


def post(url: str, body: dict[str, Any]) -> None:
    """Send JSON to the fake engine."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10):
        pass
