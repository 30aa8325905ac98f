"""Where the parts work: directories of their own, the console's own commands, and nothing left behind."""

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
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import psutil

from console.io import process as processes
from console.io.runs import RunDir
from tests.gpu import models, smi
from tests.gpu.report import Skip

__all__ = [
    "ROOT",
    "Done",
    "Run",
    "World",
    "counter",
    "free_port",
    "is_running",
    "json_lines",
    "metrics",
    "output_rate",
    "session_members",
    "until",
]

ROOT = Path(__file__).parents[2]
COMMAND_S, STOP_S, READY_S = 60.0, 120.0, 240.0
BLOCKED = 6
SUPERVISOR_LEAVES_S = 15.0
"""Exit code of a launch that the console's own checks refuse."""
ON_A_GPU_ALONE = frozenset({"gpu_memory_utilization", "kv_cache_memory_bytes", "kv_cache_dtype", "block_size"})
"""Settings that a rehearsal on the CPU leaves out."""


@dataclass
class Done:
    """A command that ended."""

    argv: list[str]
    code: int | None
    """`None`: it was killed at its time limit."""
    out: str
    err: str
    seconds: float

    def document(self) -> Any:
        """Its stdout as JSON.

        Raises:
            ValueError: it is none.
        """
        return json.loads(self.out)


@dataclass(eq=False)
class Run:
    """One launch of the console, whether it came up or not."""

    profile: str
    settings: dict[str, Any]
    done: Done
    folder: Path
    info: dict[str, Any] = field(default_factory=dict)
    blocked: str = ""
    """Why the console would not launch it unforced; it was then forced."""

    @property
    def id(self) -> str:
        """Name of the run."""
        return self.folder.name

    @property
    def url(self) -> str:
        """Where it serves."""
        return str(self.info.get("url", ""))

    @property
    def ready(self) -> bool:
        """Whether the launch said so."""
        return self.done.code == 0

    def reload(self) -> dict[str, Any]:
        """`run.json` as it stands now."""
        with contextlib.suppress(OSError, ValueError):
            self.info = json.loads((self.folder / "run.json").read_text(encoding="utf-8"))
        return self.info

    def events(self) -> list[dict[str, Any]]:
        """What happened so far."""
        return json_lines(self.folder / "events.jsonl")

    def samples(self) -> list[dict[str, Any]]:
        """Figures so far; the supervisor writes them a few seconds late."""
        return [msgspec.to_builtins(sample) for sample in RunDir(self.folder).samples()]

    def log(self) -> str:
        """The server's log so far."""
        with contextlib.suppress(OSError):
            return (self.folder / "server.log").read_text(encoding="utf-8", errors="replace")
        return ""


