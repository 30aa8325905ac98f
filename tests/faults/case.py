"""What a fault case is, and how one is run and measured.

A case gets a `FaultWorld` with a server that serves (started for it where it needs one), does its harm, and says what
the end must be. The runner measures: seen, time to detect, time to recover, requests lost, processes left.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import httpx
import psutil

from console.core.models import Sample
from console.io.runs import RunDir
from tests.e2e.world import World, wait_for

__all__ = ["FaultCase", "FaultResult", "FaultWorld", "Load", "run_case"]

DETECT_TIMEOUT_S = 120.0
RECOVER_TIMEOUT_S = 300.0
REQUEST_TOKENS = 40
TP2 = ("serve.tensor_parallel_size=2", 'env.VLLM_CPU_OMP_THREADS_BIND="0|1"')
"""Two workers, each with a core of its own: the CPU engine does not start them otherwise."""

CLOCK = """
import time
from pathlib import Path
_real, _offset = time.time, Path({path!r})
def _shifted():
    try:
        return _real() + float(_offset.read_text())
    except (OSError, ValueError):
        return _real()
time.time = _shifted
"""
"""As `sitecustomize`: a file moves the wall clock of every Python of a world, the console's and vLLM's."""

Needs = Literal["server", "fresh", "tp2", "nothing"]
Outcome = Literal["serves", "nothing left"]


@dataclass(frozen=True, kw_only=True)
class FaultCase:
    """One row."""

    id: str
    title: str
    needs: Needs = "server"
    """`server`: any that serves, which it leaves serving; `fresh`: one of its own; `tp2`: one with two workers;
    `nothing`: it starts what it needs itself."""
    until: str = "ready"
    """State of a server of its own in which the harm is done."""
    settings: tuple[str, ...] = ()
    """Of a server of its own, as after `--set`."""
    loaded: bool = False
    """Requests are streaming meanwhile."""
    may_lose: bool = True
    """Requests that were accepted may fail."""
    own_clock: bool = False
    """Its processes see a clock that the case can set."""
    leaves_run: bool = True
    """There is a run afterwards that says what happened."""
    inject: Callable[[FaultWorld], None]
    """Does the harm. Notes the moment with `world.harmed()` where that is not its return."""
    detected: Callable[[FaultWorld], str]
    """What the run's own records say about it; empty while they do not."""
    expect: Outcome


@dataclass(frozen=True, kw_only=True)
class FaultResult:
    """What came of one case."""

    seen: str
    detect_s: float | None
    recover_s: float | None
    requests_lost: int | None
    processes_left: int
    """Processes of the server that no supervisor owns at the end."""


@dataclass
class Load:
    """Streaming chat requests, and how each ended."""

    done: int = 0
    refused: int = 0
    """Not accepted: no connection, or an answer before the first token."""
    lost: int = 0
    """Accepted, and then without its end."""
    said: list[str] = field(default_factory=list)


