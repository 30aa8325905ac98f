"""A world whose one installed engine is the scripted server: the whole command line, in seconds and without vLLM."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx

from console.core.command import FLAGS
from console.io.preflight.engine import FLAGS_MIN
from tests.e2e.world import World, wait_for

FAKE = Path(__file__).parents[1] / "fakes" / "fake_vllm.py"
ENGINE = "vllm-0.32.0-cpu"
VERSION = "0.32.0+cpu"


def write_vllm(path: Path, version: str = VERSION) -> Path:
    """A `vllm` command that is the scripted server and calls itself this version."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f'#!/bin/sh\nFAKE_VLLM_VERSION={version} exec "{sys.executable}" -I "{FAKE}" "$@"\n', encoding="utf-8"
    )
    path.chmod(0o755)
    return path


def install_fake(data_home: Path) -> Path:
    """Put the scripted server where an installed engine stands."""
    folder = data_home / "dsv4-console" / "engines" / ENGINE
    write_vllm(folder / "bin" / "vllm")
    _write_flags(folder / "lib" / "python3.11" / "site-packages" / "vllm")
    record = {"name": ENGINE, "kind": "cpu", "version": VERSION, "python": "3.11", "created_s": 1.0}
    (folder / "engine.json").write_text(json.dumps(record), encoding="utf-8")
    return folder


def _write_flags(package: Path) -> None:
    """The flags of `vllm serve` where preflight looks for them: those that profiles can set, and some more."""
    flags = [*FLAGS.values(), *(f"--option-of-many-{number}" for number in range(FLAGS_MIN))]
    (package / "engine").mkdir(parents=True, exist_ok=True)
    lines = (f'group.add_argument("{flag}")' for flag in flags)
    (package / "engine" / "arg_utils.py").write_text("\n".join(lines), encoding="utf-8")


class FakeWorld(World):
    """A `World` with that engine. `fake` sets the scripted server's variables."""

    def __init__(self, home: Path, *, installed: bool = True) -> None:
        super().__init__(home, home / "data")
        self.env["PATH"] = "/usr/bin:/bin"
        for name in ("VLLM_API_KEY", "HF_TOKEN"):
            self.env.pop(name, None)
        self.fake(load_s=0.1)
        if installed:
            install_fake(home / "data")

    def fake(self, **settings: object) -> None:
        """Steer servers that are started from now on."""
        self.env |= {f"FAKE_VLLM_{name.upper()}": str(value) for name, value in settings.items()}

    def detached(self, *more: str) -> Any:
        """Launch with `--detach` and return what `status` says."""
        done = self.run("--profile", "cpu-smoke", "--set", f"serve.port={self.port}", "--detach", *more)
        assert done.returncode == 0, done.stderr
        return self.status()

    def post(self, path: str, body: dict[str, Any]) -> None:
        """Talk to the server directly."""
        httpx.post(f"{self.url}{path}", json=body, timeout=10.0, trust_env=False)

    def in_flight(self) -> None:
        """Wait until the server has a request in flight."""

        def check() -> bool:
            text = httpx.get(f"{self.url}/metrics", timeout=5.0, trust_env=False).text
            lines = [line for line in text.splitlines() if line.startswith("vllm:num_requests_running{")]
            return float(lines[0].split()[-1]) > 0

        wait_for("a request in flight", check, 20.0)


def pipe(world: World, *arguments: str, reads: int) -> tuple[int, bytes, str]:
    """Run a command whose reader takes so many bytes and leaves. Returns exit code, what was read, stderr."""
    child = subprocess.Popen(
        world.command(*arguments),
        env=world.env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert child.stdout is not None
    assert child.stderr is not None
    with child:
        got = child.stdout.read(reads)
        child.stdout.close()
        said = child.stderr.read().decode()
        return child.wait(30.0), got, said