class World:
    """Environment, profiles and processes of all parts. Everything lies under `out`, the models under `scratch`."""

    def __init__(self, out: Path, vllm: str, *, cpu: bool, fault: str = "") -> None:
        self.out, self.vllm, self.cpu, self.fault = out, vllm, cpu, fault
        self.home = out / "home"
        self.models = self.home / "models"
        self.folder = out
        """Where commands are logged: the part's own."""
        self.deadline = time.monotonic() + 3600.0
        self.memory_before_mib = max(smi.memory_used_mib(), default=0.0)
        paths = {f"XDG_{kind}_HOME": str(self.home / kind.lower()) for kind in ("CONFIG", "STATE", "DATA")}
        search = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
        quiet = {"TEXTUAL_ANIMATIONS": "none", "VLLM_USE_FLASHINFER_SAMPLER": "0", "HF_HUB_OFFLINE": "1"}
        self.env = {**os.environ, **paths, **quiet, "PYTHONPATH": search}
        os.environ.update(paths)
        configuration = self.home / "config" / "dsv4-console" / "config.toml"
        configuration.parent.mkdir(parents=True, exist_ok=True)
        configuration.write_text(f"engine = {json.dumps(vllm)}\n", encoding="utf-8")
        self._runs: list[Run] = []
        self._children: list[subprocess.Popen[bytes]] = []
        self._lock = threading.Lock()

    def left(self, limit_s: float) -> float:
        """`limit_s`, or what is left of the part."""
        return max(1.0, min(limit_s, self.deadline - time.monotonic()))

    def run(self, argv: list[str], timeout_s: float = COMMAND_S, name: str = "") -> Done:
        """Run a command to its end; at the limit its session is killed. Logged in the part's folder."""
        began = time.monotonic()
        child = subprocess.Popen(
            argv, env=self.env, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip
        try:
            out, err = child.communicate(timeout=self.left(timeout_s))
            code: int | None = child.returncode
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            out, err = child.communicate()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            code = None
        done = Done(argv, code, out.decode(errors="replace"), err.decode(errors="replace"), time.monotonic() - began)
        with self._lock, (self.folder / "commands.log").open("a", encoding="utf-8") as log:
            log.write(f"$ {name or ' '.join(argv)}\n{done.out[-20_000:]}{done.err[-20_000:]}")
            log.write(f"→ exit {done.code} after {done.seconds:.1f} s\n\n")
        return done

    def console(self, *arguments: str, timeout_s: float = COMMAND_S) -> Done:
        """A command of the console."""
        return self.run(
            [sys.executable, "-P", "-m", "console", *arguments], timeout_s, f"dsv4-console {' '.join(arguments)}"
        )

    def profile(self, name: str, shape: str, **tables: Mapping[str, Any]) -> str:
        """Write a user's profile for one GPU (for the CPU: with the tiny model in place of any other)."""
        shape = "tiny" if self.cpu else shape
        weights = models.weights_bytes(shape)
        serve: dict[str, Any] = {"load_format": "dummy", "max_model_len": 1024 if self.cpu else 8192}
        if self.cpu:
            serve["enforce_eager"] = True
        document: dict[str, Mapping[str, Any]] = {
            "profile": {"title": f"{shape}, dummy weights", "evidence": "derived"},
            "hardware": {"gpu": "none"} if self.cpu else {"gpu": self.gpu_name(), "count": 1},
            "model": {"id": str(models.make(shape, self.models)), "served_name": shape}
            | ({"weights_gb": weights / 1e9} if weights else {}),
            "serve": serve | {"port": free_port(), **tables.get("serve", {})},
            "serve.extra": tables.get("extra", {}),
            "env": ({"VLLM_CPU_KVCACHE_SPACE": "1"} if self.cpu else {}) | dict(tables.get("env", {})),
            "engine": {"kind": "cpu" if self.cpu else "cuda", "vllm": ">=0.20"},
            "supervise": {"ready_timeout_s": READY_S, "drain_timeout_s": 10.0, "stop_timeout_s": 30.0},
        }
        if self.cpu:
            document["serve"] = {k: v for k, v in document["serve"].items() if k not in ON_A_GPU_ALONE}
            document["serve.extra"] = {k: v for k, v in document["serve.extra"].items() if k not in ON_A_GPU_ALONE}
        path = self.home / "config" / "dsv4-console" / "profiles" / f"{name}.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(toml(document), encoding="utf-8")
        return name

    def gpu_name(self) -> str:
        """As profiles name it."""
        full = (smi.query("name") or [{"name": "H100"}])[0]["name"]
        return next((short for short in ("H100", "H200", "A100") if short in full), full.removeprefix("NVIDIA "))

    def launch(self, profile: str, settings: Mapping[str, Any] | None = None, ready_s: float = READY_S) -> Run:
        """`--profile NAME --detach --json`, forced where it is refused. Returns once it is ready, or failed."""
        settings = dict(settings or {})
        sets = [f"--set={key}={value}" for key, value in settings.items()]
        before = set(self._folders(profile))
        command = ["--profile", profile, "--engine", self.vllm, "--detach", "--json", f"--ready-timeout={ready_s:.0f}"]
        done, blocked = self.console(*command, *sets, timeout_s=ready_s + 45.0), ""
        if done.code == BLOCKED:
            blocked = done.err[done.err.rfind("error:") :]
            done = self.console(*command, *sets, "--force", timeout_s=ready_s + 45.0)
        new = [folder for folder in self._folders(profile) if folder not in before]
        run = Run(profile, settings, done, new[-1] if new else self.home / "none", blocked=blocked)
        run.reload()
        with self._lock:
            self._runs.append(run)
        return run

    def _folders(self, profile: str) -> list[Path]:
        runs = self.home / "state" / "dsv4-console" / "runs"
        return sorted(runs.glob(f"*-{profile}")) + sorted(runs.glob(f"*-{profile}-[0-9]*"))

    def ensure(self, profile: str, settings: Mapping[str, Any] | None = None, ready_s: float = READY_S) -> Run:
        """A ready server of this profile: the one that a part before left, or a new one and all others stopped.

        Raises:
            Skip: it did not come up.
        """
        for run in list(self._runs):
            same = run.profile == profile and run.settings == dict(settings or {})
            if same and self.status(run).get("state") == "ready":
                return run
            self.stop(run)
        run = self.launch(profile, settings, ready_s)
        if not run.ready:
            raise Skip(f"{profile} did not come up (exit {run.done.code}): {run.done.err.strip()[-600:]}")
        return run

    def live(self) -> tuple[Run, ...]:
        """Runs that were launched and not stopped."""
        return tuple(self._runs)

    def newest(self) -> Run | None:
        """The last launch."""
        return self._runs[-1] if self._runs else None

    def status(self, run: Run) -> dict[str, Any]:
        """`status --json` of a run; empty if it says nothing."""
        with contextlib.suppress(ValueError):
            document = self.console("status", run.id, "--json").document()
            return document if isinstance(document, dict) and "error" not in document else {}
        return {}

    def stop(self, run: Run, drain_s: float = 0.0) -> Done | None:
        """`stop`, and by its ids if that was not enough."""
        with self._lock:
            if run not in self._runs:
                return None
            self._runs.remove(run)
        info = run.reload()
        done = None
        if is_running(info.get("supervisor_pid")) or session_members(info.get("server_pid")):
            done = self.console("stop", run.id, f"--drain-timeout={drain_s:g}", timeout_s=STOP_S)
        for pid in (*session_members(info.get("server_pid")), *alive(info.get("supervisor_pid"))):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return done

    @contextlib.contextmanager
    def load(self, run: Run, clients: int, *, tokens: int = 200, prompt: int = 64) -> Iterator[dict[str, Any]]:
        """So many requests in flight, all the time. Fills the dict with what was answered."""
        command = [sys.executable, "-m", "tests.gpu.load", run.url, str(run.info.get("model")), str(clients)]
        child = subprocess.Popen(
            [*command, "--tokens", str(tokens), "--prompt", str(prompt)], env=self.env, cwd=ROOT,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        self._children.append(child)
        answered: dict[str, Any] = {}
        try:
            yield answered
        finally:
            child.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired, ValueError):
                answered.update(json.loads(child.communicate(timeout=10.0)[0] or b"{}"))
            if child.poll() is None:
                child.kill()
                child.communicate()
            self._children.remove(child)

    def spawn(self, argv: list[str], output: Path) -> subprocess.Popen[bytes]:
        """Start a helper that `close` ends at the latest."""
        with output.open("wb") as file:
            child = subprocess.Popen(
                argv, env=self.env, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                start_new_session=True,
            )  # fmt: skip
        self._children.append(child)
        return child

    def close(self, keep: str | None = None) -> list[str]:
        """End everything, but a live run of the profile `keep`. Gives what had to be killed."""
        for child in list(self._children):
            if child.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                child.wait()
        self._children = []
        for run in list(self._runs):
            if run.profile != keep:
                self.stop(run)
        if keep is not None:
            return []
        # A supervisor stays for some seconds after a failed start, for whoever wants to see how it ended.
        until(lambda: not self._ours(), SUPERVISOR_LEAVES_S, 0.2)
        killed = []
        for process in self._ours():
            with contextlib.suppress(psutil.Error):
                killed.append(f"{process.pid} {' '.join(process.cmdline())[:80]}")
                process.kill()
        return killed

    def _ours(self) -> list[psutil.Process]:
        """Processes of this world that still run."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                ours = process.environ().get("XDG_STATE_HOME") == self.env["XDG_STATE_HOME"]
                if process.pid != os.getpid() and (ours or self._writes_here(process.pid)):
                    found.append(process)
        return found

    def _writes_here(self, pid: int) -> bool:
        return str(Path(f"/proc/{pid}/fd/1").readlink()).startswith(str(self.home / "state"))


def toml(document: Mapping[str, Mapping[str, Any]]) -> str:
    """Tables of plain values as TOML, whose strings and numbers are JSON's."""
    lines = []
    for table, values in document.items():
        if values:
            lines.append(f"[{table}]")
            lines += [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    return "\n".join(lines) + "\n"


def metrics(url: str) -> str:
    """The server's `/metrics`."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{url}/metrics", timeout=10) as answer:
        return str(answer.read().decode())


def counter(url: str, name: str) -> float:
    """Sum of a counter over its labels."""
    lines = (line for line in metrics(url).splitlines() if line.startswith((f"{name}{{", f"{name} ")))
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def output_rate(url: str, seconds: float) -> float:
    """Output tokens per second, by the server's own counter."""
    name = "vllm:generation_tokens_total"
    began, first = time.monotonic(), counter(url, name)
    time.sleep(seconds)
    last, ended = counter(url, name), time.monotonic()
    return (last - first) / (ended - began)


def until(check: Callable[[], Any], timeout_s: float, period_s: float = 0.5) -> Any:
    """What `check` gives once that is true, or what it gave last."""
    deadline = time.monotonic() + timeout_s
    while not (value := check()) and time.monotonic() < deadline:
        time.sleep(period_s)
    return value


def json_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a file that are JSON."""
    found = []
    with contextlib.suppress(OSError):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
    return found


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def session_members(session: int | None) -> list[int]:
    """Processes of a session, as the console itself counts them."""
    return [] if session is None else list(processes.session_members(session))


def is_running(pid: int | None) -> bool:
    """Whether there is such a process, other than as a zombie."""
    with contextlib.suppress(psutil.Error):
        return pid is not None and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def alive(pid: int | None) -> list[int]:
    """`[pid]`, or `[]` if there is no such process, or it ends within two seconds."""
    return [] if pid is None or until(lambda: not is_running(pid), 2.0, 0.05) else [pid]