class FaultWorld(World):
    """A world with one run in it."""

    def __init__(self, home: Path, data_home: Path) -> None:
        super().__init__(home, data_home)
        self.harmed_s: float | None = None
        self.begun_s = 0.0
        """When the case began."""
        self.before: dict[str, Any] = {}

    def own_clock(self) -> None:
        """Give everything that is started from here on a wall clock that `shift_clock` moves."""
        folder = self.home / "clock"
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(CLOCK.format(path=str(folder / "offset_s")), encoding="utf-8")
        self.env["PYTHONPATH"] = str(folder)

    def shift_clock(self, seconds: float) -> None:
        """Set the clock to the real time and so many seconds."""
        (self.home / "clock" / "offset_s").write_text(str(seconds), encoding="utf-8")

    @property
    def run_dir(self) -> Path:
        """The newest run."""
        return max(self.runs.iterdir(), key=lambda path: path.stat().st_mtime)

    def info(self) -> dict[str, Any]:
        """`run.json` of it, read without asking the console anything, which would mend what is broken."""
        while True:
            with contextlib.suppress(json.JSONDecodeError):
                document: dict[str, Any] = json.loads((self.run_dir / "run.json").read_text(encoding="utf-8"))
                return document

    def events(self, since_s: float = 0.0) -> list[str]:
        """Texts of its events."""
        lines = (self.run_dir / "events.jsonl").read_text(encoding="utf-8").splitlines()
        events = [json.loads(line) for line in lines]
        return [f"{event['kind']}: {event['text']}" for event in events if event["time_s"] >= since_s]

    def samples(self) -> tuple[Sample, ...]:
        """Its samples as they stand on disk."""
        return RunDir(self.run_dir).samples()

    def spent_s(self) -> float:
        """Seconds in the run's ledger as it stands on disk."""
        return float(sum(json.loads((self.run_dir / "money.json").read_bytes())["seconds"].values()))

    def prepare(self, case: FaultCase) -> None:
        """What a case with a server of its own needs."""
        if case.own_clock:
            self.own_clock()
        if case.needs != "nothing":
            self.launch(*case.settings, until=case.until)

    def launch(self, *settings: str, until: str = "ready") -> None:
        """Start `cpu-smoke` detached from this process, and wait for a state."""
        pairs = [f"serve.port={self.port}", *settings]
        arguments = ["--profile", "cpu-smoke", "--json", *(part for pair in pairs for part in ("--set", pair))]
        self.spawn([*arguments, "--detach"])
        wait_for("a run", lambda: self.runs.exists() and any(self.runs.iterdir()), 60.0)
        wait_for(f"state {until}", lambda: self.state() == until, RECOVER_TIMEOUT_S)
        self.before = self.info()

    def make_whole(self) -> None:
        """Give a server that an earlier case left its supervisor and guardian again, or start it anew."""
        if self.healthy() and not (self.supervised() and self.alive("guardian")):
            if self.alive("supervisor"):
                self.signal(signal.SIGKILL, "supervisor")
                wait_for("the supervisor to be gone", lambda: not self.alive("supervisor"), 20.0)
            self.run("status")
        if not (self.healthy() and self.supervised() and self.alive("guardian")):
            self.run("stop")
            self.launch()

    def state(self) -> str:
        """Last state on record."""
        with contextlib.suppress(FileNotFoundError, ValueError):
            return str(self.info().get("state", ""))
        return ""

    def pid(self, role: str) -> int:
        """Of `guardian`, `supervisor`, `server`, `engine`, `worker`."""
        if role in ("guardian", "supervisor", "server"):
            return int(self.info()[f"{role}_pid"])
        title = {"engine": "VLLM::Engine", "worker": "VLLM::Worker"}[role]
        found = []
        for process in self.engine_processes():
            with contextlib.suppress(psutil.Error):
                if any(text.startswith(title) for text in (process.name(), " ".join(process.cmdline()))):
                    found.append(process.pid)
        assert found, f"no {role} runs"
        return found[-1]

    def signal(self, number: signal.Signals, *roles: str) -> None:
        """To all of these at once: none can react to what happens to another."""
        pids = [self.pid(role) for role in roles]
        if number is signal.SIGKILL:
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
        self.harmed()
        for pid in pids:
            os.kill(pid, number)

    def harmed(self) -> None:
        """The harm is done now."""
        self.harmed_s = time.time()

    def alive(self, role: str) -> bool:
        """Whether this process of the run's record runs."""
        pid = self.info().get(f"{role}_pid")
        with contextlib.suppress(psutil.Error):
            return pid is not None and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
        return False

    def healthy(self) -> bool:
        """`/health` answers 200."""
        try:
            return httpx.get(f"{self.url}/health", timeout=3.0, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    def answers(self) -> bool:
        """A request for a few tokens is answered."""
        body = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
        try:
            url = f"{self.url}/v1/chat/completions"
            return httpx.post(url, json=body, timeout=20.0, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    def supervised(self) -> bool:
        """A supervisor runs, and knows the server to be ready."""
        return self.alive("supervisor") and self.state() == "ready"

    @contextlib.contextmanager
    def load(self, clients: int = 4, tokens: int = REQUEST_TOKENS) -> Iterator[Load]:
        """Streaming requests, one after the other by each client."""
        load, stop, lock = Load(), threading.Event(), threading.Lock()

        def ask(http: httpx.Client, text: str) -> str:
            body = {
                "model": "tiny",
                "messages": [{"role": "user", "content": text}],
                "max_tokens": tokens,
                "ignore_eos": True,
                "stream": True,
            }
            begun = False
            try:
                with http.stream("POST", "/v1/chat/completions", json=body) as answer:
                    if answer.status_code != 200:
                        return f"refused HTTP {answer.status_code}"
                    for line in answer.iter_lines():
                        if line == "data: [DONE]":
                            return "done"
                        piece = json.loads(line[6:]) if line.startswith("data: {") else {}
                        if "error" in piece:
                            return f"{'lost' if begun else 'refused'} {piece['error']}"
                        choice = (piece.get("choices") or [{}])[0]
                        begun = begun or bool(choice.get("delta", {}).get("content"))
                        if choice.get("finish_reason") == "abort":
                            return "lost abort" if begun else "refused abort"
                    return "lost: the stream ended early" if begun else "refused: no answer"
            except httpx.HTTPError as error:
                return f"{'lost' if begun else 'refused'} {error!r}"

        def client(number: int) -> None:
            turn = 0
            limits = httpx.Limits(max_keepalive_connections=0)
            with httpx.Client(base_url=self.url, timeout=60.0, trust_env=False, limits=limits) as http:
                while not stop.is_set():
                    turn += 1
                    end = ask(http, f"client {number} turn {turn}")
                    with lock:
                        kind = end.partition(" ")[0].rstrip(":")
                        setattr(load, kind, getattr(load, kind) + 1)
                        if kind != "done":
                            load.said.append(end)
                            stop.wait(0.2)

        threads = [threading.Thread(target=client, args=(number,), daemon=True) for number in range(clients)]
        for thread in threads:
            thread.start()
        try:
            wait_for("answers under load", lambda: load.done >= clients, 120.0)
            yield load
        finally:
            stop.set()
            for thread in threads:
                thread.join(70.0)


def run_case(case: FaultCase, world: FaultWorld) -> FaultResult:
    """Do the harm of one case to a world that is as `case.needs` says, and measure what comes of it.

    Raises:
        AssertionError: the end is not the one that the case expects; the message says what was seen.
    """
    world.before = {} if case.needs == "nothing" else world.info()
    world.harmed_s, world.begun_s = None, time.time()
    with world.load() if case.loaded else contextlib.nullcontext() as load:
        case.inject(world)
        if world.harmed_s is None:
            world.harmed()
        harmed_s = world.harmed_s
        assert harmed_s is not None
        seen = str(wait_for(f"{case.id}: that it is seen", lambda: case.detected(world), DETECT_TIMEOUT_S))
        detect_s = time.time() - harmed_s
        if case.expect == "serves":
            wait_for(f"{case.id}: that it serves", lambda: world.supervised() and world.answers(), RECOVER_TIMEOUT_S)
            recover_s: float | None = time.time() - harmed_s
        else:
            wait_for(f"{case.id}: that nothing is left", lambda: not world.engine_processes(), RECOVER_TIMEOUT_S)
            recover_s = None
    left = 0 if case.expect == "serves" else len(world.engine_processes())
    if case.expect == "serves":
        session = world.info()["server_pid"]
        left = sum(1 for process in world.engine_processes() if os.getsid(process.pid) != session)
    assert left == 0, f"{case.id}: {left} processes are left"
    lost = load.lost if load is not None else None
    assert case.may_lose or not lost, f"{case.id}: {lost} requests were lost: {load.said[:5] if load else ''}"
    return FaultResult(seen=seen, detect_s=detect_s, recover_s=recover_s, requests_lost=lost, processes_left=left)
