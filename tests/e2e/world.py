"""A world for end-to-end tests: directories of its own, the product's own commands, and nothing left behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil

READY_TIMEOUT_S = 300.0
STOP_TIMEOUT_S = 90.0
BUSY_S = 5.0
"""Clients that rest are busy for so long at a time."""


def free_port() -> int:
    """A TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(what: str, check: Callable[[], Any], timeout_s: float = 60.0) -> Any:
    """Wait until `check` gives something true and return it; fail with `what` when it does not in time."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        value = check()
        if value:
            return value
        time.sleep(0.1)
    raise AssertionError(f"not within {timeout_s:.0f} s: {what}")


class World:
    """Directories, environment and processes of one test."""

    def __init__(self, home: Path, data_home: Path) -> None:
        self.home = home
        self.env = {
            **{key: value for key, value in os.environ.items() if not key.startswith("XDG_")},
            "XDG_CONFIG_HOME": str(home / "config"),
            "XDG_STATE_HOME": str(home / "state"),
            "XDG_DATA_HOME": str(data_home),
            "XDG_CACHE_HOME": str(home / "cache"),
            "PYTHONWARNINGS": "default",
        }
        self.port = free_port()
        self._children: list[subprocess.Popen[bytes]] = []

    @property
    def url(self) -> str:
        """Where the server of this test listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def runs(self) -> Path:
        """Where this world's runs are."""
        return self.home / "state" / "dsv4-console" / "runs"

    def command(self, *arguments: str) -> list[str]:
        """The product's command line."""
        return [sys.executable, "-P", "-m", "console", *arguments]

    def run(self, *arguments: str, timeout_s: float = 120.0) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            self.command(*arguments),
            env=self.env,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            stdin=subprocess.DEVNULL,
            check=False,
        )

    def json(self, *arguments: str) -> Any:
        """Run a command with `--json`; its stdout must be one JSON document."""
        done = self.run(*arguments, "--json")
        return json.loads(done.stdout)

    def headless(self, *settings: str, options: tuple[str, ...] = ()) -> Headless:
        """Start `--profile cpu-smoke --json` on this world's port."""
        pairs = [f"serve.port={self.port}", *settings]
        arguments = [part for pair in pairs for part in ("--set", pair)]
        return Headless(self, ["--profile", "cpu-smoke", "--json", "--status-interval", "1", *options, *arguments])

    def spawn(self, arguments: list[str]) -> subprocess.Popen[bytes]:
        """Start a command and leave it running; it is ended with the world."""
        child = subprocess.Popen(
            self.command(*arguments),
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._children.append(child)
        return child

    def processes(self) -> list[psutil.Process]:
        """Processes of this world: its environment, or its files as standard output.

        vLLM's processes overwrite their environment with their titles, but all write to the run's log.
        """
        found = []
        state, home = self.env["XDG_STATE_HOME"], str(self.home)
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if process.status() == psutil.STATUS_ZOMBIE:
                    continue
                output = str(Path(f"/proc/{process.pid}/fd/1").readlink())
                if output.startswith(home) or process.environ().get("XDG_STATE_HOME") == state:
                    found.append(process)
        return found

    def engine_processes(self) -> list[psutil.Process]:
        """Every process of vLLM in this world: all that write to a server's log."""
        found = []
        for process in self.processes():
            with contextlib.suppress(psutil.Error, OSError):
                if str(Path(f"/proc/{process.pid}/fd/1").readlink()).endswith("server.log"):
                    found.append(process)
        return found

    def status(self) -> Any:
        """`status --json`, or `None` while there is nothing to say."""
        done = self.run("status", "--json")
        with contextlib.suppress(json.JSONDecodeError):
            document = json.loads(done.stdout)
            return document if "error" not in document else None
        return None

    def close(self) -> None:
        """End everything that this world started."""
        for child in self._children:
            if child.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            for stream in (child.stdout, child.stderr):
                if stream is not None:
                    stream.close()
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                process.kill()
        wait_for("all processes of the test to end", lambda: not self.processes(), 20.0)


class Headless:
    """A headless launch in the background, with what it says."""

    def __init__(self, world: World, arguments: list[str]) -> None:
        self.child = world.spawn(arguments)
        self.lines: list[dict[str, Any]] = []
        self.raw: list[str] = []
        self.narration: list[str] = []
        self._readers = [
            threading.Thread(target=self._read_data, daemon=True),
            threading.Thread(target=self._read_narration, daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def _read_data(self) -> None:
        assert self.child.stdout is not None
        for line in self.child.stdout:
            self.raw.append(line.decode())
            with contextlib.suppress(json.JSONDecodeError):
                self.lines.append(json.loads(line))

    def _read_narration(self) -> None:
        assert self.child.stderr is not None
        for line in self.child.stderr:
            self.narration.append(line.decode(errors="replace").rstrip("\n"))

    @property
    def said(self) -> str:
        """All of the narration so far."""
        return "\n".join(self.narration)

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The JSON lines of one type so far."""
        return [line for line in tuple(self.lines) if line.get("type") == kind]

    def states(self) -> list[str]:
        """States in the order they were told."""
        return [line["state"] for line in self.of("state")]

    def wait_ready(self) -> None:
        """Wait until it says that the server is ready."""

        def check() -> bool:
            if self.child.poll() is not None:
                raise AssertionError(f"ended with {self.child.returncode} before it was ready:\n{self.said}")
            return "ready" in self.states()

        wait_for("the server to be ready", check, READY_TIMEOUT_S)

    def wait_end(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """Wait for its end and return its exit code."""
        code = self.child.wait(timeout_s)
        for reader in self._readers:
            reader.join(10.0)
        return code

    def interrupt(self, number: signal.Signals = signal.SIGINT) -> None:
        """Signal it, as a terminal or a service manager would."""
        self.child.send_signal(number)


@contextlib.contextmanager
def load(
    url: str,
    clients: int,
    *,
    prompt_words: int = 20,
    max_tokens: int = 100,
    same: bool = False,
    rest_s: float = 0.0,
    first: Callable[[], None] = lambda: None,
) -> Iterator[list[int | str]]:
    """Keep `clients` chat requests in flight. Yields the list that collects HTTP status codes, and errors in words.

    With `same`, all ask the very same. With `rest_s`, they all ask for `BUSY_S` and then rest for so long; not after
    each answer, since one that is over within a second falls between two scrapes, and vLLM's workers spin for a second
    more. Each client's thread calls `first` before anything else.
    """
    stop = threading.Event()
    statuses: list[int | str] = []
    began = time.monotonic()

    def client(number: int) -> None:
        first()
        # A connection per request: uvicorn closes idle ones after 5 s, on a starved machine just as one is used again.
        limits = httpx.Limits(max_keepalive_connections=0)
        with httpx.Client(base_url=url, timeout=120.0, trust_env=False, limits=limits) as http:
            turn = 0
            while not stop.is_set():
                turn += 1
                who = "all" if same else f"{number}x{turn}"
                text = " ".join(f"w{who}x{word}" for word in range(prompt_words))
                body = {
                    "model": "tiny",
                    "messages": [{"role": "user", "content": text}],
                    "max_tokens": max_tokens,
                    "ignore_eos": True,
                }
                try:
                    statuses.append(http.post("/v1/chat/completions", json=body).status_code)
                except httpx.HTTPError as error:
                    statuses.append(repr(error))
                    stop.wait(0.2)
                phase_s = (time.monotonic() - began) % (BUSY_S + rest_s)
                if phase_s > BUSY_S:
                    stop.wait(BUSY_S + rest_s - phase_s)

    threads = [threading.Thread(target=client, args=(number,), daemon=True) for number in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield statuses
    finally:
        stop.set()
        for thread in threads:
            thread.join(90.0)
