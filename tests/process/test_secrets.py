"""Planted secrets: in the environment, and in what the server writes. They turn up nowhere but in its own log."""

from __future__ import annotations

import shutil
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.e2e.terminal import Terminal
from tests.e2e.world import wait_for
from tests.process.fake_world import FAKE, VERSION, FakeWorld

pytestmark = pytest.mark.timeout(110)

API_KEY = "planted-api-0a1b2c3d"
TOKEN = "hf_plantedAAAAAAAAAAAA"
PASSWORD = "pl4nted pass/w0rd"
LOGGED = {
    "api key": f"starting with {API_KEY} in hand",
    "password": f"database refused '{PASSWORD}'",
    "bearer": "headers: {'Authorization': 'Bearer planted.jwt.value'}",
    "hugging face": "401 for token hf_plantedBBBBBBBBBBBBBB",
    "openai": "client of sk-plantedCCCCCCCCCCCCCCCC",
    "url": "index https://me:planted-in-url@example.org/simple",
    "arguments": "non-default args: {'api_key': ['planted-in-args'], 'port': 1}",
    "flag": "vllm serve m --api-key planted-in-flag --port 1",
}
PLANTED = (
    API_KEY,
    TOKEN,
    PASSWORD,
    "planted.jwt.value",
    "hf_plantedBBBB",
    "sk-plantedCCCC",
    "planted-in-url",
    "planted-in-args",
    "planted-in-flag",
)


def leaks(text: str) -> list[str]:
    return [secret for secret in PLANTED if secret in text]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[FakeWorld]:
    world = FakeWorld(tmp_path)
    said = "".join(f"echo {quoted(text)}\n" for text in LOGGED.values())
    script = tmp_path / "data" / "dsv4-console" / "engines" / "vllm-0.32.0-cpu" / "bin" / "vllm"
    script.write_text(
        f'#!/bin/sh\ncase "$1" in serve) {said}\n[ -z "$PLANTED_END" ] || '
        f'{{ echo "RuntimeError: no login with $VLLM_API_KEY"; exit 1; }};; esac\n'
        f'FAKE_VLLM_VERSION={VERSION} exec "{sys.executable}" -I "{FAKE}" "$@"\n'
    )
    world.env |= {"VLLM_API_KEY": API_KEY, "HF_TOKEN": TOKEN, "BILLING_DB_PASSWORD": PASSWORD}
    yield world
    world.close()


def quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def files_of(world: FakeWorld) -> dict[str, str]:
    found = {}
    for path in (world.home / "state").rglob("*"):
        if path.is_file() and path.name != "server.log":
            found[str(path)] = path.read_bytes().decode("utf-8", "replace")
    return found


def unpacked(path: Path) -> dict[str, str]:
    with tarfile.open(path) as archive:
        members = archive.getmembers()
        return {m.name.rpartition("/")[2]: archive.extractfile(m).read().decode() for m in members}  # type: ignore[union-attr]


def test_no_planted_secret_is_seen_while_it_serves(world: FakeWorld, tmp_path: Path) -> None:
    status = world.detached()
    log = Path(status["log"])
    assert leaks(log.read_text()), "the server did log them"
    assert [
        path for path in log.parent.iterdir() if path.stat().st_mode & 0o077 and path.name != "supervisor.lock"
    ] == []
    target = tmp_path / "report.tar.gz"
    stranger = {name: value for name, value in world.env.items() if value not in PLANTED}
    world.env = stranger  # a shell that has none of the keys itself
    said = {}
    for command in (["logs"], ["logs", "--json"], ["status"], ["status", "--json"], ["report", "-o", str(target)]):
        done = world.run(*command)
        assert done.returncode == 0, done.stderr
        said[" ".join(command)] = done.stdout + done.stderr
    assert "database refused '•••'" in said["logs"]
    parts = unpacked(target)
    assert target.stat().st_mode & 0o777 == 0o600
    assert "database refused '•••'" in parts["log-head.txt"]
    commands = [" ".join(p.cmdline()) for p in world.processes() if p.status() != psutil.STATUS_ZOMBIE]
    everything = said | parts | files_of(world) | {"processes": "\n".join(commands)}
    assert {name: found for name, text in everything.items() if (found := leaks(text))} == {}


@pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
def test_no_planted_secret_is_on_the_screen(world: FakeWorld) -> None:
    world.detached()
    terminal = Terminal(world, width=160, height=50)
    try:
        terminal.see("READY")
        wait_for("the log", lambda: terminal.keys("l") or "following" in terminal.text, 30)
        terminal.keys("g")
        screen = terminal.see("database refused")
        assert "•••" in screen
        assert leaks(screen) == []
    finally:
        terminal.close()


def test_no_planted_secret_is_in_a_failure(world: FakeWorld, tmp_path: Path) -> None:
    world.env["PLANTED_END"] = "1"
    done = world.run("--profile", "cpu-smoke", "--set", f"serve.port={world.port}")
    assert done.returncode == 1
    assert "no login with •••" in done.stderr
    wait_for("the supervisor's end", lambda: not world.processes(), 30)
    target = tmp_path / "r.tar.gz"
    report = world.run("report", "-o", str(target))
    parts = unpacked(target)
    assert "no login with •••" in parts["diagnosis.json"]
    everything = {"narration": done.stdout + done.stderr, "report": report.stdout + report.stderr}
    everything |= parts | files_of(world)
    assert {name: found for name, text in everything.items() if (found := leaks(text))} == {}
